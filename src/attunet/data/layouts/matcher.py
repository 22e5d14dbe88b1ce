"""Matching: from the names of files alone to the cases of a data set, and the rule by which they were found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from attunet.data.dataset import Case, DatasetOptions, LeftOut, MatchRule, Problem
from attunet.data.layouts.choices import Choice, choose_images, choose_labels
from attunet.data.layouts.composed import Composition, raters_problem
from attunet.data.layouts.identity import case_ids, with_patients, with_splits
from attunet.data.layouts.pairing import Key, NamedFile, Pairing, pair_files
from attunet.data.layouts.shapes import MatchedFile, patterns_of
from attunet.data.layouts.tokens import Role, values
from attunet.data.layouts.tree import unused_problem
from attunet.names import listed

__all__ = ["Match", "match_files"]

MOST_PROBLEMS = 20
"""Problems of one kind that are listed one by one; more are one problem."""

Images = dict[Key, dict[str, NamedFile]]
Labels = dict[Key, list[MatchedFile]]


@dataclass(frozen=True, kw_only=True)
class Match:
    """What was found in the names of files.

    Args:
        cases: sorted by id.
        rule: how they were found, and what was left out.
        channels: the names of channels; empty where they have none.
        label_names: name to value where a label has several files; None otherwise.
        problems: labels without an image, missing channels, and warnings.
    """

    cases: tuple[Case, ...]
    rule: MatchRule
    channels: tuple[str, ...]
    label_names: dict[str, int] | None
    problems: tuple[Problem, ...]


def match_files(
    files: Sequence[NamedFile], options: DatasetOptions, declared: Mapping[str, int] | None = None
) -> Match | None:
    """Find the cases among the files of a folder.

    Args:
        files: the files, see `name_files`.
        options: the rater, where the user chose one.
        declared: name to value of the labels that the data set declares; None without a declaration.
    Returns: the cases with the rule; None when no label belongs to an image.
    Raises: DatasetError when two readings are possible.
    """
    choice = Choice()
    pairing = pair_files(_without_series(files, choice))
    if not pairing.labels:
        return None
    images = choose_images(pairing, case_ids(pairing.images, pairing.level), choice)
    ids = case_ids({key: {name: [file] for name, file in one.items()} for key, one in images.items()}, pairing.level)
    labels = choose_labels(pairing, ids, options, choice)
    slices = {key: next(iter(found.values())).file.series for key, found in images.items() if len(found) == 1}
    reading = _Reading(pairing, choice, ids, images, labels, Composition.of(labels, declared, slices))
    cases, patients = with_patients(_cases(reading), images)
    cases, splits = with_splits(cases, images)
    rule = MatchRule(
        images=patterns_of(_members(reading), pairing.level),
        labels=patterns_of(reading.composition.members(labels), pairing.level),
        channels=choice.channels if len(choice.channels) > 1 else _channel_names(choice),
        patients=patients,
        raters=choice.raters,
        rater=choice.rater,
        left_out=_left_out(files, reading),
    )
    problems = [
        *_lost(pairing),
        *_incomplete(reading),
        *reading.composition.problems,
        *splits,
        *raters_problem(choice.raters, choice.rater),
        *map(unused_problem, rule.left_out),
    ]
    return Match(
        cases=tuple(sorted(cases.values(), key=lambda case: case.id)),
        rule=rule,
        channels=_channel_names(choice),
        label_names=reading.composition.names,
        problems=tuple(problems),
    )


class _Reading(NamedTuple):
    """What was made of the names of files: the pairing, what was chosen in it, and how masks make up labels."""

    pairing: Pairing
    choice: Choice
    ids: dict[Key, str]
    images: Images
    labels: Labels
    composition: Composition


def _cases(reading: _Reading) -> dict[Key, Case]:
    return {
        key: Case(
            reading.ids[key],
            tuple(file.file.path for file in found.values()),
            reading.composition.label(reading.labels.get(key, ())),
            raters=reading.choice.drawn.get(key, ()),
        )
        for key, found in reading.images.items()
    }


def _without_series(files: Sequence[NamedFile], choice: Choice) -> Sequence[NamedFile]:
    """The files without series over time, where there are other images."""
    moving = [file for file in files if not file.is_label and values(file.file.stem, Role.SERIES)]
    if len(moving) == sum(not file.is_label for file in files):
        return files
    choice.left_out["series over time, next to images of one time"] += moving
    out = set(map(id, moving))
    return [file for file in files if id(file) not in out]


def _members(reading: _Reading) -> Iterator[MatchedFile]:
    several = len(reading.choice.channels) > 1
    for key, found in reading.images.items():
        for name, file in found.items():
            yield MatchedFile(file, reading.ids[key], channel=name if several else "")


def _channel_names(choice: Choice) -> tuple[str, ...]:
    """The names of channels; numbers, and a single channel without a word, are no names."""
    if all(name.isdecimal() or not name for name in choice.channels):
        return ()
    return tuple(name or "image" for name in choice.channels)


def _left_out(files: Sequence[NamedFile], reading: _Reading) -> tuple[LeftOut, ...]:
    """Every file that is in no case and in no problem, by its reason."""
    drawn = {path for masks in reading.choice.drawn.values() for _, path in masks}
    used = {id(file) for found in reading.images.values() for file in found.values()}
    used |= {id(member.file) for members in reading.labels.values() for member in members}
    used |= {id(file) for file in reading.pairing.lost}
    reasons = {id(file): reason for reason, out in reading.choice.left_out.items() for file in out}
    found: dict[str, list[str]] = {}
    for file in files:
        if id(file) not in used:
            other = "masks of other raters; --rater uses them" if file.file.path in drawn else "no case goes with them"
            found.setdefault(reasons.get(id(file), other), []).append(file.file.name)
    return tuple(LeftOut(reason, tuple(names)) for reason, names in found.items())


def _lost(pairing: Pairing) -> Iterator[Problem]:
    """Labels without an image: one problem for each, or one for all."""
    remedy = "add the image or remove the label"
    if len(pairing.lost) <= MOST_PROBLEMS:
        for file in pairing.lost:
            yield Problem(file.file.stem, "label without image", f"{file.file.name} has no image", remedy)
    else:
        names = listed([file.file.name for file in pairing.lost])
        yield Problem("", "label without image", f"{len(pairing.lost)} labels have no image: {names}", remedy)


def _incomplete(reading: _Reading) -> Iterator[Problem]:
    channels = reading.choice.channels
    for key, found in reading.images.items():
        if absent := [name for name in channels if name not in found]:
            message = f"has no file for {', '.join(absent)}, expected {', '.join(channels)}"
            yield Problem(reading.ids[key], "channel missing", message, "add the file, or leave the case out")
