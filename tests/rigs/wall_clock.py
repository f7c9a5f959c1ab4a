"""The wall clock of one program, which a test sets while the program runs. Its monotonic clocks stay real."""

from __future__ import annotations

from pathlib import Path


class WallClock:
    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall-clock"
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        assert libraries, "apt-get install faketime"
        self.environment = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }
        self.is_off_by(0)

    def is_off_by(self, seconds: int) -> None:
        """From now on."""
        fresh = self._file.with_suffix(".fresh")
        fresh.write_text(f"{seconds:+d}\n")
        # The program reads it whenever it asks for the time.
        fresh.replace(self._file)
