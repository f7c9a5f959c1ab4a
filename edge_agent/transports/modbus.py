"""Modbus TCP, RTU and RTU over TCP: reads blocks on schedule from every unit of a bus. It never writes.

The bytes go over our own link: pymodbus' clients drop an answer of another unit without a word, accept
another function or length, and on RTU take a late answer for the next. What is late is told in
``bus.modbus_frames``, who is asked next in ``schedule``, how long to wait in ``patience``, what a device
refuses in ``refused``.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from random import Random
from typing import Annotated, Literal

import structlog
from pydantic import Field, model_validator

from edge_agent import refused
from edge_agent.bus import Bus, LinkError, StaleLinkError
from edge_agent.bus.link import DeafPeerError, Link
from edge_agent.bus.modbus_frames import Debt, Frames, Mbap, Rtu, is_past
from edge_agent.device import Device
from edge_agent.patience import Patience
from edge_agent.poll import READ_BYTES, Block, Line, blocks, probes
from edge_agent.sample import Again, Deliver, Reading, Trouble
from edge_agent.schedule import Schedule, Service
from edge_agent.transports import BusSettings, host_adapter
from edge_agent.transports.serial import PortSettings, as_path, claim, hints, open_port, port_adapter
from edge_agent.transports.tcp import open_connection
from edge_agent.wire import Stamp

log = structlog.get_logger()

# What the frames are worth saying is said by us, once and in words.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

# Modbus over serial line 1.02, 2.5.1.1: 3.5 characters of silence between frames, fixed above 19,200 baud.
GAP_CHARACTERS = 3.5
SHORTEST_GAP_S = 0.00175
# For the prediction alone: what a device takes to answer, an USB adapter's 16 ms of latency included.
ASSUMED_RTU_ANSWER_S = 0.020
ASSUMED_TCP_ANSWER_S = 0.010
# Unit and checksum, around request and answer.
RTU_FRAMING_BYTES = 6
# No answer is waited for less than this beside its bytes: an USB adapter's latency, the cycle of a PLC, an
# agent that is busy elsewhere. On a network a lost packet comes again after 200 ms (TCP_RTO_MIN of Linux).
LEAST_PATIENCE_S = 0.1
LEAST_NETWORK_PATIENCE_S = 0.3
# After garbage, and after an answer that did not come, a line has to be silent for so long.
QUIET_S = 0.05
# The longest frame has 260 bytes (Modbus Application Protocol 1.1b3, 4.1); more without one is garbage, and
# all of it is looked through again at each byte that comes.
MAX_UNREAD_BYTES = 260
# A block in which registers were refused is asked as a whole again after so long, then after twice as long:
# a drive that starts, a PLC with a new program.
RECHECK_FIRST_S, RECHECK_CAP_S = 60.0, 3600.0
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
# What a gateway says for a device behind it: that the way there is broken, and that the device is silent.
SPOKEN_FOR_BY_A_GATEWAY = {10: Trouble.OFFLINE, 11: Trouble.NO_ANSWER}

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
            as_path(self.port)
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
    def adapter(self) -> str:
        return port_adapter(self.port) if isinstance(self.port, str) else host_adapter(self.host)

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


# None: the device refuses this one register.
Outcome = tuple[int | None, ...] | Miss


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
    expected = block.answer_bytes
    if len(pdu) != 2 + expected or pdu[1] != expected:
        size = max(0, len(pdu) - 2)
        said = f" and says {pdu[1]}" if len(pdu) > 1 and pdu[1] != size else ""
        return Miss(
            trouble=Trouble.WRONG_ANSWER,
            detail=f"answered {size} bytes{said} where {expected} were expected",
            alive=True,
        )
    if block.of_bits:
        return tuple(pdu[2 + bit // 8] >> bit % 8 & 1 for bit in range(block.count))
    return struct.unpack(f">{block.count}H", pdu[2:])


def _refused(code: int) -> Miss:
    detail = f"exception {code}: {EXCEPTIONS.get(code, 'known to its maker alone')}"
    if code in SPOKEN_FOR_BY_A_GATEWAY:
        return Miss(trouble=SPOKEN_FOR_BY_A_GATEWAY[code], detail=detail, refusal=code)
    return Miss(trouble=Trouble.WRONG_ANSWER, detail=detail, alive=True, refusal=code)


def _unsearched(block: Block) -> refused.Search | None:
    """How a block is asked of which no refusal is known: whole, or in pieces that its device can answer."""
    return refused.cut(block) if block.in_pieces else None


@dataclass(slots=True, kw_only=True)
class _Manner:
    """How one block is asked, as its device has taught."""

    patience: Patience
    search: refused.Search | None = None
    # The refusal that began the search.
    refusal: Miss | None = None
    recheck_after_s: float = RECHECK_FIRST_S
    recheck_s: float = inf
    # The last answer, and what was told of it; nothing while there was more to tell than values.
    values: tuple[int | None, ...] = ()
    told: Sequence[Reading] = ()


class Transport(Bus):
    def __init__(
        self,
        settings: Settings,
        devices: Sequence[Device],
        deliver: Deliver,
        stamp: Callable[[], Stamp],
        *,
        again: Again | None = None,
        clock: Callable[[], float] | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(settings.name, devices, deliver, stamp, again=again, clock=clock, random=random)
        self._settings = settings
        self._on_line = settings.mode != "tcp"
        self._gap_s = max(SHORTEST_GAP_S, GAP_CHARACTERS * settings.byte_s) if settings.mode == "rtu" else 0.0
        self._frames: Frames = Rtu() if self._on_line else Mbap()
        by_device = [blocks(device) for device in self.devices]
        self._blocks = [block for own in by_device for block in own]
        self._probes = {id(block): probe for own in by_device for block, probe in probes(own)}
        # Their answers look like that of no block: a late one is never taken for values.
        self._telling_apart = {
            id(probe) for block in self._blocks if (probe := self._probes[id(block)]).count != block.count
        }
        # An unanswered probe says of its block that it was not read.
        self._reads_of = {
            id(one): tuple(part.read for part in block.parts)
            for block in self._blocks
            for one in (block, self._probes[id(block)])
        }
        self._manners = {id(block): self._manner(block) for block in self._blocks}
        self._reads = {device.id: tuple(device.profile.reads) for device in self.devices}
        # Devices whose last answer came after all the time that their profile gives them, and after how long.
        self._too_late_s: dict[str, float] = {}
        self._schedule: Schedule[Block] | None = None
        self._unanswered = 0

    def _manner(self, block: Block) -> _Manner:
        floor_s = LEAST_NETWORK_PATIENCE_S
        if self._settings.mode == "rtu":
            line_bytes = RTU_FRAMING_BYTES + READ_BYTES + block.answer_bytes
            floor_s = LEAST_PATIENCE_S + line_bytes * self._settings.byte_s
        return _Manner(
            patience=Patience(floor_s=floor_s, ceiling_s=block.timeout_s),
            search=_unsearched(block),
        )

    @property
    def cycle_s(self) -> float | None:
        """How long it takes to ask everything once, as measured."""
        return self._schedule.cycle_s if self._schedule else None

    def service(self) -> Service | None:
        return self._schedule.service() if self._schedule else None

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
        self._frames.forget()
        schedule = self._schedule = self._schedule or Schedule(
            self._blocks, now=self.clock(), random=self.random, probe=lambda block: self._probes[id(block)]
        )
        while True:
            await self.believe()
            due, block = schedule.next() or (self.clock() + IDLE_S, None)
            if self.clock() < due:
                # Nobody was asked: what comes is late. Looking for it notices a hang-up.
                self._stray(await link.read_within(min(due, self.believed_at) - self.clock()))
            elif block is not None and (earliest_s := self._wait_until_s(block)) > self.clock():
                schedule.put_off(block, earliest_s)
            elif block is not None:
                if schedule.asked(block, self.clock()):
                    self.notice(schedule.service())
                await self._take_turn(link, schedule, block)

    async def _take_turn(self, link: Link, schedule: Schedule[Block], block: Block) -> None:
        asked = self._first(block)
        outcome = await self._ask(link, asked)
        if outcome is None or (asked is not block and (isinstance(outcome, tuple) or outcome.alive)):
            schedule.answered(block, self.clock())
            schedule.again(block, self.clock())
        else:
            await self._tell(schedule, block, outcome)
            self._doubt_link(outcome)

    def _first(self, block: Block) -> Block:
        """The block; while its unit owes what could be taken for its answer, what tells them apart."""
        return self._probes.get(id(block), block) if self._frames.owes_like(block) else block

    def _wait_until_s(self, block: Block) -> float:
        asked = self._first(block)
        return 0.0 if id(asked) in self._telling_apart else self._frames.wait_until_s(asked)

    # --- one block ---

    async def _ask(self, link: Link, block: Block) -> Outcome | None:
        """None: the device refuses something in it, and what has to be found out."""
        manner = self._manners.get(id(block))
        if manner is None:
            return await self._request(link, block, None)
        if manner.search is None:
            return await self._ask_whole(link, block, manner)
        if not manner.search.over:
            return await self._ask_on(link, block, manner)
        if not manner.search.runs or self.clock() >= manner.recheck_s:
            outcome = await self._request(link, block, manner.patience)
            if isinstance(outcome, tuple):
                manner.search, manner.recheck_after_s = _unsearched(block), RECHECK_FIRST_S
            if not manner.search or not manner.search.runs or not _is_refused(outcome):
                return outcome
            manner.recheck_after_s = min(2 * manner.recheck_after_s, RECHECK_CAP_S)
            manner.recheck_s = self.clock() + manner.recheck_after_s
        return await self._ask_around(link, block, manner)

    async def _ask_whole(self, link: Link, block: Block, manner: _Manner) -> Outcome | None:
        outcome = await self._request(link, block, manner.patience)
        if not isinstance(outcome, Miss) or not _is_refused(outcome) or block.whole or block.count == 1:
            return outcome
        manner.search, manner.refusal = refused.search(block), outcome
        return None

    async def _ask_on(self, link: Link, block: Block, manner: _Manner) -> Outcome | None:
        """One step of the search."""
        assert manner.search is not None
        (trial,) = refused.requests(block, manner.search)
        outcome = await self._request(link, trial, manner.patience)
        if isinstance(outcome, Miss) and not _is_refused(outcome):
            return outcome
        manner.search = refused.learned(manner.search, answered=isinstance(outcome, tuple))
        if manner.search.over:
            manner.recheck_s = self.clock() + manner.recheck_after_s
            self._say_refused(block, manner.search)
        return None

    async def _ask_around(self, link: Link, block: Block, manner: _Manner) -> Outcome:
        assert manner.search is not None
        found: dict[int, int | None] = {}
        for run in refused.requests(block, manner.search):
            outcome = await self._request(link, run, manner.patience)
            if isinstance(outcome, Miss):
                if _is_refused(outcome):
                    manner.search = _unsearched(block)
                return outcome
            found.update(enumerate(outcome, run.address))
        return tuple(found.get(block.address + n) for n in range(block.count))

    def _say_refused(self, block: Block, found: refused.Search) -> None:
        if found.refused:
            log.warning(
                "the device refuses some of what its profile reads; the rest is read around it",
                bus=self.name,
                device=block.device,
                function=block.function,
                addresses=list(found.refused),
            )

    # --- one request ---

    async def _request(self, link: Link, block: Block, patience: Patience | None) -> Outcome:
        """``patience`` None: a probe, which gets all the time there is."""
        if self._on_line:
            if id(block) not in self._telling_apart:
                while (left := self._frames.wait_until_s(block) - self.clock()) > 0:
                    self._stray(await link.read_within(left))
                self._frames.write_off(block)
            await asyncio.sleep(self._gap_s)
            self._stray(link.drain())
        within_s = patience.within_s if patience else block.timeout_s
        within_s += max(0.0, self._frames.busy_until_s(block) - self.clock())
        asked_s = self.clock()
        outcome = await self._exchange(link, block, within_s)
        if isinstance(outcome, tuple):
            self._frames.answered(block, asked_s)
            if patience:
                patience.took(self.clock() - asked_s)
            return outcome
        if outcome.refusal:
            if self._frames.refused(block, asked_s):
                return outcome
        else:
            self._frames.owe(block, asked_s)
        if patience and outcome.trouble is Trouble.NO_ANSWER:
            patience.missed()
        if self._on_line:
            # What piled up unread would all be answered at once when the line is heard again.
            link.drop_output()
            await self._be_quiet(link, min(asked_s + 2 * within_s, asked_s + block.timeout_s))
        return replace(outcome, refusal=0)

    async def _exchange(self, link: Link, block: Block, within_s: float) -> Outcome:
        try:
            await link.write(self._frames.request(block), within_s)
        except DeafPeerError:
            return Miss(trouble=Trouble.NO_ANSWER, detail="the line does not take what we send")
        return await self._answer(link, block, within_s)

    async def _answer(self, link: Link, block: Block, within_s: float) -> Outcome:
        deadline = self.clock() + within_s
        size = 0
        while (left := deadline - self.clock()) > 0 and (chunk := await link.read_within(left)):
            size += len(chunk)
            for frame in self._frames.feed(chunk):
                if self._frames.answers(frame, block):
                    return judge(block, frame.unit, frame.pdu)
                if debt := self._frames.late(frame):
                    # No sign of anything wrong.
                    self._learn(debt)
                    size = self._frames.unread
            if self._frames.unread > MAX_UNREAD_BYTES:
                return _garbled(size)
        if size:
            return _garbled(size)
        return Miss(trouble=Trouble.NO_ANSWER, detail=f"no answer within {within_s:.3g} s")

    async def _be_quiet(self, link: Link, until_s: float) -> None:
        """Let what is still on its way die; whoever talks without end is not waited for."""
        silent_s = self.clock() + QUIET_S
        give_up_s = max(until_s, silent_s)
        while (left := max(until_s, silent_s) - self.clock()) > 0:
            if chunk := await link.read_within(left):
                self._stray(chunk)
                silent_s = min(self.clock() + QUIET_S, give_up_s + QUIET_S)

    def _stray(self, chunk: bytes | None) -> None:
        """Nobody waits for it: too late, or noise."""
        for frame in self._frames.feed(chunk) if chunk else ():
            if debt := self._frames.late(frame):
                self._learn(debt)
        if self._frames.unread > MAX_UNREAD_BYTES:
            self._frames.forget()

    def _learn(self, debt: Debt) -> None:
        if is_past(debt, self.clock()):
            # Its answer was lost, and what came is that to something asked since.
            return
        took_s = self.clock() - debt.asked_s
        if took_s > debt.block.timeout_s:
            self._too_late_s[debt.block.device] = took_s
        manner = self._manners.get(id(debt.block))
        if manner is not None:
            manner.patience.took(took_s)

    # --- what it means ---

    async def _tell(self, schedule: Schedule[Block], block: Block, outcome: Outcome) -> None:
        now = self.clock()
        if isinstance(outcome, tuple):
            self._unanswered = 0
            self._too_late_s.pop(block.device, None)
            schedule.answered(block, now)
            await self._tell_values(block, outcome)
            return
        reads = self._reads_of[id(block)]
        self._unanswered = 0 if outcome.alive or outcome.refusal else self._unanswered + 1
        if outcome.alive:
            schedule.answered(block, now)
            if not block.parts:
                # A probe that was refused has shown life, and that is all it was for.
                return
        elif schedule.silent(block, now):
            reads = self._reads[block.device]
        at, detail = self.stamp(), outcome.detail
        if outcome.trouble is Trouble.NO_ANSWER and (late_s := self._too_late_s.get(block.device)):
            detail += f"; its last answer came after {late_s:.1f} s: timeout_s is too short for it"
        for read in reads:
            await self.tell(block.device, read, trouble=outcome.trouble, detail=detail, at=at)

    async def _tell_values(self, block: Block, values: tuple[int | None, ...]) -> None:
        manner, at = self._manners.get(id(block)), self.stamp()
        if manner is None:
            # A probe: its values are nobody's.
            return
        if manner.told and values == manner.values and self.again(manner.told, at):
            return
        told = []
        for part in block.parts:
            own = values[part.offset : part.offset + part.count]
            refusal = manner.refusal if own.count(None) == len(own) else None
            if refusal:
                trouble, detail = refusal.trouble, refusal.detail
                await self.tell(block.device, part.read, trouble=trouble, detail=detail, at=at)
            else:
                told.append(await self.tell(block.device, part.read, payload=own, at=at))
        manner.values, manner.told = values, told if len(told) == len(block.parts) else ()

    def _doubt_link(self, outcome: Outcome) -> None:
        """A connection that looks open and answers nothing is opened anew; a port would be the same again."""
        if isinstance(outcome, tuple) or outcome.refusal or self._settings.mode == "rtu":
            return
        if outcome.garbled or self._unanswered >= UNANSWERED_UNTIL_STALE:
            raise StaleLinkError


def _is_refused(outcome: Outcome) -> bool:
    return isinstance(outcome, Miss) and outcome.refusal in NOT_THIS_BLOCK


def _garbled(size: int) -> Miss:
    return Miss(trouble=Trouble.WRONG_ANSWER, detail=f"{size} bytes came and no valid frame", garbled=True)
