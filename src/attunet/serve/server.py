"""`serve`: the application with all its routes, and the process that answers them until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from attunet.errors import ConfigError, DatasetError
from attunet.serve.api import PREFIX, api_router
from attunet.serve.connection import limited_protocol
from attunet.serve.guard import Guard
from attunet.serve.monai_label import monai_router
from attunet.serve.problems import answer_problems
from attunet.serve.service import Service
from attunet.serve.settings import ServeSettings
from attunet.serve.shapes import Health, Readiness
from attunet.serve.viewer import viewer_router

__all__ = ["PAGE", "make_app", "serve", "server_config"]

PAGE = Path(__file__).with_name("page")
"""The files of the page, served below /page; index.html is also /."""


class _PageFiles(StaticFiles):
    """Files that tell nothing of patients: browsers keep them, and ask each time whether they are still the same."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        answer = super().file_response(*arguments, **named)
        answer.headers["Cache-Control"] = "no-cache"  # which is: to be kept, and used only after that question
        return answer


def make_app(service: Service) -> Guard:
    """The application of a service: it works while its lifespan lasts."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="attunet",
        version=version("attunet"),
        description="Segmentation of medical images, showing where the network looks. Research software.",
        lifespan=lifespan,
        docs_url=None,  # which loads scripts from elsewhere
        redoc_url=None,
    )
    answer_problems(app)
    app.include_router(api_router(service))
    app.include_router(monai_router(service))
    app.include_router(viewer_router(service.settings))
    _add_health(app, service)
    if PAGE.is_dir():
        app.mount("/page", _PageFiles(directory=PAGE))
    return Guard(app, service.settings, service.access, service.metrics.answered)


def _add_health(app: FastAPI, service: Service) -> None:
    """Whether the server lives, whether it takes jobs, what it counts, and the page."""

    def healthz() -> Health:
        """Whether the server lives."""
        return Health(status="ok")

    def readyz() -> Response:
        """Whether it takes jobs."""
        status = "stopping" if service.workers.stopping else "ok" if service.workers.ready else "starting"
        told = Readiness(status=status, unusable_models=len(service.workers.faults))
        return JSONResponse(told.model_dump(), 200 if status == "ok" else 503)

    def metrics() -> Response:
        """What it counts, for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    def page() -> Response:
        """The page."""
        if not (PAGE / "index.html").is_file():
            raise DatasetError("this server has no page", hint=f"use its API, {PREFIX}, described in /openapi.json")
        return FileResponse(PAGE / "index.html")

    app.add_api_route("/healthz", healthz, methods=["GET"])
    app.add_api_route(
        "/readyz", readyz, methods=["GET"], responses={503: {"model": Readiness}}, response_model=Readiness
    )
    app.add_api_route("/metrics", metrics, methods=["GET"], response_class=Response)
    app.add_api_route("/", page, methods=["GET"], include_in_schema=False)


def serve(settings: ServeSettings, on_ready: Callable[[str], None] = lambda _url: None) -> None:
    """Serve until SIGTERM or Ctrl-C; running jobs then finish, or are put back into the queue.

    Args: the settings; what is called with the address when the server listens.
    Raises: ConfigError for settings that are open to strangers or a port in use, BundleError for a folder that is no
        model, BusyError when another server uses the folder of the data.
    """
    listening = _listen(settings)
    service = Service(settings)
    config = server_config(settings, make_app(service))
    scheme = "https" if settings.certificate else "http"
    host, port = listening.getsockname()[:2]
    on_ready(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
    with listening:
        asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


def server_config(settings: ServeSettings, app: Guard) -> uvicorn.Config:
    """How uvicorn serves an application. Args: the settings of the server; the application."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # with any proxy trusted, it takes what clients write; the guard does not
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        timeout_graceful_shutdown=5,
        http=limited_protocol(settings.header_seconds),
        ws="none",
        lifespan="on",
        port=settings.port,
    )


def _listen(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # with the protocol named, asyncio sends small answers at once (TCP_NODELAY) instead of 40 ms later
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}", hint="choose another --port"
        ) from error
    return listening
