"""The IPP transport against a server in every mood that a printer has."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from rigs.ports import free_port
from rigs.readings import Readings, device, running, stamp

from device_profiles.simulators.ipp_printer import IppPrinter
from device_profiles.simulators.serving import Tcp
from edge_agent.profile import IppRead
from edge_agent.sample import Trouble
from edge_agent.transports import ipp
from edge_agent.transports.ipp import Settings, Transport

READ = IppRead(attributes=("printer-state", "printer-state-reasons"), every_s=0.05, timeout_s=0.3)
IDLE = (b'{"printer-state": [3], "printer-state-reasons": ["none"]}',)


def asking(uri: str, readings: Readings, ca_file: Path | None = None) -> Transport:
    settings = Settings(name="bus", uri=uri, ca_file=ca_file)
    return Transport(settings, [device("printer-1", {"printer": READ})], readings.deliver, stamp)


@asynccontextmanager
async def saying(
    answer: bytes, *, tls: ssl.SSLContext | None = None, past_tls: bytes = b""
) -> AsyncIterator[int]:
    """A server that hears a request and says this, whatever it was, then waits. ``past_tls``: on the bare
    socket, after the answer.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        os.write(writer.get_extra_info("socket").fileno(), past_tls)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_printer_is_asked_again_and_again_and_says_its_attributes_as_json() -> None:
    plug = Tcp()
    printer, readings = IppPrinter(plug), Readings()
    await printer.start()
    async with running(asking(f"ipp://127.0.0.1:{plug.port}/ipp/print", readings).run()):
        await readings.until(2)
        assert readings.payloads()[0] == IDLE
        printer.set("media_empty")
        await readings.until(len(readings.payloads()) + 2)
        assert b'"media-empty"' in readings[-1].payload[0]  # type: ignore[operator]
    await printer.stop()


async def test_a_printer_that_is_switched_off_is_no_link_and_well_when_it_is_back() -> None:
    plug = Tcp(free_port())
    printer, readings = IppPrinter(plug), Readings()
    async with running(asking(f"ipp://127.0.0.1:{plug.port}/", readings).run()):
        reading = await readings.until_trouble(Trouble.NO_LINK)
        assert "refuses the connection: the service there is not running" in reading.detail
        await printer.start()
        await readings.until(1)
        await plug.unplug()
        await readings.until_trouble(Trouble.NO_LINK, 2)
        await plug.replug()
        await readings.until(len(readings.payloads()) + 1)
    await printer.stop()


async def test_a_printer_that_never_answers_is_no_answer() -> None:
    plug = Tcp()
    printer, readings = IppPrinter(plug), Readings()
    printer.set("mute")
    await printer.start()
    async with running(asking(f"ipp://127.0.0.1:{plug.port}/", readings).run()):
        reading = await readings.until_trouble(Trouble.NO_ANSWER)
        assert reading.detail == "no whole answer came within 0.3 s"
        printer.set("mute", False)
        await readings.until(1)
    await printer.stop()


async def test_a_printer_that_speaks_one_byte_at_a_time_is_understood() -> None:
    plug = Tcp()
    plug.one_byte_at_a_time = True
    printer, readings = IppPrinter(plug), Readings()
    await printer.start()
    async with running(asking(f"ipp://127.0.0.1:{plug.port}/", readings).run()):
        await readings.until(1)
    assert readings.payloads()[0] == IDLE
    await printer.stop()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "trouble", "says"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Trouble.WRONG_ANSWER, "HTTP 404 Not Found"),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", Trouble.WRONG_ANSWER, "HTTP 401"),
        (OK % 5 + b"hello", Trouble.WRONG_ANSWER, "no answer of IPP"),
        (OK % 8 + b"\1\1\4\6\0\0\0\1", Trouble.WRONG_ANSWER, "there is no printer of that path"),
        # More is announced than comes; what comes has no end.
        (OK % 9 + b"\1\1\0\0", Trouble.NO_ANSWER, "no whole answer came"),
        (OK % (1 << 40) + bytes(200_000), Trouble.WRONG_ANSWER, "more than 64 KiB"),
        (b"220 mail.example ESMTP\r\n\r\n", Trouble.NO_LINK, "does not speak HTTP"),
    ],
)
async def test_what_is_no_answer_of_ipp_is_told_in_words(answer: bytes, trouble: Trouble, says: str) -> None:
    readings = Readings()
    async with saying(answer) as port, running(asking(f"ipp://127.0.0.1:{port}/", readings).run()):
        reading = await readings.until_trouble(trouble)
    assert says in reading.detail
    assert readings.payloads() == []


async def test_a_byte_now_and_then_does_not_hold_the_agent_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ipp, "CONNECT_TIMEOUT_S", 0.3)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK % 1_000_000)
        while not reader.at_eof():
            writer.write(b"\1")
            await asyncio.sleep(0.05)
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    readings = Readings()
    port = server.sockets[0].getsockname()[1]
    async with running(asking(f"ipp://127.0.0.1:{port}/", readings).run()):
        await readings.until_trouble(Trouble.NO_ANSWER)
    server.close()


async def test_a_certificate_is_accepted_from_its_own_ca_alone(tmp_path: Path) -> None:
    ca, readings, stranger = trustme.CA(), Readings(), Readings()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    answer = OK % 8 + b"\1\1\4\6\0\0\0\1"
    async with saying(answer, tls=context) as port:
        uri = f"ipps://localhost:{port}/"
        async with running(asking(uri, readings, tmp_path / "ca.pem").run()):
            await readings.until_trouble(Trouble.WRONG_ANSWER)
        async with running(asking(uri, stranger).run()):
            reading = await stranger.until_trouble(Trouble.NO_LINK)
    assert "the certificate of ipps://localhost" in reading.detail


async def test_a_record_of_tls_that_breaks_in_the_middle_of_an_answer_is_a_lost_link(tmp_path: Path) -> None:
    ca, readings = trustme.CA(), Readings()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    # RFC 8446, 5.2: application data of 32 bytes, which nobody has sealed.
    broken = b"\x17\x03\x03\x00\x20" + bytes(32)
    async with (
        saying(OK % 80 + b"\1\1", tls=context, past_tls=broken) as port,
        running(asking(f"ipps://localhost:{port}/", readings, tmp_path / "ca.pem").run()),
    ):
        reading = await readings.until_trouble(Trouble.NO_LINK)
    assert "BAD_RECORD_MAC" in reading.detail


async def test_a_ca_file_that_is_replaced_needs_no_restart(tmp_path: Path) -> None:
    ca, readings = trustme.CA(), Readings()
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    async with (
        saying(OK % 8 + b"\1\1\4\6\0\0\0\1", tls=context) as port,
        running(asking(f"ipps://localhost:{port}/", readings, tmp_path / "ca.pem").run()),
    ):
        await readings.until_trouble(Trouble.NO_LINK)
        ca.cert_pem.write_to_path(tmp_path / "ca.pem")
        await readings.until_trouble(Trouble.WRONG_ANSWER)


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("ipp://printer-7", "http://printer-7:631/"),
        ("ipps://printer-7/ipp/print", "https://printer-7:631/ipp/print"),
        ("ipp://[fd00::7]:8631/printers/a?x=1", "http://[fd00::7]:8631/printers/a?x=1"),
    ],
)
def test_a_uri_is_http_at_port_631_where_none_is_said(uri: str, url: str) -> None:
    assert Settings(name="bus", uri=uri).url == url


@pytest.mark.parametrize(
    "uri", ["", "printer-7", "http://p/", "ipp://", "ipp://p:0/", "ipp://p:x/", "ipp://ä/"]
)
def test_what_is_no_uri_of_a_printer_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="ipp:// or ipps://"):
        Settings(name="bus", uri=uri)


def test_two_printers_cannot_be_one_uri() -> None:
    settings = Settings(name="bus", uri="ipp://p/")
    with pytest.raises(ValueError, match="a, b: a uri is one printer"):
        settings.check([device("a", {}), device("b", {})])
