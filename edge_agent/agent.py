"""Wires the agent: journal, watch, one task per bus, forwarder, signals, shutdown. It decides nothing."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn

import structlog

from edge_agent import config, credential, health, transports
from edge_agent.backoff import Backoff
from edge_agent.clock import Clock
from edge_agent.config import ConfigError, Settings
from edge_agent.credential import Credential
from edge_agent.evidence import Evidence, Thread, Window
from edge_agent.evidence_lane import EvidenceLane
from edge_agent.forward import Forwarder, either
from edge_agent.inventory import inventory
from edge_agent.journal import Journal, JournalError
from edge_agent.journal_caps import MIB
from edge_agent.journal_disk import Disk
from edge_agent.plan import plan
from edge_agent.post import Line, http_post
from edge_agent.recorder import Recorder
from edge_agent.tap import Tap
from edge_agent.transports import BusSettings, Transport
from edge_agent.watch import Watch
from edge_agent.wire import EVIDENCE_LANE, BusService, Health

log = structlog.get_logger()

# An agent that was started before it was enrolled looks for its credential so often.
LOOK_FOR_CREDENTIAL_S = 5.0
AGAIN_FIRST_S, AGAIN_CAP_S = 1.0, 60.0
# What ran so long was well: if it fails then, it is started again soon.
WELL_S = 60
NS_PER_S = 1_000_000_000
# Threads for what blocks: to connect to a broker, to open a port, at each bus; some for files. Python has few
# on a small gateway, and so many brokers that hang would keep every port from being opened.
THREADS_PER_BUS, THREADS_BESIDE = 2, 8


class _ToldToStop(Exception):  # noqa: N818  # ends the task group in order, no error
    pass


async def run(settings: Settings) -> None:
    """Watch until SIGTERM or SIGINT. Raises ConfigError; JournalError when the journal cannot be trusted."""
    gateway = _gateway(settings)
    clock = Clock()
    systemd = health.Systemd()
    async with systemd.starting():
        journal = await _open_journal(settings, clock)
    try:
        anchor = await journal.start(gateway)
        clock.floor_ms = anchor.wall_ms if anchor else 0
        recorder = Recorder(settings.devices, memory_bytes=settings.evidence.memory_mib * MIB)
        evidence = await _evidence(settings, recorder, journal, clock)
        journal.on_written = evidence.written
        watch = await Watch.start(
            settings.devices,
            journal,
            recorder,
            clock.stamp,
            tree=settings.tree(gateway),
            across=settings.across,
            unreachable_after_s=settings.agent.unreachable_after_s,
        )
        try:
            await _Agent(
                settings=settings,
                gateway=gateway,
                clock=clock,
                journal=journal,
                watch=watch,
                tap=Tap(settings, clock.stamp),
                evidence=evidence,
                random=Random(),  # noqa: S311  # jitter, no secret
                started_ns=clock.stamp().mono_ns,
            ).work(systemd)
        finally:
            await watch.close()
            await evidence.close()
    finally:
        await journal.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Agent:
    settings: Settings
    gateway: str
    clock: Clock
    journal: Journal
    watch: Watch
    tap: Tap
    evidence: Evidence
    random: Random
    started_ns: int
    # By the name of their bus, once they run; and how long to ask everything once should take, in seconds.
    running: dict[str, tuple[Transport, float]] = field(default_factory=dict)

    async def work(self, systemd: health.Systemd) -> None:
        threads = THREADS_BESIDE + THREADS_PER_BUS * len(self.settings.buses)
        asyncio.get_running_loop().set_default_executor(
            ThreadPoolExecutor(threads, thread_name_prefix="blocking")
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_until_told(), name="signals")
                group.create_task(self._supervise("deadlines", self.watch.run), name="deadlines")
                group.create_task(self._supervise("anchor", self.journal.run), name="anchor")
                group.create_task(self._supervise("evidence", self.evidence.run), name="evidence")
                group.create_task(self._supervise("forward", self._forward), name="forward")
                group.create_task(self._supervise("tap", self.tap.run), name="tap")
                for bus in self.settings.buses:
                    for hint in bus.hints():
                        log.warning("a name that does not last", bus=bus.name, hint=hint)
                    group.create_task(self._supervise(bus.name, self._transport(bus)), name=f"bus {bus.name}")
                group.create_task(self._show_life(systemd), name="watchdog")
                watching = (
                    f"watching {len(self.settings.devices)} devices on {len(self.settings.buses)} buses"
                )
                log.info("started", watching=watching, journal=str(self.settings.agent.data_dir))
                systemd.ready(watching)
        except* _ToldToStop:
            systemd.stopping()
            log.info("stopping")

    def _transport(self, bus: BusSettings) -> Callable[[], Awaitable[None]]:
        devices = self.settings.on_bus(bus.name)
        module = transports.load(bus.transport)
        assert module is not None, "config checked it"
        planned_s = plan(bus, devices).cycle_s

        async def run() -> None:
            deliver = self.watch.put_durably if module.Transport.acknowledges else self.watch.put
            transport: Transport = module.Transport(
                bus,
                devices,
                self.tap.before(deliver),
                self.clock.stamp,
                again=self.tap.beside(self.watch.again),
            )
            self.running[bus.name] = transport, planned_s
            await transport.run()

        return run

    async def _forward(self) -> None:
        enrolled = await self._enrolled_as_other_than(None)
        url = self.settings.collector.url or enrolled.url
        async with Line(self.settings.collector.ca_file) as line:
            aside = EvidenceLane(
                self.evidence,
                http_post(line, url, enrolled.bearer, lane=EVIDENCE_LANE),
                stamp=self.clock.stamp,
                random=self.random,
            )
            forwarder = Forwarder(
                self.journal,
                http_post(line, url, enrolled.bearer),
                aside=aside,
                inventory=inventory(self.settings.devices, self.settings.across),
                unsettled=self.watch.unsettled,
                health=self._health,
                on_closed_here=self.watch.close_here,
                stamp=self.clock.stamp,
                random=self.random,
            )
            log.info("forwarding", collector=url, gateway=f"{enrolled.site}/{enrolled.gateway}")
            await either(forwarder.run(), self._enrolled_as_other_than(enrolled))
            log.info("enrolled anew")

    async def _enrolled_as_other_than(self, was: Credential | None) -> Credential:
        """Waits until somebody has enrolled this gateway (again). Equipment is watched meanwhile."""
        told = ""
        while True:
            why = ""
            try:
                found = _credential(self.settings)
                if found is not None and found != was:
                    why = self._misfit(found, was)
                    if not why:
                        config.check_ca_file(self.settings.path, self.settings.collector)
                        return found
                elif was is None:
                    why = "not enrolled yet: edge-agent enroll URL TOKEN"
            except ConfigError as error:
                why = str(error)
            if why and why != told:
                kept = "cannot forward: everything is kept here" if was is None else "forwarding as before"
                log.warning(kept, why=why)
            told = why
            await asyncio.sleep(LOOK_FOR_CREDENTIAL_S)

    def _misfit(self, found: Credential, was: Credential | None) -> str:
        """Why what is watched here cannot be sent with this credential, or nothing."""
        agent = self.settings.agent
        if said := credential.contradiction(found, site=agent.site, gateway=agent.gateway):
            return f"{self.settings.path}: {said}"
        site = was.site if was else found.site
        if (found.site, found.gateway) != (site, self.gateway):
            other = f"{found.site}/{found.gateway}"
            return f"enrolled as {other}, and watching as {site}/{self.gateway}: that takes a restart"
        return ""

    def _health(self) -> Health:
        return health.measure(
            data_dir=self.settings.agent.data_dir,
            uptime_s=(self.clock.stamp().mono_ns - self.started_ns) // NS_PER_S,
            devices=len(self.settings.devices),
            devices_unreachable=self.watch.devices_unreachable(),
            counted={**self.journal.given_up, **self.evidence.figures},
            ballast=self.journal.space.ballast if self.journal.space else None,
            buses=self._bus_services(),
        )

    def _bus_services(self) -> list[BusService]:
        return [
            health.bus_service(name, gave, planned_s)
            for name, (transport, planned_s) in self.running.items()
            if (gave := transport.service()) is not None
        ]

    async def _supervise(self, name: str, work: Callable[[], Awaitable[None]]) -> NoReturn:
        """Run ``work`` again whenever it fails; a configuration or a journal that is wrong ends the agent."""
        backoff = Backoff(random=self.random, first_s=AGAIN_FIRST_S, cap_s=AGAIN_CAP_S)
        while True:
            began_ns = self.clock.stamp().mono_ns
            try:
                await work()
            except ConfigError:
                raise
            except JournalError:
                # The journal has told why; the disk may have room again.
                if self.journal.broken:
                    raise
            except Exception:
                if self.journal.broken:
                    raise
                log.exception("failed; it is started again", part=name)
            if self.clock.stamp().mono_ns - began_ns > WELL_S * NS_PER_S:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _show_life(self, systemd: health.Systemd) -> None:
        """The watchdog of systemd hears of us as long as the loop turns and the journal can be written."""
        while systemd.watchdog_every_s is not None:
            if self.journal.broken:
                raise JournalError(
                    "the journal cannot be written any more; it is opened anew after a restart"
                )
            systemd.alive()
            await asyncio.sleep(systemd.watchdog_every_s)


async def _until_told() -> NoReturn:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()
    raise _ToldToStop


async def _open_journal(settings: Settings, clock: Clock) -> Journal:
    data_dir = settings.agent.data_dir
    try:
        await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True, mode=0o700)
        disk_bytes = (await asyncio.to_thread(shutil.disk_usage, data_dir)).total
    except OSError as error:
        raise ConfigError(
            f"{settings.path}: agent.data_dir: {data_dir} cannot be made: {error.strerror}"
        ) from error
    try:
        return await Journal.open(
            data_dir,
            new_id=lambda: secrets.token_hex(16),
            stamp=clock.stamp,
            caps=settings.journal.caps(disk_bytes),
            disk=Disk(data_dir, ballast_bytes=settings.journal.ballast_mib * MIB),
        )
    except JournalError as error:
        raise ConfigError(f"{settings.path}: agent.data_dir: {data_dir}: {error}") from error
    except OSError as error:
        raise _closed(settings, error) from error


async def _evidence(settings: Settings, recorder: Recorder, journal: Journal, clock: Clock) -> Evidence:
    data_dir, wanted = settings.agent.data_dir, settings.evidence
    disk_bytes = (await asyncio.to_thread(shutil.disk_usage, data_dir)).total
    return Evidence(
        recorder,
        settings.devices,
        Thread(data_dir, max_bytes=wanted.max_bytes(disk_bytes)),
        clock.stamp,
        window=Window(before_s=wanted.before_s, after_s=wanted.after_s),
        across=settings.across,
        is_short=lambda: journal.space is not None and journal.space.is_short,
    )


def _gateway(settings: Settings) -> str:
    """Who watches, as configured or as enrolled: to detect faults takes no more. Raises ConfigError."""
    if settings.agent.gateway:
        return settings.agent.gateway
    enrolled = _credential(settings)
    if enrolled is None:
        raise ConfigError(f"{settings.path}: agent.gateway: missing, and this gateway is not enrolled yet")
    return enrolled.gateway


def _credential(settings: Settings) -> Credential | None:
    try:
        return credential.load(settings.agent.data_dir)
    except OSError as error:
        raise _closed(settings, error) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _closed(settings: Settings, error: OSError) -> ConfigError:
    return ConfigError(f"{settings.path}: agent.data_dir: {error.filename}: {error.strerror}")
