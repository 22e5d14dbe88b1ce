"""A server under measurement: the time until it answers, requests of MONAI Label's protocol, and its memory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import httpx
from processes import memory_bytes, peak_bytes, session_processes
from programs import Command

__all__ = ["LabelServer", "file_of"]

SLICER = {"result_extension": ".nrrd", "result_dtype": "uint8"}
"""The parameters of 3D Slicer's module: a mask without compression, which saves both servers time."""
POLL = 0.02
PATIENCE = 300.0
"""Seconds after which a server that does not answer ends the benchmark."""


class LabelServer:
    """Runs a server for as long as the context lasts.

    Args:
        command: its command, without a port.
        model: the name of its model.
        log: the file of its output.
        variables: environment variables.
    """

    def __init__(self, command: Command, model: str, log: Path, **variables: str) -> None:
        self._command, self._model, self._log, self._variables = command, model, log, variables
        self.startup = 0.0
        """Seconds until it answered for the first time."""
        self.memory_gb = 0.0
        """Memory of all its processes when it had answered for the first time, and been left alone for a second."""
        self.peak_gb = 0.0
        """Peak memory of all its processes, once it has ended."""

    def __enter__(self) -> LabelServer:
        port = _free_port()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with self._log.open("w") as stream:
            self._process = subprocess.Popen(
                [*map(str, self._command), "--port", str(port)],
                env=os.environ | self._variables,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._pool = ThreadPoolExecutor(1)
        self._peak: Future[int] = self._pool.submit(peak_bytes, self.pid)
        try:
            self._wait(started + PATIENCE)
            self.startup = time.perf_counter() - started
            time.sleep(1)
            self.memory_gb = memory_bytes(self.pid) / 1e9
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """Its leading process, and the number of its session."""
        return self._process.pid

    def infer(self, scan: Path, mask: Path) -> float:
        """Upload a scan and write its mask, NRRD. Returns: seconds."""
        started = time.perf_counter()
        with scan.open("rb") as stream:
            answer = self._client.post(
                f"/infer/{self._model}", data={"params": json.dumps(SLICER)}, files={"file": (scan.name, stream)}
            )
        if answer.status_code != httpx.codes.OK:
            raise SystemExit(f"{answer.status_code}: {answer.text[:2000]}\nThe server's output is in {self._log}.")
        mask.write_bytes(file_of(answer.content, answer.headers["content-type"]))
        return time.perf_counter() - started

    def info(self) -> float:
        """Ask what the server offers. Returns: seconds."""
        started = time.perf_counter()
        self._client.get("/info/").raise_for_status()
        return time.perf_counter() - started

    def _wait(self, deadline: float) -> None:
        while time.perf_counter() < deadline and self._process.poll() is None:
            with suppress(httpx.HTTPError):
                self.info()
                return
            time.sleep(POLL)
        raise SystemExit(f"the server does not answer:\n{self._log.read_text()[-2000:]}\nIts output is in {self._log}.")

    def _stop(self) -> None:
        self._client.close()
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in session_processes(self.pid):
            with suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
        with suppress(ProcessLookupError):  # it ended before its memory was read
            self.peak_gb = self._peak.result() / 1e9
        self._pool.shutdown()


def file_of(content: bytes, kind: str) -> bytes:
    """The file in a form. Args: the body, and its content type. Raises: StopIteration when it holds none."""
    boundary = b"--" + kind.partition("boundary=")[2].strip('"').encode()
    parts = (part.partition(b"\r\n\r\n") for part in content.split(boundary))
    return next(data for head, _, data in parts if b"filename=" in head).removesuffix(b"\r\n")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
