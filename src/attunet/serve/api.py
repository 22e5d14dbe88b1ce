"""Our own API, below /api/v1: models, scans, jobs and their results."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse

from attunet.errors import DatasetError
from attunet.serve.guard import COOKIE, credential_of
from attunet.serve.records import ENDED, Job, Scan
from attunet.serve.service import Service
from attunet.serve.shapes import (
    JobEvent,
    JobList,
    JobOptions,
    JobRequest,
    JobView,
    LoginRequest,
    ProblemDetail,
    ResultView,
    ScanList,
    ScanView,
    ServedModel,
    ServedModels,
    Statistics,
    StudyList,
    StudyView,
)

__all__ = ["PREFIX", "api_router"]

PREFIX = "/api/v1"
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                }
            }
        },
    }
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {
        "model": ProblemDetail,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetail"}}},
        "description": text,
    }
    for code, text in {
        401: "A password is needed.",
        403: "A page of another site asks.",
        404: "There is no such thing.",
        413: "The request is too large.",
        422: "The request cannot be used.",
        429: "Too much is waiting; see Retry-After.",
    }.items()
}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "The file."}
}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/event-stream": {
                "example": 'event: progress\ndata: {"state":"running","done":3,"total":8,"reason":""}'
            }
        },
        "description": "An event at once and with each change: `progress`, and `end` as the last one.",
    }
}


def api_router(service: Service) -> APIRouter:
    """The routes of the API. Args: what answers them."""
    routes, router = _Routes(service), APIRouter(prefix=PREFIX, responses=_PROBLEMS)
    for method, path, function, more in (
        ("GET", "/models", routes.models, {}),
        ("GET", "/models/{name}", routes.model, {}),
        ("POST", "/scans", routes.upload, {"status_code": 201, "openapi_extra": _FORM}),
        ("GET", "/studies", routes.studies, {}),
        ("GET", "/scans", routes.scans, {}),
        ("GET", "/scans/{scan}", routes.scan, {}),
        ("DELETE", "/scans/{scan}", routes.remove_scan, {"status_code": 204}),
        ("POST", "/jobs", routes.submit, {"status_code": 202}),
        ("GET", "/jobs", routes.jobs, {}),
        ("GET", "/jobs/{job}", routes.job, {}),
        ("DELETE", "/jobs/{job}", routes.remove_job, {"status_code": 204}),
        ("POST", "/jobs/{job}/cancel", routes.cancel, {}),
        ("GET", "/jobs/{job}/events", routes.events, {"responses": _EVENTS, "response_class": StreamingResponse}),
        ("GET", "/jobs/{job}/results", routes.results, {}),
        ("GET", "/jobs/{job}/results/statistics", routes.statistics, {}),
        ("GET", "/jobs/{job}/results/{name}", routes.result, {"responses": _FILE, "response_class": FileResponse}),
        ("POST", "/session", routes.login, {"status_code": 204}),
        ("DELETE", "/session", routes.logout, {"status_code": 204}),
    ):
        router.add_api_route(path, function, methods=[method], **more)
    return router


class _Routes:
    """What answers each route; those that wait for a disk are plain functions, which run in threads."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def models(self) -> ServedModels:
        """The models of the server."""
        return ServedModels(models=list(self._service.served().values()))

    def model(self, name: str) -> ServedModel:
        """One model."""
        if name not in self._service.models:
            raise DatasetError("there is no such model", hint=f"choose from {', '.join(self._service.models)}")
        return self._service.served()[name]

    async def upload(self, request: Request) -> ScanView:
        """Upload a scan: one file, a zip of DICOM files, many DICOM files, or a file for each channel."""
        form, folder = await self._service.receive(request.stream(), request.headers.get("content-length"))
        try:
            uploads = [upload for _, upload in form.files]
            return _scan_view(await asyncio.to_thread(self._service.add_scan, folder, uploads))
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def studies(self) -> StudyList:
        """The images of --studies, and the versions of their labels."""
        store = self._service.datastore
        return StudyList(studies=[StudyView(key=key, labels=list(store.labels(key))) for key in store.images()])

    def scans(self, limit: int = Query(100, ge=1, le=1000)) -> ScanList:
        """The latest scans."""
        return ScanList(scans=[_scan_view(scan) for scan in self._service.queue.scans(limit)])

    def scan(self, scan: str) -> ScanView:
        """One scan."""
        return _scan_view(self._service.scan(scan))

    def remove_scan(self, scan: str) -> Response:
        """Delete a scan."""
        self._service.remove_scan(scan)
        return Response(status_code=204)

    def submit(self, request: JobRequest) -> JobView:
        """Submit a job."""
        options = JobOptions(**request.model_dump(exclude={"scan", "model"}))
        return self._view(self._service.submit(request.scan, request.model, options))

    def jobs(self, limit: int = Query(100, ge=1, le=1000)) -> JobList:
        """The latest jobs."""
        return JobList(jobs=[self._view(job) for job in self._service.queue.jobs(limit)])

    def job(self, job: str) -> JobView:
        """One job."""
        return self._view(self._service.queue.job(job))

    def remove_job(self, job: str) -> Response:
        """Delete a job that has ended, and its results."""
        self._service.remove_job(job)
        return Response(status_code=204)

    def cancel(self, job: str) -> JobView:
        """Cancel a job; one that has ended stays as it is."""
        return self._view(self._service.cancel(job))

    async def events(self, job: str) -> StreamingResponse:
        """Follow a job by server-sent events, until it has ended."""
        self._service.queue.job(job)
        return StreamingResponse(self._events(job), media_type="text/event-stream")

    def results(self, job: str) -> list[ResultView]:
        """The results of a job that is done."""
        found = self._service.store.results(self._folder(job))
        return [
            ResultView(
                name=one.name,
                title=one.title,
                url=f"{PREFIX}/jobs/{job}/results/{one.name}",
                media_type=one.media_type,
                bytes=one.bytes,
            )
            for one in found.values()
        ]

    def statistics(self, job: str) -> Statistics:
        """Volumes and expected Dice with their intervals, and warnings."""
        _, path = self._service.store.result(self._folder(job), "statistics")
        return Statistics.model_validate_json(path.read_text(encoding="utf-8"))

    def result(self, job: str, name: str) -> FileResponse:
        """A result as a file: mask, image, probabilities, attention-0 and so on, preview, dicom-seg, explanation."""
        one, path = self._service.store.result(self._folder(job), name)
        endings = "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix
        kind = "inline" if one.media_type.startswith(("image/", "text/")) else "attachment"
        headers = {"Content-Security-Policy": _REPORT} if one.media_type.startswith("text/html") else {}
        return FileResponse(
            path,
            media_type=one.media_type,
            filename=f"{one.name}{endings}",
            content_disposition_type=kind,
            headers=headers,
        )

    def login(self, request: LoginRequest, http: Request) -> Response:
        """Begin the session of a browser: sets a cookie."""
        address = http.client.host if http.client else "unknown"
        secret = self._service.access.login(request.username, request.password, address)
        answer = Response(status_code=204)
        secure = self._service.settings.encrypted
        answer.set_cookie(COOKIE, secret, httponly=True, samesite="strict", secure=secure, path="/")
        return answer

    def logout(self, http: Request) -> Response:
        """End the session of a browser."""
        if secret := credential_of(http.headers):
            self._service.access.logout(secret)
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    async def _events(self, key: str) -> AsyncIterator[str]:
        async for _ in self._service.workers.changes(key):
            try:
                job = await asyncio.to_thread(self._service.queue.job, key)
            except DatasetError:  # deleted
                return
            done, total = self._service.workers.progress(key)
            event = JobEvent(state=job.state, done=done, total=total, reason=job.reason)
            kind = "end" if job.state in ENDED else "progress"
            yield f"event: {kind}\ndata: {event.model_dump_json()}\n\n"
            if kind == "end":
                return

    def _folder(self, key: str) -> str:
        """The folder of a job's results. Raises: DatasetError when it has none."""
        job = self._service.queue.job(key)
        if job.state != "done":
            raise DatasetError(
                f"the job is {job.state}, and has no results", hint=job.reason or "wait until it is done"
            )
        return job.folder

    def _view(self, job: Job) -> JobView:
        done, total = self._service.workers.progress(job.id)
        return JobView(
            id=job.id,
            scan=job.scan,
            name=self._service.name_of(job.scan),
            model=job.model,
            options=JobOptions(**job.options),
            state=job.state,
            done=done,
            total=total,
            created=job.created,
            started=job.started,
            ended=job.ended,
            reason=job.reason,
            hint=job.hint,
        )


_REPORT = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; sandbox allow-scripts"
)
"""A report holds its own script, which moves sliders: it runs in an origin of its own, and can ask nobody."""


def _scan_view(scan: Scan) -> ScanView:
    return ScanView(id=scan.id, name=scan.name, files=scan.files, bytes=scan.bytes, created=scan.created)
