"""The grammar of profiles as frozen models: what may stand in the YAML, with types, units and limits.

It flows like the bytes do: *reads* say what to ask for, *signals* say where in an answer a named value
stands, *conditions* say which values are a fault, *examples* prove each condition from raw bytes. What one
model can see is checked here; what needs two of them is checked in ``profile``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from edge_agent.wire import ID_PATTERN, Id

# So many samples of a signal are remembered, whatever the time they are from.
MAX_RECENT = 10_000
_ID = ID_PATTERN[1:-1]

Scalar = bool | int | float | str
# In a rule over several devices ``device/signal``.
SignalName = Annotated[str, Field(pattern=rf"^{_ID}(/{_ID})?$")]
Seconds = Annotated[float, Field(ge=0, le=86_400 * 7, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Address = Annotated[int, Field(ge=0, le=65_535)]
Source = Annotated[str, Field(min_length=3, max_length=1_000, description="manual, edition and page")]
Separator = Annotated[str, Field(min_length=1, max_length=8, description="' ' stands for any run of blanks")]
Words = Annotated[
    dict[str, Scalar], Field(min_length=1, max_length=256, description="text -> value; no other is good")
]
Otherwise = Annotated[Scalar | None, Field(description="the value for a text that is none of the words")]
_PathText = Annotated[str, Field(min_length=1, max_length=256)]
JsonPath = Annotated[
    _PathText | Annotated[tuple[_PathText, ...], Field(min_length=1, max_length=20)],
    Field(description="a.b.0.c: names of objects, numbers into lists; a list where names have dots"),
]

_ESCAPES = {r"\r": b"\r", r"\n": b"\n", r"\t": b"\t", r"\\": b"\\"}
_ESCAPED = {raw.decode(): text for text, raw in _ESCAPES.items()}
_TOKEN = re.compile(r"\\[rnt\\]|\\x[0-9A-Fa-f]{2}|[^\\]+")


def to_bytes(text: str) -> bytes:
    r"""What a text of a profile is on the wire: UTF-8, with \r \n \t \\ \xNN undone. Raises ValueError."""
    tokens = _TOKEN.findall(text)
    if sum(map(len, tokens)) != len(text):
        raise ValueError(
            r"after a backslash is expected: r, n, t, another backslash, or xNN with two hex digits"
        )
    return b"".join(map(_token_bytes, tokens))


def to_text(raw: bytes) -> str:
    """The text that ``to_bytes`` makes these bytes of: UTF-8 where it can be printed, escapes else."""
    return "".join(map(_token_text, raw.decode("utf-8", "surrogateescape")))


def _token_text(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def _token_bytes(token: str) -> bytes:
    if token in _ESCAPES:
        return _ESCAPES[token]
    return bytes([int(token[2:], 16)]) if token.startswith("\\x") else token.encode()


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# --- reads --------------------------------------------------------------------------------------------------


class Redaction(Part):
    """What never leaves the gateway: one field of the frames that match, or (no ``field``) all of them.

    One that knows its frames by ``fields`` and not by ``frame`` holds for all reads: answers may come late.
    """

    frame: Annotated[int | None, Field(ge=0, le=63, description="only this frame of the answer")] = None
    fields_: Annotated[
        int | None,
        Field(alias="fields", ge=1, le=256, description="only frames of so many fields, of any read"),
    ] = None
    field: Annotated[int | None, Field(ge=0, le=255)] = None
    split: Separator = ","
    from_byte: Annotated[int | None, Field(ge=0, le=4095, description="hide from this byte on")] = None
    after: Annotated[str | None, Field(min_length=1, max_length=64, description="hide behind this text")] = (
        None
    )

    @model_validator(mode="after")
    def _one_way(self) -> Redaction:
        _at_most_one(field=self.field, from_byte=self.from_byte, after=self.after)
        to_bytes(self.after or "")
        return self


class Answer(Part):
    """What the first frame of an answer looks like; frames before it are none, and passed over."""

    starts_with: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    letters: Annotated[
        str | None, Field(min_length=1, max_length=256, description="it consists of these alone")
    ] = None
    length: Annotated[int | None, Field(ge=1, le=4096, description="in bytes")] = None
    min_length: Annotated[int | None, Field(ge=1, le=4096, description="in bytes")] = None
    mask: Annotated[int | None, Field(ge=1, le=0xFF, description="these bits of the first byte")] = None
    value: Annotated[int | None, Field(ge=0, le=0xFF, description="what the bits of mask are")] = None

    def fits(self, frame: bytes) -> bool:
        return (
            frame.startswith(to_bytes(self.starts_with or ""))
            and (self.letters is None or not frame.strip(to_bytes(self.letters)))
            and self.length in (None, len(frame))
            and len(frame) >= (self.min_length or 0)
            and (self.mask is None or (len(frame) > 0 and frame[0] & self.mask == self.value))
        )

    @model_validator(mode="after")
    def _says_something(self) -> Answer:
        if not self.model_fields_set:
            raise ValueError(f"one of {', '.join(type(self).model_fields)} is expected")
        if (self.mask is None) != (self.value is None):
            raise ValueError("mask and value: one needs the other")
        for text in (self.starts_with, self.letters):
            to_bytes(text or "")
        return self


class RequestRead(Part):
    """Ask, then collect ``frames`` frames (serial, tcp)."""

    send: Annotated[str, Field(min_length=1, max_length=256, description=r"text; \r \n \t \\ \xNN escapes")]
    frames: Annotated[int, Field(ge=1, le=64)] = 1
    every_s: Annotated[float, Field(gt=0, le=86_400)] = 5.0
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    enabled: Annotated[bool, Field(description="asked at all; its signals stay unknown if not")] = True
    answer: Answer | None = None
    no_answer: Annotated[
        Id | None,
        Field(description="signal that is true while the link is up and this read stays unanswered"),
    ] = None
    redact: tuple[Redaction, ...] = ()

    @property
    def request(self) -> bytes:
        return to_bytes(self.send)

    @field_validator("send")
    @classmethod
    def _escapes(cls, text: str) -> str:
        to_bytes(text)
        return text


class ListenRead(Part):
    """Take each frame that the device sends by itself (serial, tcp)."""

    listen: Literal[True]
    redact: tuple[Redaction, ...] = ()


class ModbusRead(Part):
    """One block. Addresses are PDU addresses: zero-based, as on the wire."""

    function: Annotated[
        Literal[1, 2, 3, 4], Field(description="1 coils, 2 discrete inputs, 3 holding, 4 input registers")
    ]
    address: Address
    count: Annotated[int, Field(ge=1, le=2_000)]
    every_s: Annotated[float, Field(gt=0, le=86_400)] = 1.0
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    whole: Annotated[
        bool, Field(description="read this block alone, from its first address: never merged, never split")
    ] = False

    @property
    def of_bits(self) -> bool:
        return self.function in (1, 2)

    @model_validator(mode="after")
    def _fits(self) -> ModbusRead:
        # Modbus application protocol V1.1b3, 6.1-6.4: 2000 bits, 125 registers.
        if not self.of_bits and self.count > 125:
            raise ValueError(f"count: at most 125 registers fit into one answer, not {self.count}")
        if self.address + self.count > 65_536:
            raise ValueError("address and count: the block ends behind address 65535")
        return self


class TopicRead(Part):
    """Take each message of one topic (mqtt). ``{topic}`` stands for the device's ``topic``.

    ``map`` takes all topics that a + stands for as one JSON object. ``sparkplug`` takes all messages of a
    Sparkplug edge node; the topic is group/node, or group/node/device.
    """

    topic: Annotated[str, Field(min_length=1, max_length=256)]
    format: Literal["text", "json", "map", "sparkplug"] = "text"
    qos: Annotated[int, Field(ge=0, le=1)] = 1
    redact: tuple[Redaction, ...] = ()


class IppRead(Part):
    """Ask a printer for these attributes (ipp). The answer is JSON, each attribute with a list of values."""

    attributes: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$")], ...],
        Field(min_length=1, max_length=64, description="names of RFC 8011, such as printer-state"),
    ]
    every_s: Annotated[float, Field(gt=0, le=86_400)] = 10.0
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    redact: tuple[Redaction, ...] = ()


def _kind_of_read(raw: Any) -> str | None:
    if not isinstance(raw, Mapping):
        return type(raw).__name__
    return next((kind for key, kind in _READ_KINDS.items() if key in raw), None)


_READ_KINDS = {
    "send": "RequestRead",
    "listen": "ListenRead",
    "topic": "TopicRead",
    "function": "ModbusRead",
    "address": "ModbusRead",
    "attributes": "IppRead",
}

Read = Annotated[
    Annotated[RequestRead, Tag("RequestRead")]
    | Annotated[ListenRead, Tag("ListenRead")]
    | Annotated[ModbusRead, Tag("ModbusRead")]
    | Annotated[TopicRead, Tag("TopicRead")]
    | Annotated[IppRead, Tag("IppRead")],
    Discriminator(
        _kind_of_read,
        custom_error_type="read_kind",
        custom_error_message="a read has send (ask), listen (wait), function (Modbus), topic (MQTT) or "
        "attributes (IPP)",
    ),
]


# --- signals ------------------------------------------------------------------------------------------------


class TextSignal(Part):
    """A value in a frame of text or in an MQTT text.

    The frame is cut down in this order: ``frame`` picks it, ``ignore`` passes over it, ``after`` keeps the
    rest of the line behind that text, ``split`` and ``field`` pick one field. What is left is read as
    ``type`` (text when it is missing), or looked up in ``words``, or compared (``equals``, ``starts_with``).
    """

    read: Id
    source: Source
    frame: Annotated[int, Field(ge=0, le=63, description="which frame of the answer, from 0")] = 0
    ignore: Annotated[
        tuple[str, ...], Field(max_length=32, description="frames that carry no value, e.g. a heartbeat")
    ] = ()
    after: Annotated[str | None, Field(min_length=1, max_length=256)] = None
    split: Separator = ","
    fields_: Annotated[
        int | None,
        Field(
            alias="fields", ge=1, le=256, description="how many there must be; otherwise it is another frame"
        ),
    ] = None
    field: Annotated[int | None, Field(ge=0, le=255)] = None
    type: Annotated[
        Literal["bool", "int", "hex", "float", "text", "seen"] | None,
        Field(description="bool is 0 or 1; seen is true for each frame"),
    ] = None
    words: Words | None = None
    otherwise: Otherwise = None
    equals: Annotated[str | None, Field(max_length=256)] = None
    starts_with: Annotated[str | None, Field(min_length=1, max_length=256)] = None
    bit: Annotated[int | None, Field(ge=0, le=62)] = None
    scale: Number | None = None

    @model_validator(mode="after")
    def _one_way(self) -> TextSignal:
        _at_most_one(type=self.type, words=self.words, equals=self.equals, starts_with=self.starts_with)
        if self.bit is not None and self.type not in ("int", "hex"):
            raise ValueError("bit: needs type int or hex")
        if self.scale is not None and (self.type not in ("int", "hex", "float") or self.bit is not None):
            raise ValueError("scale: needs type int, hex or float, and no bit")
        if self.fields_ is not None and self.field is not None and self.field >= self.fields_:
            raise ValueError(f"field: {self.field} is not one of {self.fields_} fields (they count from 0)")
        if self.otherwise is not None and self.words is None:
            raise ValueError("otherwise: needs words")
        for text in (*self.ignore, self.after, self.equals, self.starts_with):
            to_bytes(text or "")
        return self


class BitCheck(Part):
    """Bits that are always so; where they are not, the byte is another one: bad quality."""

    mask: Annotated[int, Field(ge=1, le=0xFF)]
    value: Annotated[int, Field(ge=0, le=0xFF)]


class OnlyByte(Part):
    """The frames that a signal is about: those with one of ``values`` at ``byte``; it passes over others."""

    byte: Annotated[int, Field(ge=0, le=4095)]
    values: Annotated[tuple[int, ...], Field(min_length=1, max_length=256)]


class ByteSignal(Part):
    """``count`` bytes from ``byte`` on, where neither field nor line ends say where a value stands.

    ``uint`` is the bytes as a number, highest first; ``int`` is decimal digits.
    """

    read: Id
    source: Source
    frame: Annotated[int, Field(ge=0, le=63, description="which frame of the answer, from 0")] = 0
    only: OnlyByte | None = None
    byte: Annotated[int, Field(ge=0, le=4095, description="the first, from 0")]
    count: Annotated[int, Field(ge=1, le=64)] = 1
    type: Literal["uint", "int", "text"] = "uint"
    words: Words | None = None
    otherwise: Otherwise = None
    check: BitCheck | None = None
    bit: Annotated[int | None, Field(ge=0, le=55)] = None

    @model_validator(mode="after")
    def _fits(self) -> ByteSignal:
        if self.type != "uint" and (self.bit is not None or self.check is not None):
            raise ValueError(f"type: {self.type} has neither bit nor check")
        if self.words is not None and self.type != "text":
            raise ValueError("words: needs type text")
        if self.otherwise is not None and self.words is None:
            raise ValueError("otherwise: needs words")
        if self.type == "uint" and self.count > 7:
            raise ValueError("count: a number has at most 7 bytes")
        if self.check is not None and self.count > 1:
            raise ValueError("check: is for one byte")
        if self.bit is not None and self.bit >= 8 * self.count:
            raise ValueError(f"bit: {self.count} bytes have no bit {self.bit}")
        return self


class RegisterSignal(Part):
    """A value in one or two registers; ``register`` is a PDU address inside the read's block."""

    read: Id
    source: Source
    register_: Annotated[Address, Field(alias="register")]
    type: Literal["u16", "i16", "u32", "i32", "f32"] = "u16"
    word_order: Annotated[
        Literal["abcd", "cdab", "badc", "dcba"],
        Field(description="how the bytes of two registers lie on the wire; abcd: highest first"),
    ] = "abcd"
    bit: Annotated[int | None, Field(ge=0, le=31)] = None
    scale: Number | None = None

    @property
    def width(self) -> int:
        """In registers."""
        return 1 if self.type in ("u16", "i16") else 2

    @model_validator(mode="after")
    def _fits(self) -> RegisterSignal:
        if self.bit is not None and (self.type == "f32" or self.bit >= 16 * self.width):
            raise ValueError(f"bit: type {self.type} has no bit {self.bit}")
        if self.bit is not None and self.scale is not None:
            raise ValueError("scale: a bit has none")
        if self.width == 1 and self.word_order != "abcd":
            raise ValueError(f"word_order: type {self.type} is one register")
        return self


class CoilSignal(Part):
    """One coil or discrete input; ``coil`` is a PDU address inside the read's block."""

    read: Id
    source: Source
    coil: Address


class OnlyPath(Part):
    """The messages that a signal is about: those with this text at ``path``; it passes over others."""

    path: JsonPath
    equals: Annotated[str, Field(max_length=256)]


class Each(Part):
    """Of a list, or of an object's values, the entries that matter, as one text; empty when there is none.

    What stands in the entry at ``path`` (the entry itself, without one) is one of ``values``, or none of
    ``other_than``. The text is what they have at ``show`` (else at ``path``), each once, with commas.
    """

    path: JsonPath | None = None
    values: Annotated[tuple[str, ...] | None, Field(min_length=1, max_length=256)] = None
    other_than: Annotated[tuple[str, ...] | None, Field(max_length=256)] = None
    show: JsonPath | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Each:
        if (self.values is None) == (self.other_than is None):
            raise ValueError("one of values and other_than is expected")
        return self


class _OfJson(Part):
    """Without ``type`` a boolean, a number or a text is taken as it is. ``words`` translates texts only."""

    read: Id
    source: Source
    type: Literal["bool", "int", "float", "text"] | None = None
    words: Words | None = None
    otherwise: Otherwise = None
    equals: Annotated[str | None, Field(max_length=256)] = None
    scale: Number | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        _at_most_one(type=self.type, words=self.words, equals=self.equals)
        if self.scale is not None and self.type not in ("int", "float"):
            raise ValueError("scale: needs type int or float")
        if self.otherwise is not None and self.words is None:
            raise ValueError("otherwise: needs words")
        return self


class JsonSignal(_OfJson):
    """A value in JSON, an MQTT payload or what a printer answered, at ``path``."""

    path: JsonPath
    only: OnlyPath | None = None
    each: Each | None = None

    @model_validator(mode="after")
    def _each_is_a_text(self) -> JsonSignal:
        _at_most_one(type=self.type, words=self.words, equals=self.equals, each=self.each)
        return self


class MetricSignal(_OfJson):
    """The metric of that name of a Sparkplug edge node or device."""

    metric: Annotated[str, Field(min_length=1, max_length=256)]


class SilenceSignal(Part):
    """The ``no_answer`` signal of a read: true while the link is up and the device does not answer."""

    read: Id
    source: Source
    no_answer: Literal[True]


def _at_most_one(**given: object) -> None:
    keys = [key for key, value in given.items() if value is not None]
    if len(keys) > 1:
        raise ValueError(f"one of {', '.join(given)} is expected, not {' and '.join(keys)}")


def _exactly_one(**given: float | None) -> float:
    values = [value for value in given.values() if value is not None]
    if len(values) != 1:
        raise ValueError(f"exactly one of {', '.join(given)} is expected")
    return values[0]


def _kind_of_signal(raw: Any) -> str:
    if not isinstance(raw, Mapping):
        return type(raw).__name__
    return next((kind for key, kind in _SIGNAL_KINDS.items() if key in raw), "TextSignal")


_SIGNAL_KINDS = {
    "no_answer": "SilenceSignal",
    "register": "RegisterSignal",
    "coil": "CoilSignal",
    "path": "JsonSignal",
    "metric": "MetricSignal",
    "byte": "ByteSignal",
}

Signal = Annotated[
    Annotated[TextSignal, Tag("TextSignal")]
    | Annotated[RegisterSignal, Tag("RegisterSignal")]
    | Annotated[CoilSignal, Tag("CoilSignal")]
    | Annotated[ByteSignal, Tag("ByteSignal")]
    | Annotated[JsonSignal, Tag("JsonSignal")]
    | Annotated[MetricSignal, Tag("MetricSignal")]
    | Annotated[SilenceSignal, Tag("SilenceSignal")],
    Discriminator(
        _kind_of_signal,
        custom_error_type="signal_kind",
        custom_error_message="a signal is a mapping: read, source, and where its value stands",
    ),
]


# --- conditions ---------------------------------------------------------------------------------------------


class Is(Part):
    signal: SignalName
    value: Scalar


class Limit(Part):
    """``above``: true over ``limit``, false again under ``limit - deadband``; ``below`` mirrors it."""

    signal: SignalName
    limit: Number
    deadband: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class Bits(Part):
    """True when any bit of ``mask`` is set."""

    signal: SignalName
    mask: Annotated[int, Field(ge=1, lt=1 << 63)]


class In(Part):
    signal: SignalName
    values: Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=256)]


class Learned(Part):
    """Silence that is ``times`` as long as the longest that is usual will do, if it lasts ``at_least_s``."""

    at_least_s: Annotated[float, Field(gt=0, le=86_400 * 7)]
    times: Annotated[float, Field(gt=1, le=100)] = 3.0


class NoData(Part):
    """True when the signal had no good sample for ``s`` seconds; unknown without a link.

    With ``learned`` sooner, once it is known how long the signal is usually silent; off unless a person asks.
    """

    signal: SignalName
    s: Annotated[float, Field(gt=0, le=86_400 * 7)]
    learned: Learned | None = None

    @model_validator(mode="after")
    def _sooner(self) -> NoData:
        if self.learned is not None and self.learned.at_least_s >= self.s:
            raise ValueError(f"learned.at_least_s: less than s, {self.s:g}, is expected")
        return self


class Stuck(Part):
    """True when the signal was read for ``s`` seconds and never moved; unknown when it is not read."""

    signal: SignalName
    s: Annotated[float, Field(gt=0, le=86_400 * 7)]
    deadband: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="a number that moves by less stands")
    ] = 0.0


class Share(Part):
    """True when more than ``above`` of the last samples are ``value`` and there are ``at_least`` so many."""

    signal: SignalName
    value: Scalar
    of_last: Annotated[int | None, Field(ge=2, le=MAX_RECENT, description="samples")] = None
    of_last_s: Annotated[float | None, Field(gt=0, le=86_400, description="those of so many seconds")] = None
    above: Annotated[float, Field(ge=0, lt=1)]
    at_least: Annotated[int, Field(ge=1, le=MAX_RECENT)] = 1

    @model_validator(mode="after")
    def _reachable(self) -> Share:
        _exactly_one(of_last=self.of_last, of_last_s=self.of_last_s)
        if self.of_last is not None and self.at_least > self.of_last:
            raise ValueError(f"at_least: {self.at_least} is more than of_last, {self.of_last}")
        return self


class Rate(Part):
    """How fast a counter counts, or how often a signal has a ``value``, in the last ``of_last_s`` seconds.

    Unknown before it was watched for so long. A counter that falls was reset, and nobody knows what it
    counted in that step, unless it turned over at ``modulus``.
    """

    signal: SignalName
    of_last_s: Annotated[float, Field(gt=0, le=86_400)]
    above: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    below: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    deadband: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    per: Annotated[
        Literal["s", "min", "h"] | None, Field(description="of above and below; in of_last_s when missing")
    ] = None
    modulus: Annotated[
        float | None, Field(gt=0, allow_inf_nan=False, description="a counter that gets there begins at 0")
    ] = None
    value: Annotated[Scalar | None, Field(description="count the samples with this value")] = None

    @property
    def per_s(self) -> float:
        """In seconds, what the limits are for."""
        return self.of_last_s if self.per is None else {"s": 1, "min": 60, "h": 3_600}[self.per]

    @model_validator(mode="after")
    def _reachable(self) -> Rate:
        limit = _exactly_one(above=self.above, below=self.below)
        if self.value is not None and self.modulus is not None:
            raise ValueError("modulus: is for a counter; samples with a value have none")
        if self.value is not None and limit / self.per_s * self.of_last_s >= MAX_RECENT:
            raise ValueError(f"of_last_s: at most {MAX_RECENT} samples are counted, fewer than the limit")
        return self


class Given(Part):
    """``rule``, but unknown as long as ``that`` is not true; time in it begins when ``that`` turns true."""

    that: When
    rule: When


class When(Part):
    """Exactly one of these; unknown when what it needs is not known (Kleene's logic in not, any, all)."""

    is_: Annotated[Is | None, Field(alias="is")] = None
    not_: Annotated[When | None, Field(alias="not")] = None
    above: Limit | None = None
    below: Limit | None = None
    any: Annotated[tuple[When, ...] | None, Field(min_length=1, max_length=64)] = None
    all: Annotated[tuple[When, ...] | None, Field(min_length=1, max_length=64)] = None
    bits: Bits | None = None
    in_: Annotated[In | None, Field(alias="in")] = None
    no_data_s: NoData | None = None
    stuck_s: Stuck | None = None
    share: Share | None = None
    rate: Rate | None = None
    given: Given | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> When:
        given = [key for key, name in WHEN_KEYS.items() if name in self.model_fields_set]
        if len(given) != 1 or getattr(self, WHEN_KEYS[given[0]]) is None:
            raise ValueError(
                f"exactly one of {', '.join(WHEN_KEYS)} is expected, not {' and '.join(given) or 'none'}"
            )
        return self


# As written in YAML -> attribute.
WHEN_KEYS = {field.alias or name: name for name, field in When.model_fields.items()}


class Condition(Part):
    """A rule over signals. Raised after ``on_delay_s`` of true, cleared after ``off_delay_s`` of false."""

    fault: Id
    component: Id
    title: Annotated[str, Field(min_length=1, max_length=200)]
    advice: Annotated[str, Field(max_length=2_000)] = ""
    enabled: Annotated[
        bool, Field(description="watched at all; a device may say so where it makes sense")
    ] = True
    severity: Literal["notice", "degraded", "stop"]
    silence: Annotated[
        bool,
        Field(description="tells only that the device is gone: what it hangs on may explain that"),
    ] = False
    when: When
    on_delay_s: Seconds = 0.0
    off_delay_s: Seconds = 0.0

    @property
    def key(self) -> str:
        """How examples and ``[device.set]`` name it."""
        return f"{self.component}/{self.fault}"


# --- examples -----------------------------------------------------------------------------------------------


class NoAnswer(Part):
    """In an example, instead of a payload: the device stayed silent."""

    no_answer: Literal[True]


# Frames as text with escapes; registers or bits from the block's first address on, or by address; a message.
ExamplePayload = tuple[str, ...] | tuple[int, ...] | dict[int, int] | NoAnswer | str


class Step(Part):
    """Wait ``after_s``, then take these readings; all of it ``times`` times."""

    after_s: Seconds = 0.0
    reads: dict[Id, ExamplePayload] = {}
    times: Annotated[int, Field(ge=1, le=10_000)] = 1


# A mapping of reads is short for one step.
Steps = Annotated[dict[Id, ExamplePayload] | tuple[Step, ...], Field(min_length=1)]


class Example(Part):
    """Proof of one condition: readings that trip it and readings that clear it again.

    ``preset`` and ``set`` are what a device would have.
    """

    condition: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$", description="component/fault")]
    preset: Id | None = None
    set: dict[str, Any] = {}
    trips: Steps
    clears: Steps


def steps(given: dict[str, ExamplePayload] | tuple[Step, ...]) -> tuple[Step, ...]:
    return (Step(reads=given),) if isinstance(given, dict) else given


# --- presets ------------------------------------------------------------------------------------------------


class Preset(Part):
    """How one maker's devices differ from the profile: what a device would say under ``[device.set]``."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    source: Source
    set: Annotated[dict[str, Any], Field(min_length=1)]


# --- the whole ----------------------------------------------------------------------------------------------


class Profile(Part):
    """One kind of device. The name of the file is its ``name``."""

    schema_: Annotated[Literal[1], Field(alias="schema", description="version of this grammar")]
    name: Id
    title: Annotated[str, Field(min_length=1, max_length=200)]
    maker: Annotated[str, Field(min_length=1, max_length=100)]
    models: Annotated[tuple[str, ...], Field(min_length=1, max_length=100)]
    evidence: Annotated[
        Literal["recorded", "manual", "simulated"],
        Field(
            description="what it was tested against: a recording of the device, its manual, only a simulation"
        ),
    ]
    source: Source
    transports: Annotated[tuple[Id, ...], Field(min_length=1, max_length=8)]
    framing: Annotated[Id | None, Field(description="module of edge_agent/framing; serial and tcp only")] = (
        None
    )
    max_registers: Annotated[
        int, Field(ge=1, le=125, description="modbus: the device answers no more registers in one request")
    ] = 125
    reads: Annotated[dict[Id, Read], Field(min_length=1, max_length=64)]
    signals: Annotated[dict[Id, Signal], Field(min_length=1, max_length=500)]
    conditions: Annotated[tuple[Condition, ...], Field(min_length=1, max_length=500)]
    presets: Annotated[dict[Id, Preset], Field(max_length=64)] = {}
    examples: Annotated[tuple[Example, ...], Field(max_length=2_000)] = ()

    @cached_property
    def signals_by_read(self) -> Mapping[str, tuple[tuple[str, Signal], ...]]:
        return {
            read: tuple((name, signal) for name, signal in self.signals.items() if signal.read == read)
            for read in self.reads
        }

    @cached_property
    def redactions_by_read(self) -> Mapping[str, tuple[Redaction, ...]]:
        """Its own, and those of the other reads that know a frame by its shape: answers may come late."""
        own = {name: () if isinstance(read, ModbusRead) else read.redact for name, read in self.reads.items()}
        by_shape = [each for redact in own.values() for each in redact if each.frame is None and each.fields_]
        return {name: (*own[name], *(each for each in by_shape if each not in own[name])) for name in own}

    @cached_property
    def texts_by_read(self) -> Mapping[str, frozenset[str]]:
        """Whole frames that the profile itself spells out, so that they are nobody's secret."""
        texts: dict[str, set[str]] = {read: set() for read in self.reads}
        for signal in self.signals.values():
            if isinstance(signal, TextSignal) and signal.field is None and signal.after is None:
                known = {*signal.ignore, *(signal.words or ()), *([signal.equals] if signal.equals else ())}
                texts[signal.read] |= known
        return {read: frozenset(known) for read, known in texts.items()}
