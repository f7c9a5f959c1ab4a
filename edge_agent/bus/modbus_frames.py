"""Modbus frames on a connection and on a line, and what tells an answer from one that comes too late.

What was asked and not answered is *owed*: its answer may still come, and is dropped whenever it does. On TCP
it is known by its transaction. On a line it is known by unit, function and length, and a request whose answer
would look like one that is owed must not go out: first the unit is asked for something else. A unit answers
in the order in which it was asked, so that answer ends all that it owed before. Where it has nothing else to
be asked for, it has to wait until what it owes is past its time. What is owed outlives the link: a device
server keeps frames for whoever connects next.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

from edge_agent.poll import Block

# Where nothing else can tell, an answer that is later than so many of its timeouts counts as lost.
OWED_TIMEOUTS = 2
# So many are remembered of a unit.
MAX_DEBTS = 16
# Modbus over serial line 1.02, 2.5.1: unit, function, one byte, checksum.
SHORTEST_RTU_BYTES = 5
READ_FUNCTIONS = (1, 2, 3, 4)
EXCEPTION = 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    unit: int
    # Function and data.
    pdu: bytes
    transaction: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    block: Block
    asked_s: float


class Frames(ABC):
    """One way to put requests into bytes and to find answers in what came."""

    def __init__(self) -> None:
        self._unread = b""

    @property
    def unread(self) -> int:
        """Bytes that are no frame yet."""
        return len(self._unread)

    def forget(self) -> None:
        """What is unread belongs to nobody any more."""
        self._unread = b""

    def request(self, block: Block) -> bytes:
        return self._encoded(struct.pack(">BHH", block.function, block.address, block.count), block.unit)

    @abstractmethod
    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that are whole now."""

    @abstractmethod
    def answers(self, frame: Frame, block: Block) -> bool:
        """Whether it is to be judged as the answer to what was requested last."""

    @abstractmethod
    def late(self, frame: Frame) -> Debt | None:
        """What it answers too late, which is then owed no more."""

    @abstractmethod
    def owe(self, block: Block, asked_s: float) -> None: ...

    @abstractmethod
    def answered(self, block: Block, asked_s: float) -> None:
        """By the unit, and well."""

    @abstractmethod
    def refused(self, block: Block, asked_s: float) -> bool:
        """By the unit. False when that may be the answer to something that it was asked before."""

    def owes_like(self, block: Block) -> bool:
        """Whether a late answer could be taken for the block's."""
        return False

    def wait_until_s(self, block: Block) -> float:
        """Until then a late answer could be taken for the block's."""
        return 0.0

    @abstractmethod
    def write_off(self, block: Block) -> None:
        """What looks like the block's answer does not come any more."""

    def busy_until_s(self, block: Block) -> float:
        """Until then what lies between may still be waiting for another unit."""
        return 0.0

    @abstractmethod
    def _encoded(self, pdu: bytes, unit: int) -> bytes: ...


class Mbap(Frames):
    """Modbus TCP: each request has a transaction, and its answer the same."""

    def __init__(self) -> None:
        super().__init__()
        self._framer = FramerSocket(DecodePDU(False))
        self._transaction = 0
        self._owed: dict[int, Debt] = {}

    def feed(self, chunk: bytes) -> list[Frame]:
        self._unread += chunk
        found = []
        while self._unread:
            used, unit, transaction, pdu = self._framer.decode(self._unread)
            if not used:
                break
            self._unread = self._unread[used:]
            if pdu:
                found.append(Frame(unit=unit, pdu=pdu, transaction=transaction))
        return found

    def answers(self, frame: Frame, block: Block) -> bool:
        return frame.transaction == self._transaction

    def late(self, frame: Frame) -> Debt | None:
        return self._owed.pop(frame.transaction, None)

    def owe(self, block: Block, asked_s: float) -> None:
        for transaction in [old for old, debt in self._owed.items() if is_past(debt, asked_s)]:
            del self._owed[transaction]
        self._owed[self._transaction] = Debt(block=block, asked_s=asked_s)

    def answered(self, block: Block, asked_s: float) -> None:
        for transaction in [old for old, debt in self._owed.items() if debt.block.unit == block.unit]:
            del self._owed[transaction]

    def refused(self, block: Block, asked_s: float) -> bool:
        return True

    def write_off(self, block: Block) -> None:
        """Nothing looks like anything else here."""

    def busy_until_s(self, block: Block) -> float:
        """A gateway asks its units one after another."""
        others = (debt for debt in self._owed.values() if debt.block.unit != block.unit)
        return max((debt.asked_s + debt.block.timeout_s for debt in others), default=0.0)

    def _encoded(self, pdu: bytes, unit: int) -> bytes:
        self._transaction = self._transaction % 0xFFFF + 1
        return self._framer.encode(pdu, unit, self._transaction)


class Rtu(Frames):
    """On a line, or through a device server that passes frames on as they are."""

    def __init__(self) -> None:
        super().__init__()
        self._framer = FramerRTU(DecodePDU(False))
        # By unit, in the order in which it was asked.
        self._owed: dict[int, list[Debt]] = {}
        # Where in ``unread`` a frame may have begun, and where it would end.
        self._begun: list[tuple[int, int]] = []
        # As far as was looked for that.
        self._looked = 0

    def feed(self, chunk: bytes) -> list[Frame]:
        """Every answer to a read with a good checksum, wherever it begins. However the bytes come, each place
        is looked at once.

        (pymodbus gives up all that came behind the first frame, and all that came behind a byte of noise.)
        """
        self._unread += chunk
        heard = self._unread
        places = range(self._looked, len(heard) - SHORTEST_RTU_BYTES + 1)
        begun = [*self._begun, *((at, at + size) for at in places if (size := _rtu_bytes(heard, at)))]
        found, used, waiting = [], 0, []
        for at, end in begun:
            if end > len(heard):
                waiting.append((at, end))
            elif at >= used and _is_good(heard[at:end]):
                found.append(Frame(unit=heard[at], pdu=heard[at + 1 : end - 2]))
                used = end
        self._unread = heard[used:]
        self._begun = [(at - used, end - used) for at, end in waiting if at >= used]
        self._looked = max(0, self._looked + len(places) - used)
        return found

    def forget(self) -> None:
        super().forget()
        self._begun, self._looked = [], 0

    def answers(self, frame: Frame, block: Block) -> bool:
        debts = self._owed.get(frame.unit)
        if not debts:
            return True
        if frame.unit != block.unit:
            return False
        return _is_like(frame, block) or not any(_is_like(frame, debt.block) for debt in debts)

    def late(self, frame: Frame) -> Debt | None:
        return self._paid(frame.unit, lambda block: _is_like(frame, block))

    def owe(self, block: Block, asked_s: float) -> None:
        debts = self._owed.setdefault(block.unit, [])
        debts.append(Debt(block=block, asked_s=asked_s))
        del debts[:-MAX_DEBTS]

    def answered(self, block: Block, asked_s: float) -> None:
        self.owe(block, asked_s)
        self._paid(block.unit, lambda one: _look(one) == _look(block))

    def refused(self, block: Block, asked_s: float) -> bool:
        owed = bool(self._owed.get(block.unit))
        self.owe(block, asked_s)
        self._paid(block.unit, lambda one: one.function == block.function)
        return not owed

    def owes_like(self, block: Block) -> bool:
        return any(_look(debt.block) == _look(block) for debt in self._owed.get(block.unit, ()))

    def wait_until_s(self, block: Block) -> float:
        like = (debt for debt in self._owed.get(block.unit, ()) if _look(debt.block) == _look(block))
        return max((debt.asked_s + OWED_TIMEOUTS * debt.block.timeout_s for debt in like), default=0.0)

    def write_off(self, block: Block) -> None:
        if block.unit in self._owed:
            self._owed[block.unit] = [
                debt for debt in self._owed[block.unit] if _look(debt.block) != _look(block)
            ]

    def _paid(self, unit: int, by: Callable[[Block], bool]) -> Debt | None:
        """The oldest such debt, and with it all before: a unit answers in order, so those are lost."""
        debts = self._owed.get(unit, [])
        for place, debt in enumerate(debts):
            if by(debt.block):
                del debts[: place + 1]
                return debt
        return None

    def _encoded(self, pdu: bytes, unit: int) -> bytes:
        self.forget()
        return self._framer.encode(pdu, unit, 0)


def _rtu_bytes(heard: bytes, at: int) -> int:
    """How long the frame is that begins there; 0: none does."""
    function = heard[at + 1]
    if function & EXCEPTION:
        return SHORTEST_RTU_BYTES
    return heard[at + 2] + SHORTEST_RTU_BYTES if function in READ_FUNCTIONS else 0


def _is_good(frame: bytes) -> bool:
    return FramerRTU.check_CRC(frame[:-2], int.from_bytes(frame[-2:], "big"))


def _is_like(frame: Frame, block: Block) -> bool:
    """Whether it looks like an answer to the block, or a refusal of it."""
    function = frame.pdu[0]
    if function & EXCEPTION:
        return function & ~EXCEPTION == block.function
    return (function, len(frame.pdu) - 2) == _look(block)


def _look(block: Block) -> tuple[int, int]:
    """What its answer looks like: function, and how many bytes of contents."""
    return block.function, block.answer_bytes


def is_past(debt: Debt, now: float) -> bool:
    return now > debt.asked_s + OWED_TIMEOUTS * debt.block.timeout_s
