"""One device from payloads to conditions, under a clock of its own: decode and detect without any line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edge_agent import decode, detect
from edge_agent.device import Device
from edge_agent.profile import (
    ExamplePayload,
    ListenRead,
    ModbusRead,
    NoAnswer,
    Profile,
    Read,
    Step,
    TopicRead,
    to_bytes,
)
from edge_agent.sample import Payload, Reading, Trouble
from edge_agent.wire import Stamp

SECOND = 1_000_000_000


def moment(mono_ns: int) -> Stamp:
    return Stamp(boot="0" * 32, mono_ns=mono_ns, wall_ms=mono_ns // 1_000_000, source="ntp")


def payloads(read: Read, given_: ExamplePayload) -> Iterator[Payload]:
    """What the transport would deliver for an example's payload, one reading after another."""
    if isinstance(read, ModbusRead) and isinstance(given_, dict):
        yield tuple(given_.get(address, 0) for address in range(read.address, read.address + read.count))
    elif isinstance(read, ModbusRead) and isinstance(given_, tuple):
        numbers = [int(number) for number in given_]
        yield tuple(numbers + [0] * (read.count - len(numbers)))
    elif isinstance(read, TopicRead):
        assert isinstance(given_, str)
        yield (given_.encode(),)
    else:
        assert isinstance(given_, tuple)
        frames = tuple(to_bytes(str(frame)) for frame in given_)
        yield from ((frame,) for frame in frames) if isinstance(read, ListenRead) else (frames,)


class Floor:
    """One device of a profile under a clock of its own, from bytes to conditions."""

    def __init__(self, profile: Profile) -> None:
        self.device = Device(id="device-1", place="", bus="bus-1", profile=profile)
        self.now_ns = SECOND
        self.detector = detect.Detector(detect.rules(profile.conditions), start=moment(self.now_ns))

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)
        self.detector.look(moment(self.now_ns))

    def run(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            for _ in range(step.times):
                self.wait(step.after_s)
                for name, payload in step.reads.items():
                    self._read(name, payload)

    def _read(self, name: str, payload: ExamplePayload) -> None:
        if isinstance(payload, NoAnswer):
            self._take(Reading(device="device-1", read=name, at=self._next(), trouble=Trouble.NO_ANSWER))
            return
        for each in payloads(self.device.profile.reads[name], payload):
            self._take(Reading(device="device-1", read=name, at=self._next(), payload=each))

    def _next(self) -> Stamp:
        self.now_ns += SECOND // 100
        return moment(self.now_ns)

    def _take(self, reading: Reading) -> None:
        self.detector.take(decode.samples(self.device, reading), reading.at)

    def take(self, reading: Reading) -> None:
        """What a transport delivered, as if it came now."""
        self._take(replace(reading, device="device-1", at=self._next()))

    def active(self) -> frozenset[str]:
        return self.detector.active()
