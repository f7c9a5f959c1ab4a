"""Decides when a fault that comes and goes is one occurrence that pauses, and not one after the other.

A fault *chatters* once it was raised RAISES times in WITHIN_NS, or SLOW_RAISES times in SLOWLY_WITHIN_NS.
From then on its occurrence is not closed when the fault goes: it pauses, and goes on when the fault is back.
It ends when there was nothing new for QUIET_NS, whether the fault is there or not: if not, it ended when its
last pause began; if it is, it ends when the fault goes. That is a long way back, so that what is slow enough
to be told again is told apart from what is not over.

Nothing is lost by it: an occurrence that pauses is exactly those that there would have been, with the time
between them as its pauses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_agent.verdict import NS_PER_S
from edge_agent.wire import MAX_PAUSES, Stamp

# "An alarm that occurs and clears three or more times in a minute" is a good first criterion for a chattering
# one: PAS (Hexagon), Taming the Wild Alarm System, part 3. ANSI/ISA-18.2-2016 and EEMUA 191 know the word and
# give no number.
RAISES = 3
WITHIN_NS = 60 * NS_PER_S
# A slow flap, every ten minutes or so, pages as often as a fast one. These numbers are ours; QUIET is longer
# than the 10 minutes in which the collector takes what returns for the same ticket.
SLOW_RAISES = 5
SLOWLY_WITHIN_NS = 3_600 * NS_PER_S
QUIET_NS = 900 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Chatter:
    """What is known of a condition's coming and going."""

    # When it was raised the last SLOW_RAISES times, in mono_ns.
    raises: tuple[int, ...] = ()
    chatters: bool = False
    # Since when the occurrence under way pauses, if it does, and how often it has.
    pause: Stamp | None = None
    pauses: int = 0

    @property
    def ends_ns(self) -> int | None:
        """When the occurrence that pauses is over, if nothing comes before."""
        return None if self.pause is None else self.pause.mono_ns + QUIET_NS


NEVER_RAISED = Chatter()


def raised(chatter: Chatter, at: Stamp) -> Chatter:
    """The fault is there: for the first time, or again."""
    now_ns = at.mono_ns
    goes_on = chatter.chatters and (chatter.pause is not None or _is_recent(chatter, now_ns))
    raises = (*chatter.raises, now_ns)[-SLOW_RAISES:]
    often = any(
        len(raises) >= count and now_ns - raises[-count] < within_ns
        for count, within_ns in ((RAISES, WITHIN_NS), (SLOW_RAISES, SLOWLY_WITHIN_NS))
    )
    return replace(chatter, raises=raises, chatters=goes_on or often, pause=None)


def gone(chatter: Chatter, *, first: Stamp, at: Stamp) -> Chatter:
    """The fault is gone since ``first``: its occurrence pauses, or (no ``pause``) it is over."""
    if chatter.chatters and _is_recent(chatter, at.mono_ns) and chatter.pauses < MAX_PAUSES:
        return replace(chatter, pause=first, pauses=chatter.pauses + 1)
    return over(chatter)


def over(chatter: Chatter) -> Chatter:
    """The occurrence is closed; what was raised lately counts for the next."""
    return replace(chatter, pause=None, pauses=0)


def _is_recent(chatter: Chatter, now_ns: int) -> bool:
    return bool(chatter.raises) and now_ns - chatter.raises[-1] < QUIET_NS
