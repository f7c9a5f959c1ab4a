"""The downtime page: days and a site in, timelines, sums and their table twins out."""

from __future__ import annotations

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


@router.get("/downtime")
async def downtime(request: Request) -> HTMLResponse:
    parts, actor = parts_and_actor(request)
    zone, now_ms = parts.settings.zone, parts.now_ms()
    sites = await parts.store.read_soon(lambda connection: figures.sites(connection, scope_of(actor)))
    site = request.query_params.get("site") or (sites[0] if sites else "")
    if site and not actor.may_see(site):
        raise not_found("There is no such site, or it is not yours.")
    today = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone).date()
    from_day = _day(request.query_params.get("from"), today)
    to_day = _day(request.query_params.get("to"), today)
    from_ms, to_ms = _midnight(from_day, zone), _midnight(to_day + timedelta(days=1), zone)

    def both(connection: Connection) -> Chart:
        return chart(
            report.downtime(connection, site, from_ms, to_ms, By.DEVICE, now_ms),
            report.downtime(connection, site, from_ms, to_ms, By.FAULT, now_ms),
            zone,
        )

    shown, refusal = None, ""
    if not site:
        refusal = "There is no site yet: add a gateway first."
    elif to_day < from_day or from_day > today:
        refusal = "The first day comes after the last one, or has not begun."
    elif (to_day - from_day).days >= MAX_DAYS:
        refusal = f"At most {MAX_DAYS} days at once."
    else:
        shown = await parts.store.read_soon(both)
    return page(
        request,
        "downtime.html",
        here="/downtime",
        chart=shown,
        refusal=refusal,
        site=site,
        sites=sites or [site],
        from_day=from_day.isoformat(),
        to_day=to_day.isoformat(),
        ranges=[
            (words, f"/downtime?{urlencode({'site': site, 'from': first, 'to': last})}")
            for words, first, last in _ranges(today)
        ],
    )


def _ranges(today: date) -> list[tuple[str, date, date]]:
    day = timedelta(days=1)
    return [
        ("Today", today, today),
        ("Yesterday", today - day, today - day),
        ("7 days", today - 6 * day, today),
        ("30 days", today - 29 * day, today),
    ]


def _day(text: str | None, otherwise: date) -> date:
    try:
        found = date.fromisoformat(text) if text else otherwise
    except ValueError:
        return otherwise
    return found if 1970 < found.year < 9999 else otherwise


def _midnight(day: date, zone: ZoneInfo) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)
