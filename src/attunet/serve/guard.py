"""What every request passes: the name by which the server is called, its origin, its password; and the audit line."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from attunet.dicom.network.addresses import is_loopback
from attunet.errors import AttunetError
from attunet.serve.access import Access
from attunet.serve.multipart import LARGEST_FIELD, TooLargeError
from attunet.serve.problems import ForeignRequestError, problem
from attunet.serve.settings import ServeSettings
from attunet.serve.store import is_ours

__all__ = ["COOKIE", "Guard", "credential_of"]

COOKIE = "attunet_session"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN = frozenset({"/healthz", "/readyz", "/auth/", "/auth/token", "/api/v1/session"})
"""What needs no password: whether the server lives, and how to log in."""
FORMS = frozenset({"/api/v1/scans", "/session/", "/datastore/", "/datastore/label", "/auth/token"})
"""What reads its body piece by piece, and counts it."""
HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            "connect-src 'self' blob:",
            "worker-src 'self' blob:",
            "font-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
audit = logging.getLogger("attunet.audit")
Scope = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[Any], Any]


class Guard:
    """An application around an application.

    Args:
        app: the application that answers.
        settings: of the server.
        access: passwords and sessions.
        on_answer: called with the method, route and status of each answer.
    """

    def __init__(
        self,
        app: Any,
        settings: ServeSettings,
        access: Access,
        on_answer: Callable[[str, str, int], None] = lambda _method, _route, _status: None,
    ) -> None:
        self._app, self._settings, self._access, self._on_answer = app, settings, access, on_answer
        self._names = {name.lower() for name in (*settings.hosts, settings.host)}
        self._any_name = settings.host in ("0.0.0.0", "::") and not settings.hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, headers = time.perf_counter(), Headers(scope=scope)
        if self._settings.behind_proxy:
            scope |= {"client": (_forwarded(headers), 0), "scheme": "https"}
        seen: dict[str, Any] = {"status": 0, "user": "-"}

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                found = MutableHeaders(scope=message)
                for name, value in self._headers(headers).items():
                    found.setdefault(name, value)
            await send(message)

        async def listen() -> Any:
            pause = self._settings.body_seconds if scope["method"] not in SAFE else None
            return await asyncio.wait_for(receive(), pause)

        try:
            refusal = self._refusal(scope, headers, seen)
            if refusal is not None:
                await problem(refusal)(scope, receive, answer)
            else:
                await self._app(scope, listen, answer)
        except Exception as error:  # whatever the application did not answer
            if not seen["status"]:
                await problem(error)(scope, receive, answer)
        finally:
            self._record(scope, seen, time.perf_counter() - started)

    def _refusal(self, scope: Scope, headers: Headers, seen: dict[str, Any]) -> AttunetError | None:
        """Why a request is not answered; None when it is."""
        try:
            self._check_name(headers)
            if scope["method"] not in SAFE:  # whose bodies nobody reads
                _check_size(scope, headers)
            self._check_origin(scope["method"], headers)
            path = scope["path"]
            if path in OPEN or ((path.startswith("/page/") or path == "/") and scope["method"] in SAFE):
                return None
            if scope["method"] == "OPTIONS" and headers.get("origin") in self._settings.origins:
                return None  # a browser that asks whether it may ask
            seen["user"] = self._access.who(credential_of(headers), _address(scope))
        except AttunetError as error:
            return error
        return None

    def _check_name(self, headers: Headers) -> None:
        """A page of a stranger, whose name leads to our address, would be of our origin for a browser."""
        host = (headers.get("host") or "").lower()
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        name = name.strip("[]")
        if not (self._any_name or name in self._names or (self._settings.local and is_loopback(name))):
            raise ForeignRequestError(
                "the server is not called by this name",
                hint="use the server's own name; whoever runs it can add others with --allow-host",
            )

    def _check_origin(self, method: str, headers: Headers) -> None:
        """A browser must not act for its user because a page of another site says so."""
        origin = headers.get("origin")
        if method in SAFE and headers.get("sec-fetch-site") not in ("cross-site", "same-site"):
            return
        if origin in self._settings.origins:
            return
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if foreign and method in SAFE and headers.get("sec-fetch-mode") == "navigate":
            return  # somebody followed a link
        if foreign or (origin is not None and urlsplit(origin).netloc.lower() != (headers.get("host") or "").lower()):
            raise ForeignRequestError(
                "a page of another site asks", hint="the server can be started with --allow-origin"
            )

    def _headers(self, headers: Headers) -> dict[str, str]:
        """The headers of every answer."""
        found = dict(HEADERS)
        if self._settings.encrypted:
            found["Strict-Transport-Security"] = "max-age=31536000"
        origin = headers.get("origin")
        if origin in self._settings.origins:
            found |= {
                "Access-Control-Allow-Origin": origin or "",
                "Access-Control-Allow-Headers": "Authorization, Content-Type",
                "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
                "Cross-Origin-Resource-Policy": "cross-origin",
                "Vary": "Origin",
            }
        return found

    def _record(self, scope: Scope, seen: dict[str, Any], seconds: float) -> None:
        """One line for each access, with the route instead of the path, whose parts come from clients."""
        route = scope.get("route")
        shown = getattr(route, "path", None) or "other"
        key = next((value for value in scope.get("path_params", {}).values() if is_ours(value)), "-")
        status = seen["status"] or HTTPStatus.INTERNAL_SERVER_ERROR.value
        self._on_answer(scope["method"], shown, status)
        audit.info(
            "%s %s %s %s %s %d %.3f", _address(scope), seen["user"], scope["method"], shown, key, status, seconds
        )


def credential_of(headers: Headers) -> str | None:
    """The token, or the secret of a session, that a request sends."""
    scheme, _, credential = (headers.get("authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and credential.strip():
        return credential.strip()
    try:
        found = SimpleCookie(headers.get("cookie") or "").get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _check_size(scope: Scope, headers: Headers) -> None:
    """Only forms of files are large; what else is sent is read into memory. Raises: TooLargeError."""
    if _takes_files(scope):
        return
    announced = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not announced.isdecimal() or int(announced) > LARGEST_FIELD:
        raise TooLargeError(f"the request is not announced with at most {LARGEST_FIELD} bytes", hint="send less")


def _takes_files(scope: Scope) -> bool:
    path = scope["path"]
    return path in FORMS or path.startswith("/infer/")


def _forwarded(headers: Headers) -> str:
    """The address that the proxy saw: the last one of the list, because clients can write the others."""
    return headers.get("x-forwarded-for", "").rpartition(",")[2].strip() or "unknown"


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("unknown",))[0])
