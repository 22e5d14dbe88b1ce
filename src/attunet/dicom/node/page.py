"""The state of a node for people (HTML) and programs (JSON), read-only, for this machine by default."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from attunet.dicom.network.addresses import is_loopback
from attunet.dicom.node.settings import PageSettings
from attunet.dicom.node.state import STUDY_STATES, NodeState, StudyState, read_state
from attunet.errors import AttunetError, ConfigError

__all__ = ["page_of", "serving_page"]

TIMEOUT = 10
_log = logging.getLogger(__name__)
_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="10">
<title>attunet node</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%;margin-bottom:2rem}
td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd;vertical-align:top;overflow-wrap:anywhere}
.failed{color:#a00}</style><h1>attunet node</h1>
"""


@contextmanager
def serving_page(settings: PageSettings, folder: Path) -> Iterator[None]:
    """Serve the state while the block runs: `/` for people, `/state.json` for programs.

    Args: where to listen; the folder of the node's state.
    Raises: ConfigError when the port cannot be used.
    """

    class Handler(_Handler):
        state_folder = folder
        only_local = is_loopback(settings.address)

    try:
        server = ThreadingHTTPServer((settings.address, settings.port), Handler)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.address}:{settings.port}: {error.strerror or error}",
            hint="choose another port for page, or null for no page",
        ) from error
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, name="page")
    thread.start()
    _log.info("its state: http://%s:%s", settings.address, settings.port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def page_of(state: NodeState) -> str:
    """The page: counts, what waits, the dead-letter list, late instances, and what is in work."""
    parts = [
        _HEAD,
        _table(("state", "studies", "meaning"), [(n, state.counts[n], STUDY_STATES[n]) for n in STUDY_STATES]),
    ]
    waiting = [(name, entry["results"], entry["reason"]) for name, entry in state.waiting.items()]
    parts += ["<h2>Waiting for a destination</h2>", _table(("destination", "results", "last failure"), waiting)]
    for title, studies in (
        ("Dead-letter list", state.failed),
        ("Answered, with instances that came in late", state.late),
        ("Latest studies", state.active),
    ):
        parts += [f"<h2>{title}</h2>", _table(_COLUMNS, [_row(study) for study in studies])]
    return "".join(parts)


_COLUMNS = ("study", "state", "since", "instances", "late", "unsent", "reason")


def _row(study: StudyState) -> tuple[Any, ...]:
    return study.uid, study.state, study.since, study.instances, study.late, study.unsent, study.reason


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return "<p>none</p>"
    lines = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


class _Handler(BaseHTTPRequestHandler):
    """Answers two paths."""

    state_folder: Path
    only_local: bool
    timeout = TIMEOUT
    server_version, sys_version = "attunet", ""

    def do_GET(self) -> None:
        """Answer a request."""
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host") or ""
        if self.only_local and not is_loopback(
            host.strip("[]")
        ):  # a page of a stranger that calls itself by our address
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", "this page is for this machine only")
            return
        try:
            if self.path == "/":
                self._answer(HTTPStatus.OK, "text/html", page_of(read_state(self.state_folder)))
            elif self.path == "/state.json":
                self._answer(HTTPStatus.OK, "application/json", json.dumps(asdict(read_state(self.state_folder))))
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", "there is / and /state.json")
        except AttunetError as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", str(error))

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.end_headers()
        self.wfile.write(content)
