"""A tape of bounded length in one piece of memory: what is said again only lengthens what is there.

An entry is a head and a body of bytes. Python objects are made of it only when somebody looks; what is
recorded all day and never looked at costs its bytes, and the oldest give way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

# Bytes of the body, key, kind, how often it was said, ms from the first to the last time, ms of the first.
_HEAD = Struct("<IHBxIIQ")
# The last three of these alone.
_TIMES = Struct("<IIQ")
_TIMES_AT = _HEAD.size - _TIMES.size
_MOST = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The same body, said so many times in a row by one key; milliseconds on the clock of ``put``."""

    key: int
    kind: int
    body: bytes
    times: int
    first_ms: int
    last_ms: int


class Ring:
    """One per speaker. ``key`` tells its voices apart (0 to 65,535), ``kind`` (0 to 255) what a body is."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = bytearray()
        # How many bytes have left at the front; positions count from the first byte that ever was.
        self._gone = 0
        self._newest: dict[int, int] = {}

    @property
    def longest_body(self) -> int:
        """So that two entries always fit."""
        return max(0, self._limit // 2 - _HEAD.size)

    def put(self, key: int, kind: int, body: bytes, at_ms: int, *, again: bool = True) -> bool:
        """Whether it is a new entry; ``again``: not one if this key said just the same the last time."""
        if again and self._is_newest(key, kind, body) and self.again(key, at_ms):
            return False
        self._newest[key] = self._gone + len(self._bytes)
        self._bytes += _HEAD.pack(len(body), key, kind, 1, 0, at_ms)
        self._bytes += body
        self._shorten()
        return True

    def again(self, key: int, at_ms: int) -> bool:
        """This key said what it said the last time. False when that is not here any more: ``put`` it."""
        at = self._newest.get(key, -1) - self._gone + _TIMES_AT
        if at < _TIMES_AT:
            return False
        times, _, first_ms = _TIMES.unpack_from(self._bytes, at)
        span_ms = min(_MOST, max(0, at_ms - first_ms))
        _TIMES.pack_into(self._bytes, at, min(_MOST, times + 1), span_ms, first_ms)
        return True

    def entries(self) -> Iterator[Entry]:
        """Oldest first by their first time."""
        at = 0
        while at < len(self._bytes):
            length, key, kind, times, span_ms, first_ms = _HEAD.unpack_from(self._bytes, at)
            at += _HEAD.size
            yield Entry(
                key=key,
                kind=kind,
                body=bytes(self._bytes[at : at + length]),
                times=times,
                first_ms=first_ms,
                last_ms=first_ms + span_ms,
            )
            at += length

    def __len__(self) -> int:
        """In bytes."""
        return len(self._bytes)

    def _is_newest(self, key: int, kind: int, body: bytes) -> bool:
        at = self._newest.get(key, -1) - self._gone
        if at < 0:
            return False
        length, _, was, *_ = _HEAD.unpack_from(self._bytes, at)
        return was == kind and length == len(body) and self._bytes.startswith(body, at + _HEAD.size)

    def _shorten(self) -> None:
        leaving = 0
        while len(self._bytes) - leaving > self._limit:
            leaving += _HEAD.size + int(_HEAD.unpack_from(self._bytes, leaving)[0])
        if leaving:
            del self._bytes[:leaving]
            self._gone += leaving
