"""One restart storm: a fleet that the collector knows, an outage in which backlogs gather, and the moment at
which all of it comes back at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rigs.collector_program import CollectorProgram, collector_program
from storm.fleet import Access, Counts, Gateway, enrol, fleet_of, forwarding, quietly
from storm.watch import Watcher, background, cpu_s, own_cpu_s, quantile

# Devices of a healthy gateway that are broken at the same time.
STAYS_BROKEN = 4
TELL_EVERY_S = 10.0
# What healthy gateways raised last is still on its way.
FINISH_S = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``rows`` wait at each gateway that returns, ``heavy_rows`` at ``heavy`` of them. ``healthy`` ones were
    there all the time and raise a fresh stop each ``fresh_every_s``."""

    gateways: int = 1000
    rows: int = 100
    heavy: int = 5
    heavy_rows: int = 100_000
    healthy: int = 20
    fresh_every_s: float = 5.0
    # The storm is over when everything has arrived, or after so long.
    at_least_s: float = 30.0
    at_most_s: float = 180.0


@dataclass(kw_only=True)
class Outcome:
    """Seconds count from the moment at which they came back."""

    plan: Plan
    lasted_s: float
    healthy: Counts
    returning: Counts
    watcher: Watcher
    # When the open stop of each returning gateway was held; when it had told everything.
    known_s: list[float]
    caught_up_s: list[float]
    # From a fresh stop of a healthy gateway to its ticket in the list.
    to_list_s: list[float]
    # Fresh stops that nobody has confirmed.
    unconfirmed: int
    rows_taken: int
    rows_left: int
    # Uid of every row that any journal has, and whether it is open.
    journals: dict[str, bool]
    collector_cpu_s: float
    fleet_cpu_s: float


async def storm(plan: Plan, directory: Path, database_url: str = "", *, say: Say) -> Outcome:
    """The collector's database is left in ``directory`` (or at ``database_url``) for whoever checks it."""
    data_dir = directory / "collector"
    data_dir.mkdir(mode=0o700)
    access = enrol(database_of(directory, database_url), plan.gateways + plan.healthy)
    flags = ["--database-url", database_url] if database_url else []
    healthy, returning = Counts(), Counts()
    counts = [healthy] * plan.healthy + [returning] * plan.gateways
    with collector_program(data_dir, *flags) as before:
        fleet = fleet_of(access.bearers, before.url, directory, counts, fresh=range(plan.healthy))
        say(f"{len(fleet)} gateways make themselves known ...")
        await quietly(fleet)
    say("the collector is away; backlogs gather ...")
    back = fleet[plan.healthy :]
    for place, gateway in enumerate(back):
        gateway.gather(plan.heavy_rows if place < plan.heavy else plan.rows)
        await gateway.break_down()
    healthy.begin()
    returning.begin()
    with collector_program(data_dir, "--listen", before.url.removeprefix("http://"), *flags) as collector:
        outcome = await _return(plan, collector, access, fleet, say)
    for gateway in fleet:
        outcome.journals |= gateway.rows()
        await gateway.close()
    return outcome


def database_of(directory: Path, database_url: str) -> str:
    return database_url or f"sqlite:///{directory}/collector/collector.sqlite3"


async def _return(
    plan: Plan, collector: CollectorProgram, access: Access, fleet: Sequence[Gateway], say: Say
) -> Outcome:
    steady, back = fleet[: plan.healthy], fleet[plan.healthy :]
    waiting = sum(gateway.waiting for gateway in back)
    stops: dict[str, float] = {}
    watcher, pid = Watcher(), collector.process.pid
    used_s, own_used_s = cpu_s(pid), own_cpu_s()
    async with forwarding(steady), background(watcher.look(collector, access.token), watcher.weigh(pid)):
        await asyncio.sleep(2)
        begun_s = time.monotonic()
        say(f"{len(back)} gateways come back with {waiting} rows ...")
        async with forwarding(back):
            async with background(*(_fail_now_and_then(gateway, plan, stops) for gateway in steady)):
                await _until_over(plan, back, watcher, say)
            lasted_s = time.monotonic() - begun_s
            await asyncio.sleep(FINISH_S)
    left = sum(gateway.waiting for gateway in back)
    known = [gateway.known_at for gateway in back if gateway.known_at is not None]
    caught_up = [gateway.caught_up_at for gateway in back if gateway.caught_up_at is not None]
    return Outcome(
        plan=plan,
        lasted_s=lasted_s,
        healthy=steady[0].counts,
        returning=back[0].counts,
        watcher=watcher,
        known_s=[at - begun_s for at in known],
        caught_up_s=[at - begun_s for at in caught_up],
        to_list_s=[watcher.seen[uid] - at for uid, at in stops.items() if uid in watcher.seen],
        unconfirmed=sum(len(gateway.pending) for gateway in steady),
        rows_taken=waiting - left,
        rows_left=left,
        journals={},
        collector_cpu_s=cpu_s(pid) - used_s,
        fleet_cpu_s=own_cpu_s() - own_used_s,
    )


async def _until_over(plan: Plan, back: Sequence[Gateway], watcher: Watcher, say: Say) -> None:
    begun_s = told_s = time.monotonic()
    while (passed_s := time.monotonic() - begun_s) < plan.at_most_s:
        await asyncio.sleep(0.5)
        if passed_s >= plan.at_least_s and all(gateway.caught_up_at for gateway in back):
            return
        if time.monotonic() - told_s >= TELL_EVERY_S:
            told_s = time.monotonic()
            known = sum(gateway.known_at is not None for gateway in back)
            waiting = sum(gateway.waiting for gateway in back)
            say(f"{passed_s:4.0f} s: {known} known, {waiting} rows wait, {watcher.mib[-1]:.0f} MiB")


async def _fail_now_and_then(gateway: Gateway, plan: Plan, stops: dict[str, float]) -> None:
    """A healthy gateway sees its equipment stop, and go on after a while."""
    broken: list[str] = []
    for device in gateway.devices:
        await asyncio.sleep(gateway.rng.uniform(0.5, 1.5) * plan.fresh_every_s)
        uid = await gateway.jam(device)
        stops[uid] = gateway.pending[uid]
        broken.append(device)
        if len(broken) > STAYS_BROKEN:
            await gateway.clear(broken.pop(0))


def told(outcome: Outcome) -> Iterator[str]:
    """What is printed, line by line."""
    plan, watcher = outcome.plan, outcome.watcher
    yield (
        f"{plan.gateways} gateways back at once with {plan.rows} rows each, {plan.heavy} of them with "
        f"{plan.heavy_rows}; {plan.healthy} healthy ones"
    )
    for what, seconds in (
        ("fresh stop of a healthy gateway, confirmed", outcome.healthy.fresh_s),
        ("the same, in the list of tickets", outcome.to_list_s),
        ("present state of a returning gateway known", outcome.known_s),
        ("returning gateway has told everything", outcome.caught_up_s),
        ("request of a healthy gateway", outcome.healthy.seconds),
        ("request of a returning gateway", outcome.returning.seconds),
        ("Retry-After", outcome.returning.retry_after_s),
        ("GET /api/v1/tickets", watcher.tickets_s),
        ("GET /healthz", watcher.healthz_s),
    ):
        yield (
            f"  {what:<44} p50 {quantile(seconds, 0.5):8.3f} s   p99 {quantile(seconds, 0.99):8.3f} s   "
            f"max {max(seconds, default=0):8.3f} s   n {len(seconds)}"
        )
    for what, counts in (("healthy", outcome.healthy), ("returning", outcome.returning)):
        total = sum(counts.requests.values())
        yield (
            f"  requests of the {what}: {total}, {dict(counts.requests)}, "
            f"wasted {counts.wasted / max(1, total):.1%}"
        )
    yield (
        f"  not known in the end: {plan.gateways - len(outcome.known_s)}; fresh stops not confirmed: "
        f"{outcome.unconfirmed}; rows taken {outcome.rows_taken} in {outcome.lasted_s:.0f} s, "
        f"left {outcome.rows_left}"
    )
    yield (
        f"  collector: {watcher.mib[0]:.0f} MiB before, {max(watcher.mib):.0f} MiB at most; "
        f"{outcome.collector_cpu_s:.0f} s of CPU (the fleet: {outcome.fleet_cpu_s:.0f} s)"
    )
    errors = [*outcome.healthy.errors, *outcome.returning.errors, *watcher.errors]
    yield f"  answers that nobody may see: {len(errors)}" + (f" {errors[:3]}" if errors else "")
