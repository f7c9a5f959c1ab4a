"""Agents and collectors of other versions: what they leave out, and what they add that nobody knows yet."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from edge_agent import wire

# A field that no version has had so far.
LATER = "of_a_later_version"
# What the first agent did not send.
ENVELOPE_OF_LATER = ("lane", "health", "inventory")
# What the first collector did not answer.
ANSWER_OF_LATER = ("want_inventory", "next_s")


class Version(StrEnum):
    SAME = "same"
    EARLIER = "earlier"
    LATER = "later"


def said(body: bytes, agent: Version) -> bytes:
    """A sync as an agent of that version sends it."""
    if agent is Version.SAME:
        return body
    message = json.loads(body)
    if agent is Version.EARLIER and message["lane"] == wire.Lane.PRESENT:
        # It had no such messages: there is nothing that it would leave out.
        return body
    if agent is Version.EARLIER:
        kept = {
            name: value
            for name, value in message.items()
            if name not in ENVELOPE_OF_LATER or (value and name == "pruned_through")
        }
        return json.dumps(kept).encode()
    for part in (
        message,
        message["clock"],
        message.get("head"),
        message.get("health"),
        message.get("inventory"),
    ):
        _add(part)
    for row in message["rows"]:
        for part in (row, row["first_bad"], row["raised"], row.get("cleared")):
            _add(part)
    return json.dumps(message).encode()


def answered(body: bytes, collector: Version) -> bytes:
    """An answer as a collector of that version gives it."""
    if collector is Version.SAME:
        return body
    answer = json.loads(body)
    if collector is Version.LATER:
        _add(answer)
        return json.dumps(answer).encode()
    return json.dumps({name: value for name, value in answer.items() if name not in ANSWER_OF_LATER}).encode()


def heard(body: bytes, agent: Version) -> bytes:
    """An answer as an agent of that version understands it: the first one knew of no inventory."""
    if agent is not Version.EARLIER or not body:
        return body
    return answered(body, Version.EARLIER)


def form(row: dict[str, Any]) -> dict[str, Any]:
    """A row as this version writes it, but for its position."""
    plain = {name: value for name, value in row.items() if name not in ("mod_seq", LATER)}
    for name in ("first_bad", "raised", "cleared"):
        if isinstance(plain.get(name), dict):
            plain[name] = {key: value for key, value in plain[name].items() if key != LATER}
    return plain


def _add(part: dict[str, Any] | None) -> None:
    if part is not None:
        part[LATER] = {"said": [1, "\u00e4"]}
