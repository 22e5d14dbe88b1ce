"""Labels in objects of DICOM: each segment or ROI is a part of the label, and its name is that of the label.

The names mean the same in all cases, whatever their letter case. A data set that declares labels uses those of their
names, and leaves out the others; without a declaration all are labels, numbered in the order of their names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from attunet.data.dataset import Case, Dataset, LabelFiles, LabelPart, Problem
from attunet.data.formats import holds_named_masks
from attunet.data.formats.dicom import LabelObject, read_label_object
from attunet.data.labels import BACKGROUND, background_value
from attunet.data.layouts.composed import OBJECT, numbered
from attunet.data.layouts.tokens import fold
from attunet.errors import AttunetError, DatasetError
from attunet.names import listed, safe_name

__all__ = ["with_named_masks"]

Objects = dict[Path, LabelObject]
REMEDY = "nothing, if this is right; otherwise declare them under labels in dataset.json, or in the column labels"


def with_named_masks(dataset: Dataset, label_key: str | None = None) -> Dataset:
    """The data set whose labels in segmentations and structure sets are put together from their masks.

    Only headers are read; objects that cannot be are left to the reading of the label, which reports them.

    Args:
        dataset: the data set.
        label_key: the only mask to use of each object, which then is a label by itself; None: all.
    Returns: the data set.
    Raises: DatasetError when labels are declared, and no object has a mask with the name of one.
    """
    if label_key is not None:
        return dataset
    objects = _objects(dataset)
    opened = {case.id: held for case in dataset.cases if (held := _opened(case, objects))}
    if not objects:
        return dataset
    declared = _declared(dataset)
    found: dict[str, str] = {}
    for held in opened.values():
        for name in (name for one in held for name in one.names):
            found.setdefault(fold(safe_name(name)), safe_name(name))
    names = declared or numbered(found)
    values = {fold(safe_name(name)): (name, value) for name, value in names.items() if value != background_value(names)}
    if opened and not found.keys() & values.keys():
        raise DatasetError(
            f"{dataset.root} declares the labels {listed([name for name, _ in values.values()])}, "
            f"but its DICOM objects hold the masks {listed(sorted(found.values()))}",
            hint="declare labels by the names of masks",
        )
    cases = tuple(_composed(case, opened.get(case.id, ()), objects, values) for case in dataset.cases)
    problems = (*dataset.problems, *_left_out(opened, values), *_unlabelled(opened, values))
    return replace(dataset, cases=cases, label_names=names if opened else dataset.label_names, problems=problems)


def _objects(dataset: Dataset) -> Objects:
    """What the objects of DICOM among the labels hold."""
    objects: Objects = {}
    for path in dict.fromkeys(path for case in dataset.cases for path in case.label_paths):
        try:
            if holds_named_masks(path):
                objects[path] = read_label_object(path)
        except AttunetError:  # reading the label reports it
            continue
    return objects


def _opened(case: Case, objects: Mapping[Path, LabelObject]) -> tuple[LabelObject, ...]:
    """The objects whose masks make up the label of a case; none where one mask is chosen, or a file declares each."""
    if case.label_key is not None or (isinstance(case.label, LabelFiles) and case.label.kind == "label"):
        return ()
    held = tuple(objects[path] for path in case.label_paths if path in objects)
    return held if len(held) == len(case.label_paths) else ()


def _declared(dataset: Dataset) -> dict[str, int] | None:
    """The labels that the data set declares; None where it has none, or only the one that is made for objects."""
    made = {BACKGROUND: 0, OBJECT: 1}
    return None if dataset.label_names == made else dataset.label_names


def _composed(
    case: Case, opened: Sequence[LabelObject], objects: Objects, values: Mapping[str, tuple[str, int]]
) -> Case:
    """The case with a part of its label for each mask that is a label."""
    if isinstance(case.label, LabelFiles) and case.label.kind == "label":
        return replace(
            case, label=replace(case.label, parts=tuple(_with_key(part, objects) for part in case.label.parts))
        )
    if not opened:
        return case
    known = tuple(value for _, value in values.values())
    parts = [
        LabelPart(*values[folded], one.path, name)
        for one in opened
        for name in one.names
        if (folded := fold(safe_name(name))) in values
    ]
    return replace(case, label=LabelFiles("label", tuple(parts), known) if parts else None)


def _with_key(part: LabelPart, objects: Objects) -> LabelPart:
    """The part with the mask that is called like its label, where its object has one."""
    names = objects[part.path].names if part.path in objects and part.key is None else ()
    found = [name for name in names if fold(safe_name(name)) == fold(safe_name(part.name))]
    return part._replace(key=found[0]) if len(found) == 1 else part


def _left_out(opened: Mapping[str, Sequence[LabelObject]], values: Mapping[str, tuple[str, int]]) -> Iterator[Problem]:
    """A warning for masks that no declared label is called like."""
    others = Counter(
        name for held in opened.values() for one in held for name in one.names if fold(safe_name(name)) not in values
    )
    if others:
        shown = listed([f"{name} in {count}" for name, count in others.most_common()])
        yield Problem("", "masks left out", f"no label is called like the masks {shown} cases", REMEDY, "warning")


def _unlabelled(
    opened: Mapping[str, Sequence[LabelObject]], values: Mapping[str, tuple[str, int]]
) -> Iterator[Problem]:
    """A problem for each case whose objects hold none of the labels."""
    for case, held in opened.items():
        names = [name for one in held for name in one.names]
        if not any(fold(safe_name(name)) in values for name in names):
            what = f"no label, only {listed(names)}" if names else "no mask"
            files = listed([one.path.name for one in held])
            yield Problem(case, "label missing", f"{files} holds {what}", "rename the masks, or leave the case out")
