"""A journal's writer without a thread and without a file: it takes the same steps each time.

For what is decided anew and not kept: a replay. Nothing that it confirms survives the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from edge_agent import journal_file
from edge_agent.journal_caps import Caps
from edge_agent.ledger import Ledger

T = TypeVar("T")


class InMemory:
    """The ``Writer`` of one ``Journal``."""

    def __init__(self, new_id: Callable[[], str], caps: Caps | None = None) -> None:
        self.sql = journal_file.in_memory()
        self.ledger = Ledger(self.sql, new_id=new_id, caps=caps or Caps())

    async def run(self, work: Callable[[Ledger], T]) -> T:
        return work(self.ledger)

    async def close(self) -> None:
        self.sql.close()
