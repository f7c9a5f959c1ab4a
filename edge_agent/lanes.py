"""Decides when the present goes ahead of the history (docs/wire.md, C10).

While more waits than a few rows, an open row at its end would be told last, and a collector with much to do
takes short messages before long ones. So the open rows go first, in messages of their own that move no
position; then the history follows. What opens or gets worse meanwhile goes ahead the same way, but never
twice in a row: every other message is history, so that the present cannot hold it up for ever. While the
collector has asked for a pause of the history there is nothing but the present.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    # The collector is of a version that does not know the present.
    refused: bool = False
    # Open rows up to this position have been told ahead of the history.
    told_through: int = 0
    history_next: bool = False

    def present_after(self, *, crowded: bool, paused: bool, held_through: int) -> int | None:
        """After which position open rows would go ahead now; None: the history goes on.

        ``held_through``: what the collector holds in order.
        """
        if self.refused or not crowded or (self.history_next and not paused):
            return None
        return max(self.told_through, held_through)

    def told(self, *, taken: bool, through: int, complete: bool) -> Lanes:
        """The present was answered."""
        if not taken:
            return replace(self, history_next=True)
        return replace(self, told_through=through, history_next=complete)

    def history_told(self) -> Lanes:
        return replace(self, history_next=False)

    def forgotten(self) -> Lanes:
        """The collector holds less than it did, or nothing of this stream."""
        return replace(self, told_through=0, history_next=False)

    def refused_here(self) -> Lanes:
        return replace(self, refused=True)

    def asked_again(self) -> Lanes:
        """The collector was away: it may have been brought up to date."""
        return replace(self, refused=False)
