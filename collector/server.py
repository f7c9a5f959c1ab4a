"""Runs the collector as one process until told to stop: web, sweep, local socket, systemd's watchdog."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType

import structlog
import uvicorn
from sqlalchemy import Connection

from collector import admin, clock, evidence, local, memory, place
from collector.app import assemble, assemble_parts
from collector.certificate import Certificate
from collector.config import ConfigError, Settings
from collector.local import DataDirectory
from collector.notify import notify
from collector.parts import Parts
from collector.protocol import Protocol
from collector.store import DATABASE_AWAY, Store, UnusableError, aside, is_full, moment, people, statistics
from collector.sweep import Change, sweep

log = structlog.get_logger()

SWEEP_EVERY_S = 1.0
# After one that found something: there may be more.
SWEEP_ON_S = 0.05
# After a sweep that failed.
SWEEP_AGAIN_S = 5.0
# How often the caps of evidence and of what was put aside are looked at, and after one look of too much.
THIN_EVERY_S = 60.0
THIN_ON_S = 0.2
FINISH_WITHIN_S = 2
# How long a thread keeps the interpreter while another wants it. A batch of syncs takes some 10 ms and lets
# go of it at each statement; at Python's usual 5 ms it is put off in between, and all that wait for it.
TURN_S = 0.02
BACKLOG = 1024
# "All addresses" is where to listen, not where to go.
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  compared, not bound


class Server(uvicorn.Server):
    """uvicorn's, but open pages are let go first, and somebody is told when it listens."""

    def __init__(
        self, config: uvicorn.Config, *, listening: Callable[[], None], leaving: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._listening = listening
        self._leaving = leaving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._leaving()
        await super().shutdown(sockets)


def serve(settings: Settings, *, say: Callable[[str], None]) -> None:
    """Returns after SIGTERM or SIGINT. Raises ConfigError when it cannot start."""
    memory.give_back()
    sys.setswitchinterval(TURN_S)
    try:
        directory = DataDirectory(settings.data_dir)
    except OSError as error:
        raise ConfigError(f"data_dir: {settings.data_dir} cannot be used: {error.strerror}") from error
    try:
        if not directory.holder:
            raise ConfigError(f"data_dir: another collector runs on {settings.data_dir}")
        _note(directory, settings)
        listener = bind(settings)
        try:
            store = Store.open(settings.database)
        except UnusableError as error:
            raise ConfigError(f"{settings.database_name}: {error}") from error
        if "alembic" in sys.modules:
            # It has brought the tables to the newest version, and would keep 11 MB of that while it runs.
            store.close()
            listener.close()
            directory.close()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  as it was started
        try:
            # uvicorn raises the signal again when it is done; being told to stop is not a failure here.
            # SIGHUP before there is a certificate to load again finds it loaded.
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, _ignore)
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_run(settings, store, listener, say))
        finally:
            store.close()
    finally:
        directory.close()


def _note(directory: DataDirectory, settings: Settings) -> None:
    """For those who give orders while it is stopped. On a full disk it runs all the same."""
    try:
        directory.note("" if settings.one_writer else place.shown(settings))
    except OSError as error:
        log.warning("cannot note which database this is", data_dir=str(directory.path), why=error.strerror)


def bind(settings: Settings) -> socket.socket:
    """Raises ConfigError."""
    # "::" is every address, the old ones too, whatever the system's default says.
    both = settings.host == "::" and socket.has_dualstack_ipv6()
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server(
            (settings.host, settings.port), family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
    except OSError as error:
        raise ConfigError(f"listen: {settings.listen} cannot be used: {error.strerror or error}") from error


def url_of(settings: Settings, listener: socket.socket) -> str:
    """Where people find it."""
    if settings.public_url:
        return settings.public_url
    host, port = listener.getsockname()[:2]
    if host in WILDCARDS:
        host = socket.gethostname()
    elif settings.host == "localhost":
        host = settings.host
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls else 'http'}://{shown}:{port}"


async def _run(settings: Settings, store: Store, listener: socket.socket, say: Callable[[str], None]) -> None:
    shared_clock = clock.Clock()
    await _follow(store, shared_clock)
    parts = assemble_parts(
        settings,
        store,
        now_ms=shared_clock.now_ms,
        monotonic_s=clock.monotonic_s,
        put_forward_ms=shared_clock.put_forward_ms,
    )
    url = url_of(settings, listener)

    def listening() -> None:
        say(f"Andon collector: {url} (desk), {url}/m (handheld)")
        if not store.read(people.people):
            say(
                "Nobody can log in yet. The first person: collector user add NAME --role lead --site '*' "
                f"--data-dir {shlex.quote(str(settings.data_dir.absolute()))}"
            )
        log.info(
            "the collector listens", url=url, data_dir=str(settings.data_dir), timezone=settings.timezone
        )
        notify("READY=1\nSTATUS=listening")

    def leaving() -> None:
        notify("STOPPING=1")
        parts.live.close()

    config = loaded(_uvicorn(parts))
    certificate = certificate_of(config, settings)
    server = Server(config, listening=listening, leaving=leaving)
    async with contextlib.AsyncExitStack() as stack:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _load_again, certificate, parts.now_ms)
        if certificate is not None:
            reminding = asyncio.create_task(certificate.remind(parts.now_ms), name="certificate")
            stack.callback(reminding.cancel)
        orders = await local.serve(local.listen(settings.data_dir), _performer(parts, url))
        stack.callback(orders.close)
        if settings.advertise:
            from collector.advertise import advertised

            await stack.enter_async_context(advertised(url))
        stack.enter_context(parts.hearing())
        sweeping = asyncio.create_task(_sweep(parts, shared_clock), name="sweep")
        stack.callback(sweeping.cancel)
        thinning = asyncio.create_task(_thin(parts), name="evidence")
        stack.callback(thinning.cancel)
        memory.settle()
        await server.serve(sockets=[listener])
    log.info("the collector has stopped")


def _uvicorn(parts: Parts) -> uvicorn.Config:
    settings = parts.settings
    return uvicorn.Config(
        assemble(parts),
        http=Protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        # Longer than an agent's heartbeat, so that it keeps one connection.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=FINISH_WITHIN_S,
    )


def loaded(config: uvicorn.Config) -> uvicorn.Config:
    """Raises ConfigError when the certificate cannot be used."""
    try:
        config.load()
    except (ssl.SSLError, OSError) as error:
        said = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(
            f"tls_cert, tls_key: {config.ssl_certfile} and {config.ssl_keyfile} cannot be used: {said}"
        ) from error
    return config


def certificate_of(config: uvicorn.Config, settings: Settings) -> Certificate | None:
    if config.ssl is None or settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(config.ssl, settings.tls_cert, settings.tls_key)


def _load_again(certificate: Certificate | None, now_ms: Callable[[], int]) -> None:
    if certificate is None:
        log.info("SIGHUP: there is no certificate that could be loaded again")
    else:
        certificate.load_again(now_ms())


async def _follow(store: Store, shared_clock: clock.Clock) -> None:
    """Take the time of the database, if it has one, and notice when a clock was put forward. Where writes go:
    nothing that somebody reads is waited for.
    """

    def ask(connection: Connection) -> tuple[int | None, float, float]:
        asked_s = clock.monotonic_s()
        theirs_ms = moment.now_ms(connection)
        return theirs_ms, asked_s, clock.monotonic_s()

    theirs_ms, asked_s, answered_s = await store.write_soon(ask)
    if theirs_ms is None:
        shared_clock.alone()
    else:
        shared_clock.follow(theirs_ms, asked_s, answered_s)


async def _sweep(parts: Parts, shared_clock: clock.Clock) -> None:
    failing = False
    while True:
        try:
            await _follow(parts.store, shared_clock)
            deaf = parts.syncs.was_deaf()
            changed = await parts.write(partial(_swept, parts, deaf), lambda changed: changed)
            await parts.store.write_soon(statistics.keep)
        except Exception as error:
            parts.metrics.sweeps_failed.inc()
            if is_full(error):
                # To be started again would not mend it, and pages still show what is held.
                notify("WATCHDOG=1")
            if not failing:
                log.exception("the sweep failed; it is tried again")
            failing = True
            await asyncio.sleep(SWEEP_AGAIN_S)
            continue
        if failing:
            log.info("the sweep works again")
            failing = False
        # Only a collector that can write is alive, unless the disk is full.
        notify("WATCHDOG=1")
        memory.tidy()
        await asyncio.sleep(SWEEP_ON_S if changed else SWEEP_EVERY_S)


def _swept(parts: Parts, deaf: bool, connection: Connection) -> tuple[Change, ...]:
    now_ms = parts.now_ms()
    return sweep(connection, now_ms, started_ms=moment.listening_since(connection, now_ms, deaf=deaf))


async def _thin(parts: Parts) -> None:
    """Whatever stops it is told by the sweep, which writes every second."""
    cap_bytes = parts.settings.evidence_mib << 20
    while True:
        try:
            given_up = await parts.store.write_soon(partial(evidence.thin, cap_bytes=cap_bytes))
            given_up += await parts.store.write_soon(aside.thin)
        except DATABASE_AWAY:
            given_up = 0
        await asyncio.sleep(THIN_ON_S if given_up else THIN_EVERY_S)


def _performer(parts: Parts, url: str) -> local.Perform:
    async def perform(order: admin.AnyOrder) -> admin.Answer:
        now_ms = parts.now_ms()
        hours = parts.settings.enrolment_hours
        answer = await parts.store.write_soon(
            lambda connection: admin.perform(connection, order, now_ms, enrolment_hours=hours)
        )
        return answer | {"url": url}

    return perform


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Told to stop: the server has seen it too."""
