"""The application: paths, errors, compression and the guard around them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from importlib import metadata
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from lakehouse.serving import page_files, problems, sockets
from lakehouse.serving.access import KeyCheck, is_loopback
from lakehouse.serving.answers import Api
from lakehouse.serving.guard import Guard, Limits
from lakehouse.serving.models import Problem as ProblemModel
from lakehouse.serving.pool import Pool
from lakehouse.serving.problems import Problem
from lakehouse.serving.routes import router
from lakehouse.settings import Settings

log = logging.getLogger(__name__)

#: Bytes from which an answer is compressed, and zlib's level: 1 takes a third of the time of 9 for a tenth more bytes.
GZIP_BYTES = 1_024
GZIP_LEVEL = 1

_ABOUT = """Market data of a lakehouse: bars, trades, indicators, moves, spreads, the certificate of any range.

Rows come as JSON (decimals are strings with every digit), as CSV (`Accept: text/csv`) or as an Arrow IPC stream
(`Accept: application/vnd.apache.arrow.stream`). `next` is the cursor of the next page; in CSV and Arrow it stands in
the header `X-Next-Cursor`. Errors are `application/problem+json`.
"""


def build_app(settings: Settings, limits: Limits | None = None, pool: Pool | None = None) -> Guard:
    """Build the application of one lakehouse. It follows Kafka from its startup to its shutdown."""
    api = Api(settings, pool)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        api.prices.start()
        try:
            yield
        finally:
            api.prices.stop()
            api.pool.close()
            api.tables.close()

    app = FastAPI(
        title="crypto-lakehouse",
        version=metadata.version("crypto-lakehouse"),
        description=_ABOUT,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.api = api
    app.include_router(router)
    app.include_router(sockets.router)
    app.include_router(page_files.router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_BYTES, compresslevel=GZIP_LEVEL)
    _describe(app, settings)
    key = None if settings.api_key is None else settings.api_key.get_secret_value()
    is_local = is_loopback(settings.serve_host) and key is None
    return Guard(app, KeyCheck(key), limits or Limits(), is_local)


def _describe(app: FastAPI, settings: Settings) -> None:
    """Add to OpenAPI the model of problems, and the key if one is asked for."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            parts = schema.setdefault("components", {})
            parts.setdefault("schemas", {})["Problem"] = ProblemModel.model_json_schema()
            if settings.api_key is not None:
                parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                schema["security"] = [{"key": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _response(problem: Problem) -> Response:
    headers = {"Cache-Control": "no-store", **problem.headers}
    return Response(problem.body(), problem.status, headers, problems.MEDIA_TYPE)


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _response(error)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    found = str(first.get("input"))[:60]
    expected = str(first["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    return _response(Problem("bad-parameter", f"{name} {found!r}; expected {expected}"))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kinds = {404: "not-found", 405: "method-not-allowed"}
    if error.status_code not in kinds:
        body = problems.plain(error.status_code, str(error.detail))
        return Response(body, error.status_code, error.headers, problems.MEDIA_TYPE)
    what = request.url.path[:80] if error.status_code == 404 else f"{request.method} {request.url.path[:80]}"
    expected = "a path of /openapi.json" if error.status_code == 404 else "GET"
    return _response(Problem(kinds[error.status_code], f"{what!r}; expected {expected}", error.headers))


async def _failed(_: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return _response(
        Problem("internal", f"an error of ours ({type(error).__name__}); its trace is in the server's log")
    )
