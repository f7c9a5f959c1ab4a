"""Static files from memory: a name that is not among them is a name that does not exist."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from collector.pages.render import renderer_of
from collector.problems import not_found

router = APIRouter(include_in_schema=False)

FOR_EVER = "public, max-age=31536000, immutable"


@router.get("/static/{path:path}")
async def static(request: Request, path: str) -> Response:
    asset = renderer_of(request).assets.get(path)
    if asset is None:
        raise not_found("there is no such file")
    tag = f'"{asset.tag}"'
    exact = request.query_params.get("v") == asset.tag
    headers = {"ETag": tag, "Cache-Control": FOR_EVER if exact else "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)
