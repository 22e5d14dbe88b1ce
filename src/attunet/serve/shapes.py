"""The shapes of requests and answers of our own API; the server answers with them, and the client reads them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Health",
    "JobEvent",
    "JobList",
    "JobOptions",
    "JobRequest",
    "JobView",
    "LabelStatistics",
    "LoginRequest",
    "OutputName",
    "ProblemDetail",
    "Readiness",
    "ResultView",
    "ScanList",
    "ScanView",
    "ServedModel",
    "ServedModels",
    "Statistics",
    "StudyList",
    "StudyView",
]

OutputName = Literal["image", "probabilities", "attention", "preview", "dicom-seg", "explanation"]
"""What a job computes beside the mask and its statistics."""

_SCAN = "9f0c3b52c7a34f0e8d1c8a9f5b7e2d10"


class _Shape(BaseModel):
    """Base of all shapes."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ServedModel(_Shape):
    """A model that the server offers."""

    name: str = Field(description="Its name in requests.", examples=["hippocampus"])
    description: str = Field(description="What it was trained on, in a sentence.")
    labels: dict[str, int] = Field(description="Labels and their values in masks, background first.")
    channels: list[str] = Field(description="The images that it needs, in this order.", examples=[["MR"]])
    modality: str = Field(description="Modality of its images.", examples=["ct"])
    spatial_dims: int = Field(description="2 for pictures, 3 for volumes.")
    spacing: list[float] = Field(description="Spacing in mm to which images are resampled.")
    gates: list[str] = Field(description="Attention maps that a job can return.")
    dice: dict[str, float | None] = Field(description="Mean held-out Dice of each label over the folds.")
    warnings: list[str] = Field(description="What to know about it.")


class ServedModels(_Shape):
    """The models of the server."""

    models: list[ServedModel]


class ScanView(_Shape):
    """A scan that was uploaded."""

    id: str = Field(description="Its id.", examples=[_SCAN])
    name: str = Field(description="What the client called it.", examples=["scan.nii.gz"])
    files: int = Field(description="Number of its files.")
    bytes: int = Field(description="Their size.")
    created: float = Field(description="When it came, in seconds since 1970.")


class ScanList(_Shape):
    """Scans, the latest first."""

    scans: list[ScanView]


class StudyView(_Shape):
    """An image among the studies of the server."""

    key: str = Field(description="Its name, which a job takes as its scan.")
    labels: list[str] = Field(description="Versions of its label; `final` is trained on.")


class StudyList(_Shape):
    """The images among the studies of the server."""

    studies: list[StudyView]


class JobOptions(_Shape):
    """What a job computes, and how."""

    outputs: list[OutputName] = Field(
        default_factory=list, description="Results beside the mask and its statistics, which are always there."
    )
    series: str | None = Field(
        default=None, max_length=200, description="Number or SeriesInstanceUID of the series, where there are several."
    )
    mirror: bool | None = Field(
        default=None, description="Average over mirrored copies; null as the model decided on held-out cases."
    )
    step_size: float = Field(default=0.5, gt=0, le=1, description="Step between windows as a fraction of the patch.")
    all_windows: bool = Field(default=False, description="Run windows that the model would skip, too.")


class JobRequest(JobOptions):
    """A job to submit."""

    scan: str = Field(max_length=200, description="Id of a scan.", examples=[_SCAN])
    model: str = Field(max_length=100, description="Name of a model.", examples=["hippocampus"])
    step_size: float = Field(default=0.5, ge=0.05, le=1, description="Step between windows as a fraction of the patch.")


class JobView(_Shape):
    """A job."""

    id: str = Field(description="Its id.")
    scan: str = Field(description="Id of its scan.")
    name: str = Field(description="What people call its scan; empty for an upload that is no longer kept.")
    model: str = Field(description="Name of its model.")
    options: JobOptions = Field(description="What it computes.")
    state: Literal["queued", "running", "done", "failed", "cancelled"] = Field(description="Its state.")
    done: int = Field(description="Finished windows.")
    total: int = Field(description="All windows; 0 before they are known.")
    created: float = Field(description="When it was submitted, in seconds since 1970.")
    started: float | None = Field(description="When it was started last.")
    ended: float | None = Field(description="When it ended.")
    reason: str = Field(description="Why it failed.")
    hint: str = Field(description="What to do about it.")


class JobList(_Shape):
    """Jobs, the latest first."""

    jobs: list[JobView]


class JobEvent(_Shape):
    """An event of a job, as the data of a server-sent event."""

    state: str = Field(description="Its state.")
    done: int = Field(description="Finished windows.")
    total: int = Field(description="All windows; 0 before they are known.")
    reason: str = Field(default="", description="Why it failed.")


class ResultView(_Shape):
    """A result of a job."""

    name: str = Field(description="Its name in addresses.", examples=["mask"])
    title: str = Field(description="What it shows, such as the name of a gate.")
    url: str = Field(description="Its address.")
    media_type: str = Field(description="Its type.", examples=["application/gzip"])
    bytes: int = Field(description="Its size.")


class LabelStatistics(_Shape):
    """What a mask says about one label."""

    value: int | None = Field(description="Its value in the mask; null for a region of several.")
    volume_ml: float = Field(description="Its volume in millilitres.")
    interval_ml: list[float] | None = Field(description="Prediction interval of the volume; null when not measured.")
    level: float | None = Field(description="Probability that the interval contains the true volume.")
    interval_reason: str = Field(description="What the interval was made from, or why there is none.")
    expected_dice: float | None = Field(description="Dice to expect if the probabilities are right.")


class Statistics(_Shape):
    """What a prediction says about a scan."""

    model: str = Field(description="Name of the model.")
    manifest: str | None = Field(description="sha256 of the model's manifest.")
    engine: str = Field(description="What computed it.")
    labels: dict[str, LabelStatistics] = Field(description="Each label, or each region.")
    predicted_dice: float | None = Field(description="Mean Dice to expect, as learnt on held-out cases.")
    dice_interval: list[float] | None = Field(description="Its prediction interval.")
    dice_reason: str = Field(description="What that interval was made from, or why there is none.")
    windows: int = Field(description="Windows that all networks ran.")
    skipped_windows: int = Field(description="Windows that were skipped.")
    seconds: float = Field(description="Time of the prediction.")
    warnings: list[str] = Field(description="What to know about this result.")


class LoginRequest(_Shape):
    """Who a browser is."""

    username: str = Field(default="", max_length=200)
    password: str = Field(max_length=1000)


class ProblemDetail(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(default="about:blank", description="Kind of error.")
    title: str = Field(description="The kind in words.", examples=["Not found"])
    status: int = Field(description="Status code.", examples=[404])
    detail: str = Field(description="What happened.")
    hint: str = Field(default="", description="What to do about it.")
    errors: list[dict[str, Any]] | None = Field(default=None, description="Fields of the request that do not suit.")


class Health(_Shape):
    """The state of the server."""

    status: Literal["ok", "starting", "stopping"]


class Readiness(Health):
    """Whether the server takes jobs."""

    unusable_models: int = Field(description="Models that a worker could not load; the log and /models say why.")
