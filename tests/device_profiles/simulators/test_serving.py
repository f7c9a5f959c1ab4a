"""The places that simulators are plugged into: their moods, and their command line."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
import serial
from rigs.ports import free_port, listens, wait_until

from device_profiles.simulators import serving
from device_profiles.simulators.serving import Outlet, Pty, Session, Tcp
from device_profiles.simulators.zebra_zpl import ZebraPrinter


def echo() -> Session:
    return lambda chunk: chunk.upper()


class Client:
    """Somebody at the other end of a pty or a port."""

    def __init__(self, outlet: Outlet) -> None:
        if isinstance(outlet, Tcp):
            self._line: socket.socket | serial.Serial = socket.create_connection((outlet.host, outlet.port))
            self._line.setblocking(False)
            self._descriptor = self._line.fileno()
        else:
            assert isinstance(outlet, Pty)
            self._line = serial.Serial(str(outlet.path), timeout=0)
            self._descriptor = os.open(str(outlet.path), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def write(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    async def hears(self, count: int) -> bytes:
        heard = b""

        def enough() -> bool:
            nonlocal heard
            try:
                heard += os.read(self._descriptor, count - len(heard))
            except BlockingIOError:
                return False
            return len(heard) >= count

        await wait_until(enough, what=f"{count} bytes, have {heard!r}")
        return heard

    def close(self) -> None:
        if isinstance(self._line, serial.Serial):
            os.close(self._descriptor)
        self._line.close()


@pytest.fixture(params=["pty", "tcp"])
def outlet(request: pytest.FixtureRequest, tmp_path: Path) -> Outlet:
    return Pty(tmp_path / "device") if request.param == "pty" else Tcp()


@pytest.mark.parametrize("one_byte_at_a_time", [False, True])
async def test_what_the_session_says_goes_back_to_who_asked(outlet: Outlet, one_byte_at_a_time: bool) -> None:
    outlet.one_byte_at_a_time = one_byte_at_a_time
    await outlet.start(echo)
    client = Client(outlet)
    client.write(b"hello")
    assert await client.hears(5) == b"HELLO"
    client.close()
    await outlet.stop()


async def test_several_clients_of_a_port_are_served_apart() -> None:
    outlet = Tcp()
    await outlet.start(echo)
    clients = [Client(outlet) for _ in range(3)]
    for number, client in enumerate(clients):
        client.write(b"abc"[number : number + 1])
    for number, client in enumerate(clients):
        assert await client.hears(1) == b"ABC"[number : number + 1]
    outlet.say(b"!")
    for client in clients:
        assert await client.hears(1) == b"!"
        client.close()
    await outlet.stop()


async def test_a_silent_device_hears_and_answers_later_questions(outlet: Outlet) -> None:
    heard = bytearray()

    def session() -> Session:
        def take(chunk: bytes) -> bytes:
            heard.extend(chunk)
            return chunk.upper()

        return take

    await outlet.start(session)
    outlet.silent = True
    client = Client(outlet)
    client.write(b"a")
    await wait_until(lambda: heard == b"a")
    outlet.silent = False
    client.write(b"b")
    assert await client.hears(1) == b"B"
    client.close()
    await outlet.stop()


async def test_a_deaf_device_takes_no_more_until_it_hears_again(outlet: Outlet) -> None:
    await outlet.start(echo)
    client = Client(outlet)
    outlet.deaf = True
    written = 0

    def is_full() -> bool:
        nonlocal written
        try:
            written += client.write(b"x" * 65_536)
        except BlockingIOError:
            return True
        return False

    await wait_until(is_full)
    outlet.deaf = False
    assert set(await client.hears(1)) == {ord("X")}
    client.close()
    await outlet.stop()


async def test_an_unplugged_device_is_gone_and_comes_back_under_its_name(outlet: Outlet) -> None:
    await outlet.start(echo)
    before = Client(outlet)
    await outlet.unplug()
    with pytest.raises(OSError):  # noqa: PT011  # the two kinds have their own
        Client(outlet)
    await outlet.replug()
    after = Client(outlet)
    after.write(b"back")
    assert await after.hears(4) == b"BACK"
    before.close()
    after.close()
    await outlet.stop()


def test_a_fault_that_a_device_does_not_know_is_refused_with_those_it_knows() -> None:
    with pytest.raises(KeyError, match="paper_out"):
        ZebraPrinter(Tcp()).set("papier_leer")


# --- the command line ---------------------------------------------------------------------------------------


async def program(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"device_profiles.simulators.{words[0]}",
        *words[1:],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )


async def line(of: asyncio.subprocess.Process) -> str:
    assert of.stdout is not None
    return (await asyncio.wait_for(of.stdout.readline(), 60)).decode()


async def test_a_printer_on_a_port_obeys_what_is_typed() -> None:
    port = free_port()
    printer = await program("zebra_zpl", "--tcp", f"127.0.0.1:{port}")
    assert printer.stdin is not None
    assert "paper_out" in await line(printer)
    printer.stdin.write(b"papier on\n")
    assert "unknown fault: papier; there are: paper_out" in await line(printer)
    printer.stdin.write(b"hm\n")
    assert "FAULT on" in await line(printer)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    printer.stdin.write(b"paper_out on\nfaults\n")
    assert await line(printer) == "paper_out on\n"
    writer.write(b"~HS")
    first = await asyncio.wait_for(reader.readuntil(b"\x03\r\n"), 60)
    assert first.split(b",")[1] == b"1"
    writer.close()
    printer.stdin.close()
    assert await asyncio.wait_for(printer.wait(), 60) == 0


PLUGGED_IN = [
    "abb_acs",
    "altivar_320_340",
    "cia402_drive",
    "cognex_dmcc",
    "conveylinx",
    "conveylinx_plc_io",
    "datamax_dpl",
    "escpos",
    "generic_line",
    "generic_modbus",
    "line_scanner",
    "moxa_iologik",
    "powerflex_520",
    "sato_sbpl",
    "sinamics_g120_v20",
    "tsc_tspl",
    "zebra_ssi",
]


ON_A_BROKER = ["homie", "mqtt_presence", "sparkplug_b", "vda5050", "zebra_rfd40", "zigbee2mqtt"]


def test_every_simulator_is_started_here() -> None:
    folder = Path(serving.__file__).parent
    programs = {file.stem for file in folder.glob("*.py") if "def main" in file.read_text(encoding="utf-8")}
    assert programs == {*PLUGGED_IN, *ON_A_BROKER, "zebra_zpl", "ipp_printer"}


async def test_the_printer_of_ipp_serves_a_port_and_ends_on_a_signal() -> None:
    port = free_port()
    simulator = await program("ipp_printer", "--tcp", f"127.0.0.1:{port}")
    assert "Faults:" in await line(simulator)
    assert listens(port)
    simulator.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(simulator.wait(), 60) == 0


@pytest.mark.parametrize("name", ON_A_BROKER)
async def test_every_simulator_waits_for_its_broker_and_ends_on_a_signal(name: str) -> None:
    simulator = await program(name, "--broker", f"127.0.0.1:{free_port()}", "--topic", "lamp-1")
    assert "Faults:" in await line(simulator)
    simulator.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(simulator.wait(), 60) == 0


@pytest.mark.parametrize("name", PLUGGED_IN)
async def test_every_simulator_serves_a_pty_and_ends_on_a_signal(name: str, tmp_path: Path) -> None:
    simulator = await program(name, "--pty", str(tmp_path / "device"))
    assert "Faults:" in await line(simulator)
    assert (tmp_path / "device").is_char_device()
    simulator.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(simulator.wait(), 60) == 0
    assert not (tmp_path / "device").is_symlink()
