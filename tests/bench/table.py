"""What a benchmark measured, as lines of one table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Figure(NamedTuple):
    """``ratio`` is against the bare loop, or the figure before; aims are texts, empty when there is none."""

    name: str
    value: float
    aim: str = ""
    ratio: float | None = None
    ratio_aim: str = ""


def show(figures: Iterable[Figure]) -> None:
    print(f"{'':58} {'measured':>12} {'aim':>8} {'ratio':>8} {'aim':>6}")
    for one in figures:
        print(line(one), flush=True)


def line(one: Figure) -> str:
    ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
    value = f"{one.value:,.0f}" if one.value >= 100 else f"{one.value:.3g}"
    return f"{one.name:58} {value:>12} {one.aim:>8} {ratio:>8} {one.ratio_aim:>6}"
