"""The downtime page: days and a site in, timelines, sums and their table twins out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import HTMLResponse

from collector import report
from collector.auth import scope_of
from collector.pages.chart import Chart, chart
from collector.pages.render import page, parts_and_actor
from collector.problems import not_found
from collector.report import By
from collector.store import figures

router = APIRouter(include_in_schema=False)

MAX_DAYS = 366
MAX_HOURS = 72
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Either whole days or the last hours; ``refusal`` says why it cannot be shown."""

    from_ms: int
    to_ms: int
    from_day: date
    to_day: date
    hours: int = 0
    refusal: str = ""


@router.get("/downtime")
async def downtime(request: Request) -> HTMLResponse:
    parts, actor = parts_and_actor(request)
    zone, now_ms = parts.settings.zone, parts.now_ms()
    sites = await parts.store.read_soon(lambda connection: figures.sites(connection, scope_of(actor)))
    site = request.query_params.get("site") or (sites[0] if sites else "")
    if site and not actor.may_see(site):
        raise not_found("There is no such site, or it is not yours.")
    today = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone).date()
    window = window_of(request.query_params, today, now_ms, zone)

    def both(connection: Connection) -> Chart:
        found = report.downtimes(connection, site, window.from_ms, window.to_ms, now_ms)
        return chart(found[By.DEVICE], found[By.FAULT], zone)

    refusal = window.refusal if site else "There is no site yet: add a gateway first."
    shown = None if refusal else await parts.report_soon(both)
    # Thousands of bars: others are served meanwhile.
    return await asyncio.to_thread(
        page,
        request,
        "downtime.html",
        here="/downtime",
        chart=shown,
        refusal=refusal,
        site=site,
        sites=sites or [site],
        from_day=window.from_day.isoformat(),
        to_day=window.to_day.isoformat(),
        ranges=[
            (words, f"/downtime?{urlencode({'site': site} | asked)}", asked == _asked(window))
            for words, asked in _ranges(today)
        ],
    )


def window_of(asked: Mapping[str, str], today: date, now_ms: int, zone: ZoneInfo) -> Window:
    """What cannot be read counts as today."""
    hours = asked.get("hours", "")
    if (
        hours.isascii()
        and hours.isdigit()
        and len(hours) <= len(str(MAX_HOURS))
        and 0 < int(hours) <= MAX_HOURS
    ):
        from_ms = now_ms - int(hours) * HOUR_MS
        return Window(from_ms=from_ms, to_ms=now_ms, from_day=today, to_day=today, hours=int(hours))
    first, last = _day(asked.get("from"), today), _day(asked.get("to"), today)
    from_ms, to_ms = _midnight(first, zone), _midnight(last + timedelta(days=1), zone)
    refusal = ""
    if last < first or from_ms >= now_ms:
        refusal = "The first day comes after the last one, or has not begun."
    elif (last - first).days >= MAX_DAYS:
        refusal = f"At most {MAX_DAYS} days at once."
    return Window(from_ms=from_ms, to_ms=to_ms, from_day=first, to_day=last, refusal=refusal)


def _ranges(today: date) -> list[tuple[str, dict[str, str]]]:
    def days(first: int, last: int = 0) -> dict[str, str]:
        return {
            "from": (today - timedelta(days=first)).isoformat(),
            "to": (today - timedelta(days=last)).isoformat(),
        }

    return [
        ("Last hour", {"hours": "1"}),
        ("Last 8 hours", {"hours": "8"}),
        ("Today", days(0)),
        ("Yesterday", days(1, 1)),
        ("7 days", days(6)),
        ("30 days", days(29)),
    ]


def _asked(window: Window) -> dict[str, str]:
    if window.hours:
        return {"hours": str(window.hours)}
    return {"from": window.from_day.isoformat(), "to": window.to_day.isoformat()}


def _day(text: str | None, otherwise: date) -> date:
    try:
        found = date.fromisoformat(text) if text else otherwise
    except ValueError:
        return otherwise
    return found if 1970 < found.year < 9999 else otherwise


def _midnight(day: date, zone: ZoneInfo) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)
