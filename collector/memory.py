"""Keeps the memory of a collector flat: what a burst of messages took goes back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from functools import cache

# mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
# orjson reads a body of 400 kB in a room of 5 MB. From here on a room is given back when it is free; left to
# itself glibc moves its threshold up to the largest room that was ever asked for, and keeps such rooms.
GIVEN_BACK_FROM = 256 << 10
# Python has one lock for all threads: heaps of their own gain them nothing, and each keeps its own holes.
HEAPS = 1
# Objects until Python's garbage collector looks for reference cycles, of which there are nearly none. At its
# usual 700 it looks many times while 500 rows are taken: 5 to 15 of 100 us of a row. At 50,000 it is no
# quicker than here, and 1 to 2 MB more stay.
CYCLES_AFTER = 5_000


def give_back() -> None:
    """Before the first thread. On another C library than glibc it does nothing."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = _c_library().mallopt
        mallopt(M_ARENA_MAX, HEAPS)
        mallopt(M_MMAP_THRESHOLD, GIVEN_BACK_FROM)
        mallopt(M_TRIM_THRESHOLD, GIVEN_BACK_FROM)


def settle() -> None:
    """When all is loaded: what is there by now stays, and need not be looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(CYCLES_AFTER)
    tidy()


def tidy() -> None:
    """Pages of the heap that nobody uses go back, those between others too; half a millisecond. Loading alone
    leaves 3 MB of them.
    """
    with contextlib.suppress(OSError, AttributeError):
        _c_library().malloc_trim(0)


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
