"""Which registers of a block its device refuses: searched by halving, remembered, read around.

A request that touches one register that is not there is refused as a whole, and its neighbours with it. So
the longest beginning that is answered is searched, then the same from the register behind it, until all that
is wanted is either in a *run* that was answered as it will be asked from now on, or refused alone. What lies
between wanted registers and is refused ends a run and is never asked for again. The same search finds the
runs that a device takes which answers fewer registers at a time than the protocol allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_agent.poll import Block

# So many one after another, and what was not searched yet counts as refused: this is another device.
MAX_IN_A_ROW = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Where the search in one block stands. Positions are those of ``wanted``, its addresses in order."""

    wanted: tuple[int, ...]
    # From position to position: each is one request.
    runs: tuple[tuple[int, int], ...] = ()
    refused: tuple[int, ...] = ()
    at: int = 0
    # So many from ``at`` on are answered together, so many are refused; None: not known yet.
    answered: int = 0
    too_many: int | None = None

    @property
    def over(self) -> bool:
        return self.at == len(self.wanted)

    @property
    def next_count(self) -> int:
        """How many positions from ``at`` on are to be tried."""
        left = len(self.wanted) - self.at
        return left if self.too_many is None else (self.answered + self.too_many) // 2


def search(block: Block) -> Search:
    """The block was refused."""
    wanted = {block.address + part.offset + n for part in block.parts for n in range(part.count)}
    begun = Search(wanted=tuple(sorted(wanted)))
    return learned(begun, answered=False)


def cut(block: Block) -> Search:
    """It is longer than what its device answers at once."""
    count = block.count
    wanted = tuple(range(block.address, block.address + count))
    runs = tuple((at, min(at + block.at_most, count)) for at in range(0, count, block.at_most))
    return Search(wanted=wanted, runs=runs, at=count)


def learned(found: Search, *, answered: bool) -> Search:
    """What ``next_count`` positions said."""
    tried = found.next_count
    if answered and found.too_many is None:
        return replace(found, runs=(*found.runs, (found.at, found.at + tried)), at=len(found.wanted))
    found = replace(found, answered=tried) if answered else replace(found, too_many=tried)
    assert found.too_many is not None
    if found.too_many - found.answered > 1:
        return found
    if found.answered:
        end = found.at + found.answered
        return replace(found, runs=(*found.runs, (found.at, end)), at=end, answered=0, too_many=None)
    refused = (*found.refused, found.wanted[found.at])
    answered_until = found.runs[-1][1] if found.runs else 0
    if found.at + 1 - answered_until == MAX_IN_A_ROW:
        return replace(found, refused=(*refused, *found.wanted[found.at + 1 :]), at=len(found.wanted))
    return replace(found, refused=refused, at=found.at + 1, answered=0, too_many=None)


def requests(block: Block, found: Search) -> tuple[Block, ...]:
    """What is to be asked for the block: its runs, or the next trial while the search goes on."""
    runs = found.runs if found.over else ((found.at, found.at + found.next_count),)
    return tuple(_part(block, found.wanted[first], found.wanted[end - 1]) for first, end in runs)


def _part(block: Block, first: int, last: int) -> Block:
    return replace(block, address=first, count=last - first + 1, parts=())
