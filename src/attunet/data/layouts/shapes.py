"""Patterns of file names: what files of one kind share, such as `{id}/{id}_{channel}.nii.gz`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from attunet.data.layouts.pairing import Level, NamedFile
from attunet.data.layouts.tokens import EDGES, fold, tokenize

__all__ = ["MatchedFile", "pattern_of", "patterns_of", "shape"]


PARTIAL = ("{group}", "{id}")
"""What a part of an id is called in a pattern."""


class MatchedFile(NamedTuple):
    """A file and its place in the data set.

    Args:
        file: the file.
        id: the id of its case.
        extra: what its name adds to the id: an organ, or an object; empty for an image.
        channel: the channel, where images have several; empty otherwise.
    """

    file: NamedFile
    id: str
    extra: str = ""
    channel: str = ""


class _Segment(NamedTuple):
    """A piece of a path: text that names the case, or a word or separator that does not."""

    text: str
    names: bool


def shape(file: NamedFile, level: Level, *, suffix: bool = True) -> str:
    """The path of a file with `{}` for what names its case: files of one kind have one shape.

    Args:
        file: the file.
        level: the level at which it was read.
        suffix: whether kinds may differ by their suffix alone.
    Returns: the shape.
    """
    text = "".join("{}" if segment.names else segment.text for segment in _segments(file, level))
    return text if suffix else text[: len(text) - len(fold(file.file.suffix))]


def patterns_of(members: Iterable[MatchedFile], level: Level) -> tuple[str, ...]:
    """The patterns of files of several kinds, the most frequent first; kinds that differ by the channel have one."""
    kinds: dict[str, list[MatchedFile]] = defaultdict(list)
    for member in members:
        kinds[shape(member.file, level)].append(member)
    ordered = sorted(kinds.values(), key=len, reverse=True)
    return tuple(dict.fromkeys(pattern_of(kind, level) for kind in ordered))


def pattern_of(members: Sequence[MatchedFile], level: Level) -> str:
    """The pattern of files of one shape, as `--pattern` and `--label-pattern` accept it.

    It has {id} for the case, {group} for what precedes the id, {channel}, {label} for what is added to the id, and *
    for what else differs.
    """
    folders = zip(*(member.file.file.folders for member in members), strict=True)
    ids = [fold(member.id) for member in members]
    whole = {index for index, names in enumerate(folders) if [fold(name) for name in names] == ids}
    rows = [_row(list(_segments(member.file, level, whole)), member) for member in members]
    columns = [set(column) for column in zip(*rows, strict=True)]
    return "".join(column.pop() if len(column) == 1 else "*" for column in columns)


def _segments(file: NamedFile, level: Level, whole: Collection[int] = ()) -> Iterator[_Segment]:
    """The path, piece by piece, suffix included; the folders with the indices `whole` are one piece."""
    for index, folder in enumerate(file.file.folders):
        yield from [_Segment(folder, True)] if index in whole else _divided(folder, file.dropped_in(folder, level))
        yield _Segment("/", False)
    stem = file.stem(level)
    yield from _divided(stem, file.dropped(level))
    yield _Segment(file.file.stem[len(stem) :] + fold(file.file.suffix), False)


def _divided(part: str, dropped: frozenset[object]) -> Iterator[_Segment]:
    start = 0
    for token in tokenize(part):
        if token.role in dropped:
            yield from _trimmed(part[start : token.start])
            yield _Segment(token.text, False)
            start = token.stop
    yield from _trimmed(part[start:])


def _trimmed(text: str) -> Iterator[_Segment]:
    core = text.strip(EDGES)
    before, _, after = text.partition(core) if core else (text, "", "")
    yield from (_Segment(piece, piece == core) for piece in (before, core, after) if piece)


def _row(segments: Sequence[_Segment], member: MatchedFile) -> list[str]:
    """The pieces of a pattern: parts of an id stand for it only where the whole id occurs nowhere."""
    row = [_described(segment, member) for segment in segments]
    entire = any(segment.names and fold(segment.text).startswith(fold(member.id)) for segment in segments)
    row = [
        segment.text if piece in PARTIAL and entire and fold(segment.text) != fold(member.id) else piece
        for piece, segment in zip(row, segments, strict=True)
    ]
    channels = [index for index, piece in enumerate(row) if "{channel}" in piece]
    return [segments[index].text if index in channels[:-1] else piece for index, piece in enumerate(row)]


def _described(segment: _Segment, member: MatchedFile) -> str:
    """A piece of a pattern."""
    text, channel = segment.text, member.channel
    if not segment.names:
        return text.replace(channel, "{channel}") if channel else text
    folded, id, extra = fold(text), fold(member.id), fold(member.extra)
    if folded == id:
        return "{id}"
    if extra and folded == extra:
        return "{label}"
    if channel and folded == fold(channel):
        return "{channel}"
    if folded.startswith(id) and not folded[len(id)].isalnum():
        added, place = (member.extra, "{label}") if member.extra else (channel, "{channel}")
        return "{id}" + _ending(text[len(id) :], added, place)
    if extra and folded.startswith(extra) and folded.endswith(id):
        return f"{{label}}{text[len(extra) : len(text) - len(id)]}{{id}}"
    if id.startswith(folded + "_"):
        return "{group}"
    return "{id}" if id.endswith("_" + folded) else text


def _ending(text: str, ending: str, placeholder: str) -> str:
    return text[: len(text) - len(ending)] + placeholder if ending and fold(text).endswith(fold(ending)) else text
