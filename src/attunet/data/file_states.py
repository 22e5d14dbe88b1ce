"""Whether files have changed: their states, which are quick to read, and their content, which decides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["content_digest", "file_states", "record_files", "unchanged", "with_data_files"]

HEADER_BYTES = 2**16
HEADERS = frozenset({".mhd", ".nhdr", ".hdr"})
"""Suffixes of headers whose voxels lie in other files."""
DATA_SUFFIXES = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw", ".bin")

PARTNERS = {".img": (".hdr", ".mat"), ".img.gz": (".hdr.gz", ".hdr", ".mat")}
"""Files of the same name that say how the voxels of a pair are read: the header, and SPM's matrix."""


def with_data_files(paths: Iterable[Path]) -> list[Path]:
    """The files, each followed by those that its data lie in.

    A folder (OME-Zarr) stands for every file in it, a header (`.mhd`, `.nhdr`, `.hdr`) also for the files in its
    folder that it names, and for those of the same name with a suffix of raw data. Voxels (`.img`) stand also for their
    header and matrix.
    """
    return list(dict.fromkeys(file for path in paths for file in _expanded(path)))


def file_states(paths: Iterable[Path]) -> list[tuple[str, int, int, int]]:
    """Name, size, and the times (ns) of the last change of content and of anything, of files and their data files.

    The last cannot be set back, so that a file that was edited in place, with an equal size and its old time of
    modification, has another state.
    Raises: OSError when a file cannot be found.
    """
    states = []
    for path in with_data_files(paths):
        stat = path.stat()
        states.append((path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return states


def content_digest(paths: Iterable[Path]) -> str:
    """A hash of the content of files and their data files, in order. Raises: OSError when one cannot be read."""
    digest = hashlib.sha256()
    for path in with_data_files(paths):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def record_files(paths: Sequence[Path]) -> dict[str, Any]:
    """States and content of files as JSON values, for `unchanged`. Raises: OSError when one cannot be read."""
    states = [list(state) for state in file_states(paths)]
    return {"states": states, "content": content_digest(paths)}


def unchanged(recorded: object, paths: Sequence[Path], written_ns: int) -> bool:
    """Whether files are as they were when a result was made of them.

    Args:
        recorded: `record_files` at that time; None for a result of an earlier version, which has none.
        paths: the files.
        written_ns: when the result was written, for a result of an earlier version.
    Returns: whether states or, after a copy or a change of rights, contents are equal.
    """
    if not isinstance(recorded, dict):
        return all(changed <= written_ns for *_, changed in file_states(paths))
    states = [list(state) for state in file_states(paths)]
    return bool(recorded.get("states") == states or recorded.get("content") == content_digest(paths))


def _expanded(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
        return
    yield path
    ending = next((ending for ending in PARTNERS if path.name.lower().endswith(ending)), None)
    if ending is not None:
        others = (path.with_name(f"{path.name[: -len(ending)]}{partner}") for partner in PARTNERS[ending])
        yield from (other for other in others if other.is_file())
    if path.suffix.lower() in HEADERS and path.is_file():
        yield from _named(path)


def _named(header: Path) -> Iterator[Path]:
    """The data files of a header, as far as they lie in its folder; all of that folder for a numbered pattern."""
    with header.open("rb") as stream:
        text = stream.read(HEADER_BYTES).decode("latin-1")
    stem = header.name[: -len(header.suffix)]
    beside = sorted(file for file in header.parent.iterdir() if file != header and file.is_file())
    numbered = header.suffix.lower() != ".hdr" and re.search(r"%0?\d*d", text) is not None
    for file in beside:
        same = file.name in {f"{stem}{suffix}" for suffix in DATA_SUFFIXES}
        named = header.suffix.lower() != ".hdr" and file.name in text
        if same or named or numbered:
            yield file
