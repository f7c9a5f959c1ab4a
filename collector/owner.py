"""What root makes belongs to whom the folder belongs: the service, which has to open it, is not root."""

from __future__ import annotations

import os
from pathlib import Path


def hand_over(file: int | Path, folder: Path) -> None:
    """``file`` may be a descriptor. Does nothing for anybody but root."""
    if os.geteuid() == 0:
        theirs = folder.stat()
        os.chown(file, theirs.st_uid, theirs.st_gid)
