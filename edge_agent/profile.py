"""The YAML that says how to read one kind of device and which conditions it has: grammar, validation, JSON Schema.

A profile is data in a closed grammar. It flows like the bytes do: *reads* say what to ask for, *signals* say where in an
answer a named value stands, *conditions* say which values are a fault. ``examples`` prove each condition from raw bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from edge_agent.wire import Id

ID = Id
Seconds = Annotated[float, Field(ge=0, le=86_400 * 7)]
Scalar = bool | int | float | str


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# --- reads -------------------------------------------------------------------------------------------------------


class Redaction(Part):
    """What never leaves the gateway: a field of a frame of this read, or (no field) the whole frame's content."""

    frame: Annotated[int, Field(ge=0, le=63)] = 0
    field: Annotated[int, Field(ge=0, le=255)] | None = None


class RequestRead(Part):
    """Ask, then collect ``frames`` frames (serial, tcp)."""

    send: Annotated[str, Field(min_length=1, max_length=256, description="text; \\r \\n \\xNN escapes")]
    frames: Annotated[int, Field(ge=1, le=64)] = 1
    every_s: Annotated[float, Field(gt=0, le=86_400)] = 5.0
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    # Name of a boolean signal that is true while the link is up and this read stays unanswered.
    no_answer: Id | None = None
    redact: tuple[Redaction, ...] = ()


class ListenRead(Part):
    """Take each frame that the device sends by itself (serial, tcp)."""

    listen: Literal[True]
    redact: tuple[Redaction, ...] = ()


class ModbusRead(Part):
    """One block. Addresses are PDU addresses: zero-based, as on the wire."""

    function: Annotated[Literal[1, 2, 3, 4], Field(description="1 coils, 2 discrete inputs, 3 holding, 4 input")]
    address: Annotated[int, Field(ge=0, le=65_535)]
    count: Annotated[int, Field(ge=1, le=2_000)]
    every_s: Annotated[float, Field(gt=0, le=86_400)] = 1.0
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    # The device wants this block read from its first address, alone: never merged with a neighbour, never split.
    whole: bool = False


class TopicRead(Part):
    """Take each message of one topic (mqtt). ``{topic}`` stands for the device's ``topic``."""

    topic: Annotated[str, Field(min_length=1, max_length=256)]
    format: Literal["text", "json"] = "text"
    qos: Annotated[int, Field(ge=0, le=1)] = 1
    redact: tuple[Redaction, ...] = ()


Read = RequestRead | ListenRead | ModbusRead | TopicRead


# --- conditions --------------------------------------------------------------------------------------------------


class Is(Part):
    signal: Id
    value: Scalar


class Limit(Part):
    """``above``: true over ``limit``, false again under ``limit - deadband``; ``below`` mirrors it."""

    signal: Id
    limit: float
    deadband: Annotated[float, Field(ge=0)] = 0.0


class Bits(Part):
    """True when any bit of ``mask`` is set."""

    signal: Id
    mask: Annotated[int, Field(ge=1, lt=1 << 64)]


class In(Part):
    signal: Id
    values: Annotated[tuple[Scalar, ...], Field(min_length=1)]


class NoData(Part):
    """True when the signal had no good sample for ``s`` seconds while its link was up; unknown without a link."""

    signal: Id
    s: Annotated[float, Field(gt=0, le=86_400 * 7)]


class Share(Part):
    """True when more than ``above`` of the last ``of_last`` samples equal ``value``; unknown before ``at_least`` of them."""

    signal: Id
    value: Scalar
    of_last: Annotated[int, Field(ge=2, le=10_000)]
    above: Annotated[float, Field(ge=0, lt=1)]
    at_least: Annotated[int, Field(ge=1)] = 1


class When(Part):
    """Exactly one of these; unknown when what it needs is not known (Kleene's logic in ``not``, ``any``, ``all``)."""

    is_: Annotated[Is | None, Field(alias="is")] = None
    not_: Annotated[When | None, Field(alias="not")] = None
    above: Limit | None = None
    below: Limit | None = None
    any: tuple[When, ...] | None = None
    all: tuple[When, ...] | None = None
    bits: Bits | None = None
    in_: Annotated[In | None, Field(alias="in")] = None
    no_data_s: NoData | None = None
    share: Share | None = None


class Condition(Part):
    """A rule over signals. Raised after ``on_delay_s`` of true, cleared after ``off_delay_s`` of false."""

    fault: Id
    component: Id
    title: Annotated[str, Field(min_length=1, max_length=200)]
    advice: Annotated[str, Field(max_length=2_000)] = ""
    severity: Literal["notice", "degraded", "stop"]
    when: When
    on_delay_s: Seconds = 0.0
    off_delay_s: Seconds = 0.0
