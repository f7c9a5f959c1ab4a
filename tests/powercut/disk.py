"""What a disk may hold after a power cut: all that was synced, and of the rest whatever an enemy picks.

The file system is the weakest that POSIX allows. A write that was not synced is there, or not, or some of its
512-byte sectors are; later ones may be there without earlier ones. A name that was made, removed or changed
is durable only once its folder was synced, and until then done or undone, each name for itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from powercut.recording import Names, Said, Step, Sync, SyncFolder, Truncate, Write

SECTOR = 512
Image = dict[str, bytes]


class Kept(StrEnum):
    """Of what was written and not synced."""

    NOTHING = "nothing"
    EVERYTHING = "everything"
    PREFIX = "prefix"
    SUBSET = "subset"
    TORN = "torn"


class Folder(StrEnum):
    """Of the names that were changed and not synced."""

    UNDONE = "undone"
    DONE = "done"
    EACH_FOR_ITSELF = "each for itself"


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    # With the number of the step.
    pending: list[tuple[int, Write | Truncate]] = field(default_factory=list)


class Disk:
    """Takes the steps one by one; ``image`` is what may be left at this point."""

    def __init__(self, start: Mapping[str, bytes] | None = None) -> None:
        """``start``: what is there, durable; files are numbered from 1 in this order."""
        self.step = 0
        self.said: list[tuple[str, ...]] = []
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._renamed: list[tuple[int, Names]] = []
        for number, (name, content) in enumerate((start or {}).items(), 1):
            self._files[number] = _File(bytearray(content))
            self._names[name] = number

    def take(self, step: Step) -> None:
        self.step += 1
        match step:
            case Write() | Truncate():
                self._files[step.file].pending.append((self.step, step))
            case Sync():
                file = self._files[step.file]
                for _, change in file.pending:
                    _apply(file.durable, change)
                file.pending.clear()
            case Names():
                for _, number in step.now:
                    if number is not None:
                        self._files.setdefault(number, _File())
                self._renamed.append((self.step, step))
            case SyncFolder():
                for _, names in self._renamed:
                    _rename(self._names, names)
                self._renamed.clear()
            case Said():
                self.said.append(step.words)

    def image(self, kept: Kept, folder: Folder, dice: random.Random) -> Image:
        names = self._names_left(folder, dice)
        cut = dice.choice([0, *self._unsynced()])
        share = dice.choice((0.1, 0.5, 0.9))
        return {name: bytes(self._content(number, kept, cut, share, dice)) for name, number in names.items()}

    def _unsynced(self) -> list[int]:
        return sorted(step for file in self._files.values() for step, _ in file.pending)

    def _content(self, number: int, kept: Kept, cut: int, share: float, dice: random.Random) -> bytearray:
        file = self._files[number]
        content = bytearray(file.durable)
        chosen: Callable[[int], bool] = {
            Kept.NOTHING: lambda step: False,
            Kept.EVERYTHING: lambda step: True,
            Kept.PREFIX: lambda step: step <= cut,
            Kept.SUBSET: lambda step: dice.random() < share,
            Kept.TORN: lambda step: True,
        }[kept]
        for step, change in file.pending:
            if not chosen(step):
                continue
            if kept is Kept.TORN and isinstance(change, Write):
                for sector in _sectors(change):
                    if dice.random() < share:
                        _apply(content, sector)
            elif kept is not Kept.TORN or dice.random() < share:
                _apply(content, change)
        return content

    def _names_left(self, folder: Folder, dice: random.Random) -> dict[str, int]:
        names = dict(self._names)
        if folder is Folder.UNDONE:
            return names
        touched = {name for _, change in self._renamed for name, _ in change.now}
        done = {name: dice.choice((0, self.step, dice.randrange(self.step + 1))) for name in sorted(touched)}
        for step, change in self._renamed:
            # A rename is one change: its first name decides.
            if folder is Folder.DONE or step <= done[change.now[0][0]]:
                _rename(names, change)
        return names


def without_folder_sync_of_new_wal(steps: Sequence[Step]) -> list[Step]:
    """The same, had SQLite not synced the folder when it first syncs a new write-ahead log.

    Linux' own file layer of SQLite does so (os_unix.c, UNIXFILE_DIRSYNC); others need not.
    """
    return [step for step in steps if not (isinstance(step, SyncFolder) and step.of_new_wal)]


def _apply(content: bytearray, change: Write | Truncate) -> None:
    size = change.at if isinstance(change, Write) else change.size
    if len(content) < size:
        content.extend(bytes(size - len(content)))
    if isinstance(change, Write):
        content[change.at : change.at + len(change.data)] = change.data
    else:
        del content[change.size :]


def _sectors(write: Write) -> list[Write]:
    """As the disk sees it: each piece lies in one sector."""
    ends = range((write.at // SECTOR + 1) * SECTOR, write.at + len(write.data), SECTOR)
    starts = [write.at, *ends]
    return [
        Write(write.file, start, write.data[start - write.at : end - write.at])
        for start, end in zip(starts, [*ends, write.at + len(write.data)], strict=True)
    ]


def _rename(names: dict[str, int], change: Names) -> None:
    for name, number in change.now:
        if number is None:
            names.pop(name, None)
        else:
            names[name] = number
