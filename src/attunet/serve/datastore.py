"""The studies that clients choose from, and the labels that they correct: a data set in one folder.

Images lie in the folder as they are, or in `images`; what clients send gets a name of ours, and the name by which they
call it stays in an index. An image of several files, one for each channel, is found as `attunet predict` finds it.
Corrected labels (the tag `final`) lie in `labels` under the names of their images, so that `attunet train` takes the
folder as a data set; labels of other tags are hidden from it.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from attunet.data.cases import Case, find_cases
from attunet.data.formats import is_image, suffix_of
from attunet.data.formats.dicom import holds_series
from attunet.data.layouts.find import cases_of
from attunet.data.layouts.pairing import name_files
from attunet.data.layouts.tree import walk
from attunet.errors import AttunetError, ConfigError, DataError, DatasetError, FormatError
from attunet.files import write_text
from attunet.serve.masks import check_label_file

__all__ = ["Datastore"]

FINAL = "final"
FRESH = 5.0
"""Seconds for which a listing of the folder is good."""
_INDEX = ".attunet-index.json"
_LABELS, _VERSIONS, _IMAGES, _TAGS = "labels", ".label-versions", "images", "tags"
PRIVATE = 0o700
LONGEST_KEY = 200
Channels = tuple[str, ...]


@dataclass
class _Listing:
    """What the folder held for each kind of model, and when."""

    cases: dict[str, dict[Channels, Case]]
    when: float


class Datastore:
    """A folder of studies.

    Args:
        folder: the folder.
        keep: seconds after which what clients sent is deleted; None for never.
        inputs: the names of the channels of each model, by which the files of an image are found.
    Attributes: folder, the folder.
    """

    def __init__(self, folder: Path, keep: float | None = None, inputs: Sequence[Sequence[str]] = ()) -> None:
        self.folder, self._keep = folder, keep
        self._inputs = dict.fromkeys(tuple(names) for names in inputs) or {(): None}
        self._listing: _Listing | None = None
        self._lock = threading.RLock()

    def images(self) -> dict[str, Case]:
        """The images by the names under which clients know them: those of their files, or of their series."""
        return {key: next(iter(found.values())) for key, found in self._cases().items()}

    def has(self, key: str) -> bool:
        """Whether there is such an image."""
        return key in self._cases()

    def case(self, key: str, channels: Sequence[str] | None = None) -> Case:
        """An image.

        Args: its name; the channels of the model that needs it, None for no model.
        Returns: its case, with a file for each channel where the model needs several and they are files of their own.
        Raises: DatasetError when there is none of this name, DataError when its files are not those of the channels.
        """
        found = self._cases().get(key)
        if found is None:
            raise DatasetError("there is no such image among the studies", hint="see GET /datastore/")
        case = next(iter(found.values()))
        if channels is None:
            return case
        fitting = found.get(tuple(channels), case)
        if len(fitting.images) > 1 and (tuple(channels) not in found or len(fitting.images) != len(channels)):
            raise DataError(
                f"{key} has {len(fitting.images)} files, expected those of {len(channels)} channels: "
                f"{', '.join(channels)}",
                hint="choose another model, or another image",
            )
        return fitting

    def add(self, path: Path, key: str) -> str:
        """Move an image into the folder.

        Args: its file, whose suffix tells its format; what the client calls it.
        Returns: the name by which it can be asked for from now on.
        Raises: FormatError when it is of no known format or the name is too long, ConfigError when an image that no
            client sent has this name.
        """
        suffix = suffix_of(path)
        if suffix is None or len(key) > LONGEST_KEY:
            raise FormatError("the image is of no known format, or its name too long", hint="send NIfTI or NRRD")
        index = self._index(_IMAGES)
        if key not in index.values() and self.has(key):
            raise ConfigError("there is already an image of this name", hint="give it another one")
        stem = f"case-{uuid4().hex[:12]}"
        target = self.folder / _IMAGES / f"{stem}{suffix}"
        target.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        shutil.move(path, target)
        with self._lock:
            others = {other: name for other, name in self._index(_IMAGES).items() if name != key}  # now under their own
            self._write_index(_IMAGES, others | {stem: key or stem})
            self._listing = None
        return key or stem

    def labels(self, key: str) -> dict[str, Path]:
        """The labels of an image by their tags."""
        case = self.images().get(key)
        if case is None:
            return {}
        found = {FINAL: self.folder / _LABELS} | {
            folder.name: folder for folder in (self.folder / _VERSIONS).glob("*") if folder.is_dir()
        }
        tags = self._index(_TAGS)
        return {
            tags.get(tag, tag): path
            for tag, folder in found.items()
            for path in [folder / f"{self._stem(case)}.nii.gz"]
            if path.exists()
        }

    def save_label(self, key: str, tag: str, path: Path) -> Path:
        """Keep a label as a version of its image's.

        Args:
            key: the image.
            tag: the tag of the version, `final` for what is trained on.
            path: the file.
        Returns: its new path.
        Raises: DatasetError when there is no such image; as `check_label_file`.
        """
        case = self.case(key)
        with self._lock:
            folder = self.folder / _LABELS if tag == FINAL else self.folder / _VERSIONS / self._tag_folder(tag)
            folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        target = folder / f"{self._stem(case)}.nii.gz"
        check_label_file(path, case, target)
        return target

    def remove(self, key: str) -> None:
        """Delete an image that a client sent, and its labels. Raises: DatasetError when there is none of this name."""
        stems = [stem for stem, name in self._index(_IMAGES).items() if name == key]
        if not stems:
            raise DatasetError("no client sent such an image", hint="images that were there before stay")
        self._delete(stems)

    def expire(self) -> int:
        """Delete what clients sent and is too old; how many images."""
        if self._keep is None:
            return 0
        before = time.time() - self._keep
        old = [path for path in (self.folder / _IMAGES).glob("case-*") if path.stat().st_mtime < before]
        if old:
            self._delete([path.name.removesuffix(suffix_of(path) or "") for path in old])
        return len(old)

    def _cases(self) -> dict[str, dict[Channels, Case]]:
        """The case of each image for each kind of model that finds it."""
        with self._lock:
            if self._listing is None or time.monotonic() - self._listing.when > FRESH:
                self._listing = _Listing(self._find(), time.monotonic())
            return self._listing.cases

    def _find(self) -> dict[str, dict[Channels, Case]]:
        index, found = self._index(_IMAGES), dict[str, dict[Channels, Case]]()
        sent = self.folder / _IMAGES
        for names in self._inputs:
            cases = list(self._own(names))
            if sent.is_dir():
                with suppress(AttunetError):  # an empty folder
                    cases += find_cases([sent], len(names) or 1, names=names)
            for case in cases:
                found.setdefault(index.get(case.id) or case.key or case.id, {})[names] = case
        return found

    def _own(self, names: Channels) -> tuple[Case, ...]:
        """What no client sent, called in the same way whether any did."""
        folder, count = self.folder, len(names) or 1
        with suppress(AttunetError):  # an empty folder
            if not folder.is_dir() or not (folder / _IMAGES).is_dir() or any(map(is_image, folder.iterdir())):
                return find_cases([folder], count, names=names)
            others = [
                part for part in sorted(folder.iterdir()) if part.is_dir() and part.name not in (_IMAGES, _LABELS)
            ]
            series = [part for part in others if not part.name.startswith(".") and holds_series(part)]
            kept = {part.name for part in others if part not in series}
            files = name_files([file for file in walk(folder).images if file.folders and file.folders[0] in kept])
            found = cases_of([file.file for file in files if not file.is_label], count, names, lambda *_: None)
            return (*(find_cases(series, count, names=names) if series else ()), *found)
        return ()

    def _delete(self, stems: list[str]) -> None:
        with self._lock:
            for stem in stems:
                for path in (*self.folder.glob(f"*/{stem}.*"), *self.folder.glob(f"{_VERSIONS}/*/{stem}.*")):
                    path.unlink(missing_ok=True)
            kept = {stem: key for stem, key in self._index(_IMAGES).items() if stem not in stems}
            self._write_index(_IMAGES, kept)
            self._listing = None

    def _stem(self, case: Case) -> str:
        """The name of a case's files: for DICOM that of the series."""
        return case.key or case.id

    def _tag_folder(self, tag: str) -> str:
        """The folder of a tag, which a client chose: a name of ours."""
        tags = self._index(_TAGS)
        known = next((folder for folder, name in tags.items() if name == tag), None)
        if known is None:
            known = f"version-{len(tags) + 1}"
            self._write_index(_TAGS, tags | {known: tag[:LONGEST_KEY]})
        return known

    def _index(self, part: str) -> dict[str, str]:
        """What names of ours stand for: those of images, or of the folders of tags."""
        try:
            return dict(json.loads((self.folder / _INDEX).read_text(encoding="utf-8"))[part])
        except (FileNotFoundError, KeyError):
            return {}

    def _write_index(self, part: str, content: dict[str, str]) -> None:
        both = {_IMAGES: self._index(_IMAGES), _TAGS: self._index(_TAGS)} | {part: content}
        write_text(self.folder / _INDEX, json.dumps(both))
