"""The REST calls of MONAI Label, as its Python client, 3D Slicer's module and OHIF's panel make them.

Facts that these clients taught: an answer to infer is a form of `params` and `image` with a Content-Length, because
they save what they got of a chunked one; OHIF wants a bare NRRD without compression, and ignores its header; a client
with a token sends the content headers of an earlier request again. See docs/how-to/serve.md.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from attunet.errors import DataError, DatasetError
from attunet.serve.conversion import file_name
from attunet.serve.masks import mask_as
from attunet.serve.multipart import LARGEST_FIELD, Form, TooLargeError
from attunet.serve.records import Job
from attunet.serve.service import Service
from attunet.serve.shapes import JobOptions

__all__ = ["monai_router"]

STRATEGY = "first"
_FORM = {"requestBody": {"content": {"multipart/form-data": {"schema": {"type": "object"}}}}}
_RAW = ".nrrd"


def monai_router(service: Service) -> APIRouter:
    """The routes of MONAI Label. Args: what answers them."""
    routes, router = _Calls(service), APIRouter(tags=["MONAI Label"])
    for method, path, function, more in (
        ("GET", "/auth/", routes.enabled, {}),
        ("POST", "/auth/token", routes.token, {}),
        ("GET", "/auth/token/valid", routes.valid, {}),
        ("GET", "/info/", routes.info, {}),
        ("POST", "/activelearning/{strategy}", routes.next_sample, {}),
        ("PUT", "/session/", routes.begin_session, {"openapi_extra": _FORM}),
        ("GET", "/session/{session}", routes.session, {}),
        ("DELETE", "/session/{session}", routes.end_session, {}),
        ("POST", "/infer/{model}", routes.infer, {"openapi_extra": _FORM, "response_class": Response}),
        ("GET", "/datastore/", routes.datastore, {}),
        ("PUT", "/datastore/", routes.add_image, {"openapi_extra": _FORM}),
        ("GET", "/datastore/image", routes.image, {"response_class": FileResponse}),
        ("GET", "/datastore/label", routes.label, {"response_class": FileResponse}),
        ("PUT", "/datastore/label", routes.save_label, {"openapi_extra": _FORM}),
        ("GET", "/train/", routes.training, {}),
    ):
        router.add_api_route(path, function, methods=[method], **more)
    return router


class _Calls:
    """What answers each call."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def enabled(self) -> dict[str, bool]:
        """Whether a password is needed."""
        return {"enabled": self._service.access.closed}

    async def token(self, request: Request) -> dict[str, str]:
        """Log in with a form of username and password; the password may be the token of the server."""
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > LARGEST_FIELD:
                raise TooLargeError("the form is too large", hint="send username and password")
        fields = parse_qs(content.decode("utf-8", "replace"))
        name, password = (fields.get(key, [""])[0] for key in ("username", "password"))
        address = request.client.host if request.client else "unknown"
        secret = await asyncio.to_thread(self._service.access.login, name, password, address)
        return {"access_token": secret, "token_type": "bearer"}

    def valid(self) -> dict[str, bool]:
        """Whether the token of this request is valid: otherwise it does not come here."""
        return {"valid": True}

    def info(self) -> dict[str, Any]:
        """What the server offers."""
        models = self._service.models
        images = self._service.datastore.images()
        completed = sum("final" in self._service.datastore.labels(key) for key in images)
        return {
            "name": "attunet",
            "description": "Attention U-Net; shows where it looks. Research software, not a medical device.",
            "version": "0.8.5",  # of the protocol
            "labels": list(dict.fromkeys(name for model in models.values() for name in list(model.labels)[1:])),
            "models": {
                name: {
                    "type": "segmentation",
                    "labels": dict(list(model.labels.items())[1:]),
                    "dimension": model.spatial_dims,
                    "description": model.description,
                    "config": {},
                }
                for name, model in models.items()
            },
            "trainers": {},
            "strategies": {STRATEGY: {"description": "The first image without a final label"}},
            "scoring": {},
            "train_stats": {},
            "datastore": {"total": len(images), "completed": completed},
        }

    def next_sample(self, strategy: str) -> dict[str, Any]:
        """The first image without a final label; an empty id when there is none left."""
        if strategy != STRATEGY:
            raise DatasetError("there is no such strategy", hint=f"use {STRATEGY}")
        store = self._service.datastore
        for key, case in store.images().items():
            if "final" not in store.labels(key):
                return {"id": key, "name": file_name(key, case)}  # from whose suffix 3D Slicer knows the format
        return {"id": ""}

    async def begin_session(self, request: Request) -> dict[str, Any]:
        """Upload an image for a while."""
        form, folder = await self._form(request)
        try:
            scan = await asyncio.to_thread(self._service.add_scan, folder, [upload for _, upload in form.files])
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return {"session_id": scan.id, "session_info": self._session(scan.id)}

    def session(self, session: str) -> dict[str, Any]:
        """What is known of an uploaded image."""
        return self._session(session)

    def end_session(self, session: str) -> dict[str, Any]:
        """Delete an uploaded image."""
        self._service.remove_scan(session)
        return {}

    async def infer(
        self,
        request: Request,
        model: str,
        image: str = Query("", max_length=200),
        session_id: str = Query("", max_length=200),
        output: str = Query("", max_length=20),
    ) -> Response:
        """Segment an image of the datastore, of a session, or of this form, and answer with the mask."""
        form, folder = await self._form(request)
        try:
            params, warnings = _params(form), list[str]()
            if form.named("label"):
                warnings.append("the label that was sent is not used: these models take images only")
            if (uploads := form.named("file")) and not session_id:
                image = (await asyncio.to_thread(self._service.add_scan, folder, uploads)).id
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        job = await asyncio.to_thread(self._service.submit, session_id or image, model, JobOptions())
        try:
            job = await self._service.ended(job.id)
        except asyncio.CancelledError:  # the client has gone
            self._service.cancel(job.id)
            raise
        return await asyncio.to_thread(self._answer, job, params, output, warnings)

    def datastore(self, output: str = "stats") -> dict[str, Any]:
        """The images and the versions of their labels, or their numbers."""
        store = self._service.datastore
        labels = {key: store.labels(key) for key in store.images()}
        if output == "all":
            return {
                "objects": {key: {"image": {}, "labels": {tag: {} for tag in tags}} for key, tags in labels.items()}
            }
        return {"total": len(labels), "completed": sum("final" in tags for tags in labels.values())}

    async def add_image(self, request: Request, image: str = Query("", max_length=200)) -> dict[str, str]:
        """Add an image to the datastore."""
        form, folder = await self._form(request)
        try:
            key = await asyncio.to_thread(self._service.add_image, folder, form.named("file"), image)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return {"image": key}

    async def image(self, image: str = Query(max_length=200)) -> FileResponse:
        """An image of the datastore, or a series of the PACS, as one file."""
        path, name = await self._service.image(image)
        return FileResponse(path, filename=name)

    def label(self, label: str = Query(max_length=200), tag: str = Query("final", max_length=100)) -> FileResponse:
        """A version of a label."""
        found = self._service.datastore.labels(label)
        if tag not in found:
            raise DatasetError("there is no such label", hint=f"this image has: {', '.join(found) or 'none'}")
        return FileResponse(found[tag], filename=found[tag].name)

    async def save_label(
        self, request: Request, image: str = Query(max_length=200), tag: str = Query("final", max_length=100)
    ) -> dict[str, str]:
        """Save a corrected label of an image; the version `final` is trained on."""
        form, folder = await self._form(request)
        try:
            await asyncio.to_thread(self._service.save_label, image, tag or "final", folder, form.named("label"))
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return {"image": image, "label": image}

    def training(self, check_if_running: bool = False) -> Response:
        """Whether the server trains: it never does."""
        raise DatasetError("this server does not train", hint="use attunet train with the folder of --studies")

    async def _form(self, request: Request) -> tuple[Form, Path]:
        return await self._service.receive(request.stream(), request.headers.get("content-length"))

    def _session(self, key: str) -> dict[str, Any]:
        scan = self._service.scan(key)
        return {"image": scan.path, "creation_ts": scan.created, "last_access_ts": scan.created, "expiry": 0}

    def _answer(self, job: Job, params: dict[str, Any], output: str, warnings: list[str]) -> Response:
        store, model = self._service.store, self._service.models[job.model]
        _, mask = store.result(job.folder, "mask")
        _, statistics = store.result(job.folder, "statistics")
        told = json.loads(statistics.read_text(encoding="utf-8"))
        if output == "image":
            return Response(mask_as(mask, _RAW), media_type="application/octet-stream")
        suffix = str(params.get("result_extension") or ".nii.gz")
        content = mask_as(mask, suffix)
        answer = {
            "label_names": dict(list(model.labels.items())[1:]),
            "centroids": {},
            "latencies": {"total": told["seconds"]},
            "statistics": told,
            "warnings": [*warnings, *told["warnings"]],
        }
        if output == "json":
            return JSONResponse({"params": answer})
        return _form_of(answer, f"{job.id}{suffix}", content)


def _params(form: Form) -> dict[str, Any]:
    """The settings of a request. Raises: DataError when they are no JSON object."""
    try:
        params = json.loads(form.fields.get("params") or "{}")
    except (ValueError, RecursionError) as error:
        raise DataError("params is no JSON", hint="send an object, such as {}") from error
    if not isinstance(params, dict):
        raise DataError("params is no JSON object", hint="send an object, such as {}")
    return params


def _form_of(params: dict[str, Any], name: str, content: bytes) -> Response:
    """A form of params and a file, whole, so that it has a Content-Length."""
    boundary = uuid4().hex.encode()
    body = b"".join(
        (
            b"--" + boundary + b'\r\nContent-Disposition: form-data; name="params"\r\n',
            b"Content-Type: application/json\r\n\r\n" + json.dumps(params).encode() + b"\r\n",
            b"--" + boundary + b'\r\nContent-Disposition: form-data; name="image"; filename="' + name.encode(),
            b'"\r\nContent-Type: application/octet-stream\r\n\r\n' + content + b"\r\n--" + boundary + b"--\r\n",
        )
    )
    return Response(body, media_type=f"multipart/form-data; boundary={boundary.decode()}")
