"""Labels of several files: a file for each label (liver, spleen), or a file for each object (one nucleus)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attunet.data.dataset import LabelFiles, LabelPart, Problem
from attunet.data.formats import is_picture
from attunet.data.label_slices import slice_pictures
from attunet.data.labels import BACKGROUND
from attunet.data.layouts.pairing import OF_LABELS, Key, NamedFile, Pairing
from attunet.data.layouts.shapes import MatchedFile
from attunet.data.layouts.tokens import Role, fold, tokenize, values
from attunet.names import safe_name

__all__ = ["OBJECT", "Composition", "numbered", "raters_problem", "with_extras"]

OBJECT = "object"
"""The name of the only label where there is a file for each object."""

Entry = tuple[NamedFile, str]
LESIONS = {"lesion", "lesions"}

LEAST_REPEATS = 1.5
"""Names of labels are in at least so many cases on average; names of objects are in one."""

_NUMBER = re.compile(r"(\D*)\d+")


@dataclass(frozen=True)
class Composition:
    """How the masks of a case make up its label.

    Args:
        kind: a file for each label, for each object, or one for all; or objects of DICOM, in which masks have names; or
            a picture for each slice of a series of DICOM.
        names: name to value; None where there is one file.
        problems: a warning where a file is taken to be an object.
    """

    kind: Literal["label", "object", "single", "named", "slice"]
    names: dict[str, int] | None = None
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(
        cls,
        labels: Mapping[Key, Sequence[MatchedFile]],
        declared: Mapping[str, int] | None,
        slices: Mapping[Key, int] | None = None,
    ) -> Composition:
        """How the masks of all cases make up their labels.

        Names that are in several cases are those of labels; names that are in one case, or only numbers, are objects.

        Args:
            labels: the masks of each case.
            declared: name to value of the labels that the data set declares; None without a declaration.
            slices: the number of files of each image that is a series of DICOM; None without any.
        Returns: the composition of every case.
        """
        if labels and all(_is_picture_for_each(members, (slices or {}).get(key, 0)) for key, members in labels.items()):
            return cls("slice")
        extras = Counter(fold(member.extra) for members in labels.values() for member in members if member.extra)
        several = any(len(members) > 1 for members in labels.values())
        plain = sum(not member.extra for members in labels.values() for member in members)
        stated = any("label" in member.file.given for members in labels.values() for member in members)
        if all(member.file.file.is_label for members in labels.values() for member in members):
            return cls("named")
        if not extras or (not several and not stated and (len(extras) == 1 or plain * 2 >= len(labels))):
            return cls("single")
        if stated or _are_labels(extras, len(labels)):
            return cls("label", _names(labels, declared))
        if not several:
            return cls("single")
        message = "each case has several masks that are not named like labels: each is taken to be an object"
        remedy = (
            "--merge-instances learns them as one label; if they are labels or of several raters, "
            'use --label-pattern with "{label}" or "{rater}"'
        )
        problem = Problem("", "file per object", message, remedy, "warning")
        return cls("object", {BACKGROUND: 0, OBJECT: 1}, (problem,))

    def label(self, members: Sequence[MatchedFile]) -> Path | LabelFiles | None:
        """The label of a case; None without masks."""
        if not members:
            return None
        if self.kind == "named" and len(members) > 1:
            return LabelFiles("object", tuple(LabelPart(OBJECT, 1, member.file.file.path) for member in members))
        if self.kind == "slice":
            return slice_pictures([member.file.file.path for member in members])
        if self.kind == "single" or self.names is None:
            return members[0].file.file.path
        values = tuple(value for name, value in self.names.items() if name != BACKGROUND)
        if self.kind == "object":
            paths = sorted(member.file.file.path for member in members)
            return LabelFiles("object", tuple(LabelPart(OBJECT, 1, path) for path in paths), values)
        named = {fold(safe_name(member.extra)): member.file.file.path for member in members}
        known = {name: named.get(fold(name)) for name in self.names}
        parts = (LabelPart(name, self.names[name], path) for name, path in known.items() if path is not None)
        return LabelFiles("label", tuple(parts), values)

    def members(self, labels: Mapping[Key, Sequence[MatchedFile]]) -> Iterator[MatchedFile]:
        """The masks, for their patterns: where a label is one file, what is added to its name is no label."""
        for members in labels.values():
            yield from (member if self.names else member._replace(extra="") for member in members)


def numbered(found: Mapping[str, str]) -> dict[str, int]:
    """Background and labels, numbered in the order of their names: what each is called, by its folded name."""
    return {BACKGROUND: 0, **{found[name]: value for value, name in enumerate(sorted(found), start=1)}}


def raters_problem(raters: Sequence[str], used: str) -> Iterator[Problem]:
    """A warning where masks are of several raters, of whom one is used; a rater may have no name."""
    if len(raters) > 1:
        names = ", ".join(name or "no name" for name in raters)
        message = f"masks are of several raters ({names}); those of {used or 'no name'} are used"
        yield Problem("", "several raters", message, "choose another with --rater NAME", "warning")


def with_extras(key: Key, entries: Sequence[Entry], pairing: Pairing) -> Sequence[Entry]:
    """The masks of a case with what each adds to its name: after the name, as an entity of BIDS, or as a folder.

    A mask that is called lesion, among other organs, is called that; one of words for labels alone, by its name.

    Args:
        key: what names the case.
        entries: its masks, each with what its name adds after that of the case.
        pairing: the reading of the data set.
    Returns: the masks, each with what its name adds.
    """
    if len(entries) < 2:
        return entries
    found = []
    for file, extra in entries:
        siblings = any(more and other.file.folders == file.file.folders for other, more in entries)
        found.append((file, extra or _entity(file) or (_label_words(file, entries) if siblings else "")))
    if any(extra for _, extra in found):
        return found
    outside = ["_".join(part for part in file.key(pairing.level)[1:] if part not in key) for file, _ in entries]
    folders = [(file, folder) for (file, _), folder in zip(entries, outside, strict=True)]
    return folders if all(outside) and len(set(outside)) == len(outside) else found


def _is_picture_for_each(members: Sequence[MatchedFile], slices: int) -> bool:
    """Whether masks are as many pictures, as a series has slices."""
    return len(members) == slices > 1 and all(is_picture(member.file.file.path) for member in members)


def _label_words(file: NamedFile, entries: Sequence[Entry]) -> str:
    """What the words for labels say, if one of them is a name; the whole name next to numbers, as in mask, mask_1."""
    tokens = tokenize(file.file.stem)
    if all(token.role in OF_LABELS for token in tokens) or any(extra.isdigit() for _, extra in entries):
        return file.file.stem
    return next((token.text for token in tokens if token.value in LESIONS), "")


def _entity(file: NamedFile) -> str:
    """The value of the entity label of a BIDS name, such as lesion in label-lesion."""
    tokens = [token.text.partition("-") for token in values(file.file.stem, Role.LABEL)]
    return next((value for name, _, value in tokens if fold(name) == "label" and value), "")


def _are_labels(extras: Counter[str], cases: int) -> bool:
    """Whether what masks add to their cases are names of labels, rather than numbers or codes of objects."""
    stems = {match[1] for name in extras if (match := _NUMBER.fullmatch(name))}
    numbered = sum(_NUMBER.fullmatch(name) is not None for name in extras)
    if numbered == len(extras) and len(stems) == 1:
        return False
    if cases > 1:
        return extras.total() >= LEAST_REPEATS * len(extras)
    return sum(any(character.isdigit() for character in name) for name in extras) * 2 < len(extras)


def _names(labels: Mapping[Key, Sequence[MatchedFile]], declared: Mapping[str, int] | None) -> dict[str, int]:
    """Background and the labels: with the declared values, or numbered in the order of their names."""
    found: dict[str, str] = {}
    for members in labels.values():
        for member in members:
            found.setdefault(fold(member.extra), _as_written(member))
    given = {fold(safe_name(name)): (name, value) for name, value in (declared or {}).items()}
    if given and found.keys() <= given.keys():
        return dict(sorted(((name, value) for name, value in given.values()), key=lambda item: item[1]))
    return numbered(found)


def _as_written(member: MatchedFile) -> str:
    """What a mask's name adds, in the letter case of the file."""
    for part in reversed(member.file.file.parts):
        at = fold(part).find(fold(member.extra))
        if at >= 0:
            return safe_name(part[at : at + len(member.extra)])
    return safe_name(member.extra)
