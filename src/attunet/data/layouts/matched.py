"""Data sets without a description: folders as people download them, read by the names of their files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from attunet.data.dataset import Case, Dataset, DatasetOptions, LeftOut
from attunet.data.layouts.description import DESCRIPTION, load_description, with_description
from attunet.data.layouts.find import find_cases
from attunet.data.layouts.matcher import Match, match_files
from attunet.data.layouts.pairing import NamedFile, name_files
from attunet.data.layouts.patterns import with_patterns
from attunet.data.layouts.references import match_references
from attunet.data.layouts.tokens import Role, fold, tokenize
from attunet.data.layouts.tree import ImageFile, unused_problem, walk
from attunet.errors import DatasetError
from attunet.names import listed

__all__ = ["is_folder", "read_matched"]

MOST_READINGS = 4
NOT_STATED = "fit none of the patterns"


def is_folder(path: Path) -> bool:
    """Whether a path is a folder that is not empty; `read_matched` tells whether its names can be matched."""
    return path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir())


def read_matched(root: Path, options: DatasetOptions) -> Dataset | None:
    """Read a folder, and all folders in it, by the names of files; a dataset.json may declare its labels.

    Labels of DICOM that refer to series in the folder go with these.

    Args:
        root: the folder.
        options: patterns, and the rater.
    Returns: the data set with its rule; None when no file is named like the label of an image.
    Raises: DatasetError when two readings are possible, a pattern fits no file, the folder contains several data sets,
        or the description cannot be used.
    """
    tree = walk(root)
    dataset = Dataset(root=root, layout="plain", cases=())
    if (root / DESCRIPTION).is_file():
        dataset = with_description(dataset, load_description(root / DESCRIPTION))
    elif tree.described:
        raise DatasetError(
            f"{root} contains {len(tree.described)} data sets with a {DESCRIPTION}: {listed(tree.described)}",
            hint="pass one of them",
        )
    if not tree.images and tree.problems:
        raise DatasetError(
            f"{root} contains no image that can be read: {tree.problems[0].message}", hint=tree.problems[0].remedy
        )
    named = name_files(tree.images)
    files = with_patterns(named, options)
    match = _match(files, options, dataset.label_names)
    if match is None:
        if options.key is not None and options.label_key is not None and not any(file.is_label for file in files):
            return replace(dataset, cases=_own_labels(root, options))
        _refuse_unlabelled(files, options)
        return None
    others = {file.file for file in files}
    unstated = tuple(file.file.name for file in named if file.file not in others)
    left_out = [LeftOut(NOT_STATED, unstated)] if unstated else []
    rule = replace(
        match.rule,
        images=(options.pattern,) if options.pattern else match.rule.images,
        labels=(options.label_pattern,) if options.label_pattern else match.rule.labels,
        left_out=(*match.rule.left_out, *left_out),
    )
    return replace(
        dataset,
        cases=match.cases,
        label_names=dataset.label_names or match.label_names,
        channel_names=dataset.channel_names or match.channels,
        problems=(*tree.problems, *match.problems, *map(unused_problem, left_out)),
        rule=rule,
    )


def _match(files: Sequence[NamedFile], options: DatasetOptions, declared: dict[str, int] | None) -> Match | None:
    """The cases by references of labels, where there are any and names do not pair the same in several channels."""
    stated = options.pattern is not None or options.label_pattern is not None
    referred = None if stated else match_references(files)
    if referred is None:
        return match_files(files, options, declared)
    with suppress(DatasetError):
        named = match_files(files, options, declared)
        if named is not None and len(named.rule.channels) > 1 and _holds(named.cases, referred.cases):
            return named
    return referred


def _holds(named: Sequence[Case], referred: Sequence[Case]) -> bool:
    """Whether the cases found by names hold the pairs found by references."""
    by_label = {case.label_paths: case.images for case in named}
    return all(set(case.images) <= set(by_label.get(case.label_paths, ())) for case in referred)


def _own_labels(root: Path, options: DatasetOptions) -> tuple[Case, ...]:
    """The cases of files that hold an image and its label, each under a name of its own."""
    return tuple(replace(case, label=case.images[0]) for case in find_cases([root], 1, options))


def _refuse_unlabelled(files: Sequence[NamedFile], options: DatasetOptions) -> None:
    """Raises: DatasetError when labels and images cannot be told apart, with the pattern that chooses each kind."""
    if options.pattern or options.label_pattern:
        raise DatasetError(
            "no label has the name of an image under these patterns", hint="state both --pattern and --label-pattern"
        )
    if any(file.is_label for file in files):
        raise _unmatched(files)
    kinds: dict[str, set[str]] = defaultdict(set)
    for file in files:
        pattern, id = _guessed(file.file)
        kinds[pattern].add(id)
    ordered = sorted(kinds, key=lambda kind: (_is_image(kind), kind))
    rivals = [kind for kind in ordered if any(len(kinds[kind] & kinds[other]) > 1 for other in kinds if other != kind)]
    if rivals:
        readings = rivals[:MOST_READINGS]
        raise DatasetError(
            f"several readings are possible: no name tells which of {', '.join(readings)} are the labels",
            hint="choose with " + " or ".join(f'--label-pattern "{pattern}"' for pattern in readings),
        )
    found = list(dict.fromkeys(_numbered(file.file) for file in files))
    if len(found) > 1:
        shown = [f'"{name}"' for name in found[:MOST_READINGS]]
        raise DatasetError(
            f"no image is named like a label: {' and '.join(shown)}",
            hint="add the folder of labels; if they are among these, state their names with {id} for the case, such as "
            f"--label-pattern {shown[0]}; or pass a CSV file with the columns image and label",
        )


def _unmatched(files: Sequence[NamedFile]) -> DatasetError:
    """The error for images and labels of which no name tells that they belong together, with the kinds of names."""
    kinds = [Counter(_numbered(file.file) for file in files if file.is_label is label) for label in (False, True)]
    images, labels = ([f'"{name}"' for name, _ in kind.most_common(MOST_READINGS)] for kind in kinds)
    if not images:
        return DatasetError(
            f"all images are named like labels: {' and '.join(labels)}",
            hint="give the folder that also holds the images; if some of these are images, state their names with "
            "--pattern",
        )
    return DatasetError(
        f"no label has the name of an image: images are {' and '.join(images)}, labels {' and '.join(labels)}",
        hint="state the names with --pattern and --label-pattern, such as "
        f"--pattern {images[0]} --label-pattern {labels[0]}, with the same {{id}} for one case; "
        "or pass a CSV file with the columns image and label",
    )


def _numbered(file: ImageFile) -> str:
    """The name of a file with {id} for its last number, and * for the others."""
    pieces = re.split(r"\d+", "/".join(file.parts))
    ends = ["*"] * (len(pieces) - 2) + ["{id}"] if len(pieces) > 1 else []
    return "".join(piece + end for piece, end in zip(pieces, [*ends, ""], strict=True)) + fold(file.suffix)


def _guessed(file: ImageFile) -> tuple[str, str]:
    """The pattern of a file whose name tells nothing, and its id: the first part with a number that is no channel."""
    numbered = [
        any(token.role is None and any(map(str.isdigit, token.text)) for token in tokenize(part)) for part in file.parts
    ]
    place = numbered.index(True) if any(numbered) else len(file.parts) - 1
    after = ("*" if varies else part for part, varies in list(zip(file.parts, numbered, strict=True))[place + 1 :])
    return "/".join((*file.parts[:place], "{id}", *after)) + fold(file.suffix), fold(file.parts[place])


def _is_image(pattern: str) -> bool:
    return any(token.role in (Role.CHANNEL, Role.IMAGE) for part in pattern.split("/") for token in tokenize(part))
