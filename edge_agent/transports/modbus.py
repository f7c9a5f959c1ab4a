"""Modbus TCP, RTU and RTU over TCP: reads blocks on schedule from every unit of a bus. It never writes.

pymodbus makes and takes apart the frames. The bytes go over our own link: pymodbus' clients drop an answer of
another unit without a word, accept another function or length, and on RTU take a late answer for the next.

An RTU answer carries nothing that says which request it answers. So after one that was not answered well the
line is left alone for one more timeout, in which a late answer dies. On TCP the transaction id tells.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pymodbus.framer import FramerBase, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

from edge_agent.bus import Bus, LinkError, StaleLinkError
from edge_agent.bus.link import DeafPeerError, Link
from edge_agent.device import Device
from edge_agent.poll import (
    BIT_FUNCTIONS,
    Block,
    Line,
    Schedule,
    apart,
    blocks,
)
from edge_agent.sample import Deliver, Trouble
from edge_agent.transports import BusSettings
from edge_agent.transports.serial import PortSettings, claim, hints, open_port
from edge_agent.transports.tcp import open_connection
from edge_agent.wire import Stamp

# What the frames are worth saying is said by us, once and in words.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

# Modbus over serial line 1.02, 2.5.1.1: 3.5 characters of silence between frames, fixed above 19,200 baud.
GAP_CHARACTERS = 3.5
SHORTEST_GAP_S = 0.00175
# For the prediction alone: what a device takes to answer, an USB adapter's 16 ms of latency included.
ASSUMED_RTU_ANSWER_S = 0.020
ASSUMED_TCP_ANSWER_S = 0.010
RTU_FRAMING_BYTES = 6
# The longest frame has 260 bytes (Modbus Application Protocol 1.1b3, 4.1); more without one is garbage, and
# the framer looks through all of it again at each byte that comes.
MAX_UNREAD_BYTES = 260
UNANSWERED_UNTIL_STALE = 3
IDLE_S = 3600.0

# Modbus Application Protocol 1.1b3, 7.
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledged, still working",
    6: "device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target gave no answer",
}
NOT_THIS_BLOCK = (2, 3)
SPOKEN_FOR_BY_A_GATEWAY = (10, 11)

SERIAL_KEYS = frozenset(PortSettings.model_fields)


class Settings(BusSettings, PortSettings):
    transport: Literal["modbus"] = "modbus"
    mode: Annotated[
        Literal["tcp", "rtu", "rtu_over_tcp"],
        Field(description="rtu_over_tcp: a serial device server that passes RTU frames through"),
    ] = "tcp"
    host: Annotated[str, Field(description="tcp and rtu_over_tcp: name or address")] = ""
    port: Annotated[
        int | str, Field(union_mode="left_to_right", description="TCP port, or path of the serial port (rtu)")
    ] = 502

    @model_validator(mode="after")
    def _port_for_mode(self) -> Settings:
        if self.mode == "rtu":
            if not isinstance(self.port, str) or not self.port:
                raise ValueError("port: mode rtu needs the path of a serial port")
            if self.host:
                raise ValueError(
                    "host: mode rtu has none; for a serial device server say mode = 'rtu_over_tcp'"
                )
            return self
        if not isinstance(self.port, int) or not 1 <= self.port <= 65_535:
            raise ValueError(f"port: mode {self.mode} needs a TCP port, 1 to 65535")
        if not self.host:
            raise ValueError(f"host: mode {self.mode} needs a name or address")
        if misplaced := sorted(SERIAL_KEYS & self.model_fields_set):
            raise ValueError(f"{', '.join(misplaced)}: only mode rtu sets a serial port")
        return self

    @property
    def claims(self) -> str:
        return claim(self.port) if isinstance(self.port, str) else ""

    def hints(self) -> list[str]:
        return hints(self.port) if isinstance(self.port, str) else []

    @property
    def line(self) -> Line:
        if self.mode == "rtu":
            gap_s = max(SHORTEST_GAP_S, GAP_CHARACTERS * self.byte_s)
            return Line(
                words=f"Modbus RTU {self.port}, {self.words}",
                byte_s=self.byte_s,
                request_s=ASSUMED_RTU_ANSWER_S + 2 * gap_s,
                framing_bytes=RTU_FRAMING_BYTES,
            )
        kind = "Modbus TCP" if self.mode == "tcp" else "Modbus RTU over TCP"
        return Line(words=f"{kind} {self.host}:{self.port}", request_s=ASSUMED_TCP_ANSWER_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """Why a request has no values.

    ``alive``: the unit itself said so. ``refusal``: the exception code, or 0. ``garbled``: no frame is found.
    """

    trouble: Trouble
    detail: str
    alive: bool = False
    refusal: int = 0
    garbled: bool = False


Outcome = tuple[int, ...] | Miss


def judge(block: Block, unit: int, pdu: bytes) -> Outcome:
    """The values of an answer, or what is wrong with it: unit, function and length must be as asked."""
    if unit != block.unit:
        return Miss(
            trouble=Trouble.WRONG_ANSWER, detail=f"unit {unit} answered while unit {block.unit} was asked"
        )
    function = pdu[0]
    if function == block.function | 0x80 and len(pdu) == 2:
        return _refused(pdu[1])
    if function != block.function:
        return Miss(
            trouble=Trouble.WRONG_ANSWER,
            detail=f"answered function {function} while {block.function} was asked",
            alive=True,
        )
    of_bits = block.function in BIT_FUNCTIONS
    expected = (block.count + 7) // 8 if of_bits else block.count * 2
    if len(pdu) != 2 + expected or pdu[1] != expected:
        size = max(0, len(pdu) - 2)
        said = f" and says {pdu[1]}" if len(pdu) > 1 and pdu[1] != size else ""
        return Miss(
            trouble=Trouble.WRONG_ANSWER,
            detail=f"answered {size} bytes{said} where {expected} were expected",
            alive=True,
        )
    if of_bits:
        return tuple(pdu[2 + bit // 8] >> bit % 8 & 1 for bit in range(block.count))
    return struct.unpack(f">{block.count}H", pdu[2:])


def _refused(code: int) -> Miss:
    detail = f"exception {code}: {EXCEPTIONS.get(code, 'known to its maker alone')}"
    if code in SPOKEN_FOR_BY_A_GATEWAY:
        return Miss(trouble=Trouble.OFFLINE, detail=detail, refusal=code)
    return Miss(trouble=Trouble.WRONG_ANSWER, detail=detail, alive=True, refusal=code)


class Transport(Bus):
    def __init__(
        self,
        settings: Settings,
        devices: Sequence[Device],
        deliver: Deliver,
        stamp: Callable[[], Stamp],
        *,
        clock: Callable[[], float] | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(settings.name, devices, deliver, stamp, clock=clock, random=random)
        self._settings = settings
        self._blocks = [block for device in self.devices for block in blocks(device)]
        self._reads = {device.id: tuple(device.profile.reads) for device in self.devices}
        self._on_line = settings.mode != "tcp"
        self._gap_s = max(SHORTEST_GAP_S, GAP_CHARACTERS * settings.byte_s) if settings.mode == "rtu" else 0.0
        decoder = DecodePDU(False)
        self._framer: FramerBase = FramerRTU(decoder) if self._on_line else FramerSocket(decoder)
        self._schedule: Schedule[Block] | None = None
        self._transaction = 0
        self._unanswered = 0

    async def run(self) -> None:
        if self.devices:
            await self.keep(self._session)

    async def _session(self) -> None:
        link = await self._open()
        try:
            await self.opened()
            await self._use(link)
        except LinkError:
            # Who is silent and who is due has to be found out anew.
            self._schedule = None
            raise
        finally:
            link.close()

    async def _open(self) -> Link:
        if isinstance(self._settings.port, str):
            return await open_port(self._settings.port, self._settings)
        return await open_connection(self._settings.host, self._settings.port)

    async def _use(self, link: Link) -> None:
        self._unanswered = 0
        schedule = self._schedule = self._schedule or Schedule(
            self._blocks, now=self.clock(), random=self.random, timeouts_lost=2 if self._on_line else 1
        )
        while True:
            await self.believe()
            due, block = schedule.next() or (self.clock() + IDLE_S, None)
            if self.clock() < due:
                # Nobody was asked: what comes is for nobody. Looking for it notices a hang-up.
                await link.read_within(min(due, self.believed_at) - self.clock())
            elif block is not None:
                schedule.asked(block, self.clock())
                outcome = await self._ask(link, block)
                await self._tell(schedule, block, outcome)
                await self._settle(link, block, outcome)

    async def _ask(self, link: Link, block: Block) -> Outcome:
        if self._on_line:
            await asyncio.sleep(self._gap_s)
        link.drain()
        self._transaction = self._transaction % 0xFFFF + 1
        request = self._framer.encode(
            struct.pack(">BHH", block.function, block.address, block.count), block.unit, self._transaction
        )
        try:
            await link.write(request, block.timeout_s)
        except DeafPeerError:
            return Miss(trouble=Trouble.NO_ANSWER, detail="the line does not take what we send")
        return await self._answer(link, block)

    async def _answer(self, link: Link, block: Block) -> Outcome:
        deadline = self.clock() + block.timeout_s
        unread, size = b"", 0
        while (left := deadline - self.clock()) > 0 and (chunk := await link.read_within(left)):
            unread += chunk
            size += len(chunk)
            used = 1
            while unread and used:
                try:
                    used, unit, transaction, pdu = self._framer.decode(unread)
                except Exception as error:  # noqa: BLE001  # pymodbus raises what garbage makes it stumble over
                    return _garbled(size, f" ({error})")
                unread = unread[used:]
                if pdu and (self._on_line or transaction == self._transaction):
                    return judge(block, unit, pdu)
                if pdu and transaction < self._transaction:
                    # The late answer to a request that was given up: no sign of anything wrong.
                    size = len(unread)
            if len(unread) > MAX_UNREAD_BYTES:
                return _garbled(size)
        if size:
            return _garbled(size)
        return Miss(trouble=Trouble.NO_ANSWER, detail=f"no answer within {block.timeout_s:g} s")

    async def _tell(self, schedule: Schedule[Block], block: Block, outcome: Outcome) -> None:
        now = self.clock()
        if isinstance(outcome, tuple):
            self._unanswered = 0
            schedule.answered(block, now)
            for part in block.parts:
                values = outcome[part.offset : part.offset + part.count]
                await self.tell(block.device, part.read, payload=values)
            return
        if outcome.alive:
            self._unanswered = 0
            schedule.answered(block, now)
            if outcome.refusal in NOT_THIS_BLOCK and len(block.parts) > 1:
                schedule.replace(block, apart(block), now)
                return
            reads = tuple(part.read for part in block.parts)
        else:
            self._unanswered += 1
            silent = schedule.silent(block, now)
            reads = self._reads[block.device] if silent else tuple(part.read for part in block.parts)
        at = self.stamp()
        for read in reads:
            await self.tell(block.device, read, trouble=outcome.trouble, detail=outcome.detail, at=at)

    async def _settle(self, link: Link, block: Block, outcome: Outcome) -> None:
        """After a request that was not answered well: let what is still on its way die."""
        if isinstance(outcome, tuple) or outcome.refusal:
            return
        can_drop = link.drop_output()
        if self._on_line:
            quiet_until = self.clock() + block.timeout_s
            while (left := quiet_until - self.clock()) > 0:
                await link.read_within(left)
        if not can_drop and (outcome.garbled or self._unanswered >= UNANSWERED_UNTIL_STALE):
            raise StaleLinkError


def _garbled(size: int, why: str = "") -> Miss:
    return Miss(
        trouble=Trouble.WRONG_ANSWER, detail=f"{size} bytes came and no valid frame{why}", garbled=True
    )
