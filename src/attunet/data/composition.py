"""What the options of a data set choose: how labels are put together, and which frame and array is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from attunet.data.dataset import Case, Dataset, DatasetOptions, LabelFiles, Problem
from attunet.data.formats import format_of, series_of, suffix_of
from attunet.data.label_files import repeated_names, split_value
from attunet.data.labels import BACKGROUND, background_value
from attunet.errors import DatasetError

__all__ = ["check_series", "choose_parts", "with_choices", "with_combinations"]

SHOWN = 3


def with_choices(dataset: Dataset, options: DatasetOptions) -> Dataset:
    """The data set as its options say, which each case then knows.

    A label without a file in a case counts as not annotated there, unless the options say that it is absent.
    With overlapping labels as regions, every label is a region.
    Raises: DatasetError for a key or for the merging of objects that no file of the data set has a use for.
    """
    cases = tuple(_chosen(case, options) for case in choose_parts(dataset.cases, options))
    composed = [case.label for case in cases if isinstance(case.label, LabelFiles)]
    if options.merge_instances and not any(label.kind == "object" or repeated_names(label) for label in composed):
        raise DatasetError(
            f"--merge-instances has no effect: no label of {dataset.root} has a file for each object",
            hint="leave it out",
        )
    if options.overlap == "regions" and not any(label.kind == "label" for label in composed):
        raise DatasetError(
            f"--overlap regions has no effect: no label of {dataset.root} has a file for each label",
            hint="declare regions in dataset.json, or leave it out",
        )
    values = tuple(sorted({part.value for label in composed for part in label.parts}))
    cases = tuple(_composed(case, options, values) for case in cases)
    dataset, missing = replace(dataset, cases=cases, options=options), _missing(cases)
    if missing and options.missing_labels == "unannotated":
        dataset = replace(dataset, cases=tuple(_partly(case, missing) for case in cases))
    if missing:
        dataset = replace(dataset, problems=(*dataset.problems, _reported(missing, options)))
    return with_combinations(dataset, {}) if options.overlap == "regions" else dataset


def choose_parts(cases: Sequence[Case], options: DatasetOptions) -> tuple[Case, ...]:
    """The cases with the frame and the arrays that the options name.

    Raises: DatasetError for a key when no file may hold several arrays.
    """
    for key, flag, images in ((options.key, "--key", True), (options.label_key, "--label-key", False)):
        files = [path for case in cases for path in (case.images if images else case.label_paths)]
        known = [suffix for path in files if (suffix := suffix_of(path)) is not None]
        if key is not None and known and not any(format_of(suffix).read_part for suffix in known):
            raise DatasetError(
                f"{flag} {key} has no effect: {', '.join(sorted(set(known)))} files hold one array each",
                hint="leave it out",
            )
    frame = None if options.frame == "all" else options.frame
    key, label_key, outside = options.key, options.label_key, options.allow_outside
    return tuple(
        replace(
            case,
            frame=frame,
            key=case.key if key is None else key,
            label_key=case.label_key if label_key is None else label_key,
            allow_outside=outside,
        )
        for case in cases
    )


def check_series(case: Case, dataset: Dataset) -> Iterator[Problem]:
    """A problem when an image is a series in time of which no frame was chosen; none when its channels are declared."""
    if case.frame is not None or dataset.options.frame == "all" or len(case.images) > 1:
        return
    found = series_of(case.images[0]) if case.images else None
    if found is not None and len(dataset.channel_names) != found.frames:
        yield Problem(
            case.id,
            "time series",
            f"{case.images[0].name} is a series in time: {found}",
            f"choose a time with --frame, 0 to {found.frames - 1}; --frame all takes every time as a channel",
        )


def with_combinations(dataset: Dataset, counts: Mapping[int, int]) -> Dataset:
    """The data set whose regions unite the values of combined labels, where overlapping labels are regions.

    Args:
        dataset: any data set; one whose regions do not come from label files is returned unchanged.
        counts: value to voxels, over the labels that were read.
    Returns: regions of decreasing size, so that inner ones are written later; the value of each is that of its
        most frequent combination of labels, so that a mask says of an inner region that it lies in the outer one.
    """
    labels = [case.label for case in dataset.cases if isinstance(case.label, LabelFiles)]
    if dataset.options.overlap != "regions" or not labels:
        return dataset
    values, background = labels[0].values, background_value(dataset.label_names)
    single = {part.name: part.value for label in labels for part in label.parts}
    present = {value: split_value(value, values) for value, count in counts.items() if count}
    regions = {
        name: tuple(sorted({value, *(other for other, parts in present.items() if value in parts)}))
        for name, value in single.items()
    }
    sizes = {name: sum(counts.get(value, 0) for value in united) for name, united in regions.items()}
    ordered = sorted(regions, key=lambda name: (-sizes[name], single[name]))
    written: dict[str, int] = {}
    for name in reversed(ordered):  # an inner region first: an outer one has other values to choose from
        free = [value for value in regions[name] if value not in written.values()]
        written[name] = max(free or [single[name]], key=lambda value: (counts.get(value, 0), -value))
    background_name = next((name for name, value in (dataset.label_names or {}).items() if value == background), None)
    names = {background_name or BACKGROUND: background} | {name: written[name] for name in ordered}
    return replace(dataset, label_names=names, regions={name: regions[name] for name in ordered})


def _composed(case: Case, options: DatasetOptions, values: tuple[int, ...]) -> Case:
    if not isinstance(case.label, LabelFiles):
        return case
    label = replace(case.label, values=values, overlap=options.overlap, merge=options.merge_instances)
    return replace(case, label=label)


def _chosen(case: Case, options: DatasetOptions) -> Case:
    """The case without the masks of labels that the options do not name; all, where those named are absent."""
    if not options.masks or not isinstance(case.label, LabelFiles) or case.label.kind != "label":
        return case
    parts = tuple(part for part in case.label.parts if part.name in options.masks)
    if not parts:
        return case if options.missing_labels == "absent" else replace(case, label=None)
    return replace(case, label=replace(case.label, parts=parts))


def _missing(cases: Sequence[Case]) -> dict[str, list[str]]:
    """Label to the cases without a file of it; empty where every case has a file for every label."""
    held = {
        case.id: {part.name for part in case.label.parts}
        for case in cases
        if isinstance(case.label, LabelFiles) and case.label.kind == "label" and case.annotated is None
    }
    names = sorted(set().union(*held.values())) if held else []
    absent = {name: [case for case, parts in held.items() if name not in parts] for name in names}
    return {name: without for name, without in absent.items() if without}


def _partly(case: Case, missing: Mapping[str, Sequence[str]]) -> Case:
    if not isinstance(case.label, LabelFiles) or not any(case.id in without for without in missing.values()):
        return case
    return replace(case, annotated=tuple(part.name for part in case.label.parts))


def _reported(missing: Mapping[str, Sequence[str]], options: DatasetOptions) -> Problem:
    counts = Counter({name: len(without) for name, without in missing.items()}).most_common(SHOWN)
    shown = ", ".join(f"{name} in {count}" for name, count in counts)
    more = f" and {len(missing) - SHOWN} more labels" if len(missing) > SHOWN else ""
    taken = {
        "unannotated": ("not annotated in these cases", "if they are absent there, pass --missing-labels absent"),
        "absent": ("absent in these cases", "if they were not annotated there, leave out --missing-labels absent"),
    }
    found, remedy = taken[options.missing_labels]
    return Problem("", "label files missing", f"no mask of {shown}{more}: taken as {found}", remedy, "warning")
