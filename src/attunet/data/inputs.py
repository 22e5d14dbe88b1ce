"""The cases to predict in inputs of any kind: files and folders, tables of paths, and URLs, fetched to be read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from attunet.data.composition import choose_parts
from attunet.data.dataset import Case, DatasetOptions
from attunet.data.formats import format_of, stem_of, suffix_of
from attunet.data.formats.dicom import DICOM_SUFFIXES
from attunet.data.layouts.dicom_cases import SeriesChoice
from attunet.data.layouts.find import cases_of, find_cases
from attunet.data.layouts.image_files import channel_of, present_file
from attunet.data.layouts.table_rows import TABLES, channel_columns, read_rows, row_ids
from attunet.data.layouts.tokens import fold, nfc
from attunet.data.layouts.tree import ImageFile
from attunet.errors import AttunetError, DatasetError
from attunet.files import staging
from attunet.names import safe_name
from attunet.storage import RemoteFile, fetch, is_url, list_files, local_path, name_of_url, shown_url

__all__ = ["fetched", "find_inputs", "input_bytes"]

ARCHIVE = ".zip"
LeftOutHook = Callable[[Sequence[Path], str], None]
_WEB = ("http://", "https://")
"""Schemes whose folders cannot be listed."""


def find_inputs(
    inputs: Sequence[str | Path],
    channels: int,
    options: DatasetOptions | None = None,
    *,
    names: Sequence[str] = (),
    series: SeriesChoice = SeriesChoice(),  # noqa: B008  (frozen)
    on_left_out: LeftOutHook = lambda _files, _reason: None,
) -> tuple[Case, ...]:
    """Find the cases to predict: as `find_cases` in files and folders; a row for each in tables; and at URLs.

    A table is a file .csv or .parquet with the columns of a data set: image, or image_NAME for each channel, and
    optionally id and key; its paths are relative to it, or URLs. A URL is an image, a table, an archive of DICOM, or a
    prefix below which images lie; images at URLs are not opened here.

    Args:
        inputs: paths and URLs.
        channels: see `find_cases`.
        options: see `find_cases`.
        names: see `find_cases`.
        series: see `find_cases`.
        on_left_out: see `find_cases`.
    Returns: the cases: those of paths first.
    Raises: as `find_cases` and `list_files`; DatasetError when two inputs have a case of the same name.
    """
    options = options or DatasetOptions()
    places = [local_path(text) or text if isinstance(text, str) and is_url(text) else Path(text) for text in inputs]
    paths = [place for place in places if isinstance(place, Path) and not _is_table(place.name)]
    found = (
        list(find_cases(paths, channels, options, names=names, series=series, on_left_out=on_left_out)) if paths else []
    )
    for place in places:
        if isinstance(place, Path):
            found += _of_table(place, str(place.parent), names) if _is_table(place.name) else ()
        elif _is_table(name_of_url(place)):
            found += _of_remote_table(place, names)
        else:
            found += _at_url(place, channels, names, on_left_out)
    by_id: dict[str, Case] = {}
    for case in found:
        if (other := by_id.setdefault(fold(case.id), case)) is not case:
            raise DatasetError(
                f"{other.images[0]} and {case.images[0]} would both be written as {case.id}",
                hint="predict them into two folders, or list them in a table with the column id",
            )
    return choose_parts(found, options) if len(paths) < len(places) else tuple(found)


@contextmanager
def fetched(case: Case, scratch: Path) -> Iterator[Case]:
    """The case with its images on this machine: fetched into a private folder, which is removed behind the block.

    Args:
        case: the case; one without images at URLs stays as it is.
        scratch: where the folder is made.
    Yields: the case.
    Raises: FormatError, RefusedError and NetworkError when one cannot be fetched.
    """
    if not case.remote:
        yield case
        return
    with staging(scratch / case.id) as folder:
        images: list[Path] = []
        for number, remote in enumerate(case.remote):
            images.append(folder / str(number) / name_of_url(remote.url))
            fetch(remote, images[-1])
        try:
            yield replace(case, images=tuple(images), remote=())
        except AttunetError as error:
            for image, remote in zip(images, case.remote, strict=True):
                error.message = error.message.replace(str(image), shown_url(remote.url))
            raise


def input_bytes(case: Case) -> int:
    """The size of a case's images in bytes, by which work is divided; 0 when unknown or not there."""
    if case.remote:
        return sum(remote.size for remote in case.remote)
    return sum(map(_bytes_at, case.images))


def _bytes_at(path: Path) -> int:
    try:
        if not path.is_dir():
            return path.stat().st_size
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    except OSError:
        return 0


def _is_table(name: str) -> bool:
    return name.lower().endswith(TABLES)


def _of_table(path: Path, base: str, names: Sequence[str]) -> list[Case]:
    """The cases of a table. Args: its copy on this machine; where its paths start; the model's channels."""
    columns, rows = read_rows(path)
    chosen = channel_columns(columns, names, path)
    cases = [_of_row([row[column] for column in chosen if row[column]], row.get("key") or None, base) for row in rows]
    numbered = [channel_of(case.images[0]) for case in cases if case.images]
    if len({named[0] for named in numbered if named}) == len(rows):  # CASE_0000 is the file of CASE, as in folders
        rows = [{**row, "id": row.get("id") or named[0]} for row, named in zip(rows, numbered, strict=True) if named]
    ids = row_ids(rows, [case.images for case in cases], path)
    return [replace(case, id=id) for case, id in zip(cases, ids, strict=True)]


def _of_row(cells: Sequence[str], key: str | None, base: str) -> Case:
    """The case, still without its id, whose images a row names."""
    places = [cell if is_url(cell) else f"{base}/{cell}" if is_url(base) else str(Path(base, cell)) for cell in cells]
    paths = [local_path(place) if is_url(place) else present_file(Path(place)) for place in places]
    files = [path for path in paths if path is not None]
    if len(files) == len(paths):
        return Case("", tuple(files), None, key=key)
    if files:
        raise DatasetError(
            f"{files[0]} is a file, and other images of the same row are at URLs", hint="put them in one place"
        )
    return _remote_case(list(map(_remote_file, places)), key)


def _of_remote_table(url: str, names: Sequence[str]) -> list[Case]:
    with tempfile.TemporaryDirectory(prefix="attunet-") as folder:
        copy = Path(folder, name_of_url(url))
        fetch(RemoteFile(url=url), copy)
        return _of_table(copy, shown_url(url).rpartition("/")[0], names)


def _at_url(url: str, channels: int, names: Sequence[str], on_left_out: LeftOutHook) -> Sequence[Case]:
    """The cases at a URL: the image that it names, or those below it."""
    if url.lower().startswith(_WEB):
        return [_remote_case([_remote_file(url)])]
    listing = list_files(url)
    if "" in listing or _is_folder_image(name_of_url(url)):
        return [_remote_case([replace(_remote_file(url), size=sum(listing.values()))])]
    base = url.rstrip("/")
    images: dict[Path, RemoteFile] = {}
    files: list[ImageFile] = []
    for name, size in _images_in(listing).items():
        remote = RemoteFile(url=f"{base}/{name}".rstrip("/"), size=size, folder=name not in listing)
        shown = Path(shown_url(remote.url))
        images[shown] = remote
        stem = _stem(shown.name)
        files.append(ImageFile(shown, PurePosixPath(name).parent.parts, nfc(stem), shown.name[len(stem) :]))
    if not files:
        raise DatasetError(f"{shown_url(url)} contains no image of a known format", hint="check the address")
    return [
        replace(case, remote=tuple(images[image] for image in case.images))
        for case in cases_of(files, channels, names, on_left_out)
    ]


def _images_in(listing: dict[str, int]) -> dict[str, int]:
    """The images of a listing with their sizes: files, folders that are one image, and folders of a DICOM series."""
    found: dict[str, int] = {}
    for name, size in listing.items():
        path = PurePosixPath(name)
        if any(part.startswith(".") for part in path.parts):
            continue
        whole = next((str(parent) for parent in reversed(path.parents) if _is_folder_image(parent.name)), None)
        if whole is None and path.name.lower().endswith(DICOM_SUFFIXES):
            whole = "" if str(path.parent) == "." else str(path.parent)
        if whole is not None:
            found[whole] = found.get(whole, 0) + size
        elif path.name.lower().endswith(ARCHIVE) or suffix_of(Path(name)):
            found[name] = size
    return found


def _is_folder_image(name: str) -> bool:
    suffix = suffix_of(Path(name))
    return suffix is not None and format_of(suffix).folder


def _remote_file(url: str) -> RemoteFile:
    """The file, or folder that is one image, at a URL."""
    return RemoteFile(url=url, folder=_is_folder_image(name_of_url(url)) or url.endswith("/"))


def _remote_case(remote: Sequence[RemoteFile], key: str | None = None) -> Case:
    images = tuple(Path(shown_url(file.url)) for file in remote)
    return Case(safe_name(nfc(_stem(images[0].name))) if images else "", images, None, key=key, remote=tuple(remote))


def _stem(name: str) -> str:
    """The name of a file or folder without its suffix, also that of an archive."""
    return stem_of(Path(name)) if suffix_of(Path(name)) or name.lower().endswith(ARCHIVE) else name
