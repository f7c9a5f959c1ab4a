"""The serial transport against real pseudo-terminals in every mood a line has."""

import asyncio
import grp
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop
from pydantic import ValidationError
from rigs.ports import wait_until
from rigs.pty import Line
from rigs.readings import Readings, TickedReadings, device, running, stamp

from edge_agent import ports
from edge_agent.bus import LinkError
from edge_agent.config import ConfigError, load
from edge_agent.device import Device
from edge_agent.profile import ListenRead, RequestRead
from edge_agent.sample import Reading, Trouble
from edge_agent.transports.serial import Settings, Transport, _open

HS = RequestRead(send="~HS", frames=3, every_s=0.05, timeout_s=0.4)
HS_FRAMES = (b"030,0,0,1245,000,0,0,0,000,0,0,0", b"000,0,0,0,0,2,4,0,00000000,1,000", b"1234,0")
HS_ANSWER = b"".join(b"\x02" + frame + b"\x03\r\n" for frame in HS_FRAMES)


def printer(reads: dict[str, RequestRead] | None = None) -> Device:
    return device("printer", dict(reads or {"hs": HS}), framing="stx_etx")


def scanner() -> Device:
    return device("scanner", {"scan": ListenRead(listen=True)}, framing="line")


def transport(line: Line, readings: Readings, *devices: Device) -> Transport:
    settings = Settings(name="bus", port=str(line.path), baud=115_200)
    return Transport(settings, devices, readings.deliver, stamp)


def zebra(heard: bytearray) -> Iterator[bytes]:
    while b"~HS" in heard:
        del heard[: heard.index(b"~HS") + 3]
        yield HS_ANSWER


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path / "printer")


async def test_a_printer_is_asked_again_and_again_and_its_frames_arrive_whole(line: Line) -> None:
    line.plug().answers(zebra)
    readings = Readings()
    async with running(transport(line, readings, printer()).run()):
        await readings.until(5, "hs")
    assert set(readings.payloads("hs")) == {HS_FRAMES}
    assert readings.troubles() == []
    line.unplug()


@pytest.mark.parametrize("pieces", [1, 100])
async def test_a_scanner_that_talks_by_itself_is_heard(line: Line, pieces: int) -> None:
    line.plug()
    readings = Readings()
    async with running(transport(line, readings, scanner()).run()):
        await wait_until(lambda: readings)
        # It listens by itself, so it has to be told that the link is there.
        assert (readings[0].payload, readings[0].trouble, readings[0].read) == ((), None, "scan")
        for code in (b"4006381333931\r\n", b"NOREAD\r\n"):
            for start in range(0, len(code), pieces):
                line.say(code[start : start + pieces])
        await readings.until(2, "scan")
    assert readings.payloads() == [(b"4006381333931",), (b"NOREAD",)]
    line.unplug()


async def test_a_silent_printer_is_no_answer_and_its_return_is_seen(line: Line) -> None:
    line.plug()
    readings = Readings()
    async with running(transport(line, readings, printer()).run()):
        first = await readings.until_trouble(Trouble.NO_ANSWER)
        assert "nothing came" in first.detail
        line.answers(zebra)
        await readings.until(1, "hs")
    assert Trouble.NO_LINK not in readings.troubles()
    line.unplug()


async def test_a_printer_that_paused_the_line_and_lost_its_power_is_heard_when_it_is_back(line: Line) -> None:
    line.plug().answers(zebra)
    readings = Readings()
    settings = Settings(name="bus", port=str(line.path), baud=115_200, xonxoff=True)
    async with running(Transport(settings, [printer()], readings.deliver, stamp).run()):
        await readings.until(1, "hs")
        line.say(b"\x13")
        paused = await readings.until_trouble(Trouble.NO_ANSWER)
        assert "does not take what we send" in paused.detail
        # It never says \x11.
        await readings.until(len(readings.payloads("hs")) + 1, "hs")
    assert Trouble.NO_LINK not in readings.troubles()
    line.unplug()


async def test_an_answer_that_stops_in_the_middle_is_a_wrong_answer(line: Line) -> None:
    def half(heard: bytearray) -> Iterator[bytes]:
        heard.clear()
        yield HS_ANSWER[:60]

    line.plug().answers(half)
    readings = Readings()
    async with running(transport(line, readings, printer()).run()):
        first = await readings.until_trouble(Trouble.WRONG_ANSWER)
    assert "1 of 3 frames" in first.detail
    line.unplug()


async def test_an_answer_that_comes_too_late_is_never_taken_for_the_next_request(line: Line) -> None:
    asked: list[bytes] = []
    loop = asyncio.get_running_loop()

    def slow_once(heard: bytearray) -> Iterator[bytes]:
        request = bytes(heard)
        heard.clear()
        asked.append(request)
        answer = b"about " + request + b"\r"
        if len(asked) == 2:
            loop.call_later(0.45, line.say, answer)
        else:
            yield answer

    reads = {name: RequestRead(send=name, every_s=0.05, timeout_s=0.3) for name in ("first", "second")}
    line.plug().answers(slow_once)
    readings = Readings()
    async with running(transport(line, readings, device("d", dict(reads), framing="line")).run()):
        await readings.until(4, "first")
        await readings.until(4, "second")
    assert set(readings.troubles()) == {Trouble.NO_ANSWER}
    for reading in readings:
        assert reading.trouble or reading.payload == (b"about " + reading.read.encode(),)
    line.unplug()


async def test_a_port_that_is_not_there_is_said_in_words_and_found_once_it_appears(line: Line) -> None:
    readings = Readings()
    async with running(transport(line, readings, printer()).run()):
        first = await readings.until_trouble(Trouble.NO_LINK)
        assert first.detail == f"port {line.path} is not there: unplugged?"
        line.plug().answers(zebra)
        await readings.until(1, "hs")
    # Told once, however often it was tried.
    assert readings.troubles() == [Trouble.NO_LINK]
    line.unplug()


async def test_pulling_the_adapter_in_the_middle_of_a_frame_is_no_link_and_plugging_it_in_heals(
    line: Line,
) -> None:
    reads = {"hs": HS, "hq": RequestRead(send="~HQES", every_s=60, timeout_s=0.1)}
    line.plug()
    readings = Readings()
    async with running(transport(line, readings, printer(reads)).run()):
        await wait_until(lambda: line.heard)
        line.say(HS_ANSWER[:20])
        line.unplug()
        lost = await readings.until_trouble(Trouble.NO_LINK, count=2)
        assert "hung up" in lost.detail
        assert {reading.read for reading in readings if reading.trouble is Trouble.NO_LINK} == {"hs", "hq"}
        line.heard.clear()
        line.plug().answers(zebra)
        await readings.until(2, "hs")
    assert set(readings.payloads("hs")) == {HS_FRAMES}
    line.unplug()


async def test_a_listening_line_that_was_replugged_is_told_to_be_up_before_its_next_scan(line: Line) -> None:
    line.plug()
    readings = Readings()
    async with running(transport(line, readings, scanner()).run()):
        await wait_until(lambda: readings)
        line.unplug()
        await readings.until_trouble(Trouble.NO_LINK)
        line.plug()
        await wait_until(lambda: readings[-1].trouble is None)
    assert readings[-1].detail == "the link is up"
    line.unplug()


async def test_a_port_that_another_program_has_open_is_busy(line: Line) -> None:
    line.plug().answers(zebra)
    winner, loser = Readings(), Readings()
    async with running(transport(line, winner, printer()).run()):
        await winner.until(1)
        async with running(transport(line, loser, printer()).run()):
            refused = await loser.until_trouble(Trouble.NO_LINK)
    assert refused.detail.startswith(f"port {line.path} is busy: another program or bus has it open")
    assert "fuser" in refused.detail
    line.unplug()


async def test_an_adapter_that_comes_back_under_another_number_is_found_by_its_lasting_name(
    tmp_path: Path,
) -> None:
    """The node of a port that is still open is not given to anybody else: so it is for ttyUSB0."""
    by_id = Line(tmp_path / "usb-FTDI_FT232R_A50285BI-if00-port0").plug().answers(zebra)
    before = by_id.path.resolve()
    readings = Readings()
    async with running(transport(by_id, readings, printer()).run()):
        await readings.until(1)
        with kept_open(before):
            by_id.unplug()
            by_id.plug().answers(zebra)
        assert by_id.path.resolve() != before
        await readings.until_trouble(Trouble.NO_LINK)
        known = len(readings.payloads())
        await readings.until(known + 2)
    assert set(readings.payloads()) == {HS_FRAMES}
    by_id.unplug()


@contextmanager
def kept_open(node: Path) -> Iterator[None]:
    held = os.open(node, os.O_RDWR | os.O_NOCTTY)
    yield
    os.close(held)


async def test_a_bare_number_whose_adapter_is_gone_is_told_the_name_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_id = tmp_path / "by-id" / "usb-FTDI_FT232R_A50285BI-if00-port0"
    by_id.parent.mkdir()
    # Where udev's links lead when the adapter is back under another number; nothing here has that number.
    by_id.symlink_to("/dev/ttyUSB91")
    monkeypatch.setattr(ports, "FOLDER", tmp_path)
    readings = Readings()
    async with running(transport(Line(Path("/dev/ttyUSB90")), readings, printer()).run()):
        gone = await readings.until_trouble(Trouble.NO_LINK)
    assert gone.detail.startswith("port /dev/ttyUSB90 is not there: unplugged, or back under another number?")
    assert str(by_id) in gone.detail


@pytest.mark.parametrize(
    ("mode", "cure"), [(0o060, "sudo usermod -aG tty "), (0o000, "udev usually gives it to dialout")]
)
async def test_a_port_that_the_agent_may_not_open_says_whose_it_is_and_what_to_do(
    line: Line, mode: int, cure: str
) -> None:
    node = line.plug().path.resolve()
    if os.geteuid() == 0:
        os.chown(node, -1, grp.getgrnam("tty").gr_gid)
    node.chmod(mode)
    with without_the_rights_of_root(), pytest.raises(LinkError) as refused:
        _open(str(node), Settings(name="bus", port=str(node)))
    assert str(refused.value).startswith(f"port {node} may not be opened: it belongs to group tty")
    assert cure in str(refused.value)
    line.unplug()


@contextmanager
def without_the_rights_of_root() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65_534)
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


async def test_what_is_no_serial_port_is_no_link(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("no port")
    readings = Readings()
    async with running(transport(Line(path), readings, printer()).run()):
        refused = await readings.until_trouble(Trouble.NO_LINK)
    assert str(path) in refused.detail


async def test_a_printer_that_never_reads_does_not_hold_up_the_loop(line: Line) -> None:
    line.plug(reads=False)
    # Longer than a profile may ask and than the line takes in: the write cannot end.
    flood = RequestRead.model_construct(send="x" * 200_000, frames=1, every_s=0.001, timeout_s=0.5)
    readings = TickedReadings()
    work = transport(line, readings, printer({"hs": flood})).run()
    async with running(readings.loop.run()), running(work):
        stuck = await readings.until_trouble(Trouble.NO_ANSWER, count=3)
    assert "does not take what we send" in stuck.detail
    # The loop came round again and again while the write was stuck.
    assert readings.rounds_between() > 20
    line.unplug()


async def test_a_line_that_floods_us_with_garbage_does_not_hold_up_the_loop_nor_the_schedule(
    line: Line,
) -> None:
    line.plug()
    readings = TickedReadings()
    wanted = RequestRead(send="?", every_s=0.01, timeout_s=0.3)

    async def flood() -> None:
        while True:
            line.say_what_fits(b"\x00\xffgarbage" * 50)
            await asyncio.sleep(0)

    asking = transport(line, readings, printer({"r": wanted})).run()
    async with running(readings.loop.run()), running(flood()), running(asking):
        await readings.until_trouble(Trouble.WRONG_ANSWER, count=4)
    assert readings.rounds_between() > 20
    line.unplug()


async def test_a_slow_disk_holds_up_its_own_bus_alone(tmp_path: Path) -> None:
    slow_line = Line(tmp_path / "slow").plug().answers(zebra)
    quick_line = Line(tmp_path / "quick").plug().answers(zebra)
    stuck = asyncio.Event()
    quick = Readings()

    class Stuck(Readings):
        async def deliver(self, reading: Reading) -> None:
            await stuck.wait()
            self.append(reading)

    slow = Stuck()
    held_up = transport(slow_line, slow, printer()).run()
    free = transport(quick_line, quick, printer()).run()
    async with running(held_up), running(free):
        await quick.until(5)
        assert slow == []
        stuck.set()
        await slow.until(2)
    slow_line.unplug()
    quick_line.unplug()


def test_two_devices_on_one_line_of_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="printer, scanner: a line of text has one device"):
        transport(Line(tmp_path / "x"), Readings(), printer(), scanner())


def test_two_devices_on_one_line_of_text_are_refused_when_the_configuration_is_read(tmp_path: Path) -> None:
    printers = [
        f'[[device]]\nid = "{name}"\nbus = "label"\nprofile = "zebra-zpl"\n' for name in ("one", "two")
    ]
    file = tmp_path / "agent.toml"
    file.write_text(
        '[[bus]]\nname = "label"\ntransport = "serial"\nport = "/dev/ttyS0"\n' + "".join(printers)
    )
    with pytest.raises(
        ConfigError, match=r"agent.toml: bus\[0\] \(label\): one, two: a line of text has one"
    ):
        load(file)


@pytest.mark.parametrize(
    ("key", "value"), [("parity", "X"), ("bytesize", 9), ("baud", 0), ("stopbits", 3), ("speed", 9600)]
)
def test_a_wrong_setting_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        Settings.model_validate({"name": "bus", "transport": "serial", "port": "/dev/ttyS0", key: value})


def test_the_plan_knows_how_long_a_byte_takes() -> None:
    settings = Settings(name="bus", port="/dev/ttyS0", baud=9600, parity="E")
    assert settings.line.byte_s == 11 / 9600
    assert settings.line.words == "serial /dev/ttyS0, 9600 baud 8E1"


@pytest.mark.parametrize(
    "story",
    [
        test_pulling_the_adapter_in_the_middle_of_a_frame_is_no_link_and_plugging_it_in_heals,
        test_a_printer_that_never_reads_does_not_hold_up_the_loop,
    ],
)
def test_it_is_the_same_on_the_loop_that_the_agent_runs_on(line: Line, story) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story(line))
