"""Checks of a whole data set: problems that show only when its cases are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from attunet.data.dataset import Dataset, Problem
from attunet.data.facts import CaseFacts
from attunet.data.formats import format_of, read_palette, suffix_of
from attunet.data.geometry import MAX_SCALE
from attunet.data.label_checks import LabelContents, check_labels
from attunet.data.labels import background_value, values_by_label
from attunet.data.modality import check_modalities

__all__ = ["check_background", "check_channel_names", "check_dataset", "check_scale"]

SPREAD = 1000.0
FEWEST_CASES, MOSTLY = 3, 0.6


def check_dataset(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[Problem]:
    """Problems and warnings that concern several cases or the whole data set, from the facts of the readable cases."""
    return [
        *_duplicates(dataset, facts),
        *_groups(dataset),
        *_channels(facts),
        *check_channel_names(dataset, [case.channels for case in facts]),
        *_dimensions(facts),
        *_orientations(facts),
        *check_scale({case.id: min(case.spacing) for case in facts if case.calibrated}),
        *_intensities(facts),
        *check_modalities(dataset, [case.modality for case in facts if case.modality is not None]),
        *_label_values(dataset, facts),
        *_palettes(dataset),
        *_spacing(dataset, facts),
    ]


def _duplicates(dataset: Dataset, facts: Sequence[CaseFacts]) -> Iterator[Problem]:
    """An image that occurs twice leaks from training into validation, with folds by patient too if groups differ."""
    group = {case.id: case.group for case in dataset.cases}
    first: dict[str, str] = {}
    for case in facts:
        other = first.setdefault(case.content, case.id)
        if other == case.id:
            continue
        if group[other] != group[case.id]:
            message = f"is the same image as {other}, but in group {group[case.id]} instead of {group[other]}"
            yield Problem(case.id, "patient in several groups", message, "give both cases one group, or remove one")
        else:
            yield Problem(case.id, "duplicate image", f"is the same image as {other}", "remove one of the two")


def _groups(dataset: Dataset) -> Iterator[Problem]:
    """One patient in two spellings, or on both sides of the split that the data set declares."""
    spellings: dict[str, set[str]] = {}
    splits: dict[str, set[str]] = {}
    for case in dataset.cases:
        if case.group is not None:
            spellings.setdefault("".join(case.group.split()).casefold(), set()).add(case.group)
            splits.setdefault(case.group, set()).add(case.split or "train")
    for written in (sorted(names) for names in spellings.values() if len(names) > 1):
        message = f"the groups {' and '.join(map(repr, written))} look like one patient"
        yield Problem("", "patient in several groups", message, "write the group the same way everywhere")
    for name, parts in splits.items():
        if len(parts) > 1:
            message = f"group {name} has cases in {' and '.join(sorted(parts))}"
            yield Problem("", "patient in several splits", message, "give all cases of a patient the same split")


def _channels(facts: Sequence[CaseFacts]) -> Iterator[Problem]:
    usual = _most_common([case.channels for case in facts])
    for case in facts:
        if case.channels != usual:
            message = f"the image has {case.channels} channels, most have {usual}"
            yield Problem(case.id, "channel count", message, "export all images with the same channels")


def check_channel_names(dataset: Dataset, counts: Sequence[int]) -> Iterator[Problem]:
    """Declared channels that the images do not have; `counts` are the channels of each image."""
    usual, names = _most_common([*counts]), dataset.channel_names
    if names and usual not in (None, len(names)):
        message = f"the data set declares the channels {', '.join(names)}, but most images have {usual}"
        yield Problem("", "declared channels", message, "correct the declaration, or give a file for each channel")


def _dimensions(facts: Sequence[CaseFacts]) -> Iterator[Problem]:
    usual = _most_common([case.shape[2] == 1 for case in facts])
    for case in facts:
        if (case.shape[2] == 1) != usual:
            message = f"the image is {'2-D' if case.shape[2] == 1 else '3-D'}, most are {'2-D' if usual else '3-D'}"
            yield Problem(case.id, "dimensions", message, "keep 2-D and 3-D images in two data sets")


def _orientations(facts: Sequence[CaseFacts]) -> Iterator[Problem]:
    counts = Counter(case.orientation for case in facts)
    if len(counts) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in counts.most_common())
        yield _warning(
            "mixed orientations", f"orientations are {listed}", "nothing: all are converted to RAS internally"
        )


def _intensities(facts: Sequence[CaseFacts]) -> Iterator[Problem]:
    tops = sorted((case.intensity.maximum, case.id) for case in facts if case.intensity and case.intensity.maximum > 0)
    if tops and tops[-1][0] > SPREAD * tops[0][0]:
        (low, first), (high, last) = tops[0], tops[-1]
        message = f"the maxima range from {low:g} ({first}) to {high:g} ({last})"
        yield _warning(
            "intensity range", message, "nothing for MR, which is normalized per case; for CT, check the units"
        )


def check_scale(edges: Mapping[str, float]) -> Iterator[Problem]:
    """Images whose voxels are far smaller or larger than those of the others, as where a header says m for mm.

    `edges` is the shortest edge of a voxel in mm, by case.
    """
    usual = sorted(edges.values())[len(edges) // 2] if edges else 1.0
    for case, edge in edges.items():
        if not 1 / MAX_SCALE <= edge / usual <= MAX_SCALE:
            message = f"its voxels are {edge:g} mm, those of most images {usual:g} mm"
            yield Problem(
                case, "another scale", message, "correct the spacing, or its unit, in the header of its files"
            )


def _label_values(dataset: Dataset, facts: Sequence[CaseFacts]) -> Iterator[Problem]:
    contents = [LabelContents(case.id, case.labels, case.soft_edges) for case in facts if case.labels is not None]
    implausible = check_labels(dataset, contents)
    yield from implausible
    values = {value for case in contents for value in case.values} - {dataset.ignore_label}
    ours = dataset.options.overlap == "regions"  # the values of combined labels
    if values and not implausible and not ours and sorted(values | {0}) != list(range(len(values | {0}))):
        listed = ", ".join(map(str, sorted(values)[:12])) + (" and more" if len(values) > 12 else "")
        remedy = "nothing: they are renumbered internally and written back unchanged"
        yield _warning("gaps in label values", f"label values are {listed}", remedy)
    yield from check_background(contents, background_value(dataset.label_names))
    absent = {name: united for name, united in values_by_label(dataset).items() if not values.intersection(united)}
    if values and absent:
        names = ", ".join(f"{name} ({', '.join(map(str, united))})" for name, united in absent.items())
        yield _warning("label not used", f"declared, but in no label file: {names}", "remove the name or add cases")


def check_background(contents: Sequence[LabelContents], background: int) -> Iterator[Problem]:
    """A value that covers most of every label, and more than the background: it may be the background itself."""
    most = {max(case.counts, key=lambda value: case.counts[value]) for case in contents if case.counts}
    share = min((max(case.counts.values()) / sum(case.counts.values()) for case in contents if case.counts), default=0)
    if len(contents) < FEWEST_CASES or len(most) > 1 or share <= MOSTLY or background in most:
        return
    value = most.pop()
    if any(background in case.values for case in contents):
        message = f"at least {share:.0%} of every label file is {value}, and less is the background ({background})"
        remedy = (
            f'nothing, if this is right; if {value} is the background, declare "background": {value} in dataset.json'
        )
        yield _warning("large label", message, remedy)


def _palettes(dataset: Dataset) -> Iterator[Problem]:
    """Masks with palettes that give one number different colours, as programs write that number colours anew."""
    first: dict[int, tuple[tuple[int, ...], str]] = {}
    files = [(each.id, path) for each in dataset.cases for path in each.label_paths]
    for case, path in files:
        for index, colour in read_palette(path).items():
            known, other = first.setdefault(index, (colour, case))
            if known != colour:
                message = f"the palettes of masks differ: {index} is {known} in {other}, {colour} in {case}"
                yield Problem("", "palettes differ", message, "save the masks with one palette, or as grey values")
                return


def _spacing(dataset: Dataset, facts: Sequence[CaseFacts]) -> Iterator[Problem]:
    """Images without a spacing, and data sets in which some have one."""
    unknown = {case.id for case in facts if not case.calibrated}
    suffixes = {
        suffix
        for case in dataset.cases
        for suffix in map(suffix_of, case.images)
        if suffix is not None and (case.id in unknown or not format_of(suffix).geometry)
    }
    if unknown and len(unknown) < len(facts):
        message = (
            f"{len(unknown)} images declare no spacing, {len(facts) - len(unknown)} do: 1 mm is assumed for the first"
        )
        yield Problem("", "mixed spacing", message, "give every image its spacing, for example as OME-TIFF or NIfTI")
    if flat := sorted(suffixes):
        kinds = " and ".join(flat)
        message = f"{kinds} files have no spacing or orientation: voxels of 1 mm and rows first are assumed"
        yield _warning("no spacing", message, "interpret distances and volumes in pixels, or convert to .nii.gz")


def _warning(kind: str, message: str, remedy: str) -> Problem:
    return Problem("", kind, message, remedy, "warning")


def _most_common(values: list[int]) -> int | None:
    return Counter(values).most_common(1)[0][0] if values else None
