"""The TCP transport against a real server in every mood a device has."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop
from rigs.ports import drops_whoever_knocks, free_port, wait_until
from rigs.readings import Readings, TickedReadings, device, running, stamp

from edge_agent import bus
from edge_agent.bus.link import Link
from edge_agent.profile import Answer, ListenRead, RequestRead
from edge_agent.sample import Trouble
from edge_agent.transports import tcp
from edge_agent.transports.tcp import Settings, Transport, open_connection

HS = RequestRead(send="~HS", frames=1, every_s=0.05, timeout_s=0.4)
ANSWER = b"\x02030,0,0\x03\r\n"

Mood = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readexactly(3) == b"~HS":
        writer.write(ANSWER)


async def gone_in_the_middle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(3)
    writer.write(ANSWER[:5])
    writer.write_eof()
    await reader.read()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(100):
        pass


async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()
    await asyncio.Event().wait()


class Server:
    def __init__(self) -> None:
        self.port = free_port()
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None] | None] = set()

    async def start(self, mood: Mood) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            task = asyncio.current_task()
            self._serving.add(task)
            try:
                await mood(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                pass
            finally:
                self._serving.discard(task)
                writer.transport.abort()

        self._server = await asyncio.start_server(serve, "127.0.0.1", self.port)

    def refuse(self) -> None:
        """Nobody else from now on."""
        assert self._server is not None
        self._server.close()

    async def stop(self) -> None:
        self.refuse()
        await wait_until(self._all_ended)

    def _all_ended(self) -> bool:
        """One that was accepted last may begin only now."""
        for task in self._serving:
            assert task is not None
            task.cancel()
        return not self._serving


@asynccontextmanager
async def serving(mood: Mood) -> AsyncIterator[Server]:
    server = Server()
    await server.start(mood)
    yield server
    await server.stop()


def printer(port: int, readings: Readings, **reads: RequestRead | ListenRead) -> Transport:
    settings = Settings(name="bus", host="127.0.0.1", port=port)
    one = device("printer", dict(reads or {"hs": HS}), framing="stx_etx")
    return Transport(settings, [one], readings.deliver, stamp)


async def test_a_printer_on_the_network_is_asked_again_and_again() -> None:
    readings = Readings()
    async with serving(plain) as server, running(printer(server.port, readings).run()):
        await readings.until(5)
    assert set(readings.payloads()) == {(b"030,0,0",)}


async def test_a_printer_that_is_switched_off_and_on_again_is_no_link_and_then_well() -> None:
    readings = Readings()
    server = Server()
    async with running(printer(server.port, readings).run()):
        refused = await readings.until_trouble(Trouble.NO_LINK)
        assert "refuses the connection" in refused.detail
        await server.start(plain)
        await readings.until(1)
        await server.stop()
        await readings.until_trouble(Trouble.NO_LINK, count=2)
        before = len(readings.payloads())
        await server.start(plain)
        await readings.until(before + 2)
        await server.stop()


async def test_a_connection_that_ends_in_the_middle_of_a_frame_gives_no_reading_of_it() -> None:
    readings = Readings()
    async with serving(gone_in_the_middle) as server, running(printer(server.port, readings).run()):
        lost = await readings.until_trouble(Trouble.NO_LINK)
        assert lost.detail == f"127.0.0.1:{server.port} closed the connection"
    assert readings.payloads() == []


async def test_a_silent_printer_is_no_answer_and_after_three_the_connection_is_made_anew() -> None:
    readings = Readings()
    quick = RequestRead(send="~HS", every_s=0.01, timeout_s=0.05, answer=Answer(starts_with="030,"))
    async with serving(silent) as server, running(printer(server.port, readings, hs=quick).run()):
        await readings.until_trouble(Trouble.NO_ANSWER, count=3)
        assert server.connections == 1
        await wait_until(lambda: server.connections >= 2)
    # The printer accepts connections: the link is there all the time.
    assert Trouble.NO_LINK not in readings.troubles()


# TSPL: whatever byte it is, it may be the status; the other answer begins with one that means a jam.
BYTES = {
    "status": RequestRead(send="\\x1b!?", every_s=0.05, timeout_s=0.2),
    "details": RequestRead(
        send="\\x1b!S", frames=8, every_s=0.05, timeout_s=0.2, answer=Answer(starts_with="\\x02")
    ),
}
SAYS = {b"\x1b!?": b"\x00", b"\x1b!S": b"\x02@@@@\x03\r\n"}


class Stalling:
    """Answers in order, but for one question: that answer and all behind it come ``stall_s`` later."""

    def __init__(self, number: int, stall_s: float) -> None:
        self._number, self._stall_s = number, stall_s
        self._asked = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            answer = SAYS[await reader.readexactly(3)]
            self._asked += 1
            if self._asked == self._number:
                await asyncio.sleep(self._stall_s)
            writer.write(answer)


@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("stall_s", [0.55, 0.95])
async def test_an_answer_that_a_network_kept_is_never_taken_for_that_of_the_next_request(
    number: int, stall_s: float
) -> None:
    """TCP brings all of it, in order, once the network goes on."""
    readings = Readings()
    async with serving(Stalling(number, stall_s)) as server:
        settings = Settings(name="bus", host="127.0.0.1", port=server.port)
        one = device("printer", dict(BYTES), framing="byte")
        async with running(Transport(settings, [one], readings.deliver, stamp).run()):
            await readings.until_trouble(Trouble.NO_ANSWER)
            before = {read: len(readings.payloads(read)) for read in BYTES}
            for read in BYTES:
                await readings.until(before[read] + 3, read)
    assert set(readings.payloads("status")) == {(b"\x00",)}
    assert {b"".join(frames) for frames in readings.payloads("details")} == {SAYS[b"\x1b!S"]}
    assert Trouble.NO_LINK not in readings.troubles()
    assert server.connections == 2


async def test_a_printer_that_is_a_little_late_keeps_its_connection() -> None:
    """Its answer has come, and is known to be nobody's."""
    readings = Readings()
    async with serving(Stalling(3, 0.3)) as server:
        settings = Settings(name="bus", host="127.0.0.1", port=server.port)
        one = device("printer", dict(BYTES), framing="byte")
        async with running(Transport(settings, [one], readings.deliver, stamp).run()):
            await readings.until_trouble(Trouble.NO_ANSWER)
            for read in BYTES:
                await readings.until(5, read)
    assert set(readings.payloads("status")) == {(b"\x00",)}
    assert {b"".join(frames) for frames in readings.payloads("details")} == {SAYS[b"\x1b!S"]}
    assert server.connections == 1


@pytest.mark.parametrize("hangs_up", [False, True])
async def test_a_printer_with_one_place_that_frees_it_late_is_no_link_that_is_gone(hangs_up: bool) -> None:
    """It refuses whoever comes meanwhile, or takes and drops him: what it owed was told already."""
    readings = Readings()
    stalling = Stalling(3, 0.9)
    taken = False
    turned_away = 0
    server = Server()

    async def one_place(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken, turned_away
        if taken:
            turned_away += 1
            return
        taken = True
        if not hangs_up:
            server.refuse()
        try:
            await stalling(reader, writer)
        finally:
            writer.transport.abort()
            await asyncio.sleep(0.6)
            taken = False
            if not hangs_up:
                await server.start(one_place)

    await server.start(one_place)
    settings = Settings(name="bus", host="127.0.0.1", port=server.port)
    one = device("printer", dict(BYTES), framing="byte")
    async with running(Transport(settings, [one], readings.deliver, stamp).run()):
        await readings.until_trouble(Trouble.NO_ANSWER)
        before = len(readings.payloads("status"))
        await readings.until(before + 3, "status")
        assert Trouble.NO_LINK not in readings.troubles()
        assert bool(turned_away) is hangs_up
    await server.stop()


async def test_a_printer_that_is_gone_when_it_is_tried_anew_is_no_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bus, "FREED_WITHIN_S", 1.0)
    readings = Readings()
    server = Server()
    await server.start(silent)
    async with running(printer(server.port, readings).run()):
        await wait_until(lambda: server.connections == 1)
        server.refuse()
        refused = await readings.until_trouble(Trouble.NO_LINK)
    assert "refuses the connection" in refused.detail
    await server.stop()


async def test_a_printer_that_never_reads_does_not_hold_up_the_loop() -> None:
    readings = TickedReadings()
    flood = RequestRead.model_construct(send="x" * 8_000_000, frames=1, every_s=0.001, timeout_s=0.5)
    async with (
        serving(never_reads) as server,
        running(readings.loop.run()),
        running(printer(server.port, readings, hs=flood).run()),
    ):
        stuck = await readings.until_trouble(Trouble.NO_ANSWER, count=3)
    assert "does not take what we send" in stuck.detail
    assert readings.rounds_between() > 20


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A device server whose only place is taken accepts everybody and hangs up."""


async def test_a_port_that_accepts_and_hangs_up_is_no_link_until_one_holds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise each attempt would look like a link to what only listens, and it would never be missed."""
    monkeypatch.setattr(bus, "STEADY_S", 2.0)
    readings = Readings()
    server = Server()
    await server.start(hangs_up)
    async with running(printer(server.port, readings, scan=ListenRead(listen=True)).run()):
        await wait_until(lambda: server.connections >= 3)
        assert [reading.trouble for reading in readings] == [None, Trouble.NO_LINK]
        await server.stop()
        await server.start(silent)
        await wait_until(lambda: readings[-1].detail == "the link is up")
        await server.stop()
    said = capsys.readouterr().out
    assert said.count("link is up") == 2
    assert said.count("closed the connection") <= 2


async def test_a_printer_that_hangs_up_after_each_answer_is_told_each_time_and_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Or a device that vanished for good would stand there with its last answer for ever."""

    async def one_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)
        writer.write(ANSWER)
        writer.write_eof()
        await reader.read()

    readings = Readings()
    async with serving(one_answer) as server, running(printer(server.port, readings).run()):
        await readings.until_trouble(Trouble.NO_LINK, count=4)
        troubles = [reading.trouble for reading in readings]
    assert troubles[:7] == [None, Trouble.NO_LINK] * 3 + [None]
    assert capsys.readouterr().out.count("closed the connection") == 1


@pytest.mark.parametrize("host", ["printer.invalid", "printer..hall", "x" * 64])
async def test_a_name_that_nobody_knows_is_said_in_words(host: str) -> None:
    readings = Readings()
    settings = Settings(name="bus", host=host, port=9100)
    one = device("printer", {"hs": HS}, framing="stx_etx")
    async with running(Transport(settings, [one], readings.deliver, stamp).run()):
        refused = await readings.until_trouble(Trouble.NO_LINK)
    assert f"the name of {host}:9100 cannot be resolved: " in refused.detail


async def test_a_half_open_connection_will_be_noticed_by_the_kernel() -> None:
    async with serving(silent) as server:
        link = await open_connection("127.0.0.1", server.port)
        with socket.socket(fileno=_fd(link)) as connected:
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 2
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            connected.detach()
        link.close()


def _fd(link: Link) -> int:
    return link._fd


async def test_a_scanner_on_the_network_is_heard_between_requests() -> None:
    async def talks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(1000):
            writer.write(b"\x02code %d\x03" % number)
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    readings = Readings()
    listen = ListenRead(listen=True)
    async with serving(talks) as server, running(printer(server.port, readings, scan=listen).run()):
        await readings.until(1000, "scan")
    assert readings.payloads("scan") == [(b"code %d" % number,) for number in range(1000)]


@pytest.mark.parametrize(
    "story",
    [
        test_a_printer_that_is_switched_off_and_on_again_is_no_link_and_then_well,
        test_a_printer_that_never_reads_does_not_hold_up_the_loop,
    ],
)
def test_it_is_the_same_on_the_loop_that_the_agent_runs_on(story: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_awaited(story))


async def _awaited(story: Callable[[], Awaitable[None]]) -> None:
    await story()


async def speaks_unasked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Before each answer, and while the line is left alone after one that never came."""
    for number in itertools.count():
        await reader.readexactly(3)
        writer.write(b"\x02news\x03")
        if number % 2:
            await asyncio.sleep(HS.timeout_s * 1.5)
            writer.write(b"\x02030,late\x03\x02later news\x03")
        else:
            writer.write(ANSWER)


async def test_what_a_device_says_unasked_is_heard_and_never_taken_for_the_answer() -> None:
    readings = Readings()
    asks = HS.model_copy(update={"answer": Answer(starts_with="030,", min_length=5)})
    async with (
        serving(speaks_unasked) as server,
        running(printer(server.port, readings, hs=asks, heard=ListenRead(listen=True)).run()),
    ):
        await readings.until(4, read="heard")
        await readings.until(2, read="hs")
    assert set(readings.payloads("hs")) == {(b"030,0,0",)}
    assert set(readings.payloads("heard")) == {(b"news",), (b"later news",)}


@pytest.mark.parametrize(
    ("answer", "fits", "does_not"),
    [
        (Answer(starts_with="\\x02"), b"\x02", b"x\x02"),
        (Answer(letters="YN"), b"YNNY", b"RYNNY"),
        (Answer(length=9), b"  A000000", b"A000000"),
        (Answer(min_length=2), b"ab", b"a"),
        (Answer(mask=0x93, value=0x12), b"\x1a", b"\x13"),
        (Answer(mask=0x93, value=0x12), b"\x7e", b""),
    ],
)
def test_an_answer_is_told_from_other_frames(answer: Answer, fits: bytes, does_not: bytes) -> None:
    assert answer.fits(fits)
    assert not answer.fits(does_not)


async def test_an_address_that_swallows_what_is_sent_leaves_time_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a name does that has an IPv6 address to which there is no way."""
    monkeypatch.setattr(tcp, "CONNECT_TIMEOUT_S", 1.0)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    good = server.sockets[0].getsockname()[1]
    with drops_whoever_knocks() as swallows:
        ports = [swallows, good]

        async def resolved(*_: object, **__: object) -> list[tuple[object, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
        async with server:
            link = await open_connection("scanner", good)
            link.close()
        ports = [swallows, swallows]
        with pytest.raises(bus.LinkError, match="does not answer"):
            await open_connection("scanner", good)
