"""What one device said last, in bounded memory: how it lies there, and how it is read again.

Two rings, one of readings as they came and one of the values that they meant, so that long answers do not
push out the history of the values. What the profile hides is hidden before it is kept, in readings as in
values: one that could not have been read from the hidden form is not kept either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache
from struct import Struct, error

from edge_agent import decode
from edge_agent.device import Device
from edge_agent.profile import ListenRead, Profile, TopicRead
from edge_agent.ring import Entry, Ring
from edge_agent.sample import Payload, Quality, Reading, Sample, Value
from edge_agent.wire import Stamp, mono_ms

# Of the memory of a device, for values.
VALUES_PART = 3
MAX_VALUE_CHARACTERS = 120
MAX_DETAIL_CHARACTERS = 200
# Of one frame, as many as are shown of it at most: a character that is escaped takes four.
MAX_FRAME_BYTES = 4 * decode.MAX_SHOWN_CHARACTERS


class _Kind(IntEnum):
    """What the body of a reading is."""

    FRAMES = 0
    NUMBERS = 1
    TROUBLE = 2
    # Numbers, some of which the device refuses.
    HOLES = 3
    RETAINED = 8


class _Type(IntEnum):
    """What the body of a value is, each as text."""

    BAD = 0
    BOOL = 1
    NUMBER = 2
    TEXT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Of one profile, by the numbers that stand for them on the tapes of its devices."""

    reads: tuple[str, ...]
    signals: tuple[str, ...]
    read_numbers: Mapping[str, int]
    signal_numbers: Mapping[str, int]

    @classmethod
    def of(cls, profile: Profile) -> Names:
        reads, signals = tuple(profile.reads), tuple(profile.signals)
        return cls(
            reads=reads,
            signals=signals,
            read_numbers={name: number for number, name in enumerate(reads)},
            signal_numbers={name: number for number, name in enumerate(signals)},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A reading, the same one so many times in a row; what it was is the text of it or why there was none."""

    read: str
    first_ms: int
    last_ms: int
    times: int
    payload: Payload
    trouble: str
    detail: str
    retained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """The value of a signal from a moment on, as the wire allows it; None: it could not be read."""

    signal: str
    at_ms: int
    value: bool | int | str | None


class Tape:
    def __init__(self, device: Device, names: Names, limit_bytes: int) -> None:
        self.device = device
        self._names = names
        # Who speaks by himself says something each time.
        self._asked = {
            name: number
            for name, number in names.read_numbers.items()
            if not isinstance(device.profile.reads[name], ListenRead | TopicRead)
        }
        self._readings = Ring(limit_bytes - limit_bytes // VALUES_PART)
        self._values = Ring(limit_bytes // VALUES_PART)
        self.latest: dict[str, Sample] = {}

    def __len__(self) -> int:
        """In bytes, without the newest samples."""
        return len(self._readings) + len(self._values)

    def keep(self, reading: Reading, samples: Iterable[Sample]) -> None:
        """Also unchanged: that costs a comparison of bytes and no memory."""
        number = self._names.read_numbers.get(reading.read)
        if number is None:
            return
        hidden, whole = decode.redacted(self.device, reading), True
        if hidden is not reading:
            reading, samples, whole = hidden, _redacted(self.device, hidden, samples), False
        kind, body = _packed(reading)
        if len(body) > self._readings.longest_body:
            # With holes in it a part would be read wrongly.
            longest = 0 if kind & _Kind.HOLES == _Kind.HOLES else self._readings.longest_body
            body, whole = body[:longest], False
        at_ms = mono_ms(reading.at)
        asked = reading.trouble is not None or reading.read in self._asked
        new = self._readings.put(number, kind, body, at_ms, again=asked)
        for sample in samples:
            self.latest[sample.signal] = sample
        # The same answer means the same.
        if new or not whole:
            self._keep_values(samples, at_ms)

    def again(self, readings: Iterable[Reading], at: Stamp) -> None:
        """They came once more at that moment; each was the last of its read that was kept."""
        at_ms = mono_ms(at)
        for reading in readings:
            number = self._asked.get(reading.read)
            if number is not None and self._readings.again(number, at_ms):
                continue
            now = reading if reading.at is at else replace(reading, at=at)
            # What it means gave way with it.
            self.keep(now, () if number is None else decode.samples(self.device, now))

    def heard_again(self, signals: Iterable[str], at: Stamp) -> None:
        """The newest samples of these came once more, last at that moment."""
        latest = self.latest
        latest |= {name: replace(latest[name], at=at) for name in signals if name in latest}

    def said(self) -> list[Said]:
        """Oldest first."""
        return [self._said(entry) for entry in self._readings.entries()]

    def meant(self) -> Iterator[Meant]:
        """Oldest first, each change of each signal."""
        for entry in self._values.entries():
            yield Meant(
                signal=self._names.signals[entry.key], at_ms=entry.first_ms, value=_unpacked_value(entry)
            )

    def _keep_values(self, samples: Iterable[Sample], at_ms: int) -> None:
        for sample in samples:
            number = self._names.signal_numbers.get(sample.signal)
            if number is not None:
                self._values.put(number, *_packed_value(sample), at_ms)

    def _said(self, entry: Entry) -> Said:
        is_trouble = entry.kind & ~_Kind.RETAINED == _Kind.TROUBLE
        trouble, _, detail = (
            entry.body.decode("utf-8", "replace").partition("\0") if is_trouble else ("",) * 3
        )
        return Said(
            read=self._names.reads[entry.key],
            first_ms=entry.first_ms,
            last_ms=entry.last_ms,
            times=entry.times,
            payload=() if is_trouble else _unpacked(entry),
            trouble=trouble,
            detail=detail,
            retained=bool(entry.kind & _Kind.RETAINED),
        )


def shown_value(value: Value) -> bool | int | str | None:
    """As the wire allows it: no floats, and no text that could act on a screen."""
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, str):
        return decode.escaped(value.encode("utf-8", "surrogateescape"))[:MAX_VALUE_CHARACTERS]
    return value


def _redacted(device: Device, hidden: Reading, samples: Iterable[Sample]) -> Sequence[Sample]:
    """A value that cannot be read from what may be kept is hidden with the rest."""
    found = {sample.signal: sample.value for sample in decode.samples(device, hidden)}
    return [
        sample
        if sample.value is None or found.get(sample.signal, sample.value) == sample.value
        else replace(sample, value=decode.REDACTED.decode())
        for sample in samples
    ]


@cache
def _numbers(count: int) -> Struct:
    return Struct(f"<{count}H")


def _packed(reading: Reading) -> tuple[int, bytes]:
    kept = _Kind.RETAINED if reading.retained else 0
    payload = reading.payload
    if reading.trouble is not None:
        said = f"{reading.trouble}\0{reading.detail[:MAX_DETAIL_CHARACTERS]}"
        return kept | _Kind.TROUBLE, said.encode("utf-8", "replace")
    if payload and not isinstance(payload[0], bytes):
        holes = _Kind.HOLES if None in payload else _Kind.NUMBERS
        return kept | holes, _packed_numbers(payload)
    frames = [
        part[:MAX_FRAME_BYTES] for part in payload[: decode.MAX_SHOWN_FRAMES] if isinstance(part, bytes)
    ]
    return kept | _Kind.FRAMES, b"".join(len(frame).to_bytes(2, "little") + frame for frame in frames)


def _packed_numbers(payload: Payload) -> bytes:
    try:
        return _numbers(len(payload)).pack(*payload)
    except error:
        # No transport brings anything but registers and bits, and None in the place of some.
        numbers = [number if isinstance(number, int) else 0 for number in payload]
        holes = bytes(number is None for number in payload)
        packed = _numbers(len(payload)).pack(*(number & 0xFFFF for number in numbers))
        return packed + holes if any(holes) else packed


def _unpacked(entry: Entry) -> Payload:
    kind = entry.kind & ~_Kind.RETAINED
    if kind == _Kind.FRAMES:
        return tuple(_frames(entry.body))
    count = len(entry.body) // (3 if kind == _Kind.HOLES else 2)
    numbers = _numbers(count).unpack(entry.body[: 2 * count])
    if kind == _Kind.NUMBERS:
        return numbers
    holes = entry.body[2 * count :]
    return tuple(None if hole else number for number, hole in zip(numbers, holes, strict=True))


def _frames(body: bytes) -> Iterator[bytes]:
    at = 0
    while at + 2 <= len(body):
        length = int.from_bytes(body[at : at + 2], "little")
        yield body[at + 2 : at + 2 + length]
        at += 2 + length


def _packed_value(sample: Sample) -> tuple[int, bytes]:
    value = sample.value
    if value is None or sample.quality is Quality.BAD:
        return _Type.BAD, b""
    if isinstance(value, bool):
        return _Type.BOOL, b"1" if value else b"0"
    return _Type.TEXT if isinstance(value, str) else _Type.NUMBER, str(shown_value(value)).encode()


def _unpacked_value(entry: Entry) -> bool | int | str | None:
    text = entry.body.decode()
    if entry.kind == _Type.BAD:
        return None
    if entry.kind == _Type.BOOL:
        return text == "1"
    return int(text) if entry.kind == _Type.NUMBER and text.lstrip("-").isdigit() else text
