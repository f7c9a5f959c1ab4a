"""Decides what time it is and how far the wall clock can be trusted; the only module that reads a clock."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from edge_agent.wire import Stamp

# 2024-01-01T00:00:00Z. An earlier wall clock was never set: this program is younger than that.
EARLIEST_MS = 1_704_067_200_000
# Whether the kernel's clock is synchronised is asked at most so often.
TRUST_KEPT_NS = 10_000_000_000

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# systemd-timesyncd(8) touches it once it has synchronised.
TIMESYNC_FLAG = Path("/run/systemd/timesync/synchronized")

# adjtimex(2): the bit of ``timex.status`` that says "not synchronised", and the answer TIME_ERROR.
STA_UNSYNC = 0x0040
TIME_ERROR = 5


class Clock:
    """One per program. ``floor_ms`` is the newest wall time that the journal has: it is not earlier now."""

    def __init__(self, floor_ms: int = 0) -> None:
        self.floor_ms = floor_ms
        self._boot = BOOT_ID.read_text(encoding="ascii").strip().replace("-", "")
        self._synchronised = False
        self._asked_ns = -TRUST_KEPT_NS

    def stamp(self) -> Stamp:
        mono_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        wall_ms = max(0, time.time_ns() // 1_000_000)
        if mono_ns - self._asked_ns >= TRUST_KEPT_NS:
            self._asked_ns = mono_ns
            self._synchronised = synchronised()
        source = trust(wall_ms, floor_ms=self.floor_ms, synchronised=self._synchronised)
        return Stamp(boot=self._boot, mono_ns=mono_ns, wall_ms=wall_ms, source=source)


def trust(wall_ms: int, *, floor_ms: int, synchronised: bool) -> str:
    """``Stamp.source`` of a wall clock that reads ``wall_ms``."""
    if wall_ms < max(floor_ms, EARLIEST_MS):
        return "none"
    return "ntp" if synchronised else "rtc"


def synchronised() -> bool:
    """What systemd-timesyncd or the kernel (set by chrony, ntpd) says; False when neither may be asked."""
    if TIMESYNC_FLAG.exists():
        return True
    state = _Timex()
    answer = int(_libc.adjtimex(ctypes.byref(state)))
    return answer not in (-1, TIME_ERROR) and not state.status & STA_UNSYNC


class _Timex(ctypes.Structure):
    """``struct timex`` of adjtimex(2) as far as ``status``; ``modes`` 0 only reads."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


_libc = ctypes.CDLL(None, use_errno=True)
