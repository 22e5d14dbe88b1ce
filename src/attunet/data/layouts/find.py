"""The cases to predict, in files, flat folders and trees of folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from attunet.data.composition import choose_parts
from attunet.data.dataset import Case, DatasetOptions
from attunet.data.formats import is_image, stem_of
from attunet.data.formats.dicom import DICOM_SUFFIXES, holds_series, is_archive, is_dicom
from attunet.data.layouts.dicom_cases import SeriesChoice, series_images
from attunet.data.layouts.identity import ids_in_tree
from attunet.data.layouts.image_files import channel_of, image_files
from attunet.data.layouts.pairing import Key, name_files, repeats
from attunet.data.layouts.patterns import match_pattern, without_labels
from attunet.data.layouts.tokens import EDGES, Role, fold, nfc, values
from attunet.data.layouts.tree import ImageFile, walk
from attunet.errors import DatasetError
from attunet.names import safe_name

__all__ = ["cases_of", "check_source", "find_cases"]

LeftOutHook = Callable[[Sequence[Path], str], None]
Groups = dict[str, dict[int, ImageFile]]
"""The files of each id by the index of their channel."""


def find_cases(
    paths: Sequence[Path],
    channels: int,
    options: DatasetOptions | None = None,
    *,
    names: Sequence[str] = (),
    series: SeriesChoice = SeriesChoice(),  # noqa: B008  (frozen)
    on_left_out: LeftOutHook = lambda _files, _reason: None,
) -> tuple[Case, ...]:
    """Find the cases to predict in files and folders, in the order given; the files of a folder sorted by name.

    A file is a case, unless the model expects several channels and files name them: by number (CASE_0000, CASE_0001)
    or by the model's own names (CASE_t1, CASE_flair). For a model of one channel, _0000 is dropped from the id when all
    files end in it, and files that name other channels are left out where some name its own. Folders without images are
    searched with all folders in them; labels in there are left out. A file that is given itself is a case whatever its
    suffix, so that reading it reports what is wrong with it.

    Args:
        paths: files and folders.
        channels: the number of channels that the model expects.
        options: a pattern of images, and the frame and the array to read; None: found from names, and the only ones.
        names: the names of the model's channels; empty: unknown.
        series: which series of DICOM are predicted, and how their cases are named; by default all.
        on_left_out: called with files that are no images to predict, and the reason.
    Returns: the cases.
    Raises: DatasetError when a path is missing, a folder holds no image, two files would share an id, a pattern fits no
        file or no file may hold several arrays.
    """
    options = options or DatasetOptions()
    if options.pattern is not None:
        cases = _cases(_by_pattern(paths, options.pattern, names, on_left_out))
        return choose_parts(cases, options)
    files = list(dict.fromkeys(file for path in paths for file in _images_of(path, series, on_left_out)))
    return choose_parts(cases_of(files, channels, names, on_left_out), options)


def cases_of(
    files: Sequence[ImageFile], channels: int, names: Sequence[str], on_left_out: LeftOutHook
) -> tuple[Case, ...]:
    """See `find_cases`: the cases that image files are by their names; none of the files is opened."""
    return _cases(_grouped(files, channels, names, on_left_out))


def _grouped(files: Sequence[ImageFile], channels: int, names: Sequence[str], on_left_out: LeftOutHook) -> Groups:
    """The channels of each case: by number, else by name, else one file for each."""
    if (numbered := _by_number(files)) and _complete(numbered, channels):
        return numbered
    if channels > 1 and len(names) == channels and not any(name.isdecimal() for name in names):
        named, others = _by_name(files, names)
        if _complete(named, channels):
            if others:
                on_left_out([file.path for file in others], f"name none of the channels {', '.join(names)}")
            return named
    return _one_each(_of_channel(files, names[0], on_left_out) if channels == len(names) == 1 else files)


def _of_channel(files: Sequence[ImageFile], name: str, on_left_out: LeftOutHook) -> Sequence[ImageFile]:
    """The files without those of other channels, for a model of one channel that some of the files name."""
    told = {file for file in files if _channel(file, (name,)) is not None}
    others = [file for file in files if file not in told and any(values(part, Role.CHANNEL) for part in file.parts)]
    if not told or not others:
        return files
    on_left_out([file.path for file in others], f"name another channel than {name}")
    return [file for file in files if file not in set(others)]


def _complete(groups: Groups, channels: int) -> bool:
    """Whether some case has all channels, and none has others."""
    expected = set(range(channels))
    return any(found.keys() == expected for found in groups.values()) and all(
        found.keys() <= expected for found in groups.values()
    )


def _by_number(files: Sequence[ImageFile]) -> Groups:
    """Files by case and number; empty unless every name ends in a number of four digits."""
    groups: Groups = defaultdict(dict)
    for file in files:
        named = channel_of(file.path)
        if named is None or named[1] in groups[safe_name(named[0])]:
            return {}
        groups[safe_name(named[0])][named[1]] = file
    return groups


def _by_name(files: Sequence[ImageFile], names: Sequence[str]) -> tuple[Groups, list[ImageFile]]:
    """Files by case and channel, and those that name no channel, such as labels."""
    found: dict[Key, dict[int, ImageFile]] = defaultdict(dict)
    others = []
    for file in files:
        channel = _channel(file, names)
        if channel is None:
            others.append(file)
            continue
        texts = [fold(_without(part, names[channel])) for part in file.parts]
        kept = [
            text for i, text in enumerate(texts) if text and not any(repeats(text, more) for more in texts[i + 1 :])
        ]
        if channel in found[tuple(kept)]:
            return {}, []
        found[tuple(kept)][channel] = file
    ids: dict[Key, str] = {}
    inner = [key[-1:] for key in found]
    for key, channels in found.items():
        written = [_without(part, names[index]) for index, file in channels.items() for part in file.parts]
        texts = [next((text for text in written if fold(text) == part), part) for part in key]
        ids[key] = safe_name(nfc(texts[-1] if texts and inner.count(key[-1:]) == 1 else "_".join(texts) or "case"))
    return {ids[key]: dict(sorted(channels.items())) for key, channels in found.items()}, others


def _channel(file: ImageFile, names: Sequence[str]) -> int | None:
    """The index of the channel that the name of a file tells, or else one of its folders."""
    for part in reversed(file.parts):
        told = [index for index, name in enumerate(names) if repeats(fold(name), fold(part))]
        if told:
            return max(told, key=lambda index: len(names[index]))
    return None


def _without(part: str, word: str) -> str:
    pattern = rf"(?<![^\W_]){re.escape(fold(word))}(?![^\W_])"
    folded = nfc(part)
    return re.sub(pattern, "", folded, flags=re.IGNORECASE).strip(EDGES)


def _one_each(files: Sequence[ImageFile]) -> Groups:
    """Every file as a case: called by its name or, in trees of folders, by what tells it from the others."""
    ids = [safe_name(nfc(file.stem)) for file in files]
    if any(file.folders for file in files):
        ids = ids_in_tree(files)
    groups: Groups = {}
    for id, file in zip(ids, files, strict=True):
        if id in groups:
            raise DatasetError(
                f"{groups[id][0].path} and {file.path} would both be written as {id}",
                hint="predict them into two folders, or rename one",
            )
        groups[id] = {0: file}
    return groups


def _by_pattern(paths: Sequence[Path], pattern: str, names: Sequence[str], on_left_out: LeftOutHook) -> Groups:
    """The files that a pattern fits, by id and channel: the model's channels in its order, others by name."""
    order = {fold(name): index for index, name in enumerate(names)}
    found: dict[str, dict[str, ImageFile]] = defaultdict(dict)
    for path in paths:
        if not path.is_dir():
            raise DatasetError(f"--pattern searches folders, but {path} is none", hint="pass the folder of the images")
        files = walk(path).images
        named = {file.file: file for file in name_files(files)}
        for file, given in without_labels(match_pattern(pattern, files), named).items():
            channel = fold(given.get("channel", ""))
            if other := found[given["id"]].get(channel):
                raise DatasetError(
                    f"{other.path} and {file.path} are both {given.get('channel', 'the image')} of {given['id']}",
                    hint="state more of the names in --pattern",
                )
            found[given["id"]][channel] = file
    for one in found.values():
        if order and one.keys() > order.keys():
            on_left_out([one.pop(name).path for name in one.keys() - order.keys()], f"are none of {', '.join(names)}")
    return {
        id: dict(enumerate(one[name] for name in sorted(one, key=lambda name: (order.get(name, len(order)), name))))
        for id, one in sorted(found.items())
    }


def _images_of(path: Path, series: SeriesChoice, on_left_out: LeftOutHook) -> Iterable[ImageFile]:
    """The images of a path: itself, its series of DICOM and the images in the folder, or those of the whole tree."""
    if path.is_file() and (is_archive(path) or is_dicom(path)):
        return series_images(path, series)
    if path.is_file() or is_image(path):
        return [_image_file(path)]
    check_source(path)
    files = [_image_file(file) for file in image_files(path) if not file.name.lower().endswith(DICOM_SUFFIXES)]
    files += series_images(path, series) if holds_series(path) else ()
    if files:
        return files
    named = name_files(walk(path).images)
    labels = [file.file.path for file in named if file.is_label]
    if len(labels) == len(named):
        raise _no_image(path)
    if labels:
        on_left_out(labels, "are named like labels")
    return [file.file for file in named if not file.is_label]


def check_source(path: Path) -> None:
    """Raises: DatasetError when there is no file or folder, with the name probably meant, or when a model is there."""
    if path.exists():
        if (path / "manifest.json").is_file() and (path / "plan.json").is_file():
            raise DatasetError(f"{path} is a model folder, not a data set", hint="pass the folder of the images")
        return
    shown = f'"{path}"' if str(path) != str(path).strip() else str(path)
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, names, n=1, cutoff=0.75)
    hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
    raise DatasetError(f"there is no file or folder {shown}", hint=hint)


def _image_file(path: Path) -> ImageFile:
    stem = stem_of(path)
    return ImageFile(path, (), nfc(stem), path.name[len(stem) :])


def _no_image(path: Path) -> DatasetError:
    archive = next((file for file in path.rglob("*.zip") if is_archive(file)), None)
    hint = "give a folder with image files" if archive is None else f"if {archive} holds DICOM, pass it by itself"
    return DatasetError(f"the folder {path} contains no image of a known format", hint=hint)


def _cases(groups: Mapping[str, Mapping[int, ImageFile]]) -> tuple[Case, ...]:
    return tuple(
        Case(id, tuple(found[index].path for index in sorted(found)), None, key=found[min(found)].key)
        for id, found in groups.items()
    )
