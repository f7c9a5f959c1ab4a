"""What is asked on a bus: requests of a device, which reads share one, the shortest that shows life."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edge_agent import gather
from edge_agent.device import Device
from edge_agent.profile import Answer, ModbusRead, RequestRead, TopicRead

# Modbus Application Protocol 1.1b3, 6.1-6.4: what one answer may carry. (Of registers its device says it.)
MAX_BITS = 2_000
# The same: 5 bytes ask for a block, 2 precede its contents in the answer.
READ_BYTES = 5 + 2
# A hole costs its bytes on the wire; a request of its own costs 16 bytes and the device's time to answer.
MAX_HOLE_REGISTERS = 8
MAX_HOLE_BITS = 64

BIT_FUNCTIONS = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request of a text protocol; ``frames`` frames answer it."""

    device: str
    read: str
    send: bytes
    frames: int
    every_s: float
    timeout_s: float
    answer: Answer | None = None

    def is_answered_by(self, frame: bytes) -> bool:
        """Whether an answer may begin with this frame."""
        return self.answer is None or self.answer.fits(frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where one read lies in the answer to a block."""

    read: str
    offset: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One Modbus request; its answer is cut into the parts."""

    device: str
    unit: int
    function: int
    address: int
    count: int
    every_s: float
    timeout_s: float
    parts: tuple[Part, ...]
    # The device wants it read in one piece, from its first address on.
    whole: bool = False
    # A read that was longer than its device answers at once is asked in pieces of so many.
    at_most: int = MAX_BITS

    @property
    def in_pieces(self) -> bool:
        return self.count > self.at_most and not self.whole

    @property
    def of_bits(self) -> bool:
        return self.function in BIT_FUNCTIONS

    @property
    def answer_bytes(self) -> int:
        """How long the contents of the answer are."""
        return (self.count + 7) // 8 if self.of_bits else self.count * 2


def asks(device: Device) -> tuple[Ask, ...]:
    """The requests of a device that speaks text."""
    return tuple(
        Ask(
            device=device.id,
            read=name,
            send=read.request,
            frames=read.frames,
            every_s=read.every_s,
            timeout_s=read.timeout_s,
            answer=read.answer,
        )
        for name, read in device.profile.reads.items()
        if isinstance(read, RequestRead) and read.enabled
    )


def blocks(device: Device) -> tuple[Block, ...]:
    """A device's Modbus requests: reads of one function and interval share one when little lies between."""
    reads = [(name, read) for name, read in device.profile.reads.items() if isinstance(read, ModbusRead)]
    reads.sort(key=lambda item: (item[1].function, item[1].every_s, item[1].address))
    found: list[list[tuple[str, ModbusRead]]] = []
    for name, read in reads:
        if found and _fits(found[-1], read, device.registers_at_once):
            found[-1].append((name, read))
        else:
            found.append([(name, read)])
    return tuple(_block(device, group) for group in found)


def probes(own: Sequence[Block]) -> Iterator[tuple[Block, Block]]:
    """Each of one unit's blocks with the shortest request inside it.

    Its answer is as long as that of no block where that can be, so that neither is ever taken for the other;
    its values are nobody's. A block that is to be read whole is its own probe.
    """
    lengths = {(block.function, block.answer_bytes) for block in own}
    for block in own:
        step = 8 if block.of_bits else 1
        shorter = (replace(block, count=count, parts=()) for count in range(1, block.count, step))
        fitting = (one for one in shorter if (one.function, one.answer_bytes) not in lengths)
        yield block, replace(block, parts=()) if block.whole else next(fitting, replace(block, parts=()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What the plan may assume of a bus. ``request_s`` is what every request costs beside its bytes."""

    words: str
    byte_s: float = 0.0
    request_s: float = 0.010
    # Bytes that the framing adds to request and answer together.
    framing_bytes: int = 0
    # False: nobody is asked; what comes was said before (replay).
    asks: bool = True


def topic(device: Device, read: TopicRead) -> str:
    """The topic filter of a read with the device's own part filled in. ValueError for one of Sparkplug."""
    filled = read.topic.replace("{topic}", device.topic)
    return gather.node_topic(filled) if read.format == "sparkplug" else filled


def _fits(group: list[tuple[str, ModbusRead]], read: ModbusRead, at_most: int) -> bool:
    first = group[0][1]
    end = max(one.address + one.count for _, one in group)
    of_bits = read.function in BIT_FUNCTIONS
    return (
        not first.whole
        and not read.whole
        and (first.function, first.every_s) == (read.function, read.every_s)
        and read.address - end <= (MAX_HOLE_BITS if of_bits else MAX_HOLE_REGISTERS)
        and max(end, read.address + read.count) - first.address <= (MAX_BITS if of_bits else at_most)
    )


def _block(device: Device, group: list[tuple[str, ModbusRead]]) -> Block:
    first = group[0][1]
    return Block(
        device=device.id,
        unit=device.unit,
        function=first.function,
        address=first.address,
        count=max(read.address + read.count for _, read in group) - first.address,
        every_s=first.every_s,
        timeout_s=max(read.timeout_s for _, read in group),
        parts=tuple(
            Part(read=name, offset=read.address - first.address, count=read.count) for name, read in group
        ),
        whole=first.whole,
        at_most=MAX_BITS if first.of_bits else device.registers_at_once,
    )
