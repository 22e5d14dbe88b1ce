"""`Client`: the server's own API from Python, typed: upload a scan, follow its job, fetch the results."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from attunet.errors import AttunetError, BusyError, DataError, NetworkError, RefusedError
from attunet.files import staged
from attunet.serve.shapes import (
    JobEvent,
    JobList,
    JobRequest,
    JobView,
    OutputName,
    ResultView,
    ScanList,
    ScanView,
    ServedModel,
    ServedModels,
    Statistics,
)

__all__ = ["Client"]

T = TypeVar("T", bound=BaseModel)
CHUNK = 2**20
_BUSY = 429
_SERVER = 500
_RESULTS = TypeAdapter(list[ResultView])


class Client:
    """A client of one server.

    Args:
        url: its address, such as http://127.0.0.1:8000.
        token: the token, or the password of `user`; None for none.
        user: name of the user; None when the server has a token for all.
        verify: PEM file with the authority of the server's certificate; True for those of the system.
        timeout: seconds to wait for an answer.
        transport: how requests travel; None for HTTP.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        user: str | None = None,
        verify: Path | bool = True,
        timeout: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        checked = str(verify) if isinstance(verify, Path) else verify
        self._http = httpx.Client(base_url=url, verify=checked, timeout=timeout, transport=transport, trust_env=False)
        if token is not None and user is None:
            self._http.headers["Authorization"] = f"Bearer {token}"
        elif token is not None:
            answer = self._ask("POST", "/auth/token", data={"username": user, "password": token})
            self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def models(self) -> list[ServedModel]:
        """The models of the server. Raises: NetworkError when it does not answer, RefusedError when it refuses."""
        return self._get("/models", ServedModels).models

    def upload(self, *paths: str | Path) -> ScanView:
        """Upload a scan: one file, a zip of DICOM files, the files of a folder, or a file for each channel.

        Raises: as `models`, BusyError when the server takes no more now, DataError for a folder without files.
        """
        files = [file for path in map(Path, paths) for file in (_files_in(path) if path.is_dir() else [path])]
        if not files:
            raise DataError(f"{', '.join(map(str, paths))} holds no file", hint="give an image, or a folder of DICOM")
        with ExitStack() as opened:
            parts = [("file", (file.name, opened.enter_context(file.open("rb")))) for file in files]
            return self._read(self._ask("POST", "/api/v1/scans", files=parts), ScanView)

    def scans(self) -> list[ScanView]:
        """The latest scans. Raises: as `models`."""
        return self._get("/scans", ScanList).scans

    def remove_scan(self, scan: str) -> None:
        """Delete a scan. Raises: as `models`."""
        self._ask("DELETE", f"/api/v1/scans/{scan}")

    def submit(self, scan: str, model: str, outputs: Sequence[OutputName] = (), **options: Any) -> JobView:
        """Submit a job.

        Args:
            scan: id of a scan.
            model: name of a model.
            outputs: results beside the mask and its statistics.
            options: other fields of `JobRequest`, such as `series`.
        Returns: the job.
        Raises: as `models`, BusyError when too many jobs wait.
        """
        request = JobRequest(scan=scan, model=model, outputs=list(outputs), **options)
        return self._read(self._ask("POST", "/api/v1/jobs", json=request.model_dump()), JobView)

    def job(self, job: str) -> JobView:
        """One job. Raises: as `models`."""
        return self._get(f"/jobs/{job}", JobView)

    def jobs(self) -> list[JobView]:
        """The latest jobs. Raises: as `models`."""
        return self._get("/jobs", JobList).jobs

    def events(self, job: str) -> Iterator[JobEvent]:
        """What happens to a job, until it has ended. Raises: as `models`."""
        with self._explained(), self._http.stream("GET", f"/api/v1/jobs/{job}/events", timeout=None) as answer:
            if answer.is_error:
                answer.read()
            _check(answer)
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield JobEvent.model_validate_json(line[len("data: ") :])

    def wait(self, job: str, timeout: float | None = None) -> JobView:
        """A job when it is done.

        Args: the job; seconds after which it is given up, None for never.
        Raises: DataError when it failed or was cancelled, NetworkError when it takes longer, and as `models`.
        """
        until = None if timeout is None else time.monotonic() + timeout
        for event in self.events(job):
            if event.state in ("done", "failed", "cancelled"):
                break
            if until is not None and time.monotonic() > until:
                raise NetworkError(f"job {job} is {event.state} after {timeout:g} s", hint="wait longer, or cancel it")
        ended = self.job(job)
        if ended.state in ("queued", "running"):  # the server stopped in between
            return self.wait(job, None if until is None else until - time.monotonic())
        if ended.state != "done":
            raise DataError(ended.reason or f"the job was {ended.state}", hint=ended.hint)
        return ended

    def cancel(self, job: str) -> JobView:
        """Cancel a job. Raises: as `models`."""
        return self._read(self._ask("POST", f"/api/v1/jobs/{job}/cancel"), JobView)

    def remove_job(self, job: str) -> None:
        """Delete a job that has ended, and its results. Raises: as `models`."""
        self._ask("DELETE", f"/api/v1/jobs/{job}")

    def results(self, job: str) -> list[ResultView]:
        """The results of a job that is done. Raises: as `models`."""
        return _RESULTS.validate_python(self._ask("GET", f"/api/v1/jobs/{job}/results").json())

    def statistics(self, job: str) -> Statistics:
        """Volumes and expected Dice with their intervals, and warnings. Raises: as `models`."""
        return self._get(f"/jobs/{job}/results/statistics", Statistics)

    def download(self, job: str, result: str, path: str | Path) -> Path:
        """Fetch a result into a file, which appears whole or not at all.

        Args:
            job: the job.
            result: the result's name, such as mask or attention-0.
            path: the file to write.
        Returns: its path.
        Raises: as `models`, FormatError when the file cannot be written.
        """
        address = f"/api/v1/jobs/{job}/results/{result}"
        with staged(Path(path)) as stage, self._explained(), self._http.stream("GET", address) as answer:
            if answer.is_error:
                answer.read()
            _check(answer)
            with stage.open("wb") as file:
                for chunk in answer.iter_bytes(CHUNK):
                    file.write(chunk)
        return Path(path)

    def predict(self, *paths: str | Path, model: str, output: str | Path) -> Statistics:
        """Upload a scan, wait for its mask, and fetch it.

        Args:
            paths: as for `upload`.
            model: name of a model.
            output: file for the mask, NIfTI.
        Returns: the statistics.
        Raises: as `upload`, `submit` and `wait`.
        """
        job = self.wait(self.submit(self.upload(*paths).id, model).id)
        self.download(job.id, "mask", output)
        return self.statistics(job.id)

    def _get(self, path: str, kind: type[T]) -> T:
        return self._read(self._ask("GET", f"/api/v1{path}"), kind)

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        with self._explained():
            answer = self._http.request(method, path, **content)
        return _check(answer)

    def _read(self, answer: httpx.Response, kind: type[T]) -> T:
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as error:
            raise NetworkError(f"{self._http.base_url} is no attunet server", hint="check the address") from error

    def _explained(self) -> _Explained:
        return _Explained(str(self._http.base_url))


class _Explained:
    """Turns failures of the connection within its block into one error that names the server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, httpx.HTTPError):
            message = f"{self._url} does not answer ({type(error).__name__})"
            raise NetworkError(message, hint="check the address, and that the server runs") from error


def _check(answer: httpx.Response) -> httpx.Response:
    """An answer that is no error.

    Raises: BusyError when it is to be asked later, NetworkError when the server failed, RefusedError otherwise.
    """
    if not answer.is_error:
        return answer
    try:
        told = answer.json()
        message, hint = str(told["detail"]), str(told.get("hint", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        message, hint = f"the server answers with status {answer.status_code}", "check its address"
    kind: type[AttunetError] = RefusedError
    if answer.status_code == _BUSY:
        kind = BusyError
    elif answer.status_code >= _SERVER:
        kind = NetworkError
    raise kind(message, hint=hint)


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
