"""The page at `/`: files of the folder `page`, which need no key and load nothing from elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response

from lakehouse.serving.problems import Problem

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).with_name("page")
#: The chart library, which is not in the repository: `make install` fetches it.
CHART_LIBRARY = FOLDER / "vendor" / "lightweight-charts.js"

#: Endings of the files that are served; npm's own files in the folder are not.
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
#: Nothing from elsewhere, and no frame around the page. `no-cache`: a browser may keep a file, and must ask (ETag).
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


def is_page(path: str) -> bool:
    """Return True if a URL's path is one of the page's files: they say nothing about the lake, so they need no key."""
    return path == "/" or path.startswith("/page/")


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    """Send the page."""
    return await _file(request, "index.html")


@router.api_route("/page/{name:path}", methods=["GET", "HEAD"])
async def file(request: Request, name: str) -> Response:
    """Send a file of the page."""
    return await _file(request, name)


async def _file(request: Request, name: str) -> Response:
    path = FOLDER / name
    media_type = _MEDIA_TYPES.get(path.suffix)
    if media_type is None or ".." in path.parts or "\0" in name:
        raise Problem("not-found", f"{request.url.path[:80]!r}; expected a file of the page")
    try:
        body = await asyncio.to_thread(path.read_bytes)
    except OSError:
        mend = "; run `make install`, which fetches it from npm" if path == CHART_LIBRARY else ""
        raise Problem("not-found", f"{request.url.path[:80]!r}; expected a file of the page{mend}") from None
    tag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'  # weak: gzip changes the bytes
    headers = {**_HEADERS, "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)
