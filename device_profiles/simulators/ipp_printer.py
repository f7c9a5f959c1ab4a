"""A printer that answers Get-Printer-Attributes over HTTP from its own state (RFC 8010, RFC 8011)."""

from __future__ import annotations

import argparse
import struct
from collections.abc import Sequence

from device_profiles.simulators import serving
from device_profiles.simulators.serving import Outlet, Session, Simulator, Tcp

# What is in printer-state-reasons.
REASONS = {
    "media_empty": "media-empty",
    "media_jam": "media-jam-error",
    "media_low": "media-low-warning",
    "ribbon_out": "marker-supply-empty",
    "ribbon_low": "marker-supply-low-report",
    "waste_full": "marker-waste-full",
    "waste_almost_full": "marker-waste-almost-full",
    "cover_open": "cover-open",
    "tray_missing": "input-tray-missing",
    "output_full": "output-area-full",
    "output_almost_full": "output-area-almost-full",
    "paused": "paused",
    "shut_down": "shutdown",
    "not_connected": "timed-out",
    "partly_stopped": "stopped-partly",
    "spool_full": "spool-area-full",
    "no_interpreter": "interpreter-resource-unavailable",
    "fuser_hot": "fuser-over-temp",
    "fuser_cold": "fuser-under-temp",
    "drum_life_over": "opc-life-over",
    "drum_near_end": "opc-near-eol",
    "developer_empty": "developer-empty",
    "developer_low": "developer-low",
    "warning": "media-empty-warning",
    "report": "door-open-report",
    "unknown_reason": "com.acme.gripper-lost",
}
IDLE, STOPPED, UNKNOWN_STATE = 3, 5, 7
# RFC 8010, 3.5: tags.
OPERATION, PRINTER, END = b"\x01", b"\x04", b"\x03"
INTEGER, BOOLEAN, ENUM, TEXT, KEYWORD, CHARSET, LANGUAGE = 0x21, 0x22, 0x23, 0x41, 0x44, 0x47, 0x48
GET_PRINTER_ATTRIBUTES = 0x000B
OK, NOT_SUPPORTED = 0x0000, 0x0501
HEAD_END = b"\r\n\r\n"


class IppPrinter(Simulator):
    """``mute``: it takes the request and never answers. ``refuse``: it answers with an error of IPP."""

    faults = (*REASONS, "stopped", "unknown_state", "refuses_jobs", "refuse", "mute")

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self.outlet = outlet

    async def start(self) -> None:
        await self.outlet.start(self._session)

    async def stop(self) -> None:
        await self.outlet.stop()

    def _session(self) -> Session:
        heard = bytearray()

        def take(chunk: bytes) -> bytes:
            heard.extend(chunk)
            head, found, body = bytes(heard).partition(HEAD_END)
            if not found or len(body) < (length := _content_length(head)):
                return b""
            del heard[: len(head) + len(HEAD_END) + length]
            return b"" if self.has("mute") else _http(self._answer(body[:length]))

        return take

    def _answer(self, request: bytes) -> bytes:
        _, _, operation, request_id = struct.unpack_from(">BBHI", request)
        refused = operation != GET_PRINTER_ATTRIBUTES or self.has("refuse")
        said = struct.pack(">BBHI", 1, 1, NOT_SUPPORTED if refused else OK, request_id)
        said += OPERATION + _attribute(CHARSET, "attributes-charset", b"utf-8")
        said += _attribute(LANGUAGE, "attributes-natural-language", b"en")
        return said + END if refused else said + PRINTER + self._attributes() + END

    def _attributes(self) -> bytes:
        reasons = [keyword for fault, keyword in REASONS.items() if self.has(fault)] or ["none"]
        state = STOPPED if self.has("stopped") else UNKNOWN_STATE if self.has("unknown_state") else IDLE
        return (
            _attribute(TEXT, "printer-make-and-model", b"Simulated")
            + _attribute(ENUM, "printer-state", struct.pack(">i", state))
            + _attribute(KEYWORD, "printer-state-reasons", *(keyword.encode() for keyword in reasons))
            + _attribute(TEXT, "printer-state-message", b"")
            + _attribute(BOOLEAN, "printer-is-accepting-jobs", bytes([not self.has("refuses_jobs")]))
            + _attribute(INTEGER, "queued-job-count", struct.pack(">i", 0))
            + _attribute(INTEGER, "printer-up-time", struct.pack(">i", 4711))
        )


def _attribute(tag: int, name: str, *values: bytes) -> bytes:
    """The values after the first have no name (RFC 8010, 3.1.5)."""
    said = b""
    for number, value in enumerate(values):
        key = b"" if number else name.encode()
        said += struct.pack(">BH", tag, len(key)) + key + struct.pack(">H", len(value)) + value
    return said


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-length":
            return int(value)
    return 0


def _http(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/ipp\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A printer of IPP. Type a fault's name and on or off.")
    parser.add_argument("--tcp", metavar="HOST:PORT", default="127.0.0.1:6310", help="listen there")
    host, _, port = str(parser.parse_args(argv).tcp).rpartition(":")
    serving.run(IppPrinter(Tcp(int(port), host or "127.0.0.1")))


if __name__ == "__main__":
    main()
