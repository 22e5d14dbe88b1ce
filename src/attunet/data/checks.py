"""Inspecting a data set: the facts of every case, and every problem with its remedy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from attunet.data.alignment import GeometryPolicy, align_label, describe_mismatch, same_grid
from attunet.data.cases import check_case_headers, read_case_image, read_own_label
from attunet.data.composition import check_series, with_combinations
from attunet.data.dataset import Case, Dataset, Problem
from attunet.data.dataset_checks import check_dataset
from attunet.data.facts import CaseFacts, count_labels, gather_facts
from attunet.data.formats import format_of, mask_suffix, suffix_of
from attunet.data.geometry import shear_degrees
from attunet.data.label_checks import has_soft_edges
from attunet.data.label_files import REFUSALS
from attunet.data.labels import annotated_values, background_value, declared_values
from attunet.data.modality import case_channels
from attunet.data.volume import Volume
from attunet.errors import AttunetError, GeometryError, LabelError
from attunet.failures import one_case

__all__ = ["CaseFacts", "Inspection", "Problem", "inspect"]

WORKERS = 2
FLOAT32_WHOLE = 2**24  # float32 holds every whole number up to this one
COLOURS = (3, 4)
CHECK_MASK = "look at the mask; correct the contours, if this is not meant"


@dataclass(frozen=True)
class Inspection:
    """The result of inspecting a data set.

    Args:
        dataset: the data set.
        facts: facts of the cases whose image can be read.
        problems: problems first, then warnings.
    """

    dataset: Dataset
    facts: tuple[CaseFacts, ...]
    problems: tuple[Problem, ...]

    @property
    def clean(self) -> bool:
        """Whether there are no problems, except for warnings."""
        return all(problem.severity == "warning" for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values, without NaN and infinity."""
        dataset = self.dataset
        return {
            "dataset": str(dataset.root),
            "layout": dataset.layout,
            "channel_names": dataset.channel_names,
            "labels": dataset.label_names,
            "regions": dataset.regions,
            "ignore_label": dataset.ignore_label,
            "cases_found": len(dataset.cases),
            "rule": None if dataset.rule is None else dataset.rule.to_dict(),
            "partly_labelled": {case.id: case.annotated for case in dataset.cases if case.annotated is not None},
            "clean": self.clean,
            "cases": [asdict(facts) for facts in self.facts],
            "problems": [asdict(problem) for problem in self.problems],
        }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


def inspect(
    dataset: Dataset, *, geometry: GeometryPolicy = "fail", advance: Callable[[], None] | None = None
) -> Inspection:
    """Read every case of a data set, and check each case and the whole data set.

    Args:
        dataset: the data set.
        geometry: what to do with labels on another grid than their image; grids that it aligns cause only a warning.
        advance: called after each case, in the caller's thread.
    Returns: the facts of the cases, and problems with their remedies.
    """
    facts: list[CaseFacts] = []
    problems = list(dataset.problems)
    with ThreadPoolExecutor(WORKERS) as pool:
        for case_facts, case_problems in pool.map(lambda case: _check_case(case, dataset, geometry), dataset.cases):
            facts.extend([case_facts] if case_facts else [])
            problems.extend(case_problems)
            if advance is not None:
                advance()
    dataset = with_combinations(dataset, sum((Counter(case.labels) for case in facts if case.labels), Counter()))
    problems.extend(check_dataset(dataset, facts))
    return Inspection(dataset, tuple(facts), tuple(sorted(problems, key=lambda problem: problem.severity != "problem")))


def _check_case(case: Case, dataset: Dataset, geometry: GeometryPolicy) -> tuple[CaseFacts | None, list[Problem]]:
    """The facts and problems of a single case; no facts when its image cannot be read."""
    try:
        with one_case():
            image = read_case_image(case)
            facts = replace(gather_facts(case.id, image), modality=case_channels(case, image))
    except AttunetError as error:
        return None, [_from_error(case, "channels on different grids", error)]
    problems = [*check_case_headers(case), *check_series(case, dataset), *_image_problems(facts), *_shear(case, image)]
    problems += _colours_as_slices(case, image)
    if case.label is None:
        return facts, [*problems, Problem(case.id, "label missing", "has no label", "add its mask or leave it out")]
    notices: list[str] = []
    try:
        with one_case():
            label = read_own_label(case, image, on_notice=notices.append)
            aligned = align_label(label, image, case.id, geometry=geometry)
            counts = count_labels(aligned.array)
            soft = has_soft_edges(aligned.array[0], counts)
    except AttunetError as error:
        return facts, [*problems, _from_error(case, "grid mismatch", error)]
    problems.extend(_resolved_mismatch(case, label, image, geometry))
    problems.extend(Problem(case.id, "odd mask", notice, CHECK_MASK, "warning") for notice in notices)
    facts = replace(facts, labels=counts, soft_edges=soft)
    return facts, [*problems, *_label_problems(case, facts, with_combinations(dataset, counts))]


def _from_error(case: Case, geometry: str, error: AttunetError) -> Problem:
    missing = [path for path in case.paths if not path.exists()]
    if missing:
        kind = "image missing" if set(missing) & set(case.images) else "label missing"
    elif isinstance(error, GeometryError):
        kind = geometry
    else:
        kind = "unusable label" if isinstance(error, LabelError) else "unreadable file"
        kind = REFUSALS.get(error.hint, kind)
    return Problem(case.id, kind, error.message, error.hint)


def _shear(case: Case, image: Volume) -> Iterator[Problem]:
    if angle := shear_degrees(image.affine):
        yield Problem(
            case.id,
            "sheared grid",
            f"its axes are {angle:.1f} degrees off a right angle, as in a CT with a tilted gantry",
            "nothing: volumes and distances account for it; the network sees the voxels as they are stored",
            "warning",
        )


def _colours_as_slices(case: Case, image: Volume) -> Iterator[Problem]:
    """An array without spacing whose last axis looks like the colours of a picture, and is taken as slices."""
    rows, columns, last = image.spatial_shape
    if image.calibrated or image.channels > 1 or last not in COLOURS or min(rows, columns) <= 2 * max(COLOURS):
        return
    if image.array.dtype == np.uint8:
        yield Problem(
            case.id,
            "colours as slices",
            f"the image has the shape {image.spatial_shape}: its last axis is taken as {last} slices",
            f"if these are colours, save it as ({last}, {rows}, {columns}, 1)",
            "warning",
        )


def _image_problems(facts: CaseFacts) -> Iterator[Problem]:
    if facts.not_finite:
        yield Problem(
            facts.id,
            "NaN or infinity",
            f"{facts.not_finite} voxels of the image are NaN or infinite",
            "replace them, for example with the image's minimum",
        )
    if facts.intensity is not None and facts.intensity.minimum == facts.intensity.maximum:
        yield Problem(
            facts.id,
            "constant image",
            f"every voxel of the image is {facts.intensity.minimum:g}",
            "export the image again, or leave the case out",
        )
    whole, held = np.dtype(facts.dtype).kind in "iu", facts.intensity
    if whole and held is not None and (largest := max(-held.minimum, held.maximum)) > FLOAT32_WHOLE:
        yield Problem(
            facts.id,
            "large values",
            f"the image has values up to {largest:.0f}; float32, in which networks compute, rounds whole numbers above "
            f"{FLOAT32_WHOLE}",
            "nothing if differences of a few units do not matter; otherwise subtract an offset",
            "warning",
        )


def _resolved_mismatch(case: Case, label: Volume, image: Volume, geometry: GeometryPolicy) -> Iterator[Problem]:
    if not same_grid(label, image):
        yield Problem(
            case.id,
            "grid mismatch",
            f"label and image differ: {describe_mismatch(label, image)}",
            f"resolved by --geometry {geometry}; check the result",
            "warning",
        )


def _label_problems(case: Case, facts: CaseFacts, dataset: Dataset) -> Iterator[Problem]:
    values = set(facts.labels or ())
    background = background_value(dataset.label_names)
    lossy = {suffix for path in case.label_paths if (suffix := suffix_of(path)) and not format_of(suffix).lossless}
    for suffix in sorted(lossy):
        yield Problem(
            case.id,
            "lossy label",
            f"the label is a {suffix} file with {len(values)} values; this format changes values when it is saved",
            f"save the mask as {mask_suffix(suffix)} from its source",
        )
    if values <= {background, dataset.ignore_label}:
        yield Problem(
            case.id,
            "empty label",
            "the label contains only background",
            "check that it is the right file; leave the case out if nothing was annotated",
        )
    declared = declared_values(dataset)
    if declared is not None and (unexpected := sorted(values - declared)):
        yield Problem(
            case.id,
            "unexpected label value",
            f"the label contains {', '.join(map(str, unexpected[:8]))}, which the data set does not declare",
            "declare the values under labels in dataset.json or the CSV file, or correct the label file",
        )
    annotated, names = annotated_values(case, dataset), ", ".join(case.annotated or ())
    if annotated is not None and (unlisted := sorted(values - annotated - {background, dataset.ignore_label})):
        yield Problem(
            case.id,
            "label not listed",
            f"the label contains {', '.join(map(str, unlisted[:8]))}, but this case lists only {names}",
            "list them in the column labels, or remove them from the label file",
        )
