"""Patterns stated by hand: which files are images, which are labels, and what each part of their names means.

`{id}/{id}_{channel}.nii.gz` describes the path of a file below the folder. `*` stands for any text within a name, `**`
for any folders. A placeholder that occurs twice stands for the same text. Letter case and Unicode form do not matter; a
pattern without a suffix fits every suffix.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from attunet.data.dataset import DatasetOptions
from attunet.data.formats import suffix_of
from attunet.data.layouts.pairing import NamedFile
from attunet.data.layouts.tokens import fold, nfc
from attunet.data.layouts.tree import ImageFile
from attunet.errors import DatasetError
from attunet.names import safe_name

__all__ = ["PLACEHOLDERS", "match_pattern", "with_patterns", "without_labels"]

PLACEHOLDERS = {
    "id": "the case",
    "channel": "the channel of an image",
    "label": "the label of a mask, where there is a file for each",
    "group": "the patient",
    "rater": "who drew a mask",
}
"""What may stand in braces."""

LONGEST_PATTERN = 500

_PIECE = re.compile(r"\{([^{}]*)\}|(\*\*/?)|(\*)")

Given = dict[str, str]
"""Placeholder to text."""


def match_pattern(pattern: str, files: Sequence[ImageFile], option: str = "--pattern") -> dict[ImageFile, Given]:
    """The files that a pattern fits, with the text of each placeholder.

    Args:
        pattern: such as "{id}/{id}_{channel}.nii.gz".
        files: the files to search.
        option: what the pattern was given with, for messages.
    Returns: file to placeholder to text; ids can be file names.
    Raises: DatasetError when the pattern cannot be used, or fits no file.
    """
    expression = _expression(pattern, option)
    bare = suffix_of(Path(pattern)) is None and not pattern.endswith("*")
    found = {}
    for file in files:
        path = nfc("/".join(file.parts) if bare else file.name)
        if match := expression.fullmatch(path):
            found[file] = match.groupdict() | {"id": safe_name(match["id"])}
    if not found:
        example = f", such as {files[0].name}" if files else ""
        raise DatasetError(
            f"{option} {pattern!r} fits none of the {len(files)} images{example}",
            hint="write the path below the folder, with {id} for the case and * for what may differ",
        )
    return found


def with_patterns(files: Sequence[NamedFile], options: DatasetOptions) -> list[NamedFile]:
    """The files with what the patterns of the user say; those that a pattern of their kind does not fit are left away.

    Args:
        files: the files, with what their names tell.
        options: with a pattern of images, of labels, or both.
    Returns: the files that are images or labels.
    Raises: DatasetError as `match_pattern`.
    """
    named = {file.file: file for file in files}
    labels = _given(named, options.label_pattern, "--label-pattern")
    images = _given({file: one for file, one in named.items() if file not in labels}, options.pattern, "--pattern")
    images = without_labels(images, named)
    kept = [replace(named[file], is_label=True, given=given, raters=_raters(given)) for file, given in labels.items()]
    kept += [replace(named[file], is_label=False, given=given, raters=()) for file, given in images.items()]
    if options.label_pattern is None:
        kept += [file for file in files if file.is_label and file.file not in images]
    if options.pattern is None:
        kept += [file for file in files if not file.is_label and file.file not in labels]
    return _unique(kept)


def without_labels(images: Mapping[ImageFile, Given], named: Mapping[ImageFile, NamedFile]) -> dict[ImageFile, Given]:
    """The files that a pattern of images fits, without those that are named like labels, unless all are.

    So `{id}/{channel}.nii.gz` never makes a mask a channel.
    """
    told = {file: given for file, given in images.items() if not named[file].is_label}
    return told or dict(images)


def _given(named: dict[ImageFile, NamedFile], pattern: str | None, option: str) -> dict[ImageFile, Given]:
    return {} if pattern is None else match_pattern(pattern, tuple(named), option)


def _raters(given: Given) -> tuple[str, ...]:
    return (given["rater"],) if "rater" in given else ()


def _unique(files: Sequence[NamedFile]) -> list[NamedFile]:
    """Ids with their group in front where the same id is in several groups."""
    groups: dict[str, set[str]] = defaultdict(set)
    for file in files:
        if "group" in file.given:
            groups[fold(file.given["id"])].add(fold(file.given["group"]))
    if all(len(found) == 1 for found in groups.values()):
        return list(files)
    return [
        replace(file, given={**file.given, "id": safe_name(f"{file.given['group']}_{file.given['id']}")})
        if "group" in file.given
        else file
        for file in files
    ]


def _expression(pattern: str, option: str) -> re.Pattern[str]:
    """The regular expression of a pattern. Raises: DatasetError."""
    text = nfc(pattern.strip()).removeprefix("./")
    names = [match[1] for match in _PIECE.finditer(text) if match[1] is not None]
    unknown = [name for name in names if name not in PLACEHOLDERS]
    faults = {
        "has the unknown placeholder {" + "".join(unknown[:1]) + "}": bool(unknown),
        "has no {id}": "id" not in names,
        "leads outside of the folder": text.startswith("/") or ".." in text.split("/"),
        f"is longer than {LONGEST_PATTERN} characters": len(text) > LONGEST_PATTERN,
    }
    for fault, found in faults.items():
        if found:
            known = ", ".join(f"{{{name}}} ({what})" for name, what in PLACEHOLDERS.items())
            raise DatasetError(f"{option} {pattern!r} {fault}", hint=f"placeholders are {known}, and *")
    parts, start, seen = [], 0, set()
    for match in _PIECE.finditer(text):
        parts.append(re.escape(text[start : match.start()]))
        name = match[1]
        if name is not None:
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)")
            seen.add(name)
        elif match[2]:
            parts.append("(?:[^/]+/)*" if match[2].endswith("/") else ".*")
        else:
            parts.append("[^/]*")
        start = match.end()
    return re.compile("".join((*parts, re.escape(text[start:]))), re.IGNORECASE)
