"""What a data set is like: sizes, spacings, intensities and labels, read once before planning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from attunet.data.cases import Case, Dataset, GeometryPolicy, read_case
from attunet.data.labels import name_labels
from attunet.data.preprocess import canonical, content_box
from attunet.data.volume import Array, Volume
from attunet.errors import DataError, DatasetError, LabelError

__all__ = ["CaseFacts", "Fingerprint", "Modality", "fingerprint"]

Modality = Literal["ct", "mr", "image", "other"]
_SAMPLES_PER_CASE = 20_000


@dataclass(frozen=True)
class CaseFacts:
    """One case on canonical axes, cropped to its content."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    raster: bool
    intensities: Array
    """(channels, samples): a sample of the foreground, or of the whole image where nothing is labelled."""
    label_voxels: dict[int, int]
    integral: bool


@dataclass(frozen=True)
class Fingerprint:
    """What the planner decides from."""

    name: str
    cases: tuple[CaseFacts, ...]
    labels: dict[str, int]
    ignore_label: int | None
    channel_names: tuple[str, ...]
    modality: Modality

    @property
    def shapes(self) -> Array:
        """(cases, 3) voxels."""
        return np.array([case.shape for case in self.cases])

    @property
    def spacings(self) -> Array:
        """(cases, 3) mm."""
        return np.array([case.spacing for case in self.cases])

    def label_counts(self) -> dict[str, int]:
        """Voxels per label name over all cases."""
        total: Counter[int] = Counter()
        for case in self.cases:
            total.update(case.label_voxels)
        return {name: total.get(value, 0) for name, value in self.labels.items()}


def fingerprint(
    dataset: Dataset,
    *,
    labels: dict[str, int] | None = None,
    geometry: GeometryPolicy = "fail",
    advance: Callable[[], None] = lambda: None,
) -> Fingerprint:
    """Read every labelled case once.

    Args: labels to learn (name to file value, background added when missing), all of the data set's by default;
        what to do when image and label grids differ; a function called after each case.
    Raises: DatasetError without labelled cases, LabelError when a chosen label is nowhere, DataError for NaN.
    """
    chosen = [case for case in dataset.cases if case.label is not None and case.split != "test"]
    if not chosen:
        raise DatasetError(f"no labelled case in {dataset.root}", hint="training needs a label file for each image")
    facts = []
    for case in chosen:
        facts.append(_facts(case, geometry))
        advance()
    found = sorted(set().union(*(case.label_voxels for case in facts)))
    names = _chosen_labels(labels, found) if labels else name_labels(dataset.label_names, _without(found, dataset))
    return Fingerprint(
        name=dataset.name,
        cases=tuple(facts),
        labels=names,
        ignore_label=dataset.ignore_label,
        channel_names=_channel_names(dataset, facts),
        modality=_modality(dataset, facts),
    )


def _facts(case: Case, geometry: GeometryPolicy) -> CaseFacts:
    image, label = read_case(case, geometry=geometry)
    assert label is not None
    start, size = content_box(image.array, crop=True)
    box = tuple(slice(low, low + length) for low, length in zip(start, size, strict=True))
    content = Volume(image.array[:, *box], image.affine)
    axes, _, _ = canonical(content)
    intensities = _sample(content.array, label.array[0][box])
    if not np.isfinite(intensities).all():
        raise DataError(
            f"the image of case {case.id} holds NaN or infinite values, expected finite numbers",
            hint="replace them by a number, such as the value of air or background",
        )
    values, counts = np.unique(label.array, return_counts=True)
    return CaseFacts(
        shape=axes.spatial_shape,
        spacing=axes.spacing,
        raster=bool(np.array_equal(image.affine, np.eye(4))) and image.spatial_shape[2] == 1,
        intensities=intensities,
        label_voxels={int(value): int(count) for value, count in zip(values, counts, strict=True)},
        integral=bool(np.issubdtype(image.array.dtype, np.integer)),
    )


def _sample(image: Array, label: Array) -> Array:
    flat = image.reshape(image.shape[0], -1)
    inside = np.flatnonzero(label)
    if inside.size == 0:
        inside = np.arange(flat.shape[1])
    step = max(1, inside.size // _SAMPLES_PER_CASE)
    return flat[:, inside[::step]].astype(np.float32)


def _without(found: Iterable[int], dataset: Dataset) -> list[int]:
    return [value for value in found if value != dataset.ignore_label]


def _chosen_labels(labels: dict[str, int], found: list[int]) -> dict[str, int]:
    absent = {name: value for name, value in labels.items() if value not in found and value != 0}
    if absent:
        raise LabelError(f"labels {absent} occur in no case; found values {found}", hint="correct --labels")
    rest = {name: value for name, value in labels.items() if name != "background"}
    background = labels.get("background", 0)
    return {"background": background, **rest}


def _channel_names(dataset: Dataset, facts: list[CaseFacts]) -> tuple[str, ...]:
    counts = {case.intensities.shape[0] for case in facts}
    if len(counts) > 1:
        raise DatasetError(
            f"the images have different numbers of channels: {sorted(counts)}",
            hint="run `attunet inspect` to see which; give every case the same channels",
        )
    channels = counts.pop()
    names = dataset.channel_names
    return names if len(names) == channels else tuple(f"channel {index}" for index in range(channels))


def _modality(dataset: Dataset, facts: list[CaseFacts]) -> Modality:
    names = " ".join(dataset.channel_names).lower()
    if all(case.raster for case in facts) and _lowest(facts) >= 0:
        return "image"
    if "ct" in names.split() or (not names and _lowest(facts) < -200 and all(case.integral for case in facts)):
        return "ct"
    if any(word in names for word in ("mr", "t1", "t2", "flair", "adc")):
        return "mr"
    return "ct" if _lowest(facts) < -200 and all(case.integral for case in facts) else "other"


def _lowest(facts: list[CaseFacts]) -> float:
    return min(float(case.intensities.min()) for case in facts)
