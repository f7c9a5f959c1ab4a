"""Plays a profile's examples over a real line, with a stand-in at its other end, through the real transport.

What the transport brings goes through the same trial as in ``proof``: its clock is counted on, so that no
delay is waited out. Each step of an example is read once: what was on its way before the stand-in changed its
mind is passed over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from edge_agent import profile as profiles
from edge_agent import transports
from edge_agent.clock import Clock
from edge_agent.device import Device
from edge_agent.profile import (
    Example,
    ExamplePayload,
    ListenRead,
    ModbusRead,
    NoAnswer,
    Profile,
    RequestRead,
    Step,
    TopicRead,
    steps,
)
from edge_agent.proof import Trial
from edge_agent.sample import Reading, Trouble
from edge_agent.stand_in import TRANSPORTS, StandIn, StandInError, standing_in
from edge_agent.transports import Transport

# How it is asked instead of as the profile says: nobody waits for the next full minute.
EVERY_S, TIMEOUT_S = 0.05, 0.5
# What does not come in this time does not come.
COMES_WITHIN_S = 15.0
# After so long without news on a line of this machine nothing is on its way any more.
QUIET_S = 0.1
TOPIC = "rehearsal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """What became of one example. ``problem`` empty: all was as it says."""

    number: int
    example: Example
    problem: str = ""
    device: Device
    # The last reading of each read.
    came: tuple[Reading, ...] = ()


def choose(profile: Profile, wanted: str | None) -> str:
    """The transport to rehearse over. Raises StandInError."""
    if wanted is not None and wanted not in profile.transports:
        raise StandInError(f"profile {profile.name} speaks {', '.join(profile.transports)}, not {wanted}")
    chosen = wanted or ("tcp" if "tcp" in profile.transports else profile.transports[0])
    if chosen not in TRANSPORTS:
        raise StandInError(f"nobody stands in for a device that speaks {chosen}; try it on a real one")
    if any(isinstance(read, TopicRead) and read.format == "sparkplug" for read in profile.reads.values()):
        raise StandInError("nobody stands in for a Sparkplug node; try it on a real one")
    return chosen


async def rehearse(
    text: str, name: str, *, transport: str | None = None, broker: str | None = None
) -> AsyncIterator[Rehearsed]:
    """Each example in its turn. Raises ProfileError, StandInError."""
    whole = profiles.parse(text, name=name)
    async with standing_in(choose(whole, transport), broker) as stand_in:
        for number, example in enumerate(whole.examples):
            own = profiles.parse(text, name=name, preset=example.preset, overlay=example.set)
            hurried = profiles.merged(example.set, _hurry(own, example))
            fast = profiles.parse(text, name=name, preset=example.preset, overlay=hurried)
            yield await _one(fast, number, example, stand_in)


async def _one(profile: Profile, number: int, example: Example, stand_in: StandIn) -> Rehearsed:
    condition = next(one for one in profile.conditions if one.key == example.condition)
    stage, problem = _Stage(profile, stand_in), ""
    async with stage.running():
        for what, given, active in (
            ("what clears it already raises it", example.clears, False),
            ("what trips it does not raise it", example.trips, True),
            ("what clears it does not clear it", example.clears, False),
        ):
            try:
                await stage.play(steps(given))
            except TimeoutError:
                problem = f"nothing comes of {stage.waits_for} within {COMES_WITHIN_S:g} s"
                break
            raised = condition.key in stage.trial.active()
            stage.trial.wait(condition.off_delay_s if raised else condition.on_delay_s)
            if (condition.key in stage.trial.active()) is not active:
                problem = what
                break
    return Rehearsed(
        number=number,
        example=example,
        problem=problem,
        device=stage.trial.device,
        came=tuple(stage.latest.values()),
    )


class _Stage:
    """One device of a profile on the stand-in's bus."""

    def __init__(self, profile: Profile, stand_in: StandIn) -> None:
        self.trial = Trial(profile)
        self.latest: dict[str, Reading] = {}
        self._profile = profile
        self._stand_in = stand_in
        # What the stand-in says to whoever asks.
        self._answers: dict[str, ExamplePayload] = {}
        self._expected: _Expected | None = None
        # Of each read, all that came.
        self._seen: Counter[str] = Counter()
        self._news = asyncio.Event()
        self._found: set[str] = set()

    @property
    def waits_for(self) -> str:
        return self._expected.read if self._expected else "the device"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        bus = self._stand_in.bus
        module = transports.load(str(bus["transport"]))
        assert module is not None, "the grammar checked it"
        settings = module.Settings.model_validate({"name": TOPIC, **bus}).as_a_guest()
        device = replace(self.trial.device, topic=TOPIC)
        transport: Transport = module.Transport(settings, [device], self._deliver, Clock().stamp)
        task = asyncio.ensure_future(transport.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def play(self, played: Sequence[Step]) -> None:
        """Raises TimeoutError when something does not come, StandInError."""
        for step in played:
            for _ in range(step.times):
                self.trial.wait(step.after_s)
                await self._set(step.reads)
                for name, payload in step.reads.items():
                    await self._read(name, payload)

    async def _set(self, reads: Mapping[str, ExamplePayload]) -> None:
        self._answers |= {name: one for name, one in reads.items() if not _is_heard(self._profile, name)}
        await self._stand_in.answers(self._profile, self._answers)

    async def _read(self, name: str, payload: ExamplePayload) -> None:
        if not _is_heard(self._profile, name):
            # One may have been on its way before the stand-in changed its mind.
            self._expect(_Expected(read=name, silence=isinstance(payload, NoAnswer), passed_over=1))
            await self._comes()
            return
        if name not in self._found:
            await self._find(name, payload)
        for part in _parts(payload):
            self._expect(_Expected(read=name))
            await self._stand_in.says(self._profile, name, part, TOPIC)
            await self._comes()

    async def _find(self, name: str, payload: ExamplePayload) -> None:
        """Say something until it is heard: a connection or a subscription takes its time."""
        async with asyncio.timeout(COMES_WITHIN_S):
            while not self._seen[name]:
                for part in _parts(payload)[:1]:
                    await self._stand_in.says(self._profile, name, part, TOPIC)
                await asyncio.sleep(QUIET_S)
            heard = 0
            while heard != self._seen[name]:
                heard = self._seen[name]
                await asyncio.sleep(QUIET_S)
        self._found.add(name)

    def _expect(self, expected: _Expected) -> None:
        self._expected = expected
        self._news.clear()

    async def _comes(self) -> None:
        async with asyncio.timeout(COMES_WITHIN_S):
            await self._news.wait()

    async def _deliver(self, reading: Reading) -> None:
        if reading.payload:
            self._seen[reading.read] += 1
        expected = self._expected
        if expected is None or not expected.takes(reading):
            return
        if expected.passed_over:
            self._expected = replace(expected, passed_over=expected.passed_over - 1)
            return
        self._expected = None
        self.latest[reading.read] = reading
        self.trial.take(reading)
        self._news.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expected:
    read: str
    silence: bool = False
    # So many are not taken.
    passed_over: int = 0

    def takes(self, reading: Reading) -> bool:
        """A silence where an answer is expected is a slow machine, not the example's."""
        if reading.read != self.read or reading.trouble is Trouble.NO_LINK:
            return False
        if self.silence:
            return reading.trouble is Trouble.NO_ANSWER
        return reading.trouble is Trouble.WRONG_ANSWER or bool(reading.payload)


def _is_heard(profile: Profile, read: str) -> bool:
    """Whether it comes by itself."""
    return isinstance(profile.reads[read], ListenRead | TopicRead)


def _parts(payload: ExamplePayload) -> list[ExamplePayload]:
    """What is said one after another."""
    return [(str(frame),) for frame in payload] if isinstance(payload, tuple) else [payload]


def _hurry(profile: Profile, example: Example) -> dict[str, Any]:
    """What is laid over the profile so that nobody waits, and nothing is asked that nobody answers."""
    named = {
        name for given in (example.trips, example.clears) for step in steps(given) for name in step.reads
    }
    found: dict[str, Any] = {}
    for name, read in profile.reads.items():
        if isinstance(read, RequestRead):
            found[name] = {"every_s": EVERY_S, "timeout_s": TIMEOUT_S, "enabled": name in named}
        elif isinstance(read, ModbusRead):
            found[name] = {"every_s": EVERY_S, "timeout_s": TIMEOUT_S}
    return {"reads": found} if found else {}
