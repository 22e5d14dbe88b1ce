"""The fingerprint of a data set: sizes, spacings, intensities and labels, read once before planning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import or_

import numpy as np

from attunet.config import SegmentCode
from attunet.data.cases import Dataset, GeometryPolicy, Problem
from attunet.data.composition import check_series, with_combinations
from attunet.data.dataset_checks import check_background, check_channel_names, check_scale
from attunet.data.label_checks import WITHOUT_BACKGROUND, LabelContents, check_labels
from attunet.data.labels import (
    BACKGROUND,
    MOST_LABELS,
    Values,
    background_value,
    describe_values,
    name_labels,
    written_values,
)
from attunet.data.modality import ChannelModality, Modality, check_modalities, find_modalities
from attunet.data.volume import Array
from attunet.errors import DatasetError, LabelError
from attunet.failures import one_case
from attunet.names import listed
from attunet.planning.case_fingerprint import CaseFingerprint, read_case_fingerprint

__all__ = ["Fingerprint", "fingerprint"]


Regions = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Fingerprint:
    """The properties of a data set on which planning is based.

    Args:
        name: name of the data set.
        cases: one entry per labelled case.
        labels, regions, ignore_label, channel_names: as in a `Plan`.
        modalities: of each channel.
        clipped: whether intensities will be clipped, as in a CT; voxels below the bound then do not count as content.
        codes: label to its codes, as far as the data set states them.
        warnings: what the owner of the data should know.
    """

    name: str
    cases: tuple[CaseFingerprint, ...]
    labels: dict[str, int]
    ignore_label: int | None
    channel_names: tuple[str, ...]
    modalities: tuple[ChannelModality, ...]
    regions: Regions = field(default_factory=dict)
    clipped: bool = False
    codes: dict[str, SegmentCode] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def modality(self) -> Modality:
        """The modality of the first channel."""
        return self.modalities[0].kind

    @property
    def shapes(self) -> Array:
        """(cases, 3) voxels after cropping."""
        return np.array([case.clipped_shape if self.clipped else case.shape for case in self.cases])

    @property
    def extents(self) -> Array:
        """(cases, 3) size in mm of the content above an image's minimum; its centre is label positions' origin."""
        return np.array([case.shape for case in self.cases]) * self.spacings

    @property
    def spacings(self) -> Array:
        """(cases, 3) voxel sizes in mm."""
        return np.array([case.spacing for case in self.cases])

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names of the labels, or regions, that are not background."""
        return tuple(self.labels)[1:]

    def label_counts(self) -> dict[str, int]:
        """Voxels per label name over all cases."""
        total: Counter[int] = Counter()
        for case in self.cases:
            total.update(case.label_voxels)
        return {name: sum(total.get(value, 0) for value in self._values(name)) for name in self.labels}

    @cached_property
    def label_voxels(self) -> Array:
        """(cases, foreground) voxels of each label in each case."""
        return np.array(
            [
                [sum(case.label_voxels.get(value, 0) for value in self._values(name)) for name in self.foreground]
                for case in self.cases
            ]
        )

    @cached_property
    def centroids(self) -> Array:
        """(cases, foreground, 3) mm along canonical axes from the centre of the content; nan for absent labels."""
        centroids = np.full((len(self.cases), len(self.foreground), 3), np.nan)
        for row, case in enumerate(self.cases):
            for column, name in enumerate(self.foreground):
                positions = [case.positions[value] for value in self._values(name) if value in case.positions]
                if positions:
                    weights = [place.voxels for place in positions]
                    centroids[row, column] = np.average(
                        [place.centroid for place in positions], axis=0, weights=weights
                    )
        return centroids

    @property
    def spread(self) -> Array:
        """(cases,) share of the parts of a case, 16 along each axis, in which something to be learnt lies, else nan."""
        values = {value for name in self.foreground for value in self._values(name)}
        shares = []
        for case in self.cases:
            held = reduce(or_, (case.positions[value].parts for value in values & set(case.positions)), 0)
            shares.append(held.bit_count() / case.parts if case.parts else np.nan)
        return np.array(shares)

    def _values(self, name: str) -> tuple[int, ...]:
        return self.regions.get(name, (self.labels[name],))


def fingerprint(
    dataset: Dataset,
    *,
    labels: Mapping[str, Values] | None = None,
    geometry: GeometryPolicy = "fail",
    advance: Callable[[], None] = lambda: None,
) -> Fingerprint:
    """Read every labelled case once.

    Args:
        dataset: a data set with labelled cases.
        labels: name to file value, or to the values it unites, of the labels to learn (background is added), or names
            of regions; None for all.
        geometry: what to do when the grids of an image and its label differ.
        advance: called after each case.
    Returns: the fingerprint.
    Raises: DatasetError without labelled cases, LabelError when a selected label occurs in no case, there is nothing to
        learn or undeclared values do not look like classes, DataError for NaN.
    """
    chosen = [case for case in dataset.cases if case.label is not None and case.split != "test"]
    if not chosen:
        raise DatasetError(f"no labelled case in {dataset.root}", hint="training needs a label file for each image")
    background = background_value(_single_values(labels) if labels else dataset.label_names)
    facts = []
    for case in chosen:
        for problem in check_series(case, dataset):
            raise DatasetError(f"case {case.id}: {problem.message}", hint=problem.remedy)
        with one_case(case.id):
            facts.append(read_case_fingerprint(case, geometry, background))
        advance()
    dataset = with_combinations(dataset, sum((Counter(case.label_voxels) for case in facts), Counter()))
    warnings = () if labels else _require_plausible(dataset, facts)
    names, regions = _names(dataset, labels, facts)
    odd = [
        *check_modalities(dataset, [case.channels for case in facts]),
        *check_background(
            [LabelContents(case.channels.case, case.label_voxels) for case in facts],
            background,
        ),
        *check_channel_names(dataset, [len(case.channels.values) for case in facts]),
        *check_scale({case.channels.case: min(case.spacing) for case in facts}),
    ]
    found = Fingerprint(
        name=dataset.name,
        cases=tuple(facts),
        labels=names,
        ignore_label=dataset.ignore_label,
        channel_names=_channel_names(dataset, facts),
        modalities=find_modalities(dataset.channel_names, [case.channels for case in facts]),
        regions=regions,
        codes={name: code for name, code in dataset.codes.items() if name in names},
        warnings=(*warnings, *map(_told, odd)),
    )
    return replace(found, warnings=(*found.warnings, *_cut_edges(found), *_rare(found)))


def _cut_edges(facts: Fingerprint) -> Iterator[str]:
    """A single value chosen from masks with soft edges leaves their edges to the background."""
    soft = [case for case in facts.cases if case.soft]
    known = {facts.labels[next(iter(facts.labels))], facts.ignore_label}.union(*map(facts._values, facts.foreground))
    left = {value for case in soft for value in case.label_voxels} - known
    top = max((value for case in soft for value in case.label_voxels), default=0)
    if over := {value for value in left if 2 * value > top}:
        yield (
            f"{len(soft)} masks have soft edges, and the chosen labels leave out {describe_values(over)}: these voxels "
            "are learnt as background"
        )


def _rare(facts: Fingerprint) -> Iterator[str]:
    """A label of a single case cannot be learnt in the fold that holds this case out."""
    alone = {}
    for name, column in zip(facts.foreground, facts.label_voxels.T, strict=True):
        (holders,) = np.nonzero(column)
        if len(holders) == 1 < len(facts.cases):
            alone[name] = facts.cases[int(holders[0])].channels.case
    if alone:
        held = listed([f"{name} ({case})" for name, case in alone.items()])
        yield f"only one case holds {held}: the fold that holds it out cannot learn it"


def _require_plausible(dataset: Dataset, facts: list[CaseFingerprint]) -> tuple[str, ...]:
    """What is odd about the labels, when they can be learnt all the same. Raises: LabelError when they cannot."""
    contents = [LabelContents(case.channels.case, case.label_voxels, case.soft) for case in facts]
    found = check_labels(dataset, contents)
    for problem in found:
        if problem.kind != WITHOUT_BACKGROUND:
            raise LabelError(f"{problem.kind}: {problem.message}", hint=problem.remedy)
    return tuple(map(_told, found))


def _told(problem: Problem) -> str:
    return f"{problem.case or problem.kind}: {problem.message}; {problem.remedy}"


def _names(
    dataset: Dataset, labels: Mapping[str, Values] | None, facts: list[CaseFingerprint]
) -> tuple[dict[str, int], Regions]:
    """Names with their written values, background first, and the file values that each region unites."""
    values = sorted({value for case in facts for value, count in case.label_voxels.items() if count})
    values = [value for value in values if value != dataset.ignore_label]
    if dataset.regions:
        return _chosen_regions(dataset, labels, values)
    return _chosen_labels(labels, values) if labels else (name_labels(dataset.label_names, values), {})


def _chosen_labels(labels: Mapping[str, Values], values: list[int]) -> tuple[dict[str, int], Regions]:
    named = {name: value for name, value in labels.items() if name != BACKGROUND}
    written, regions = written_values({name: _held(value, values) for name, value in named.items()})
    united = regions or {name: (value,) for name, value in written.items()}
    held = {*values, 0}  # a data set may be annotated everywhere
    absent = [f"{name} ({describe_values(file)})" for name, file in united.items() if held.isdisjoint(file)]
    if absent:
        raise LabelError(
            f"labels {', '.join(absent)} occur in no case; found values {describe_values(values)}",
            hint="correct --labels",
        )
    return {BACKGROUND: background_value(_single_values(labels)), **written}, regions


def _held(chosen: Values, values: list[int]) -> Values:
    """The values of a wide range that occur, so that a plan does not list all of it."""
    if isinstance(chosen, int) or len(chosen) <= MOST_LABELS:
        return chosen
    held = tuple(sorted(set(chosen).intersection(values)))
    return held if len(held) > 1 else (held or chosen)[0]


def _single_values(labels: Mapping[str, Values]) -> dict[str, int]:
    return {name: value for name, value in labels.items() if isinstance(value, int)}


def _chosen_regions(
    dataset: Dataset, requested: Iterable[str] | None, values: list[int]
) -> tuple[dict[str, int], Regions]:
    """Names with their painted values, background first, and the file values that each region unites."""
    painted = dataset.label_names or {}
    background = background_value(painted)
    known = {value for values in dataset.regions.values() for value in values} | {background}
    if unknown := [value for value in values if value not in known]:
        raise LabelError(
            f"the label files contain {describe_values(unknown)}, which belong to no region of {dataset.root}",
            hint="add each value to a region, or correct the label files",
        )
    absent = set(requested or ()) - set(dataset.regions) - {"background"}
    if absent:
        raise LabelError(
            f"there is no region {', '.join(sorted(absent))}, known are {', '.join(dataset.regions)}",
            hint="correct --labels",
        )
    regions = {name: values for name, values in dataset.regions.items() if not requested or name in requested}
    return {"background": background, **{name: painted[name] for name in regions}}, regions


def _channel_names(dataset: Dataset, facts: list[CaseFingerprint]) -> tuple[str, ...]:
    counts = {case.intensities.shape[0] for case in facts}
    if len(counts) > 1:
        raise DatasetError(
            f"the images have different numbers of channels: {sorted(counts)}",
            hint="run `attunet inspect` to see which; give every case the same channels",
        )
    channels = counts.pop()
    names = dataset.channel_names
    return names if len(names) == channels else tuple(f"channel {index}" for index in range(channels))
