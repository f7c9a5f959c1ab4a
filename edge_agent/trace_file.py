"""A trace on disk: gzip, of whole lines and whole at each moment; one that is cut off can be read up to the
cut.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edge_agent.trace import MAX_LINE_BYTES, Trace, TraceError

CHUNK_BYTES = 64 << 10
# zlib: a gzip header and trailer around the largest window.
GZIP = 31
MAGIC = b"\x1f\x8b"


class TraceFile:
    """One file that is being written. Raises OSError."""

    def __init__(self, path: Path) -> None:
        """``path`` must not exist. Readable by its owner alone: it says what devices said."""
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._packer = zlib.compressobj(wbits=GZIP)
        # Where the next lines go, and what stands there meanwhile: the end of a gzip file.
        self._next = 0
        self._end = b""

    @property
    def size(self) -> int:
        return self._next + len(self._end)

    def write(self, lines: bytes) -> None:
        """Whole lines; from now on they are there whatever happens to this process. Raises OSError: then none
        of them is, and the file is what it was.
        """
        packer = self._packer.copy()
        packed = packer.compress(lines) + packer.flush(zlib.Z_SYNC_FLUSH)
        end = packer.copy().flush()
        try:
            self._put(packed + end)
        except OSError:
            with suppress(OSError):
                # There was room for it before, so there is now.
                self._put(self._end)
                os.ftruncate(self._file, self.size)
            raise
        self._packer, self._next, self._end = packer, self._next + len(packed), end

    def close(self) -> None:
        os.close(self._file)

    def _put(self, packed: bytes) -> None:
        at = self._next
        while packed:
            written = os.pwrite(self._file, packed, at)
            packed, at = packed[written:], at + written


def opened(path: Path) -> Trace:
    """A trace to be read once. Raises TraceError."""
    return Trace(str(path), lines(path))


def lines(path: Path) -> Iterator[bytes]:
    """Each with its LF; the last one has none if the file is cut off. Packed or plain. Raises TraceError."""
    rest = b""
    try:
        for text in _unpacked(path):
            *whole, rest = (rest + text).split(b"\n")
            yield from (line + b"\n" for line in whole)
            if len(rest) > MAX_LINE_BYTES:
                raise TraceError(f"{path}: a line of more than {MAX_LINE_BYTES >> 20} MiB: no trace")
        if rest:
            yield rest
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error):
        yield rest


def _unpacked(path: Path) -> Iterator[bytes]:
    """Raises OSError; EOFError or zlib.error where what is packed ends too early."""
    with path.open("rb") as file:
        chunk = file.read(CHUNK_BYTES)
        if chunk[: len(MAGIC)] != MAGIC:
            while chunk:
                yield chunk
                chunk = file.read(CHUNK_BYTES)
            return
        unpacker = zlib.decompressobj(wbits=GZIP)
        while chunk:
            before = unpacker.copy()
            try:
                # Little at a time: a small file may stand for gigabytes.
                yield unpacker.decompress(chunk, CHUNK_BYTES)
            except zlib.error:
                for byte in chunk:
                    yield before.decompress(bytes([byte]))
            chunk = unpacker.unconsumed_tail or file.read(CHUNK_BYTES)
        if not unpacker.eof:
            raise EOFError
