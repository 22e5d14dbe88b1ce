"""Looking through a whole data set: the facts of every case, and every problem with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from attunet.data.alignment import TOLERANCE_MM, GeometryPolicy, align_label, describe_mismatch, grid_distance
from attunet.data.cases import read_case_image
from attunet.data.dataset import Case, Dataset, Problem
from attunet.data.dataset_checks import check_dataset
from attunet.data.facts import CaseFacts, count_labels, gather_facts
from attunet.data.formats import mask_suffix, read_label, suffix_of
from attunet.data.labels import annotated_values, background_value, declared_values
from attunet.data.volume import Volume
from attunet.errors import AttunetError, GeometryError, LabelError

__all__ = ["CaseFacts", "Inspection", "Problem", "inspect"]

WORKERS = 2


@dataclass(frozen=True)
class Inspection:
    """Facts of the readable cases, and everything found, by case: problems and notices."""

    dataset: Dataset
    facts: tuple[CaseFacts, ...]
    problems: tuple[Problem, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing but notices was found."""
        return all(problem.severity == "notice" for problem in self.problems)


def inspect(
    dataset: Dataset, *, geometry: GeometryPolicy = "fail", advance: Callable[[], None] | None = None
) -> Inspection:
    """Read every case of a data set and compare them.

    Args:
        geometry: the policy for labels on another grid than their image; what it settles is a notice.
        advance: called once after each case, in the caller's thread.
    """
    facts: list[CaseFacts] = []
    problems = list(dataset.problems)
    with ThreadPoolExecutor(WORKERS) as pool:
        for found, issues in pool.map(lambda case: _look(case, dataset, geometry), dataset.cases):
            facts.extend([found] if found else [])
            problems.extend(issues)
            if advance is not None:
                advance()
    problems.extend(check_dataset(dataset, facts))
    return Inspection(dataset, tuple(facts), tuple(sorted(problems, key=lambda problem: problem.severity != "problem")))


def _look(case: Case, dataset: Dataset, geometry: GeometryPolicy) -> tuple[CaseFacts | None, list[Problem]]:
    """Everything that one case says by itself."""
    try:
        image = read_case_image(case)
    except AttunetError as error:
        return None, [_from_error(case, "channels on different grids", error)]
    facts = gather_facts(case.id, image)
    problems = list(_image_problems(facts))
    if case.label is None:
        return facts, [
            *problems,
            Problem(case.id, "label missing", "has no label", "add its mask or leave it out"),
        ]
    try:
        label = read_label(case.label)
        aligned = align_label(label, image, case.id, geometry=geometry)
    except AttunetError as error:
        return facts, [*problems, _from_error(case, "grid mismatch", error)]
    problems.extend(_settled(case, label, image, geometry))
    facts = replace(facts, labels=count_labels(aligned.array))
    return facts, [*problems, *_label_problems(case, facts, dataset)]


def _from_error(case: Case, geometry: str, error: AttunetError) -> Problem:
    missing = [path for path in (*case.images, case.label) if path is not None and not path.exists()]
    if missing:
        kind = "label missing" if missing == [case.label] else "image missing"
    elif isinstance(error, GeometryError):
        kind = geometry
    else:
        kind = "unusable label" if isinstance(error, LabelError) else "unreadable file"
    return Problem(case.id, kind, error.message, error.hint)


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


def _settled(case: Case, label: Volume, image: Volume, geometry: GeometryPolicy) -> Iterator[Problem]:
    if grid_distance(label, image) > TOLERANCE_MM:
        yield Problem(
            case.id,
            "grid mismatch",
            f"label and image differ: {describe_mismatch(label, image)}",
            f"settled by --geometry {geometry}; look at the result",
            "notice",
        )


def _label_problems(case: Case, facts: CaseFacts, dataset: Dataset) -> Iterator[Problem]:
    values = set(facts.labels or ())
    background = background_value(dataset.label_names)
    suffix = suffix_of(case.label) if case.label is not None else None
    if suffix is not None and mask_suffix(suffix) != suffix:
        yield Problem(
            case.id,
            "lossy label",
            f"the label is a {suffix} file with {len(values)} values; saving in it changes values",
            f"save the mask as {mask_suffix(suffix)} from its source",
        )
    if values <= {background, dataset.ignore_label}:
        yield Problem(
            case.id,
            "empty label",
            "the label holds nothing but background",
            "check that it is the right file; leave the case out if nothing was annotated",
        )
    declared = declared_values(dataset)
    if declared is not None and (unexpected := sorted(values - declared)):
        yield Problem(
            case.id,
            "unexpected label value",
            f"the label holds {', '.join(map(str, unexpected[:8]))}, which the data set does not declare",
            "declare the values under labels in dataset.json or the CSV file, or correct the label file",
        )
    annotated, listed = annotated_values(case, dataset), ", ".join(case.annotated or ())
    if annotated is not None and (surplus := sorted(values - annotated - {background, dataset.ignore_label})):
        yield Problem(
            case.id,
            "label not listed",
            f"the label holds {', '.join(map(str, surplus[:8]))}, listed are only {listed}",
            "name them in the column labels, or remove them from the label file",
        )
