"""Who a case is: its id, its patient and its split, from what names tell besides channels and labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from attunet.data.dataset import Case, Problem
from attunet.data.layouts.pairing import LEVELS, Key, Level, NamedFile
from attunet.data.layouts.tokens import Role, fold, subject, tokenize
from attunet.data.layouts.tree import ImageFile
from attunet.names import safe_name

__all__ = ["case_ids", "ids_in_tree", "with_patients", "with_splits"]

REMEDY = "nothing, if this is meant; otherwise edit the column split of --write-csv"

_PART = re.compile(r"(fold|set|split|cohort|hospital|vendor|scanner|group|class|category)s?[-_ ]?\d+", re.IGNORECASE)
_NUMBERED_FOLDER = re.compile(r"(patient|subject|sub|pat|person|case|participant|[a-z])?[-_ ]?\d+", re.IGNORECASE)


def case_ids(images: Mapping[Key, Mapping[str, list[NamedFile]]], level: Level) -> dict[Key, str]:
    """The id of each case: the innermost text that names it, with its folders and its split where that repeats.

    Args:
        images: the images of each key, by channel.
        level: the level at which they were read.
    Returns: unique ids that can be file names.
    """
    texts = {key: _as_written(key, next(iter(channels.values()))[0], level) for key, channels in images.items()}
    ids = {key: found[-1] for key, found in texts.items()}
    for longer in (lambda key: texts[key], lambda key: (*key[:1], *texts[key])):
        counts = Counter(map(fold, ids.values()))
        ids = {key: id if counts[fold(id)] == 1 else "_".join(longer(key)) for key, id in ids.items()}
    return {key: safe_name(id) for key, id in ids.items()}


def ids_in_tree(files: Sequence[ImageFile]) -> list[str]:
    """The ids of images, at the first level at which the innermost part of each name tells it from the others."""
    named = [NamedFile(file, is_label=False) for file in files]
    for level in LEVELS:
        keys = [file.key(level) for file in named]
        if all(len(key) > 1 for key in keys) and len({key[-1] for key in keys}) == len(keys):
            break
    else:
        level, keys = LEVELS[0], [file.key(LEVELS[0]) for file in named]
    ids = case_ids({key: {"": [file]} for key, file in zip(keys, named, strict=True)}, level)
    return [ids[key] for key in keys]


def with_patients(
    cases: Mapping[Key, Case], images: Mapping[Key, Mapping[str, NamedFile]]
) -> tuple[dict[Key, Case], str]:
    """The cases with their patients as groups, and what the patients were read from; empty when nothing tells them.

    Args:
        cases: the cases.
        images: their images.
    Returns: the same cases, with groups where some patient has several.
    """
    first = {key: next(iter(found.values())) for key, found in images.items()}
    sources = (
        ("{group}", {key: first[key].given.get("group") for key in cases}),
        ("the folder", {key: _patient_folder(case.id, first[key]) for key, case in cases.items()}),
        ("{id} without time, side or slice", {key: subject(case.id) for key, case in cases.items()}),
    )
    for source, found in sources:
        groups = {key: found[key] or case.id for key, case in cases.items()}
        if 1 < len(set(groups.values())) < len(groups):
            return {key: replace(case, group=groups[key]) for key, case in cases.items()}, source
    return dict(cases), ""


def with_splits(
    cases: Mapping[Key, Case], images: Mapping[Key, Mapping[str, NamedFile]]
) -> tuple[dict[Key, Case], list[Problem]]:
    """The cases with the splits that their folders tell, where labelled cases are in several.

    Without validation cases, those that are not for testing are left to the folds.

    Args:
        cases: the cases.
        images: their images.
    Returns: the same cases, and a warning that says what the folders decide.
    """
    splits = {key: next(iter(found.values())).split for key, found in images.items()}
    labelled = Counter(splits[key] for key, case in cases.items() if case.label is not None)
    if len(labelled) < 2 or not set(labelled) & {"val", "test"}:
        return dict(cases), []
    kept = ("train", "val", "test") if labelled["val"] else ("test",)
    split = {key: replace(case, split=splits[key] if splits[key] in kept else None) for key, case in cases.items()}
    counts = ", ".join(f"{name or 'elsewhere'} {count}" for name, count in sorted(labelled.items()))
    what = "the val cases are the validation set" if labelled["val"] else "the test cases are not trained on"
    message = f"folders divide the labelled cases ({counts}): {what}"
    return split, [Problem("", "split by folder", message, REMEDY, "warning")]


def _patient_folder(id: str, file: NamedFile) -> str | None:
    """The patient that a folder names: it begins the id of its cases (without a date), or is numbered like patients."""
    for folder in file.file.folders:
        roles = {token.role for token in tokenize(folder)}
        if (
            roles & {Role.SPLIT, Role.PLACE}
            or _PART.fullmatch(folder)
            or not any(character.isdigit() for character in folder)
        ):
            continue
        if fold(id) != fold(folder) and fold(id).startswith(fold(folder)) and not fold(id)[len(fold(folder))].isalnum():
            return subject(folder) or folder
        if _NUMBERED_FOLDER.fullmatch(folder) and fold(folder) != fold(id):
            return folder
    return None


def _as_written(key: Key, file: NamedFile, level: Level) -> tuple[str, ...]:
    """The texts of a key as they are in the names of files; the folder of a file whose name tells nothing."""
    texts = file.texts(level)
    written = tuple(
        next((text[: len(part)] for text in reversed(texts) if fold(text).startswith(part)), part) for part in key[1:]
    )
    return written or (file.file.path.parent.name,)
