"""Choosing between files that claim one place: which images are channels, and which masks are the label of a case.

What is not chosen is left out with a reason. Where names do not decide, both readings are shown with the option that
chooses each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attunet.data.dataset import DatasetOptions
from attunet.data.layouts.composed import with_extras
from attunet.data.layouts.pairing import Key, NamedFile, Pairing
from attunet.data.layouts.shapes import MatchedFile, pattern_of, shape
from attunet.data.layouts.tokens import DRAWN, Role, Token, fold, tokenize, values
from attunet.errors import DatasetError

__all__ = ["Choice", "choose_images", "choose_labels"]

Found = dict[Key, dict[str, list[NamedFile]]]
"""The images of each case by channel, with the files that claim to be it."""

DATATYPES = ("anat", "dwi", "func", "perf")
"""Folders of BIDS: a mask lies in the folder of the images that it was drawn on."""

PROGRAMS = {"ai", "automated", "automatic", "auto", "predicted", "prediction", "predictions"}
MASKS = {"mask", "masks", "msk", "msks"}
DRAWN_BY = frozenset(DRAWN.split())


@dataclass
class Choice:
    """What was chosen while reading a data set.

    Args:
        left_out: reason to the files that are left out for it.
        channels: the channels in order; a single empty name where an image is one file.
        raters: the raters of the labels, in order.
        rater: the rater whose masks are used.
        drawn: the masks of each case by rater, where there are several raters.
    """

    left_out: dict[str, list[NamedFile]] = field(default_factory=lambda: defaultdict(list))
    channels: tuple[str, ...] = ("",)
    raters: tuple[str, ...] = ()
    rater: str = ""
    drawn: dict[Key, tuple[tuple[str, Path], ...]] = field(default_factory=dict)


def choose_images(pairing: Pairing, names: dict[Key, str], choice: Choice) -> dict[Key, dict[str, NamedFile]]:
    """One file for each channel of each case.

    Args:
        pairing: the reading of the data set.
        names: the id of each key.
        choice: receives the channels, and what is left out.
    Returns: the channels of each case that has a label, or whose images are of a kind that has labels.
    Raises: DatasetError when two files are the same image, and names do not tell which one to use.
    """
    found = _of_labelled_kind(_same_datatype(pairing, choice), pairing, choice)
    images = {
        key: {
            name: _single(
                files, pairing, MatchedFile(files[0], names[key], "", name if len(channels) > 1 else ""), choice
            )
            for name, files in channels.items()
        }
        for key, channels in found.items()
    }
    labelled = [key for key in images if key in pairing.labels]
    counts = Counter(name for key in labelled for name in images[key])
    if all(len(channels) == 1 for channels in images.values()):  # of one modality, or of one in each case
        choice.channels = tuple(counts) if len(counts) == 1 else ("",)
        return {key: {choice.channels[0]: next(iter(channels.values()))} for key, channels in images.items()}
    ordered = sorted(counts, key=fold)
    choice.channels = tuple(name for name in ordered if counts[name] * 2 >= len(labelled)) or tuple(ordered)
    for channels in images.values():
        for name in [name for name in channels if name not in choice.channels]:
            reason = f"channel {name or 'without a name'}, which most cases lack; --pattern uses it"
            choice.left_out[reason].append(channels.pop(name))
    return {
        key: {name: channels[name] for name in choice.channels if name in channels}
        for key, channels in images.items()
        if channels
    }


def choose_labels(
    pairing: Pairing, names: dict[Key, str], options: DatasetOptions, choice: Choice
) -> dict[Key, list[MatchedFile]]:
    """The masks that make up the label of each case: one, or several of different labels or objects.

    Args:
        pairing: the reading of the data set.
        names: the id of each key.
        options: the rater to choose.
        choice: receives the raters, and what is left out.
    Returns: the masks of each case, for each rater where there are several.
    Raises: DatasetError when two masks claim to be the label of a case and names do not tell which one is, and when
        nobody of the name of the rater drew any.
    """
    labels = {
        key: [MatchedFile(file, names[key], extra) for file, extra in with_extras(key, entries, pairing)]
        for key, entries in pairing.labels.items()
        if key in names
    }
    labels = _without(labels, lambda file: bool(_words(file, Role.SOFT)), "probability maps, not labels", choice)
    reason = "masks of the field of view or of the brain besides the labels; --label-pattern uses them"
    labels = _without(labels, _shows_field(labels), reason, choice)
    exact = [key for key, members in labels.items() if any(not member.extra for member in members)]
    if any(len(members) > 1 for members in labels.values()) and len(exact) * 2 >= len(labels):
        for key in exact:
            others = [member.file for member in labels[key] if member.extra]
            choice.left_out["masks besides the label of the case; --label-pattern uses them"] += others
            labels[key] = [member for member in labels[key] if not member.extra]
    if options.rater is None:
        labels = _without(labels, _by_program, "masks by a program; --label-pattern uses them", choice)
    labels = _of_rater(labels, options, choice)
    _refuse_rivals(labels, pairing)
    return labels


def _same_datatype(pairing: Pairing, choice: Choice) -> Found:
    """The images in folders such as anat/ where all masks lie in folders of this name, as in BIDS; otherwise all."""
    places = {_datatype(file) for entries in pairing.labels.values() for file, _ in entries}
    if "" in places or not places:
        return {key: dict(channels) for key, channels in pairing.images.items()}
    images: Found = {}
    for key, channels in pairing.images.items():
        for name, files in channels.items():
            near = [file for file in files if _datatype(file) in places or not _datatype(file)]
            far = [file for file in files if file not in near]
            choice.left_out[f"images outside of {' and '.join(sorted(places))}/, where the masks are"] += far
            if near:
                images.setdefault(key, {})[name] = near
    return images


def _of_labelled_kind(images: Found, pairing: Pairing, choice: Choice) -> Found:
    """The images of kinds of which some have a label: neither test images nor, for example, overlays."""
    kinds = {
        shape(file, pairing.level, suffix=False)
        for key, channels in images.items()
        if key in pairing.labels
        for files in channels.values()
        for file in files
    }
    splits = {key[0] for key in images if key in pairing.labels}
    kept: Found = {}
    for key, channels in images.items():
        untested = key[0] == "test" and "test" not in splits
        found = [file for files in channels.values() for file in files]
        known = not untested and any(shape(file, pairing.level, suffix=False) in kinds for file in found)
        if key in pairing.labels or known:
            kept[key] = channels
        else:
            reason = "test images without a label" if key[0] == "test" else "images of a kind without labels"
            choice.left_out[reason] += found
    return kept


def _datatype(file: NamedFile) -> str:
    return next((folder for folder in map(fold, reversed(file.file.folders)) if folder in DATATYPES), "")


def _single(files: Sequence[NamedFile], pairing: Pairing, place: MatchedFile, choice: Choice) -> NamedFile:
    """The file of a channel: in a folder of images rather than elsewhere, and as acquired rather than derived."""
    preferred = list(files)
    for wanted in (_in_image_folder, _is_acquired):
        preferred = [file for file in preferred if wanted(file)] or preferred
    choice.left_out["images besides those of the case; --pattern uses them"] += [
        file for file in files if file not in preferred
    ]
    first, *rivals = preferred
    if not rivals:
        return first
    one, other = (pattern_of([place._replace(file=file)], pairing.level) for file in preferred[:2])
    raise DatasetError(
        f"{first.file.path} and {rivals[0].file.path} are both case {place.id}",
        hint=f'keep one, rename one, or choose with --pattern "{one}" or --pattern "{other}"'
        if one != other
        else "rename one, or pass a CSV file with a column id",
    )


def _in_image_folder(file: NamedFile) -> bool:
    return any(values(folder, Role.IMAGE) for folder in file.file.folders)


def _is_acquired(file: NamedFile) -> bool:
    return not any(fold(folder) == "derivatives" for folder in file.file.folders)


def _without(
    labels: dict[Key, list[MatchedFile]], unwanted: Callable[[NamedFile], bool], reason: str, choice: Choice
) -> dict[Key, list[MatchedFile]]:
    """The labels without unwanted ones, where most cases have another."""
    wanted = {key: [member for member in members if not unwanted(member.file)] for key, members in labels.items()}
    if sum(map(bool, wanted.values())) * 2 < len(labels):
        return labels
    for members in labels.values():
        choice.left_out[reason] += [member.file for member in members if unwanted(member.file)]
    return {key: members for key, members in wanted.items() if members}


def _shows_field(labels: dict[Key, list[MatchedFile]]) -> Callable[[NamedFile], bool]:
    """A test for masks of the field of view: by their words, or called masks where others are drawn by a rater."""
    drawn = any(_is_drawn(member.file) for members in labels.values() for member in members)

    def shows_field(file: NamedFile) -> bool:
        brain = any(fold(token.text) == "desc-brain" for token in values(file.file.stem, Role.ENTITY))
        words = {fold(token.text) for token in _words(file, Role.LABEL)}
        return brain or bool(_words(file, Role.FIELD)) or (drawn and not _is_drawn(file) and words <= MASKS)

    return shows_field


def _by_program(file: NamedFile) -> bool:
    return any(token.value in PROGRAMS for part in file.file.parts for token in tokenize(part))


def _is_drawn(file: NamedFile) -> bool:
    return any(fold(token.text) in DRAWN_BY for token in (*_words(file, Role.LABEL), *_words(file, Role.RATER)))


def _words(file: NamedFile, role: Role) -> list[Token]:
    return [token for part in file.file.parts for token in values(part, role)]


def _of_rater(
    labels: dict[Key, list[MatchedFile]], options: DatasetOptions, choice: Choice
) -> dict[Key, list[MatchedFile]]:
    """The masks of the chosen rater, or of the first, where several drew masks of one case."""
    by_rater: dict[Key, dict[str, list[MatchedFile]]] = {}
    for key, members in labels.items():
        for member in members:
            by_rater.setdefault(key, {}).setdefault(_rater(member.file), []).append(member)
    if all(len(found) == 1 for found in by_rater.values()) and options.rater is None:
        return labels
    choice.raters = tuple(sorted({name for found in by_rater.values() for name in found}, key=fold))
    known = {fold(word): _rater(m.file) for members in labels.values() for m in members for word in m.file.raters}
    chosen = choice.raters[0] if options.rater is None else known.get(fold(options.rater))
    if chosen is None:
        raters = ", ".join(filter(None, choice.raters)) or "none"
        raise DatasetError(
            f"no mask is of rater {options.rater}; the names of files tell of: {raters}", hint="choose one with --rater"
        )
    choice.rater = chosen
    choice.drawn = {
        key: tuple((name, members[0].file.file.path) for name, members in sorted(found.items()))
        for key, found in by_rater.items()
    }
    return {key: found[chosen] for key, found in by_rater.items() if chosen in found}


def _rater(file: NamedFile) -> str:
    return file.raters[0] if file.raters else ""


def _refuse_rivals(labels: dict[Key, list[MatchedFile]], pairing: Pairing) -> None:
    """Raises: DatasetError when two masks are equally the label of a case."""
    for members in labels.values():
        exact = [member for member in members if not member.extra]
        if len(exact) > 1:
            kinds = {shape(member.file, pairing.level) for member in exact[:2]}
            one, other = (_like(member, labels, pairing) for member in exact[:2])
            raise DatasetError(
                f"case {exact[0].id} has two masks, {exact[0].file.file.name} and {exact[1].file.file.name}: "
                f"its label could be either",
                hint=f'choose with --label-pattern "{one}" or --label-pattern "{other}"'
                if len(kinds) > 1
                else "keep one, or rename one of them",
            )


def _like(member: MatchedFile, labels: dict[Key, list[MatchedFile]], pairing: Pairing) -> str:
    """The pattern of all masks of the same kind."""
    kind = shape(member.file, pairing.level)
    same = [other for members in labels.values() for other in members if shape(other.file, pairing.level) == kind]
    return pattern_of(same, pairing.level)
