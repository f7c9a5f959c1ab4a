"""A serial line without hardware: a pseudo-terminal that can be unplugged and keeps its name."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path


class Line:
    """The device's end of a line; the program under test opens ``path``.

    ``answer`` gets what was heard and not yet removed from the buffer, and returns what the device says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard = bytearray()
        self._answer: Callable[[bytearray], Iterable[bytes]] | None = None
        self._master: int | None = None
        self._slave: int | None = None

    def plug(self, *, reads: bool = True) -> Line:
        """Appear at ``path``. ``reads`` False: a device that never takes a byte."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._slave))
        if reads:
            asyncio.get_running_loop().add_reader(self._master, self._hear)
        return self

    def let_go(self) -> None:
        """Close our own hold on the program's end: from now on the line hangs when the program closes it."""
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None

    def unplug(self) -> None:
        """The adapter is pulled: its node goes, and whoever has it open sees a hang-up."""
        if self._master is None:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        self._master = None
        self.let_go()
        self.path.unlink(missing_ok=True)

    def answers(self, answer: Callable[[bytearray], Iterable[bytes]]) -> Line:
        """Each piece that ``answer`` yields is one write to the line."""
        self._answer = answer
        return self

    def say(self, data: bytes) -> None:
        assert self._master is not None
        os.write(self._master, data)

    def say_what_fits(self, data: bytes) -> None:
        """As ``say``; what the line does not take now is lost."""
        with suppress(BlockingIOError):
            self.say(data)

    def _hear(self) -> None:
        assert self._master is not None
        try:
            self.heard += os.read(self._master, 4096)
        except BlockingIOError:
            return
        except OSError:
            # Nobody has the other end open just now; that end would be "ready" for ever.
            asyncio.get_running_loop().remove_reader(self._master)
            return
        if self._answer is not None:
            for piece in self._answer(self.heard):
                self.say(piece)
