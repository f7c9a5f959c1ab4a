"""How facts read on a page: moments, ages, durations, and strings of strangers with nothing hidden in
them."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

MINUTE_S = 60
HOUR_S = 60 * MINUTE_S
DAY_S = 24 * HOUR_S
# Kept as they are: everything else that a reader cannot see, or that turns the reading direction, is shown
# escaped.
KEPT = frozenset("\n\t")
# In emoji and in scripts whose letters join they are part of the text; anywhere else they hide in it.
JOINERS = frozenset("\u200c\u200d")
JOINED = frozenset({"Lo", "Mn", "Sk", "So"})
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def plain(text: str) -> str:
    """Control, bidirectional and invisible characters as ``\\u202e``, so that no string shows other than
    it is."""
    if text.isascii() and text.isprintable():
        return text
    around = zip(f" {text}", text, f"{text[1:]} ", strict=False)
    return "".join(
        one if one in JOINERS and _joins(before) and _joins(after) else _shown(one)
        for before, one, after in around
    )


def finalize(value: object) -> object:
    """Jinja's last step for every ``{{ }}``: nothing escapes ``plain`` by forgetting it; None prints
    nothing."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return plain(value)
    return value


def exact(ms: int, zone: ZoneInfo) -> str:
    """22 Nov 2026, 03:12:01 UTC"""
    moment = datetime.fromtimestamp(ms / 1000, zone)
    return f"{moment.day} {moment:%b %Y, %H:%M:%S %Z}"


def age(ms: int, now_ms: int) -> str:
    """In two units at most; the future counts as now."""
    seconds = max(0, now_ms - ms) // 1000
    if seconds < 10:
        return "just now"
    return f"{_span(seconds)} ago"


def ahead(ms: int, now_ms: int) -> str:
    """In two units at most; what is over is due now."""
    seconds = max(0, ms - now_ms) // 1000
    return f"in {_span(seconds)}" if seconds else "now"


def duration(ms: int) -> str:
    """0 s, 42 s, 3 min 20 s, 2 h 05 min, 3 d 4 h."""
    seconds = max(0, ms) // 1000
    if seconds < MINUTE_S:
        return f"{seconds} s"
    if seconds < HOUR_S:
        return f"{seconds // MINUTE_S} min {seconds % MINUTE_S:02d} s"
    if seconds < DAY_S:
        return f"{seconds // HOUR_S} h {seconds % HOUR_S // MINUTE_S:02d} min"
    return f"{seconds // DAY_S} d {seconds % DAY_S // HOUR_S} h"


def within(ms: int) -> str:
    """How far off at most, roughly and never less than it is: ± 3 min, ± 2 h, ± 365 d."""
    seconds = -(-max(0, ms) // 1000)
    unit_s, unit = next(
        one
        for one in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min"), (1, "s"))
        if seconds >= one[0] or one[0] == 1
    )
    return f"± {-(-seconds // unit_s)} {unit}"


def share(part: int, whole: int) -> str:
    """99.2 %, and never 100 % for what is not all of it."""
    if whole <= 0:
        return "none"
    tenths = part * 1000 // whole
    return f"{tenths // 10}.{tenths % 10} %" if tenths < 1000 else "100 %"


def counted(number: int, noun: str) -> str:
    """1 gap, 2 gaps."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 11th, 21st."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


SEVERITIES = {"stop": "Stop", "degraded": "Degraded", "notice": "Notice"}


def severity(word: str) -> str:
    """What the floor feels, as a screen says it."""
    return SEVERITIES.get(word, word)


def span(ms: int) -> str:
    """How long, roughly: 14 min, 2 h 5 min."""
    return _span(max(0, ms) // 1000)


def place(path: str) -> Markup:
    """area/line/station, which may break after each level."""
    return Markup("/<wbr>").join(_level(plain(level)) for level in path.split("/"))


def _level(text: str) -> Markup:
    """A level of a sensible length is kept in one piece, hyphens and all."""
    return Markup('<span class="nowrap">{}</span>').format(text) if len(text) <= 24 else escape(text)


def _span(seconds: int) -> str:
    if seconds < MINUTE_S:
        return f"{seconds} s"
    if seconds < HOUR_S:
        return f"{seconds // MINUTE_S} min"
    if seconds < DAY_S:
        return f"{seconds // HOUR_S} h {seconds % HOUR_S // MINUTE_S} min"
    return f"{seconds // DAY_S} d {seconds % DAY_S // HOUR_S} h"


def _joins(character: str) -> bool:
    return unicodedata.category(character) in JOINED


def _shown(character: str) -> str:
    if character in KEPT or unicodedata.category(character) not in HIDDEN:
        return character
    number = ord(character)
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )
