"""OHIF and its PACS: a built viewer below /ohif, and its DICOMweb service below /proxy/dicom, of our origin.

OHIF sends no password of ours, so that its requests carry the cookie of the page; that is why the PACS is asked
through this server, which adds nothing and passes on reading only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from attunet.dicom.network.addresses import parse_address
from attunet.errors import ConfigError, DatasetError, NetworkError
from attunet.serve.settings import ServeSettings

__all__ = ["viewer_router"]

SERVER_COOKIE = "MONAILABEL_SERVER_URL"
"""Where OHIF's panel finds the server."""
PASSED_ON = ("accept", "accept-language")
PASSED_BACK = ("content-type", "content-length", "content-encoding")
TIMEOUT = httpx.Timeout(120, connect=10)
_POLICY = "; ".join(
    (
        "default-src 'self' blob: data:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "frame-ancestors 'none'",
    )
)
"""OHIF is built with inline scripts and WebAssembly; nothing that it loads comes from elsewhere."""


def viewer_router(settings: ServeSettings) -> APIRouter:
    """The routes of the viewer and of its PACS. Args: the server's settings, which name both or none."""
    router, routes = APIRouter(include_in_schema=False), _Viewer(settings)
    if settings.viewer is not None:
        router.add_api_route("/ohif/{path:path}", routes.file, methods=["GET"])
    if settings.pacs is not None:
        router.add_api_route("/proxy/dicom/{kind}/{path:path}", routes.forward, methods=["GET"])
    return router


class _Viewer:
    """What answers the viewer."""

    def __init__(self, settings: ServeSettings) -> None:
        self._folder = None if settings.viewer is None else settings.viewer.resolve()
        self._pacs = "" if settings.pacs is None else str(parse_address(settings.pacs))
        if self._folder is not None and not (self._folder / "index.html").is_file():
            raise ConfigError(f"{settings.viewer} has no index.html", hint="give the folder of a built OHIF as --ohif")
        self._client = httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, trust_env=False)

    def file(self, path: str, request: Request) -> FileResponse:
        """A file of the viewer; for any other address below it, its page, which reads the address itself."""
        assert self._folder is not None
        found = (self._folder / path).resolve()
        inside = found.is_file() and found.is_relative_to(self._folder)
        answer = FileResponse(found if inside else self._folder / "index.html")
        answer.headers["Content-Security-Policy"] = _POLICY
        if not inside or found.name == "index.html":
            url = quote(f"{request.url.scheme}://{request.url.netloc}", safe="")  # it takes quotation marks literally
            answer.set_cookie(SERVER_COOKIE, url, samesite="strict", path="/ohif")
        return answer

    async def forward(self, kind: str, path: str, request: Request) -> Response:
        """Ask the PACS; what it answers streams through."""
        if kind not in ("qido", "wado") or any(part in ("", ".", "..") for part in path.split("/")):
            raise DatasetError("there is no such address of the PACS", hint="see PS3.18")
        url = httpx.URL(f"{self._pacs}/{path}", query=request.url.query.encode())
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        try:
            answer = await self._client.send(self._client.build_request("GET", url, headers=headers), stream=True)
        except httpx.HTTPError as error:
            raise NetworkError(
                "the PACS does not answer", hint="ask again later, or tell who runs the server"
            ) from error
        kept = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
        return StreamingResponse(_raw(answer), answer.status_code, kept, background=BackgroundTask(answer.aclose))


async def _raw(answer: httpx.Response) -> AsyncIterator[bytes]:
    async for piece in answer.aiter_raw():
        yield piece
