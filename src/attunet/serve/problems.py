"""Errors as answers (RFC 9457): what happened and what to do about it, never a traceback."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from attunet.errors import (
    AttunetError,
    BundleError,
    BusyError,
    CancelledError,
    ConfigError,
    DataError,
    DatasetError,
    EngineError,
    NetworkError,
)
from attunet.serve.access import DeniedError, TooManyFailuresError
from attunet.serve.multipart import TooLargeError

__all__ = ["ForeignRequestError", "answer_problems", "problem"]

RETRY_SECONDS = 5
_log = logging.getLogger(__name__)


class ForeignRequestError(AttunetError):
    """A request that a page of another site caused, or that calls the server by another name."""


_STATUS: dict[type[AttunetError], HTTPStatus] = {
    DeniedError: HTTPStatus.UNAUTHORIZED,
    ForeignRequestError: HTTPStatus.FORBIDDEN,
    TooManyFailuresError: HTTPStatus.TOO_MANY_REQUESTS,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    BusyError: HTTPStatus.TOO_MANY_REQUESTS,
    DatasetError: HTTPStatus.NOT_FOUND,
    ConfigError: HTTPStatus.UNPROCESSABLE_ENTITY,
    DataError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NetworkError: HTTPStatus.BAD_GATEWAY,
    CancelledError: HTTPStatus.CONFLICT,
    BundleError: HTTPStatus.INTERNAL_SERVER_ERROR,
    EngineError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The status of each kind of error; subclasses have that of the nearest class."""

_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'Bearer realm="attunet"'},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": str(RETRY_SECONDS)},
}


def problem(error: Exception) -> Response:
    """The answer that tells an error."""
    if not isinstance(error, AttunetError):
        reference = uuid4().hex[:8]
        _log.error("error %s: %s", reference, type(error).__name__)  # its message may quote a scan
        _log.debug("error %s", reference, exc_info=error)
        detail = f"the server made a mistake, which its log calls {reference}"
        return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, detail, "report it, with the lines of the log")
    kind = next(kind for kind in type(error).__mro__ if kind in _STATUS or kind is AttunetError)
    status = _STATUS.get(kind, HTTPStatus.INTERNAL_SERVER_ERROR)
    return _answer(status, error.message, error.hint)


def answer_problems(app: FastAPI) -> None:
    """Let an application answer every error in this way."""
    app.add_exception_handler(AttunetError, _on_error)
    app.add_exception_handler(Exception, _on_error)
    app.add_exception_handler(TimeoutError, _on_silence)
    app.add_exception_handler(ClientDisconnect, _on_silence)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)


async def _on_error(_request: Request, error: Exception) -> Response:
    return problem(error)


async def _on_silence(_request: Request, _error: Exception) -> Response:
    """A client that went away, or stopped in the middle of a request: no mistake of the server."""
    return _answer(HTTPStatus.REQUEST_TIMEOUT, "the request did not come to its end", "send it again")


async def _on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer(HTTPStatus(error.status_code), str(error.detail), "", headers=dict(error.headers or {}))


async def _on_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [{"where": "/".join(map(str, fault["loc"])), "fault": fault["msg"]} for fault in error.errors()[:20]]
    hint = "see /openapi.json for what it takes"
    return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, "the request does not suit", hint, errors=faults)


def _answer(
    status: HTTPStatus, detail: str, hint: str, *, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    content = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail, "hint": hint}
    return JSONResponse(
        content | more,
        status,
        headers=_HEADERS.get(status, {}) | (headers or {}),
        media_type="application/problem+json",
    )
