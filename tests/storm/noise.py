"""One gateway that says a hundred times as much as each of the others, and heeds no refusal: what the others
feel of it, in turns of quiet and noise within one run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rigs.collector_program import collector_program
from storm.fleet import Counts, Gateway, enrol, fleet_of, forwarding, quietly
from storm.loud import running
from storm.storm import database_of
from storm.watch import background, quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Each of ``gateways`` raises or clears something each ``every_s``; the noisy one ``times`` as often,
    ``rows`` at a time."""

    gateways: int = 50
    every_s: float = 2.0
    times: int = 100
    rows: int = 1
    turns: int = 3
    turn_s: float = 15.0


@dataclass(kw_only=True)
class Heard:
    """By (noisy or not): seconds of each request of the others, and of each change until it was confirmed."""

    requests_s: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    fresh_s: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    others: Counter[str] = field(default_factory=Counter)
    noisy: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


async def noise(plan: Noise, directory: Path, database_url: str = "") -> Heard:
    data_dir = directory / "collector"
    data_dir.mkdir(mode=0o700)
    access = enrol(database_of(directory, database_url), plan.gateways + 1)
    flags = ["--database-url", database_url] if database_url else []
    heard = Heard()
    with collector_program(data_dir, *flags) as collector:
        ordinary = Counts()
        bearers, counts = access.bearers[:-1], [ordinary] * plan.gateways
        fleet = fleet_of(bearers, collector.url, directory, counts, fresh=range(plan.gateways))
        await quietly(fleet)
        pause_s = plan.every_s / plan.times
        async with (
            running(
                plan.gateways,
                collector.url,
                access.bearers[-1],
                directory,
                rows=plan.rows,
                pause_s=pause_s,
            ) as loud,
            forwarding(fleet),
            background(*(_ordinary(gateway, plan) for gateway in fleet)),
        ):
            await asyncio.sleep(plan.every_s)
            for turn in range(2 * plan.turns):
                is_noisy = bool(turn % 2)
                ordinary.seconds.clear()
                ordinary.fresh_s.clear()
                await (loud.be_loud(plan.turn_s) if is_noisy else asyncio.sleep(plan.turn_s))
                heard.requests_s[is_noisy] += ordinary.seconds
                heard.fresh_s[is_noisy] += ordinary.fresh_s
                await asyncio.sleep(1)
            of_loud = await loud.heard()
        heard.others, heard.noisy = ordinary.requests, Counter(of_loud["requests"])
        heard.errors = [*ordinary.errors, *of_loud["errors"]]
        for gateway in fleet:
            await gateway.close()
    return heard


async def _ordinary(gateway: Gateway, plan: Noise) -> None:
    for device in gateway.devices:
        await asyncio.sleep(gateway.rng.uniform(0.5, 1.5) * plan.every_s)
        await gateway.jam(device)
        await asyncio.sleep(gateway.rng.uniform(0.5, 1.5) * plan.every_s)
        await gateway.clear(device)


def told(plan: Noise, heard: Heard) -> Iterator[str]:
    yield (
        f"{plan.gateways} gateways with a change each {plan.every_s:g} s; one more with {plan.times} times "
        f"as many messages, {plan.rows} rows in each, in {plan.turns} turns of {plan.turn_s:g} s"
    )
    for what, seconds in (("request", heard.requests_s), ("change confirmed", heard.fresh_s)):
        quiet, noisy = _p99(seconds[False]), _p99(seconds[True])
        yield (
            f"  {what:<20} of the others, p99: quiet {1000 * quiet:6.1f} ms   noisy {1000 * noisy:6.1f} ms   "
            f"ratio {noisy / quiet if quiet else 0:.2f}   n {len(seconds[False])}, {len(seconds[True])}"
        )
    yield f"  the others were answered {dict(heard.others)}, the noisy one {dict(heard.noisy)}"
    yield f"  answers that nobody may see: {len(heard.errors)}" + (
        f" {heard.errors[:3]}" if heard.errors else ""
    )


def _p99(seconds: Sequence[float]) -> float:
    return quantile(seconds, 0.99)
