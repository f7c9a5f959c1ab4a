"""What a read brought becomes samples of its signals, and the text of it that evidence may show.

Total: any bytes, registers or JSON end as samples, at worst of bad quality with a detail that says why. A
detail never quotes what the device sent, because that may be a password or somebody's barcode; ``shown`` is
the only way out for it, redacted as the profile says.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar, cast

from edge_agent.device import Device
from edge_agent.profile import (
    ByteSignal,
    CoilSignal,
    Each,
    JsonPath,
    JsonSignal,
    ListenRead,
    MetricSignal,
    ModbusRead,
    Profile,
    Redaction,
    RegisterSignal,
    Scalar,
    Signal,
    SilenceSignal,
    TextSignal,
    TopicRead,
    to_bytes,
)
from edge_agent.sample import Payload, Quality, Reading, Sample, Trouble
from edge_agent.wire import MAX_INT, WireError, parse_json

MAX_TEXT_VALUE = 256
MAX_JSON_BYTES = 64 << 10
MAX_SHOWN_CHARACTERS = 512
MAX_SHOWN_FRAMES = 64
REGISTERS_A_LINE = 8
BLANKS = " \t\r\n"
REDACTED = b"[redacted]"
# Of an entry that matters and has no text to show.
NO_TEXT = "?"

_INT = re.compile(r"[+-]?[0-9]{1,19}")
_HEX = re.compile(r"(?:0[xX])?[0-9a-fA-F]{1,16}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")


N = TypeVar("N", int, float)


class _BadError(Exception):
    """Why there is no good value; the text is the sample's detail."""


class _IgnoredError(Exception):
    """This frame says nothing about the signal."""


def samples(device: Device, reading: Reading) -> tuple[Sample, ...]:
    """One sample for each signal of the read, but none for a frame that the signal ignores."""
    read = device.profile.reads.get(reading.read)
    if isinstance(read, ListenRead | TopicRead) and not reading.payload and reading.trouble is None:
        # The link came up; whoever speaks by himself has said nothing yet.
        return ()
    answer = _Answer(reading, read.address if isinstance(read, ModbusRead) else 0)
    signals = device.profile.signals_by_read.get(reading.read, ())
    return tuple(sample for name, signal in signals if (sample := _sample(name, signal, answer)) is not None)


def shown(device: Device, reading: Reading) -> tuple[str, ...]:
    """The payload as printable lines, redacted as the profile says, each cut to MAX_SHOWN_CHARACTERS."""
    return lines(device, reading.read, redacted(device, reading).payload)


def lines(device: Device, name: str, payload: Payload) -> tuple[str, ...]:
    """A payload as printable lines, each cut to MAX_SHOWN_CHARACTERS; nothing is redacted here."""
    read = device.profile.reads.get(name)
    if isinstance(read, ModbusRead):
        return _shown_registers(read, [part for part in payload if not isinstance(part, bytes)])
    return tuple(map(_shown_frame, [part for part in payload if isinstance(part, bytes)][:MAX_SHOWN_FRAMES]))


def redacted(device: Device, reading: Reading) -> Reading:
    """The reading without what the profile hides, the very same when that is nothing; of numbers nothing is
    hidden.
    """
    frames = reading.payload
    if not device.profile.redactions_by_read.get(reading.read):
        return reading
    shown = tuple(
        _redacted_frame(device.profile, reading.read, number, frame) if isinstance(frame, bytes) else frame
        for number, frame in enumerate(frames)
    )
    return reading if shown == frames else replace(reading, payload=cast(Payload, shown))


def escaped(raw: bytes) -> str:
    """Printable and unambiguous: UTF-8 where it is, the rest as escapes; no control or bidi characters."""
    return "".join(map(_escaped_character, raw.decode("utf-8", "surrogateescape")))


# --- samples ------------------------------------------------------------------------------------------------


class _Answer:
    """One reading, its payload taken apart no more than once."""

    def __init__(self, reading: Reading, first_address: int) -> None:
        self.reading = reading
        self._first_address = first_address
        self._document: Any = None
        self._problem: str | None = None

    def frame(self, number: int) -> bytes:
        frames = self.reading.payload
        if number >= len(frames):
            raise _BadError(f"frame {number} is missing: the answer has {len(frames)}")
        frame = frames[number]
        if not isinstance(frame, bytes):
            raise _BadError("not text")
        return frame

    def number(self, address: int) -> int:
        position = address - self._first_address
        if not 0 <= position < len(self.reading.payload):
            raise _BadError(f"address {address} is missing in the answer")
        number = self.reading.payload[position]
        if number is None:
            raise _BadError(f"the device refuses address {address}")
        if not isinstance(number, int) or not 0 <= number <= 0xFFFF:
            raise _BadError(f"address {address} is not a 16-bit number")
        return number

    def at(self, path: JsonPath) -> Any:
        return _at(self._json(), path)

    def metric(self, name: str) -> Any:
        """Of what ``gather`` makes of Sparkplug; what is in neither of them was not said."""
        metrics, bad = _at(self._json(), "metrics"), _at(self._json(), "bad")
        if not isinstance(metrics, dict) or not isinstance(bad, dict):
            raise _BadError("no message of a Sparkplug node")
        if name in bad:
            raise _BadError(str(bad[name]) or "no value")
        if name not in metrics:
            raise _IgnoredError
        return metrics[name]

    def _json(self) -> Any:
        if self._document is None and self._problem is None:
            self._document, self._problem = _parsed(self.reading.payload)
        if self._problem is not None:
            raise _BadError(self._problem)
        return self._document


def _at(here: Any, path: JsonPath) -> Any:
    """What stands at ``a.b.0`` in JSON."""
    keys = path.split(".") if isinstance(path, str) else path
    for key in keys:
        if isinstance(here, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(here):
            here = here[int(key[:9])]
        elif isinstance(here, dict) and key in here:
            here = here[key]
        else:
            raise _BadError(f"there is no {'.'.join(keys)} in the message")
    return here


def _parsed(payload: Payload) -> tuple[Any, str | None]:
    if len(payload) != 1 or not isinstance(payload[0], bytes):
        return None, "one message is expected"
    if len(payload[0]) > MAX_JSON_BYTES:
        return None, f"longer than {MAX_JSON_BYTES >> 10} KiB"
    try:
        return parse_json(payload[0]), None
    except WireError as error:
        return None, str(error)


def _sample(name: str, signal: Signal, answer: _Answer) -> Sample | None:
    reading = answer.reading
    try:
        value = _value(signal, answer)
    except _IgnoredError:
        return None
    except _BadError as bad:
        return Sample(
            device=reading.device,
            signal=name,
            value=None,
            quality=Quality.BAD,
            at=reading.at,
            detail=str(bad),
        )
    if reading.retained:
        # True as far as we know, but no sign of life: its sender may be dead for days.
        return Sample(
            device=reading.device,
            signal=name,
            value=value,
            quality=Quality.UNCERTAIN,
            at=reading.at,
            detail="kept by the broker, of unknown age",
        )
    return Sample(device=reading.device, signal=name, value=value, quality=Quality.GOOD, at=reading.at)


def _value(signal: Signal, answer: _Answer) -> Scalar:
    reading = answer.reading
    if isinstance(signal, SilenceSignal) and reading.trouble in (None, Trouble.NO_ANSWER):
        return reading.trouble is Trouble.NO_ANSWER
    if reading.trouble is not None:
        raise _BadError(f"{reading.trouble}: {reading.detail}" if reading.detail else str(reading.trouble))
    if isinstance(signal, TextSignal):
        return _text_value(signal, _text(answer.frame(signal.frame)))
    if isinstance(signal, ByteSignal):
        return _byte_value(signal, answer.frame(signal.frame))
    if isinstance(signal, JsonSignal):
        if signal.only is not None and answer.at(signal.only.path) != signal.only.equals:
            raise _IgnoredError
        found = answer.at(signal.path)
        return _json_value(signal, found) if signal.each is None else _each(signal.each, found)
    if isinstance(signal, MetricSignal):
        return _json_value(signal, answer.metric(signal.metric))
    if isinstance(signal, RegisterSignal):
        return _register_value(signal, [answer.number(signal.register_ + i) for i in range(signal.width)])
    assert isinstance(signal, CoilSignal)
    return answer.number(signal.coil) != 0


# --- text ---------------------------------------------------------------------------------------------------


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace").strip(BLANKS)


@lru_cache(maxsize=4096)
def _meant(text: str) -> str:
    """A text of a profile as it stands in a frame."""
    return _text(to_bytes(text))


def _text_value(signal: TextSignal, text: str) -> Scalar:
    if any(text == _meant(ignored) for ignored in signal.ignore):
        raise _IgnoredError
    field = _field(signal, text)
    if signal.equals is not None:
        return field == _meant(signal.equals)
    if signal.starts_with is not None:
        return field.startswith(_meant(signal.starts_with))
    if signal.words is not None:
        return _word(signal.words, field, signal.otherwise)
    return _scaled(_typed(signal, field), signal.scale)


def _field(signal: TextSignal, text: str) -> str:
    if signal.after is not None:
        _, found, rest = text.partition(_meant(signal.after))
        if not found:
            raise _BadError(f"{signal.after!r} is missing")
        text = (rest.splitlines() or [""])[0].strip(BLANKS)
    if signal.field is None and signal.fields_ is None:
        return text
    fields = _split(text, signal.split)
    if signal.fields_ not in (None, len(fields)):
        raise _BadError(f"{signal.fields_} fields are expected, {len(fields)} found")
    if signal.field is None:
        return text
    if signal.field >= len(fields):
        raise _BadError(f"field {signal.field} is missing: there are {len(fields)}")
    return fields[signal.field].strip(BLANKS)


def _split(text: str, by: str) -> list[str]:
    return text.split() if by == " " else text.split(by)


def _word(words: Mapping[str, Scalar], text: str, otherwise: Scalar | None) -> Scalar:
    if text not in words:
        if otherwise is not None:
            return otherwise
        raise _BadError(f"none of the words {', '.join(words)}")
    return words[text]


def _typed(signal: TextSignal, field: str) -> Scalar:
    if signal.type == "seen":
        return True
    if signal.type == "bool":
        if field not in ("0", "1"):
            raise _BadError("neither 0 nor 1")
        return field == "1"
    if signal.type in ("int", "hex"):
        return _whole_number(signal, field)
    if signal.type == "float":
        if not _FLOAT.fullmatch(field):
            raise _BadError("not a number")
        return _finite(float(field))
    return _short(field)


def _decimal(text: str) -> int:
    if not _INT.fullmatch(text):
        raise _BadError("not a whole number")
    return _bounded(int(text))


def _whole_number(signal: TextSignal, field: str) -> Scalar:
    if signal.type == "int":
        number = _decimal(field)
    elif _HEX.fullmatch(field):
        number = _bounded(int(field, 16))
    else:
        raise _BadError("not a hexadecimal number")
    return number if signal.bit is None else bool(number >> signal.bit & 1)


def _byte_value(signal: ByteSignal, frame: bytes) -> Scalar:
    only = signal.only
    if only is not None and (only.byte >= len(frame) or frame[only.byte] not in only.values):
        raise _IgnoredError
    part = frame[signal.byte : signal.byte + signal.count]
    if len(part) < signal.count:
        raise _BadError(f"byte {signal.byte + signal.count - 1} is missing: there are {len(frame)}")
    if signal.words is not None:
        return _word(signal.words, _text(part), signal.otherwise)
    if signal.type == "text":
        return _text(part)
    if signal.type == "int":
        return _decimal(_text(part))
    number = int.from_bytes(part, "big")
    if signal.check is not None and number & signal.check.mask != signal.check.value:
        raise _BadError("bits that are always the same are not: another byte")
    return number if signal.bit is None else bool(number >> signal.bit & 1)


# --- JSON and registers -------------------------------------------------------------------------------------

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "text": (str,),
}


def _json_value(signal: JsonSignal | MetricSignal, found: object) -> Scalar:
    if not isinstance(found, bool | int | float | str):
        raise _BadError("neither a text, a number nor true or false")
    if signal.equals is not None:
        if not isinstance(found, str):
            raise _BadError("not a text")
        return found.strip(BLANKS) == _meant(signal.equals)
    if signal.words is not None and isinstance(found, str):
        return _word(signal.words, found.strip(BLANKS), signal.otherwise)
    allowed = _JSON_TYPES.get(signal.type or "", (bool, int, float, str))
    if not isinstance(found, allowed) or (isinstance(found, bool) and bool not in allowed):
        raise _BadError(f"not of type {signal.type}")
    if isinstance(found, str):
        return _short(found)
    return found if isinstance(found, bool) else _scaled(_finite(_bounded(found)), signal.scale)


def _each(each: Each, found: object) -> str:
    if not isinstance(found, list | dict):
        raise _BadError("neither a list nor an object")
    entries = found if isinstance(found, list) else list(found.values())
    texts = dict.fromkeys(
        _entry_text(entry, each.show or each.path) or NO_TEXT for entry in entries if _matters(each, entry)
    )
    text = ", ".join(texts)
    return text if len(text) <= MAX_TEXT_VALUE else text[: MAX_TEXT_VALUE - 1] + "…"


def _matters(each: Each, entry: object) -> bool:
    text = _entry_text(entry, each.path)
    return text in each.values if each.values is not None else text not in (each.other_than or ())


def _entry_text(entry: object, path: JsonPath | None) -> str | None:
    try:
        found = entry if path is None else _at(entry, path)
    except _BadError:
        return None
    return found.strip(BLANKS) if isinstance(found, str) else None


def _register_value(signal: RegisterSignal, registers: Sequence[int]) -> Scalar:
    raw = b"".join(register.to_bytes(2, "big") for register in registers)
    if signal.width == 2:
        raw = bytes(raw[signal.word_order.index(letter)] for letter in "abcd")
    if signal.type == "f32":
        (real,) = struct.unpack(">f", raw)
        return _scaled(_finite(real), signal.scale)
    number = int.from_bytes(raw, "big", signed=signal.type in ("i16", "i32"))
    if signal.bit is not None:
        return bool(number >> signal.bit & 1)
    return _scaled(number, signal.scale)


def _scaled(value: Scalar, scale: float | None) -> Scalar:
    if scale is None or isinstance(value, bool | str):
        return value
    # Twelve digits: 3 * 0.1 is 0.3 to a person.
    return _finite(float(f"{value * scale:.12g}"))


def _finite(number: N) -> N:
    if not math.isfinite(number):
        raise _BadError("not a finite number")
    return number


def _bounded(number: N) -> N:
    if isinstance(number, int) and abs(number) > MAX_INT:
        raise _BadError("a number of more than 63 bits")
    return number


def _short(text: str) -> str:
    if len(text) > MAX_TEXT_VALUE:
        raise _BadError(f"longer than {MAX_TEXT_VALUE} characters")
    return text


# --- evidence -----------------------------------------------------------------------------------------------


def _shown_frame(frame: bytes) -> str:
    text = escaped(frame[: MAX_SHOWN_CHARACTERS * 4])
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def _redacted_frame(profile: Profile, read: str, number: int, frame: bytes) -> bytes:
    if _text(frame) not in map(_meant, profile.texts_by_read.get(read, ())):
        for redaction in profile.redactions_by_read.get(read, ()):
            if redaction.frame in (None, number):
                frame = _redacted(frame, redaction)
    return frame


def _redacted(frame: bytes, redaction: Redaction) -> bytes:
    if redaction.from_byte is not None:
        return frame[: redaction.from_byte] + (REDACTED if len(frame) > redaction.from_byte else b"")
    if redaction.after is not None:
        shown, mark, hidden = frame.partition(to_bytes(redaction.after))
        return shown + mark + (REDACTED if hidden else b"")
    by = redaction.split.encode()
    pieces = frame.split() if by == b" " else frame.split(by)
    if redaction.fields_ not in (None, len(pieces)):
        return frame
    if redaction.field is None:
        return REDACTED
    if redaction.field < len(pieces):
        pieces[redaction.field] = REDACTED
    return by.join(pieces)


def _shown_registers(read: ModbusRead, numbers: Sequence[int | None]) -> tuple[str, ...]:
    """``1499: 0000 0020 ...``, the address of the first and the values in hexadecimal; bits as 0 and 1.

    What the device refuses is ``-``.
    """
    form = "{:x}" if read.of_bits else "{:04x}"
    shown = ["-" if number is None else form.format(number) for number in numbers]
    rows = range(0, min(len(numbers), MAX_SHOWN_FRAMES * REGISTERS_A_LINE), REGISTERS_A_LINE)
    return tuple(f"{read.address + row}: " + " ".join(shown[row : row + REGISTERS_A_LINE]) for row in rows)


def _escaped_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
