"""Pairing images and labels by their names: which words to disregard, so that what is left names the same case.

Names are read at several levels. At the first, only the words of folders are disregarded (images/, labels/); the next
ones disregard words of labels, of images, of channels and of splits in the names of files, too. The level at which most
labels have an image is the reading of the data set.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from attunet.data.layouts.tokens import EDGES, Role, Token, fold, raters_of, residue, tokenize, values
from attunet.data.layouts.tree import ImageFile

__all__ = ["Key", "Level", "NamedFile", "Pairing", "name_files", "pair_files", "repeats"]

Key = tuple[str, ...]
"""What names a case: the split of its folder, and the folded texts that are left of its folders and its name."""

IN_FOLDERS = frozenset({Role.IMAGE, Role.LABEL, Role.PLACE, Role.RATER, Role.SOFT, Role.FIELD, Role.SPLIT})
OF_LABELS = frozenset({Role.LABEL, Role.RATER, Role.SOFT, Role.FIELD})


@dataclass(frozen=True)
class Level:
    """Which words of file names do not name the case.

    Args:
        dropped: roles that are disregarded in the names of images and labels.
        channels: whether the words of channels are disregarded in images.
        numbered: whether a number of four digits at the end of an image is its channel, as in nnU-Net.
        strict: whether words of channels are disregarded in labels, too.
    """

    dropped: frozenset[Role]
    channels: bool = False
    numbered: bool = False
    strict: bool = False


_I, _S, _E = Role.IMAGE, Role.SPLIT, Role.ENTITY
LEVELS = (
    Level(frozenset()),
    Level(OF_LABELS),
    Level(OF_LABELS, numbered=True),
    Level(OF_LABELS | {_I}),
    Level(OF_LABELS | {_I}, numbered=True),
    Level(OF_LABELS, channels=True),
    Level(OF_LABELS | {_I}, channels=True),
    Level(OF_LABELS | {_I, _S}),
    Level(OF_LABELS | {_I, _S}, channels=True),
    Level(OF_LABELS | {_I, _S, _E}, channels=True, strict=True),
    Level((OF_LABELS | {_I}) - {Role.RATER}),  # liver-orig001 and liver-seg001, where 001 is no rater
)


EXTENDING = (Level(OF_LABELS), Level(OF_LABELS | {_I}))
"""The levels at which words in names of images that are in no table may be their channels."""


@dataclass(frozen=True)
class NamedFile:
    """A file with what its name tells.

    Args:
        file: the file.
        is_label: whether it is a label.
        split: train, val or test; empty when its folders tell none.
        raters: the words for the rater of a label; empty when there are none.
        given: what a pattern of the user says: id, channel, label, group and rater.
    """

    file: ImageFile
    is_label: bool
    split: str = ""
    raters: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)

    def dropped(self, level: Level) -> frozenset[Role]:
        """The roles whose words do not name the case, in the name of the file."""
        channels = level.channels and (level.strict or not self.is_label)
        return level.dropped | {Role.CHANNEL} if channels else level.dropped

    def dropped_in(self, folder: str, level: Level) -> frozenset[Role]:
        """The roles whose words do not name the case, in the name of a folder."""
        return _dropped_in(folder, level)

    def stem(self, level: Level) -> str:
        """The name without suffix, and without the number of the channel where that is a number."""
        return _without_number(self.file.stem) if level.numbered and not self.is_label else self.file.stem

    def texts(self, level: Level) -> tuple[str, ...]:
        """What is left of the folders and the name at a level, as written."""
        if "id" in self.given:
            return (self.given["id"],)
        folders = (residue(folder, self.dropped_in(folder, level)) for folder in self.file.folders)
        return (*folders, residue(self.stem(level), self.dropped(level)))

    def key(self, level: Level) -> Key:
        """What names the case at a level: parts that a later part repeats count once."""
        texts = [fold(text) for text in self.texts(level) if text]
        kept = [text for index, text in enumerate(texts) if not any(repeats(text, one) for one in texts[index + 1 :])]
        return (self.split, *kept)

    def channel(self, level: Level) -> str:
        """The word for the channel of an image: in its name, or else in its folders; empty without one."""
        if "id" in self.given:
            return self.given.get("channel", "")
        if level.numbered:
            return self.file.stem[len(self.stem(level)) :].lstrip("_")
        if not level.channels:
            return ""
        folders = [token for folder in self.file.folders for token in values(folder, Role.CHANNEL)]
        words = values(self.file.stem, Role.CHANNEL) or folders
        return "_".join(token.text for token in words)


@dataclass(frozen=True)
class Pairing:
    """The reading of a data set at one level.

    Args:
        level: the level.
        images: the images of every key, by channel, each with the files that claim to be it.
        labels: the labels of every key, each with what its name adds to the key, such as the name of an organ.
        lost: labels without an image.
    """

    level: Level
    images: dict[Key, dict[str, list[NamedFile]]]
    labels: dict[Key, list[tuple[NamedFile, str]]]
    lost: tuple[NamedFile, ...]


def name_files(files: Sequence[ImageFile]) -> list[NamedFile]:
    """Tell labels from images: by a word in the name, or else by the innermost folder that has one.

    What is in the path of every file tells nothing: a word, such as lesion in lesion_01_mask and lesion_01_image, or a
    folder with a name of its own, such as Kvasir-SEG. A folder such as CT-Seg holds images if no other does.
    """
    words = Counter(word for file in files for word in {token.value for token in _labelling(file.stem)})
    common = {word for word, count in words.items() if count == len(files)}
    outer = [folders[0] for folders in zip(*(file.folders for file in files), strict=False) if len({*folders}) == 1]
    places = frozenset(name for name in outer if any(token.role not in OF_LABELS for token in tokenize(name)))
    named = [_named(file, common, places) for file in files]
    if all(file.is_label for file in named):
        places |= {folder for file in files for folder in file.folders if values(folder, Role.CHANNEL)}
        named = [_named(file, common, places) for file in files]
    return named


def pair_files(files: Sequence[NamedFile]) -> Pairing:
    """The reading in which most labels belong to an image; the first one where several are equally good."""
    readings = list(_readings(files))
    readings += [reading for level in EXTENDING for reading in _extending(files, level)]
    return max(readings, key=lambda reading: (_matched(reading), _exact(reading)))


def _named(file: ImageFile, common: Collection[str], outer: Collection[str]) -> NamedFile:
    own = [token for token in _labelling(file.stem) if token.value not in common]
    folders = [folder for folder in file.folders if folder not in outer]
    places = [token.role for folder in folders for token in tokenize(folder) if token.role in _DECISIVE]
    is_label = file.is_label or bool(own) or bool(places and places[-1] is not Role.IMAGE)
    splits = [token.value for folder in file.folders for token in tokenize(folder) if token.value in _SPLITS]
    raters = [name for part in file.parts for name in raters_of(part)] if is_label else []
    return NamedFile(file, is_label, splits[-1] if splits else "", tuple(raters))


_SPLITS = ("train", "val", "test")
_DECISIVE = OF_LABELS | {Role.IMAGE}


def _labelling(stem: str) -> list[Token]:
    return [token for token in tokenize(stem) if token.role in OF_LABELS]


def _readings(files: Sequence[NamedFile]) -> Iterator[Pairing]:
    """The data set at each level at which its files have other keys than before."""
    before: set[tuple[tuple[Key, str], ...]] = set()
    for level in LEVELS:
        keys = tuple((file.key(level), "" if file.is_label else file.channel(level)) for file in files)
        if keys not in before:
            yield from _at_level(files, level, keys)
        before.add(keys)


def _at_level(files: Sequence[NamedFile], level: Level, keys: Sequence[tuple[Key, str]]) -> Iterator[Pairing]:
    """The data set with keys of whole paths, and with keys of the innermost part alone where it names each case."""
    images: dict[Key, dict[str, list[NamedFile]]] = defaultdict(lambda: defaultdict(list))
    for file, (key, channel) in zip(files, keys, strict=True):
        if not file.is_label:
            images[key][channel].append(file)
    innermost = Counter(key[-1] for key in images)
    inner = {key[-1:]: key for key in images if innermost[key[-1]] == 1}
    whole = {key: key for key in images}
    for index, parts in ((whole, slice(None)), (inner, slice(1, None))):
        paired: dict[Key, list[tuple[NamedFile, str]]] = defaultdict(list)
        lost = []
        for file, (key, _) in zip(files, keys, strict=True):
            if file.is_label:
                found, remainder = _find(key[parts], index, whole=index is whole)
                if found is None:
                    lost.append(file)
                else:
                    paired[found].append((file, file.given.get("label", remainder)))
        yield Pairing(level, images, paired, tuple(lost))


def _extending(files: Sequence[NamedFile], level: Level) -> Iterator[Pairing]:
    """The data set with images whose names add a word to the keys of labels, the same words in most cases."""
    index = {key: key for file in files if file.is_label for key in [file.key(level)]}
    images: dict[Key, dict[str, list[NamedFile]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        if not file.is_label:
            key, word = _find(file.key(level), index, whole=True)
            images[file.key(level) if key is None else key]["" if key is None else word].append(file)
    words = Counter(word for key in index for word in images.get(key, ()))
    if not words or min(words.values()) * 2 < len(index):
        return
    paired: dict[Key, list[tuple[NamedFile, str]]] = defaultdict(list)
    lost = []
    for file in files:
        if file.is_label and file.key(level) in images:
            paired[file.key(level)].append((file, file.given.get("label", "")))
        elif file.is_label:
            lost.append(file)
    yield Pairing(level, images, paired, tuple(lost))


@lru_cache(maxsize=2**17)
def _dropped_in(folder: str, level: Level) -> frozenset[Role]:
    dropped = IN_FOLDERS | (level.dropped & {Role.ENTITY}) | ({Role.CHANNEL} if level.channels else frozenset())
    named = any(token.role is None for token in tokenize(folder))
    return dropped - {Role.SPLIT} if named and Role.SPLIT not in level.dropped else dropped


def _find(key: Key, index: Mapping[Key, Key], *, whole: bool) -> tuple[Key | None, str]:
    """The image of a label's key, and what the label's name adds to it."""
    for candidate, remainder in _shortened(key) if whole else _parts(key):
        if candidate in index:
            return index[candidate], remainder
    return None, ""


def _parts(key: Key) -> Iterator[tuple[Key, str]]:
    """Every single part of a key, the innermost first, and what is left of it and inside it."""
    for depth in range(len(key) - 1, -1, -1):
        inside = "/".join(key[depth + 1 :])
        for candidate, remainder in _shortened(key[depth : depth + 1]):
            yield candidate, "/".join(text for text in (remainder, inside) if text)


def _shortened(key: Key) -> Iterator[tuple[Key, str]]:
    """A key, then with a shorter name (liver after case_1_liver, or before it), then without its innermost part."""
    yield key, ""
    if not key:
        return
    *outer, name = key
    tokens = tokenize(name)
    for token in reversed(tokens[1:]):
        yield (*outer, name[: token.start].rstrip(EDGES)), name[token.start :]
    for token in tokens[1:]:
        yield (*outer, name[token.start :]), name[: token.start].rstrip(EDGES)
    if len(outer) > 1:
        yield tuple(outer), name


def _matched(reading: Pairing) -> int:
    return sum(map(len, reading.labels.values()))


def _exact(reading: Pairing) -> int:
    return sum(not extra or "label" in file.given for labels in reading.labels.values() for file, extra in labels)


def _without_number(stem: str) -> str:
    rest, _, number = stem.rpartition("_")
    return rest if rest and len(number) == 4 and number.isdecimal() else stem


def repeats(text: str, other: str) -> bool:
    """Whether a text is one or more whole words of another."""
    at = other.find(text)
    while at >= 0:
        before, after = other[at - 1 : at], other[at + len(text) : at + len(text) + 1]
        if (at == 0 or not before.isalnum()) and not after.isalnum():
            return True
        at = other.find(text, at + 1)
    return False
