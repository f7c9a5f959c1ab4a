"""Frames between STX (0x02) and ETX (0x03); what stands outside of them is thrown away."""

from __future__ import annotations

import re

STX = 0x02
ETX = 0x03
_MARKS = re.compile(rb"[\x02\x03]")


class Framer:
    """Any bytes in, whole frames out; however the bytes are cut into chunks, the frames are the same.

    A STX inside a frame starts it anew: the end of the one before was lost on the line. Empty ones count.
    """

    def __init__(self, max_frame: int = 4096) -> None:
        self._max_frame = max_frame
        self._partial: bytearray | None = None
        # Frames that were cut off or longer than ``max_frame``; bytes between frames are not counted.
        self.dropped = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The contents of the frames that this chunk completes, without STX and ETX."""
        frames = []
        start = 0
        for mark in _MARKS.finditer(chunk):
            self._keep(chunk[start : mark.start()])
            start = mark.end()
            if chunk[mark.start()] == STX:
                self.dropped += self._partial is not None
                self._partial = bytearray()
            elif self._partial is not None:
                frames.append(bytes(self._partial))
                self._partial = None
        self._keep(chunk[start:])
        return frames

    def reset(self) -> None:
        """Forget an unfinished frame."""
        self._partial = None

    def _keep(self, part: bytes) -> None:
        if self._partial is None:
            return
        self._partial += part
        if len(self._partial) > self._max_frame:
            self._partial = None
            self.dropped += 1


def wrapped(frame: bytes) -> bytes:
    """The frame as it comes over the line."""
    return bytes([STX]) + frame + bytes([ETX])
