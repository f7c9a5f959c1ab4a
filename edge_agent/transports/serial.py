"""Text on a serial port: pyserial opens and sets the port; reading and writing is ours (``link``)."""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import re
import stat
import termios
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import serial
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edge_agent import ports
from edge_agent.bus import LinkError
from edge_agent.bus.link import Link
from edge_agent.bus.stream import Stream, TextSettings
from edge_agent.poll import Line

BY_ID = re.compile(r"/by-id/usb-(.+?)-if[0-9a-f]{2}(?:-port\d+)?$")
BY_PATH = re.compile(r"/by-path/(.*usb\w*-[0-9:.]+?):\d+\.\d+(?:-port\d+)?$")


class PortSettings(BaseModel):
    """How a serial port is set; Modbus RTU uses the same keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    baud: Annotated[int, Field(ge=50, le=4_000_000, description="bits per second")] = 9600
    bytesize: Annotated[Literal[7, 8], Field(description="data bits")] = 8
    parity: Annotated[Literal["N", "E", "O"], Field(description="none, even, odd")] = "N"
    stopbits: Annotated[Literal[1, 2], Field(description="stop bits")] = 1
    xonxoff: Annotated[bool, Field(description="software flow control")] = False
    rtscts: Annotated[bool, Field(description="hardware flow control")] = False

    @property
    def byte_s(self) -> float:
        """How long one byte takes: start bit, data, parity, stop bits."""
        return (1 + self.bytesize + (self.parity != "N") + self.stopbits) / self.baud

    @property
    def words(self) -> str:
        return f"{self.baud} baud {self.bytesize}{self.parity}{self.stopbits}"


def as_path(port: str) -> str:
    try:
        sound = b"\0" not in os.fsencode(port)
    except UnicodeEncodeError:
        sound = False
    if not sound:
        raise ValueError("no path looks like that")
    return port


class Settings(TextSettings, PortSettings):
    transport: Literal["serial"] = "serial"
    port: Annotated[
        str,
        AfterValidator(as_path),
        Field(
            min_length=1,
            description="path that stays when it is replugged: /dev/serial/by-id/... or by-path/...",
        ),
    ]

    @property
    def claims(self) -> str:
        return claim(self.port)

    def hints(self) -> list[str]:
        return hints(self.port)

    @property
    def adapter(self) -> str:
        return port_adapter(self.port)

    @property
    def line(self) -> Line:
        return Line(words=f"serial {self.port}, {self.words}", byte_s=self.byte_s)


def claim(port: str) -> str:
    """The node that the port is now: two names of one port are one claim."""
    return os.path.realpath(port)


def hints(port: str) -> list[str]:
    found = ports.hint(port, ports.found())
    return [found] if found else []


def port_adapter(path: str) -> str:
    """The USB adapter that a port belongs to, as far as udev's names of its ports tell; else empty.

    by-id: ``usb-FTDI_Quad_RS232-HS_FT123-if02-port0`` is interface 2 of that adapter; by-path:
    ``pci-0000:00:14.0-usb-0:1.2:1.3-port0`` is interface 3 of what is plugged in at 1.2
    (systemd, 60-serial.rules).
    """
    found = BY_ID.search(path) or BY_PATH.search(path)
    return f"USB adapter {found[1]}" if found else ""


class Transport(Stream):
    _settings: Settings

    async def open(self) -> Link:
        return await open_port(self._settings.port, self._settings)


async def open_port(path: str, settings: PortSettings) -> Link:
    """Raises LinkError with words for a technician."""
    # In a thread: the driver of a sick USB adapter may take seconds over it.
    port = await asyncio.to_thread(_open, path, settings)
    fd = port.fileno()
    return Link(
        fd,
        close=partial(_close, port),
        explain=partial(_explain, path),
        drop_output=partial(_drop_output, path, fd),
    )


def _open(path: str, settings: PortSettings) -> serial.Serial:
    try:
        port = serial.Serial(
            path,
            baudrate=settings.baud,
            bytesize=settings.bytesize,
            parity=settings.parity,
            stopbits=settings.stopbits,
            xonxoff=settings.xonxoff,
            rtscts=settings.rtscts,
            exclusive=True,
        )
    except OSError as error:
        raise LinkError(_explain_open(path, error)) from error
    except (ValueError, termios.error) as error:
        raise LinkError(f"port {path} cannot be set to {settings.words}: {error}") from error
    try:
        os.set_blocking(port.fileno(), False)
        attributes = termios.tcgetattr(port.fileno())
        # So that an empty read can only mean that the port is gone (termios(3), non-canonical mode).
        attributes[6][termios.VMIN] = 1
        attributes[6][termios.VTIME] = 0
        termios.tcsetattr(port.fileno(), termios.TCSANOW, attributes)
    except (OSError, termios.error) as error:
        port.close()
        raise LinkError(f"port {path} went away while it was opened") from error
    return port


def _close(port: serial.Serial) -> None:
    with suppress(OSError, termios.error):  # it may be gone already
        # Otherwise the kernel waits up to 30 s for a device that takes nothing.
        termios.tcflush(port.fileno(), termios.TCIOFLUSH)
    port.close()


def _drop_output(path: str, fd: int) -> None:
    try:
        termios.tcflush(fd, termios.TCOFLUSH)
        # A device that said XOFF and then lost its power says no XON when it is back. Linux starts what was
        # stopped by the other side only when it was stopped by ours too.
        termios.tcflow(fd, termios.TCOOFF)
        termios.tcflow(fd, termios.TCOON)
    except (OSError, termios.error) as error:
        raise LinkError(_explain(path, None)) from error


def _explain_open(path: str, error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return f"port {path} is not there: {ports.missing(path, ports.found())}"
    if error.errno in (errno.EAGAIN, errno.EBUSY):
        return (
            f"port {path} is busy: another program or bus has it open;"
            " `sudo fuser -v` with that path names the program, stop it"
        )
    if error.errno == errno.EACCES:
        return f"port {path} may not be opened: {_owner(path)}"
    if error.errno == errno.EPERM:
        return f"port {path} may not be opened: DeviceAllow= of the service leaves ports of its kind out"
    return f"port {path} cannot be opened: {error.strerror or error}"


def _owner(path: str) -> str:
    """Whose the port is, and what to do about it."""
    try:
        group = Path(path).group()
        mode = Path(path).stat().st_mode
        user = pwd.getpwuid(os.geteuid()).pw_name
    except (OSError, KeyError):
        return "a folder above it is closed to the agent, or nobody owns it"
    if group == "root" or not mode & stat.S_IRGRP or not mode & stat.S_IWGRP:
        mode_in_octal = f"{stat.S_IMODE(mode):o}"
        return f"it belongs to group {group}, mode {mode_in_octal}; udev usually gives it to dialout, 660"
    return f"it belongs to group {group}; `sudo usermod -aG {group} {user}`, then restart the agent"


def _explain(path: str, error: OSError | None) -> str:
    if error is None or error.errno == errno.EIO:
        return f"port {path} hung up: unplugged?"
    return f"port {path} failed: {error.strerror or error}"
