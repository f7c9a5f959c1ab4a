"""Frames that end with CR, LF or CR LF; empty lines are none."""

from __future__ import annotations

import re

_ENDS = re.compile(rb"[\r\n]")


class Framer:
    """Any bytes in, whole frames out; however the bytes are cut into chunks, the frames are the same."""

    def __init__(self, max_frame: int = 4096) -> None:
        self._max_frame = max_frame
        self._partial = bytearray()
        self._too_long = False
        # Frames longer than ``max_frame``; their bytes are gone.
        self.dropped = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The frames that this chunk completes, without their ends."""
        frames = []
        start = 0
        for end in _ENDS.finditer(chunk):
            self._keep(chunk[start : end.start()])
            start = end.end()
            if self._partial:
                frames.append(bytes(self._partial))
            self.reset()
        self._keep(chunk[start:])
        return frames

    def reset(self) -> None:
        """Forget an unfinished frame."""
        self._partial.clear()
        self._too_long = False

    def _keep(self, part: bytes) -> None:
        if self._too_long:
            return
        self._partial += part
        if len(self._partial) > self._max_frame:
            self._partial.clear()
            self._too_long = True
            self.dropped += 1


def wrapped(frame: bytes) -> bytes:
    """The frame as it comes over the line."""
    return frame + b"\r\n"
