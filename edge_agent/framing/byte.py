"""Each byte is a frame: for devices that answer with one byte, or with so many, and no end."""

from __future__ import annotations


class Framer:
    """Any bytes in, as many frames out."""

    def __init__(self, max_frame: int = 4096) -> None:
        # There is nothing that could be too long.
        self.dropped = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        return [bytes([byte]) for byte in chunk]

    def reset(self) -> None:
        """No frame is ever unfinished."""


def wrapped(frame: bytes) -> bytes:
    """The frame as it comes over the line."""
    return frame
