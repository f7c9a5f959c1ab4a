"""A profile's examples are played through decode and detect, and what does not happen as they say is told.

No line, no clock, no journal: the readings that a transport would deliver, a device, and a time that is
counted on here. The suite runs this on every shipped profile, and it is there for a site's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edge_agent import decode, detect
from edge_agent.device import Device
from edge_agent.profile import (
    Condition,
    Example,
    ExamplePayload,
    Finding,
    IppRead,
    ListenRead,
    ModbusRead,
    NoAnswer,
    Profile,
    Read,
    Step,
    TopicRead,
    parse,
    places,
    steps,
    to_bytes,
)
from edge_agent.sample import Payload, Reading, Trouble
from edge_agent.wire import Stamp

SECOND_NS = 1_000_000_000
# Between two readings.
APART_NS = SECOND_NS // 100
DEVICE_ID = "example"


class Trial:
    """One device of a profile, from readings to conditions."""

    def __init__(self, profile: Profile) -> None:
        self.device = Device(id=DEVICE_ID, place="", bus=DEVICE_ID, profile=profile)
        self._now_ns = SECOND_NS
        self.detector = detect.Detector(detect.rules(profile.conditions), start=self._now())

    def active(self) -> frozenset[str]:
        """Keys of the conditions that are raised."""
        return self.detector.active()

    def wait(self, seconds: float) -> None:
        self._now_ns += int(seconds * SECOND_NS)
        self.detector.look(self._now())

    def take(self, reading: Reading) -> None:
        """As if it came now and from this device."""
        self._now_ns += APART_NS
        reading = replace(reading, device=DEVICE_ID, at=self._now())
        samples = decode.samples(self.device, reading)
        self.detector.take(samples, reading.at, link_up=detect.link_is_up(reading.trouble))

    def play(self, played: tuple[Step, ...]) -> None:
        for step in played:
            for _ in range(step.times):
                self.wait(step.after_s)
                for name, payload in step.reads.items():
                    for reading in self._readings(name, payload):
                        self.take(reading)

    def _readings(self, name: str, payload: ExamplePayload) -> Iterator[Reading]:
        blank = Reading(device=DEVICE_ID, read=name, at=self._now())
        if isinstance(payload, NoAnswer):
            yield replace(blank, trouble=Trouble.NO_ANSWER)
            return
        for each in _payloads(self.device.profile.reads[name], payload):
            yield replace(blank, payload=each)

    def _now(self) -> Stamp:
        return Stamp(boot="0" * 32, mono_ns=self._now_ns, wall_ms=self._now_ns // 1_000_000, source="example")


def problems(text: str, *, name: str) -> tuple[Finding, ...]:
    """What is wrong with the examples of a profile; nothing is a proof. Raises ProfileError."""
    profile, where = parse(text, name=name), places(text)
    shown = {example.condition for example in profile.examples}
    return (
        *(
            Finding(text=f"conditions: {condition.key} has no example", place=where["conditions", number])
            for number, condition in enumerate(profile.conditions)
            if condition.key not in shown
        ),
        *(
            Finding(
                text=f"examples[{number}] ({example.condition}): {problem}", place=where["examples", number]
            )
            for number, example in enumerate(profile.examples)
            for problem in example_problems(
                parse(text, name=name, preset=example.preset, overlay=example.set), example
            )
        ),
    )


def example_problems(profile: Profile, example: Example) -> Iterator[str]:
    """Cleared, tripped, cleared again on one device; ``profile`` has the example's ``set`` laid over it."""
    condition = next(each for each in profile.conditions if each.key == example.condition)
    trial = Trial(profile)
    if not _is(trial, condition, steps(example.clears), active=False):
        yield "what clears it already raises it"
    if not _is(trial, condition, steps(example.trips), active=True):
        yield "what trips it does not raise it"
    elif not _is(trial, condition, steps(example.clears), active=False):
        yield "what clears it does not clear it"
    elif condition.key in trial.detector.unsettled():
        yield "what clears it leaves it unknown"


def _is(trial: Trial, condition: Condition, played: tuple[Step, ...], *, active: bool) -> bool:
    trial.play(played)
    trial.wait(condition.off_delay_s if condition.key in trial.active() else condition.on_delay_s)
    return (condition.key in trial.active()) is active


def _payloads(read: Read, payload: ExamplePayload) -> Iterator[Payload]:
    """What a transport would deliver, one reading after another; registers that are not named are 0."""
    if isinstance(read, ModbusRead):
        block = dict.fromkeys(range(read.address, read.address + read.count), 0)
        given = payload if isinstance(payload, dict) else dict(enumerate(_numbers(payload), read.address))
        yield tuple((block | given).values())
    elif isinstance(read, TopicRead | IppRead):
        yield (str(payload).encode(),)
    elif isinstance(payload, tuple):
        frames = [to_bytes(str(frame)) for frame in payload]
        yield from ((frame,) for frame in frames) if isinstance(read, ListenRead) else (tuple(frames),)


def _numbers(payload: ExamplePayload) -> Iterator[int]:
    if isinstance(payload, tuple):
        yield from (number for number in payload if isinstance(number, int))
