"""Packets of Zebra's Simple Serial Interface: opcode, source, status and data of each whole message.

On the line a packet is ``length, opcode, source, status, data..., checksum (2)``. The length counts all but
the checksum; the checksum is the two's complement of the 16-bit sum of the bytes before it, high byte first
(SSI Programmer's Guide 72E-40451; DS2208 product reference guide, p. 110). Bit 1 of the status says that the
message goes on in the next packet: its data is put together here. A packet with a wrong checksum is dropped;
the next is found by what a header can be.
"""

from __future__ import annotations

LENGTH_MIN = 4
CHECKSUM_BYTES = 2
DECODER, HOST = 0, 4
CONTINUED = 0x02
# Opcode, source, status.
HEADER_BYTES = 3
MAX_DATA_BYTES = 255 - 1 - HEADER_BYTES
# DS2208 product reference guide, p. 110: all opcodes that a header can have.
OPCODES = frozenset(
    b"\x12\x73\x74\x80\xa3\xa4\xb1\xb4\xc0\xc1\xc4\xc5\xc6\xc7\xc8\xd0\xd1\xd2\xd3\xd4\xd5\xd6"
    b"\xe4\xe5\xe6\xe7\xe8\xe9\xea\xeb\xf3\xf6"
)


class Framer:
    """Any bytes in, whole messages out; however the bytes are cut into chunks, the messages are the same."""

    def __init__(self, max_frame: int = 4096) -> None:
        self._max_frame = max_frame
        self._heard = bytearray()
        self._begun = bytearray()
        self._too_long = False
        # Messages with a wrong checksum or longer than ``max_frame``; noise between packets is not counted.
        self.dropped = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The messages that this chunk completes, without length and checksum."""
        self._heard += chunk
        messages = []
        while (size := self._size()) is not None and len(self._heard) >= size:
            packet = bytes(self._heard[:size])
            if int.from_bytes(packet[-CHECKSUM_BYTES:], "big") != checksum(packet[:-CHECKSUM_BYTES]):
                # Perhaps a packet begins inside of what looked like one.
                self.dropped += 1
                del self._heard[0]
                self._forget_begun()
                continue
            del self._heard[:size]
            message = self._joined(packet[1:-CHECKSUM_BYTES])
            if message is not None:
                messages.append(message)
        return messages

    def reset(self) -> None:
        """Forget an unfinished packet or message."""
        self._heard.clear()
        self._forget_begun()

    def _size(self) -> int | None:
        """Bytes of the packet at the front, noise before it thrown away; None: too few came to tell."""
        heard = self._heard
        for at in range(len(heard) - 2):
            if heard[at + 1] in OPCODES and heard[at] >= LENGTH_MIN and heard[at + 2] in (DECODER, HOST):
                del heard[:at]
                return heard[0] + CHECKSUM_BYTES
        # A packet may begin with the last two.
        del heard[:-2]
        return None

    def _joined(self, part: bytes) -> bytes | None:
        opcode, status = part[0], part[2]
        if self._begun and self._begun[0] != opcode:
            self.dropped += not self._too_long
            self._forget_begun()
        self._begun += part[3:] if self._begun else part
        if len(self._begun) > self._max_frame:
            # Its opcode stays, so that the rest of the message is known for what it is.
            del self._begun[1:]
            self.dropped += not self._too_long
            self._too_long = True
        if status & CONTINUED:
            return None
        message, whole = bytes(self._begun), not self._too_long
        self._forget_begun()
        return message if whole else None

    def _forget_begun(self) -> None:
        self._begun.clear()
        self._too_long = False


def wrapped(frame: bytes) -> bytes:
    """The message as it comes over the line, in packets of at most 255 bytes and their checksum."""
    head, data = frame[:HEADER_BYTES], frame[HEADER_BYTES:]
    parts = [data[at : at + MAX_DATA_BYTES] for at in range(0, len(data), MAX_DATA_BYTES)] or [b""]
    last = bytes([*head[:2], head[2] & ~CONTINUED])
    first = bytes([*head[:2], head[2] | CONTINUED]) if len(parts) > 1 else head
    return b"".join(
        _packet((last if number and number == len(parts) - 1 else first) + part)
        for number, part in enumerate(parts)
    )


def _packet(part: bytes) -> bytes:
    counted = bytes([len(part) + 1]) + part
    return counted + checksum(counted).to_bytes(CHECKSUM_BYTES, "big")


def checksum(counted: bytes) -> int:
    """Over everything from the length to the last byte of data."""
    return -sum(counted) & 0xFFFF
