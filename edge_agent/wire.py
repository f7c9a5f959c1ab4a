"""The contract between edge agents and collectors: shapes, limits, and how bytes become messages.

The durable unit is the *occurrence row*. It is written by the edge alone, ordered by ``mod_seq`` inside
one *stream*, and merged by ``uid`` and ``rev``; no wall clock is ever compared. A message (*sync*) carries
the rows that changed after ``from`` up to ``to``; both are *boundaries* ``[seq, nonce]`` that the edge
made durable before it sent them.

Envelopes are validated strictly. Rows are validated one by one (``read_row``), so that one bad row is
quarantined alone. Unknown fields are kept and sent on; numbers are integers only. What was recorded around a
raise travels by itself, after the rows, in messages of the lane ``evidence``. Lasting shapes are in
``docs/wire.md``; golden messages of every release lie in ``tests/wire/``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated, Any, ClassVar, Literal, Never, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

NS_PER_MS = 1_000_000

VERSION = 1
SYNC_PATH = "/api/v1/sync"
ENROLL_PATH = "/api/v1/enroll"
# A service name has at most 15 characters (RFC 6763, 7.2).
SERVICE_TYPE = "_andon._tcp.local."

MAX_WIRE_BYTES = 1 << 20
MAX_BODY_BYTES = 8 << 20
SOFT_BODY_BYTES = 256 << 10
MAX_ROWS = 500
MAX_DEPTH = 32
# Of one JSON, by its commas and braces: 8 MiB of small objects, some KiB packed, would be 200 MB once read.
MAX_VALUES = 200_000
MAX_OBJECTS = 100_000
MAX_EVIDENCE_BYTES = 8 << 10
MAX_MEMBERS = 100
# Of a message of evidence: parts, and the JSON of one of them.
MAX_PARTS = 50
MAX_PART_BYTES = 32 << 10
# Of a fault that chatters: some 5 KiB.
MAX_PAUSES = 256
MAX_INT = (1 << 63) - 1
# From and to included.
LINEAGE_MAX = 66
LOSSES_MAX = 256

ID_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
HEX128_PATTERN = r"^[0-9a-f]{32}$"

# Faults that mean something to the collector; a profile may not raise them, except UNCLASSIFIED.
UNREACHABLE = "unreachable"
UNCLASSIFIED = "unclassified"
NOT_RUNNING = "not-running"
SILENT = "silent"
CLOCK = "clock"
CLONED = "cloned"
DISK = "disk"
JOURNAL = "journal"
RESERVED_FAULTS = frozenset({UNREACHABLE, NOT_RUNNING, SILENT, CLOCK, CLONED, DISK, JOURNAL})
# The component of UNREACHABLE, and that of the faults whose device is the gateway itself.
LINK_COMPONENT = "link"
AGENT_COMPONENT = "agent"

Id = Annotated[str, Field(pattern=ID_PATTERN)]
Hex128 = Annotated[str, Field(pattern=HEX128_PATTERN)]
# Strict: neither true nor 1.0 is an integer here.
Count = Annotated[int, Strict(), Field(ge=0, le=MAX_INT)]
SeverityNumber = Annotated[int, Strict(), Field(ge=0, le=1000)]
WallMs = Annotated[int, Strict(), Field(ge=0, le=1 << 53)]
Source = Annotated[str, Field(max_length=16)]
# Why a closed row is closed.
ReasonText = Annotated[str, Field(max_length=32)]
ConditionKey = Annotated[str, Field(max_length=200)]


class WireError(ValueError):
    """A message that breaks the contract; the text names the field and what was expected."""


class Severity(IntEnum):
    """What the floor feels. The numbers leave room: an unknown one takes the band below it."""

    NOTICE = 10
    DEGRADED = 20
    STOP = 30

    @classmethod
    def band(cls, number: int) -> Severity:
        return max((s for s in cls if s <= number), default=cls.NOTICE)

    @property
    def word(self) -> str:
        return self.name.lower()


class Lane(StrEnum):
    """What the rows of a message are: the history in order, or the present ahead of it (docs/wire.md)."""

    FEED = "feed"
    PRESENT = "present"


# Messages of evidence (``EvidenceRequest``). Named in this header too, so that a collector that is busy can
# send them away unread.
EVIDENCE_LANE = "evidence"
LANE_HEADER = "Andon-Lane"


class Outcome(StrEnum):
    """What became of one part of evidence; any other word is as good as HELD."""

    HELD = "held"
    # Its occurrence is not known, or not as one of this gateway: once more, later.
    UNKNOWN = "unknown"
    # It cannot be read, or there is too much of it.
    REFUSED = "refused"


class Verdict(StrEnum):
    """The collector's judgement of one sync (docs/wire.md, "Verdicts")."""

    OK = "ok"
    BEHIND = "behind"
    OLD = "old"
    FORK = "fork"
    SUPERSEDED = "superseded"


def condition_key(device: str, component: str, fault: str) -> str:
    """What tells one condition of a site from another; a part of the dedupe key."""
    return f"{device}|{component}|{fault}"


def dedupe_key(site: str, device: str, component: str, fault: str) -> str:
    """``v1|site|device|component|fault``: never severity, text, value, gateway, route or time."""
    return f"v1|{site}|{condition_key(device, component, fault)}"


class Message(BaseModel):
    """Frozen; unknown fields are kept and sent on."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """One moment as a gateway can know it.

    ``boot`` is the kernel's boot id without dashes; ``mono_ns`` is CLOCK_BOOTTIME in ns (exact inside one
    boot); ``wall_ms`` is the UTC wall clock in ms as read; ``source`` says how far it can be trusted:
    ``none`` (never set), ``rtc`` (kept by a battery or a saved floor), ``ntp`` (synchronised),
    ``collector`` (taken from a sync answer).
    """

    # A field of a later version is no reason to refuse a row; there is no room to keep it here.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    boot: Annotated[str, Field(pattern=HEX128_PATTERN)]
    mono_ns: Count
    wall_ms: WallMs
    source: Source


def mono_ms(at: Stamp) -> int:
    """Its moment in its boot; all that is in ms is reckoned from this."""
    return at.mono_ns // NS_PER_MS


class SeverityChange(Message):
    severity: SeverityNumber
    at: Stamp


# Within an occurrence, from when to when its fault was not there, in ms after ``first_bad`` (by the monotonic
# clock, each moment cut to ms as by ``mono_ms``); None: it is not there now, or was not until the end.
Pause = tuple[Count, Count | None]

# What stands for evidence that a full journal gave up.
THINNED: dict[str, Any] = {"thinned": True}

# [mono_ns, wall_ms, source]: a stamp of a boot that is told elsewhere.
Moment = tuple[Count, WallMs, Source]


class Member(Message):
    """One of the occurrences that a roll-up stands for; its moments lie in the boot of the roll-up."""

    uid: Hex128
    rev: Annotated[Count, Field(ge=1)]
    severity: SeverityNumber
    first_bad: Moment
    raised: Moment
    cleared: Moment
    reason: ReasonText = ""
    because: Hex128 | None = None


class Row(Message):
    """The newest form of one occurrence. Closed is terminal; a return of the fault is a new ``uid``.

    A row with ``members`` is a roll-up: a journal that was full made one row of several closed ones.
    """

    uid: Hex128
    device: Id
    component: Id
    fault: Id
    rev: Annotated[Count, Field(ge=1)]
    state: Literal["open", "closed"]
    severity: SeverityNumber
    severities: Annotated[list[SeverityChange], Field(max_length=64)] = []
    mod_seq: Annotated[Count, Field(ge=1)]
    # The first bad sample (downtime counts from it), the moment the condition was declared, and the
    # first good sample.
    first_bad: Stamp
    raised: Stamp
    cleared: Stamp | None = None
    # Raises that this row stands for; more than 1 only for roll-ups and for what pauses.
    count: Annotated[Count, Field(ge=1)] = 1
    # Why a closed row is closed: cleared, not_watched, closed_here, restarted; rolled_up.
    reason: ReasonText = ""
    title: Annotated[str, Field(max_length=200)]
    advice: Annotated[str, Field(max_length=2000)] = ""
    evidence: dict[str, Any] | None = None
    # The uid of the occurrence that explains this one; of the same gateway, and explained by none itself.
    # Nobody need be called while that is open.
    because: Hex128 | None = None
    # It may be explained until then, perhaps again: nobody need be called yet. Only while it is open.
    waits: Stamp | None = None
    # Of a fault that comes and goes (it chatters): what lies in between, oldest first, all in the boot of
    # ``first_bad``. It was there in the rest of the time.
    pauses: Annotated[list[Pause], Field(min_length=1, max_length=MAX_PAUSES)] | None = None
    # All of one condition and one boot, all closed; ``count`` of them.
    members: Annotated[list[Member], Field(min_length=1, max_length=MAX_MEMBERS)] | None = None

    @property
    def key(self) -> str:
        return condition_key(self.device, self.component, self.fault)

    @property
    def is_paused(self) -> bool:
        """Whether its fault is not there now, though the occurrence goes on."""
        return self.state == "open" and self.pauses is not None and self.pauses[-1][1] is None

    @property
    def is_thinned(self) -> bool:
        """Whether its evidence was given up at the edge: whoever has it keeps it."""
        return self.evidence == THINNED


Boundary = tuple[Count, Hex128]
# Where every stream begins: what a collector that knows nothing of a stream holds of it.
ORIGIN: tuple[int, str] = (0, "0" * 32)


class Head(Message):
    """The present, sent when ``to`` is the newest row, and in the lane of the present: what is open, what is
    unknown, what is watched.
    """

    seq: Count
    open: Annotated[list[Hex128], Field(max_length=10_000)]
    unsettled: Annotated[list[ConditionKey], Field(max_length=50_000)]
    inventory_hash: Annotated[str, Field(max_length=64)]


class WatchedCondition(Message):
    component: Id
    fault: Id
    severity: SeverityNumber
    title: Annotated[str, Field(max_length=200)]


class WatchedDevice(Message):
    id: Id
    # site/area/line/station, without the site (ISA-95 levels).
    place: Annotated[str, Field(max_length=200)]
    profile: Annotated[str, Field(max_length=64)]
    bus: Annotated[str, Field(max_length=64)]
    conditions: Annotated[list[WatchedCondition], Field(max_length=500)]


class Inventory(Message):
    """What this gateway watches, so that a silent gateway leaves known devices unknown."""

    hash: Annotated[str, Field(max_length=64)]
    devices: Annotated[list[WatchedDevice], Field(max_length=5_000)]


class BusService(Message):
    """What one bus gave in the last minute, against what its configuration asks of it."""

    name: Annotated[str, Field(max_length=64)]
    # Requests that fell due, those to silent devices left out; how many of them went out in their interval.
    due: Count
    kept: Count
    # How long it takes to ask everything once: as measured, as `edge-agent check` predicts.
    cycle_ms: Count | None = None
    planned_ms: Count | None = None
    # Devices that are asked only from time to time because they do not answer.
    silent: Count = 0


class Health(Message):
    """How the agent itself is; every field may be missing."""

    agent_version: Annotated[str, Field(max_length=64)] = ""
    uptime_s: Count = 0
    rows_waiting: Count = 0
    journal_bytes: Count = 0
    disk_free_bytes: Count = 0
    devices: Count = 0
    devices_unreachable: Count = 0
    # What the journal gave up since it was made: of how many rows the evidence, how many occurrences became
    # members of roll-ups, how many rows nobody will ever have, how many were not what was written any more.
    evidence_thinned: Count | None = None
    rows_rolled_up: Count | None = None
    rows_dropped: Count | None = None
    rows_damaged: Count | None = None
    # Parts of evidence that were given up before the collector had them, and those that wait for it.
    evidence_given_up: Count | None = None
    evidence_waiting: Count | None = None
    # full, released (the disk is full) or none.
    ballast: Annotated[str, Field(max_length=16)] | None = None
    # How many buses carry less than is asked of them, and what they gave, the worst first.
    buses_behind: Count | None = None
    buses: Annotated[list[BusService], Field(max_length=64)] | None = None


class Loss(Message):
    """Occurrences that a journal lost before anybody had them, the last of them at position ``through``; the
    same ``id`` for ever, and it may grow.
    """

    id: Hex128
    through: Count
    count: Count


class SyncRequest(Message):
    """One request of ``POST /api/v1/sync``. No rows and an unchanged boundary is the heartbeat."""

    v: Annotated[int, Strict(), Field(ge=1, le=1000)]
    lane: Lane = Lane.FEED
    stream: Hex128
    from_: Annotated[Boundary, Field(alias="from")]
    to: Boundary
    # Boundaries made since ``from``, oldest first, ``from`` and ``to`` included.
    lineage: Annotated[list[Boundary], Field(max_length=LINEAGE_MAX)]
    # Left as parsed: each is validated alone by ``read_row``.
    rows: Annotated[list[Any], Field(max_length=MAX_ROWS)]
    pruned_through: Count = 0
    # Occurrences of this stream that the edge lost before anybody had them, up to ``pruned_through``.
    lost: Count | None = None
    # All that the journal ever lost before anybody had it, as far as it lies after ``from``.
    losses: Annotated[list[Loss], Field(max_length=LOSSES_MAX)] | None = None
    clock: Stamp
    health: Health = Health()
    head: Head | None = None
    inventory: Inventory | None = None


class SyncAnswer(Message):
    """What the collector durably holds of the stream; the edge moves its cursor there, also backwards."""

    v: int = VERSION
    verdict: str
    stream: Hex128
    hwm: Boundary
    # Uids that the edge calls open and the collector has closed; uids that the collector lacks.
    closed_here: list[Hex128] = []
    want: list[Hex128] = []
    want_inventory: bool = False
    # The newest position of which something was told ahead of the history, while that is above ``hwm``.
    ahead: Count | None = None
    server_ms: Count
    # When the next sync is expected, in seconds; the edge adds its jitter.
    next_s: Annotated[int, Strict(), Field(ge=1, le=3600)] = 15
    # How long the next message of history should wait, in ms, so that every gateway gets its turn; the
    # present need not. None: not at all.
    history_ms: Annotated[int, Strict(), Field(ge=0, le=3_600_000)] | None = None


class Part(Message):
    """Some of what was recorded around the raise of one occurrence, told apart by ``part``: ``before``,
    ``after``. What is in it is for people; ``given_up`` stands for what the edge did not keep.
    """

    uid: Hex128
    part: Id
    given_up: Annotated[bool, Strict()] = False
    evidence: dict[str, Any] | None = None


class EvidenceRequest(Message):
    """A request of ``POST /api/v1/sync`` in the lane ``evidence``."""

    v: Annotated[int, Strict(), Field(ge=1, le=1000)]
    lane: Literal["evidence"]
    # Left as parsed: each is validated alone by ``read_part``.
    parts: Annotated[list[Any], Field(min_length=1, max_length=MAX_PARTS)]


class EvidenceAnswer(Message):
    """One outcome for each part, in their order."""

    v: int = VERSION
    outcomes: Annotated[list[str], Field(max_length=MAX_PARTS)]


class EnrollRequest(Message):
    token: Annotated[str, Field(min_length=16, max_length=128)]
    # SHA-256 of the secret that the agent made and keeps, hex.
    secret_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    facts: Annotated[dict[str, str], Field(max_length=32)] = {}


class EnrollAnswer(Message):
    """``credential`` is the public half; the agent's bearer token is ``<credential>.<secret>``."""

    site: Id
    gateway: Id
    credential: Annotated[str, Field(pattern=r"^agw_[a-z0-9]{8,40}$")]


def encode(message: Message) -> bytes:
    """Compact JSON, UTF-8, field names as on the wire."""
    return message.model_dump_json(by_alias=True, exclude_none=True).encode()


def parse_json(body: bytes) -> Any:
    """JSON without its traps: doubled keys, NaN, numbers beyond a float, lone surrogates, nesting over
    MAX_DEPTH, more than MAX_VALUES or MAX_OBJECTS are refused."""
    check_size(body)
    try:
        text = body.decode("utf-8")
        parsed = json.loads(
            text, object_pairs_hook=_no_doubled_keys, parse_constant=_no_constants, parse_float=_finite
        )
        if "\\u" in text:
            json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise WireError("not UTF-8, or a lone surrogate") from error
    except json.JSONDecodeError as error:
        raise WireError(f"not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise WireError(f"nested deeper than {MAX_DEPTH}") from error
    except ValueError as error:
        raise WireError(str(error)) from error
    check_depth(parsed)
    return parsed


def check_size(body: bytes) -> None:
    """Before it is parsed. Raises WireError."""
    if body.count(b",") > MAX_VALUES or body.count(b"{") > MAX_OBJECTS:
        raise WireError(f"more than {MAX_VALUES} values, or {MAX_OBJECTS} objects")


def check_depth(parsed: Any) -> None:
    """Raises WireError."""
    if _deeper_than(parsed, MAX_DEPTH):
        raise WireError(f"nested deeper than {MAX_DEPTH}")


def decode_sync(body: bytes, parse: Callable[[bytes], Any] = parse_json) -> SyncRequest:
    """The envelope of a sync; its rows are still unchecked. Raises WireError. ``parse`` does what
    ``parse_json`` does.
    """
    return _validate(SyncRequest, parse(body))


def decode_message(body: bytes, parse: Callable[[bytes], Any] = parse_json) -> SyncRequest | EvidenceRequest:
    """Whatever a gateway may say; as ``decode_sync`` in all else."""
    found = parse(body)
    if isinstance(found, dict) and found.get("lane") == EVIDENCE_LANE:
        return _validate(EvidenceRequest, found)
    return _validate(SyncRequest, found)


def decode_answer(body: bytes) -> SyncAnswer:
    """Raises WireError."""
    return _validate(SyncAnswer, parse_json(body))


def decode_evidence_answer(body: bytes) -> EvidenceAnswer:
    """Raises WireError."""
    return _validate(EvidenceAnswer, parse_json(body))


def decode_enrolment(body: bytes) -> EnrollAnswer:
    """Raises WireError."""
    return _validate(EnrollAnswer, parse_json(body))


def read_row(raw: Any) -> Row:
    """One row of a sync. Raises WireError; the caller quarantines that row and goes on."""
    row = _validate(Row, raw)
    if row.evidence is not None and _longer_than(row.evidence, MAX_EVIDENCE_BYTES):
        raise WireError(f"evidence: more than {MAX_EVIDENCE_BYTES} bytes")
    if row.state == "closed" and row.cleared is None:
        raise WireError("cleared: a closed row needs it")
    if row.pauses is not None and not _in_order(row.pauses):
        raise WireError("pauses: each begins after the one before has ended, and only the last may go on")
    if row.members is not None and (row.state == "open" or row.count != len(row.members)):
        raise WireError("members: a roll-up is closed, and its count is their number")
    return row


def read_part(raw: Any) -> Part:
    """One part of a message of evidence. Raises WireError; the others of the message are taken."""
    part = _validate(Part, raw)
    if part.given_up is (part.evidence is not None):
        raise WireError("evidence: a part has it, unless it was given up")
    if part.evidence is not None and _longer_than(part.evidence, MAX_PART_BYTES):
        raise WireError(f"evidence: more than {MAX_PART_BYTES} bytes")
    return part


def _in_order(pauses: list[Pause]) -> bool:
    moments = [ms for pause in pauses for ms in pause if ms is not None]
    goes_on = pauses[-1][1] is None
    return sorted(moments) == moments and len(moments) + goes_on == 2 * len(pauses)


def _longer_than(value: dict[str, Any], limit: int) -> bool:
    """Whether it is longer as JSON. That has at most twice the characters of ``ascii``, which costs a tenth:
    two for one quote, six for four of ``\\x00``.
    """
    return 2 * len(ascii(value)) > limit and len(json.dumps(value)) > limit


def unpacked(row: Row) -> list[Row]:
    """The occurrences that a row stands for: itself, or the members of a roll-up, each as it was but for its
    evidence.
    """
    if row.members is None:
        return [row]
    return [_unpacked(row, member) for member in row.members]


def _unpacked(row: Row, member: Member) -> Row:
    first_bad, raised, cleared = (
        Stamp(boot=row.first_bad.boot, mono_ns=mono_ns, wall_ms=wall_ms, source=source)
        for mono_ns, wall_ms, source in (member.first_bad, member.raised, member.cleared)
    )
    return Row(
        uid=member.uid,
        device=row.device,
        component=row.component,
        fault=row.fault,
        rev=member.rev,
        state="closed",
        severity=member.severity,
        severities=[SeverityChange(severity=member.severity, at=raised)],
        mod_seq=row.mod_seq,
        first_bad=first_bad,
        raised=raised,
        cleared=cleared,
        reason=member.reason,
        title=row.title,
        advice=row.advice,
        evidence=THINNED,
        because=member.because,
    )


M = TypeVar("M", bound=Message)


def _validate(model: type[M], parsed: Any) -> M:
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "message"
        raise WireError(f"{where}: {first['msg']}") from error


def _no_doubled_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise WireError("an object has the same key twice")
    return found


def _no_constants(name: str) -> Never:
    raise WireError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    """1e999 is JSON, but would be read as infinity, which is not."""
    number = float(digits)
    if not math.isfinite(number):
        raise WireError("a number is too large")
    return number


# What JSON nests in: no subclasses come out of a parser.
_NESTING = (dict, list)


def _deeper_than(parsed: Any, limit: int) -> bool:
    level: list[Any] = [[parsed]]
    for _ in range(limit + 1):
        level = [
            child
            for value in level
            for child in (value.values() if type(value) is dict else value)
            if type(child) in _NESTING
        ]
        if not level:
            return False
    return any(level)
