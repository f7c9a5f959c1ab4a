"""What gathered in a journal while the collector was away: made by template, for a fleet has many rows."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

from edge_agent import occurrence
from edge_agent.ledger import Ledger
from edge_agent.occurrence import Closing, Opening, Reason
from edge_agent.wire import Severity, Stamp, condition_key, encode

NS_PER_S = 1_000_000_000
# A fault comes in bursts: so many times, so far apart, and then this condition is quiet for hours.
BURST, WITHIN_BURST_S, BETWEEN_BURSTS_S = 4, 180, 4 * 3600
LASTS_S = 40
COMPONENT, FAULT, TITLE, ADVICE = "belt", "jam", "Jam", "Clear it."


def jam(device: str, at: Stamp) -> Opening:
    return Opening(
        device=device,
        component=COMPONENT,
        fault=FAULT,
        severity=Severity.STOP,
        title=TITLE,
        advice=ADVICE,
        first_bad=at,
        raised=at,
        evidence={"frames": [f"<STX>{device},1,0,1245,000,0,0,0,000,0,0,0<ETX>"]},
    )


def cleared(device: str, at: Stamp) -> Closing:
    key = condition_key(device, COMPONENT, FAULT)
    return Closing(key=key, cleared=at, reason=Reason.CLEARED)


def gather(ledger: Ledger, rng: random.Random, devices: list[str], rows: int, now: Stamp) -> None:
    """``rows`` jams that have come and gone on these devices, the last of them some minutes ago."""

    def unit(inside: Ledger) -> None:
        sql = inside._sql
        first = int(sql.execute("SELECT head_seq FROM stream").fetchone()[0]) + 1
        sql.executemany(
            "INSERT INTO occurrence (uid, key, open, mod_seq, changed_ms, body, crc)"
            " VALUES (?, ?, 0, ?, 0, ?, ?)",
            _rows(rng, devices, rows, first, now),
        )
        sql.execute("UPDATE stream SET head_seq = ?", (first + rows - 1,))

    (outcome,) = ledger.together([unit])
    if isinstance(outcome, Exception):
        raise outcome


def _rows(
    rng: random.Random, devices: list[str], rows: int, first: int, now: Stamp
) -> Iterator[tuple[str, str, int, str, int]]:
    """In the order of time; each as the agent itself would have written it."""
    templates = [_template(device, now.boot) for device in devices]
    rounds = -(-rows // len(devices))
    ages = sorted((_age_s(number) for number in range(rounds)), reverse=True)
    for number in range(rows):
        age_s = ages[number // len(devices)] + rng.random() * 60
        mono_ns, wall_ms = now.mono_ns - int(age_s * NS_PER_S), now.wall_ms
        uid = occurrence.uid_at(wall_ms - int(age_s * 1000), f"{rng.getrandbits(128):032x}")
        key, before = templates[number % len(devices)]
        body = before % {
            "uid": uid,
            "seq": first + number,
            "begun": mono_ns,
            "begun_ms": wall_ms - int(age_s * 1000),
            "ended": mono_ns + LASTS_S * NS_PER_S,
            "ended_ms": wall_ms - int((age_s - LASTS_S) * 1000),
        }
        yield uid, key, first + number, body, zlib.crc32(body.encode())


def _age_s(number: int) -> int:
    """Of the occurrence of a device that lies so many back."""
    burst, place = divmod(number, BURST)
    return 600 + burst * BETWEEN_BURSTS_S + place * WITHIN_BURST_S


def _template(device: str, boot: str) -> tuple[str, str]:
    """The condition's key, and the row with %-places where it differs from the others of its device."""
    # Numbers and ids that stand nowhere else in a row.
    begun = Stamp(boot=boot, mono_ns=1_111_111_111, wall_ms=2_222_222_222, source="ntp")
    ended = Stamp(boot=boot, mono_ns=3_333_333_333, wall_ms=4_444_444_444, source="ntp")
    opened = occurrence.opened(jam(device, begun), uid="f" * 32, mod_seq=5_555_555_555)
    row = occurrence.closed(opened, cleared(device, ended), mod_seq=6_666_666_666)
    text = encode(row).decode().replace("%", "%%")
    for told, place in (
        ("f" * 32, "uid"),
        ("6666666666", "seq"),
        ("1111111111", "begun"),
        ("2222222222", "begun_ms"),
        ("3333333333", "ended"),
        ("4444444444", "ended_ms"),
    ):
        assert told in text, place
        text = text.replace(told, f"%({place})s")
    return row.key, text
