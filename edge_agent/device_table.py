"""The table of devices, and what the suite has proven of each: the record beside the profiles, written by it.

The record says which conditions were raised and cleared again by a simulated device, through which transport,
and which by a program of another maker that plays the device. A profile that is not in it is a site's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from edge_agent.profile import Profile

RECORD = "proven.json"
NOT_OURS = "not in the suite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """Keys of conditions, ``component/fault``, by transport and by program of another maker."""

    simulated: Mapping[str, tuple[str, ...]]
    by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


Record = dict[str, Proven]
_RECORD = TypeAdapter(Record)


def read(text: str) -> Record:
    """Raises ValueError."""
    return _RECORD.validate_json(text)


def written(record: Record) -> str:
    return _RECORD.dump_json(dict(sorted(record.items())), indent=1).decode() + "\n"


def table(profiles: Iterable[Profile], record: Record) -> str:
    """In Markdown, one row a profile, by name."""
    rows = [
        "| profile | device | maker | models | over | conditions | simulated | another maker's | evidence |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for profile in sorted(profiles, key=lambda p: p.name):
        proven = record.get(profile.name)
        cells = (
            f"`{profile.name}`",
            profile.title,
            profile.maker,
            ", ".join(profile.models),
            ", ".join(profile.transports),
            str(len(profile.conditions)),
            NOT_OURS if proven is None else _counts(proven.simulated),
            "" if proven is None else _counts(proven.by),
            profile.evidence,
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _counts(proven: Mapping[str, tuple[str, ...]]) -> str:
    counts = {who: len(conditions) for who, conditions in sorted(proven.items()) if conditions}
    return ", ".join(f"{who} {count}" for who, count in counts.items()) or ("0" if proven else "")
