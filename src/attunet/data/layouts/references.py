"""Labels of DICOM and the series that they refer to: pairs that are told by UIDs, whatever files are called.

A segmentation or a structure set names the SeriesInstanceUID of its images. One that does not, or names series that are
not there, belongs to the only series in its frame of reference.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from attunet.data.dataset import Case, LabelFiles, LabelPart, LeftOut, MatchRule, Problem
from attunet.data.formats.dicom import LabelObject, SeriesIdentity, read_label_object
from attunet.data.layouts.composed import OBJECT
from attunet.data.layouts.identity import ids_in_tree, with_patients, with_splits
from attunet.data.layouts.matcher import Match
from attunet.data.layouts.pairing import Key, NamedFile
from attunet.data.layouts.tree import ImageFile, unused_problem
from attunet.errors import AttunetError
from attunet.names import listed

__all__ = ["match_references"]

IMAGES = "each DICOM series that a label refers to"
LABELS = "the segmentations and structure sets that refer to it (ReferencedSeriesSequence)"
UNREFERRED = "no segmentation or structure set refers to them"
BY_TABLE = "pair them in a CSV file with the columns image and label"


class _KnownSeries(NamedTuple):
    """A series, and the file or folder that holds it."""

    file: NamedFile
    identity: SeriesIdentity


class _Referred(NamedTuple):
    """Labels by the number of their series; those that only share its frame of reference; and problems."""

    labels: dict[int, list[NamedFile]]
    by_frame: list[NamedFile]
    problems: list[Problem]


def match_references(files: Sequence[NamedFile]) -> Match | None:
    """Find the cases among the files of a folder by the references of labels.

    Args:
        files: the files, see `name_files`.
    Returns: a case for each series that labels refer to, with all of these; None when no label refers to any.
    """
    known = [
        _KnownSeries(file, identity) for file in files if not file.file.is_label for identity in file.file.identities
    ]
    labels = [file for file in files if file.file.is_label]
    found = _resolved(labels, known)
    if not found.labels:
        return None
    images: dict[Key, dict[str, NamedFile]] = {}
    cases: dict[Key, Case] = {}
    numbers = sorted(found.labels, key=lambda number: (known[number].file.file.name, known[number].identity))
    for number, id in zip(numbers, _ids([known[number] for number in numbers]), strict=True):
        one = known[number]
        images[id,] = {"": one.file}
        cases[id,] = Case(id, (one.file.file.path,), _label(found.labels[number]), key=_key(one, known))
    cases, patients = with_patients(cases, images)
    cases, splits = with_splits(cases, images)
    used = {known[number].file.file for number in numbers} | {file.file for file in labels}
    others = tuple(file.file.name for file in files if file.file not in used)
    left_out = (LeftOut(UNREFERRED, others),) if others else ()
    return Match(
        cases=tuple(sorted(cases.values(), key=lambda case: case.id)),
        rule=MatchRule(images=(IMAGES,), labels=(LABELS,), patients=patients, left_out=left_out),
        channels=(),
        label_names=None,
        problems=(*found.problems, *_told(found.by_frame), *splits, *map(unused_problem, left_out)),
    )


def _resolved(labels: Sequence[NamedFile], known: Sequence[_KnownSeries]) -> _Referred:
    """What each label refers to."""
    found = _Referred(defaultdict(list), [], [])
    for file in labels:
        try:
            held = read_label_object(file.file.path)
        except AttunetError as error:
            found.problems.append(Problem(file.file.stem, "unreadable file", error.message, error.hint))
            continue
        named, sharing = _candidates(held, known)
        if len(candidates := named or sharing) == 1:
            found.labels[candidates[0]].append(file)
            found.by_frame.extend([] if named else [file])
        else:
            found.problems.append(_unresolved(file, [known[number].file.file.name for number in candidates]))
    return found


def _candidates(held: LabelObject, known: Sequence[_KnownSeries]) -> tuple[list[int], list[int]]:
    """The numbers of the series that an object names, and of those in its frame of reference."""
    identities = list(enumerate(one.identity for one in known))
    named = [number for number, identity in identities if identity.uid in held.series]
    return named, [number for number, identity in identities if identity.frame_of_reference in held.frames_of_reference]


def _unresolved(file: NamedFile, names: Sequence[str]) -> Problem:
    if names:
        message = f"{file.file.name} refers to several series: {listed(names)}"
        return Problem(file.file.stem, "several images", message, BY_TABLE)
    message = f"{file.file.name} refers to no series that is there"
    return Problem(file.file.stem, "label without image", message, f"add the series, or {BY_TABLE}")


def _told(by_frame: Sequence[NamedFile]) -> Iterator[Problem]:
    """A warning for labels that name no series that is there."""
    if by_frame:
        names = listed([file.file.name for file in by_frame])
        message = f"{names} name no series that is there: each goes with the only one in its frame of reference"
        remedy = f"nothing, if this is right; otherwise {BY_TABLE}"
        yield Problem("", "matched by frame of reference", message, remedy, "warning")


def _ids(series: Sequence[_KnownSeries]) -> list[str]:
    """An id for each series, from the names of folders; with a number where a folder holds several."""
    folders = list(dict.fromkeys(one.file.file for one in series))
    names = dict(zip(folders, ids_in_tree(folders), strict=True))
    several = Counter(one.file.file for one in series)
    numbers: Counter[ImageFile] = Counter()
    ids = []
    for file in (one.file.file for one in series):
        numbers[file] += 1
        ids.append(f"{names[file]}_{numbers[file]}" if several[file] > 1 else names[file])
    return ids


def _key(one: _KnownSeries, known: Sequence[_KnownSeries]) -> str | None:
    """What chooses a series where its folder, or one in it, holds others."""
    folder = one.file.file.path
    paths = [other.file.file.path for other in known if other is not one]
    return one.identity.uid if any(folder in (path, *path.parents) for path in paths) else None


def _label(files: Sequence[NamedFile]) -> Path | LabelFiles:
    paths = [file.file.path for file in files]
    return paths[0] if len(paths) == 1 else LabelFiles("object", tuple(LabelPart(OBJECT, 1, path) for path in paths))
