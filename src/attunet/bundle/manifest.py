"""manifest.json: a sha256 sum of every file that a prediction depends on, so that an altered model is refused.

A model is checked whole when it is opened. What is used is read once into memory and checked again, so that a folder
that is overwritten meanwhile gives the old answers or an error; a file that the manifest lacks is not used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

from attunet.config import Settings, parse_settings
from attunet.documents import reading
from attunet.errors import BundleError, BusyError
from attunet.files import staged, write_text
from attunet.locks import exclusive

__all__ = [
    "FORMAT",
    "MANIFEST",
    "alone",
    "check_sums",
    "manifest_sum",
    "path_inside",
    "read_checked",
    "read_fold_settings",
    "read_sealed",
    "read_sums",
    "resealed",
    "seal",
    "withdraw",
    "write_unsealed",
]

S = TypeVar("S", bound=Settings)

MANIFEST = "manifest.json"
_PATIENCE = 60.0
"""Seconds to wait for another program that updates the manifest, which takes it moments."""
FORMAT = 1


def seal(root: Path, files: Iterable[Path], *, kept: Mapping[str, str] | None = None) -> None:
    """Write the manifest of a folder.

    Args:
        root: the folder.
        files: the files that it names, as far as they exist.
        kept: known sums of some of them, which are not computed again, so that an altered file stays refused.
    """
    known = kept or {}
    names = {file.relative_to(root).as_posix(): file for file in files if file.is_file()}
    write_text(root / MANIFEST, _text({name: known.get(name) or _sha256(file) for name, file in names.items()}))


@contextmanager
def resealed(root: Path, *, unlisted: Iterable[Path] = (), gone: Iterable[str] = ()) -> Iterator[Path]:
    """A folder whose files replace those of the same names in a sealed model when the block succeeds.

    The manifest first admits the old and the new content of each file, then the files are replaced, then it names
    only the new ones: whenever the program is killed, the model stays valid.

    Args:
        root: the model folder.
        unlisted: files in it to be sealed, too, as far as the manifest does not name them.
        gone: names of files that the new ones replace, to be deleted.
    Returns: the folder, in which files have their names relative to `root`.
    Raises: BundleError when the model has no valid manifest, FormatError when it cannot be written.
    """
    with alone(root), staged(root / MANIFEST) as manifest:
        folder = manifest.parent / "new"
        folder.mkdir()
        yield folder
        new = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
        before = read_sums(root)
        added = {path.relative_to(root).as_posix(): path for path in unlisted if path.is_file()}
        after = before | {name: _sha256(file) for name, file in added.items() if name not in before}
        after |= {name: _sha256(file) for name, file in new.items()}
        deleted = set(gone)
        after = {name: total for name, total in after.items() if name not in deleted}
        write_text(root / MANIFEST, _text(after, replaced={name: before.get(name) for name in (*new, *deleted)}))
        for name, file in new.items():
            file.replace(root / name)
        manifest.write_text(_text(after), encoding="utf-8")
        shutil.rmtree(folder)
    for name in deleted:
        (root / name).unlink(missing_ok=True)


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Be the only program that updates the manifest of a model folder: folds of one run may be trained at once.

    Raises: BusyError when another program uses the folder for longer than a minute.
    """
    with ExitStack() as stack:
        last = time.monotonic() + _PATIENCE
        while True:
            try:
                stack.enter_context(exclusive(root, "attunet, which seals the model"))
                break
            except BusyError:
                if time.monotonic() > last:
                    raise
                time.sleep(0.05)
        yield


def withdraw(root: Path, names: Iterable[str]) -> None:
    """Remove files from the manifest, if there is one, before they change: the rest of the model stays valid."""
    if (root / MANIFEST).is_file():
        gone = set(names)
        write_text(root / MANIFEST, _text({name: total for name, total in read_sums(root).items() if name not in gone}))


def _text(sums: Mapping[str, str], *, replaced: Mapping[str, str | None] | None = None) -> str:
    """The content of a manifest; `replaced` are the sums of files that are about to be replaced, None for new ones."""
    content = {"format": FORMAT, "sha256": dict(sums)} | ({"replaced": dict(replaced)} if replaced else {})
    return json.dumps(content, indent=2) + "\n"


def read_sums(root: Path, sha256: str | None = None) -> dict[str, str]:
    """Read the manifest: file name, relative to the folder, to its expected sum.

    A file that was being replaced when a program was killed may have its old or its new content.
    Args: the folder; the manifest's own sum where another manifest lists it.
    Raises: BundleError when there is no folder, no manifest, or one that is not valid or not the expected one.
    """
    path = root / MANIFEST
    if not root.is_dir():
        raise BundleError(f"no model folder at {root}", hint="pass the RUN folder written by `attunet train -o RUN`")
    if not path.is_file():
        started = (root / "plan.json").is_file()
        raise BundleError(
            f"{root} is {'an unfinished training run' if started else 'not a model folder'} (no {MANIFEST})",
            hint="finish it with `attunet train … --resume`"
            if started
            else "pass the folder written by `attunet train -o`",
        )
    written = _read(path_inside(root, MANIFEST))
    if sha256 is not None and hashlib.sha256(written).hexdigest() != sha256:
        raise _altered(path)
    try:
        content = json.loads(written.decode("utf-8"))
        sums = content["sha256"]
        replaced = dict(content.get("replaced", {}))
        if content["format"] != FORMAT or not isinstance(sums, dict):
            raise KeyError("format")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path} is not valid: {error}", hint="copy the model folder again") from error
    with reading(path, BundleError, "copy the model folder again"):  # a name may be too long
        old = {name for name, total in replaced.items() if _sum_of(path_inside(root, name)) == total}
    expected = sums | {name: replaced[name] for name in old}
    return {str(name): str(value) for name, value in expected.items() if value is not None}


def manifest_sum(root: Path) -> str:
    """The sha256 sum of a model's manifest: one name for every file that a prediction depends on.

    Raises: BundleError when it cannot be read.
    """
    return hashlib.sha256(_read(path_inside(root, MANIFEST))).hexdigest()


def check_sums(root: Path, sums: Mapping[str, str], needed: Iterable[str]) -> None:
    """Compare a folder with its manifest.

    Args:
        root: the folder.
        sums: sha256 by file name.
        needed: the files that must be among them.
    Raises: BundleError for a file that is not named, missing, altered or outside the folder.
    """
    if unsealed := set(needed) - sums.keys():
        raise BundleError(
            f"the manifest of {root} does not list {', '.join(sorted(unsealed))}",
            hint="copy the complete model folder again",
        )
    with reading(root / MANIFEST, BundleError, "copy the complete model folder again"):  # a name may be too long
        for name, expected in sums.items():
            file = path_inside(root, name)
            if not file.is_file():
                raise BundleError(f"{file} is missing", hint="copy the complete model folder again")
            if _sha256(file) != expected:
                raise _altered(file)


def read_checked(root: Path, name: str, sums: Mapping[str, str]) -> bytes:
    """Read a file of a model into memory, if it is the one that the manifest lists.

    Args:
        root: the folder.
        name: of the file in it.
        sums: sha256 by file name, as the model was opened with.
    Returns: its bytes.
    Raises: BundleError for a file that is not listed, missing, outside the folder, or not the listed one any more.
    """
    file = path_inside(root, name)
    if name not in sums:
        raise BundleError(f"{file} is not in the manifest, so it may not belong to the model", hint="do not use it")
    content = _read(file)
    if hashlib.sha256(content).hexdigest() != sums[name]:
        raise _altered(file)
    return content


def read_sealed(kind: type[S], root: Path, name: str, sums: Mapping[str, str], *, remedy: str) -> S | None:
    """Read settings next to a model, but only if the manifest lists them.

    Args:
        kind: class of the settings.
        root: the model folder.
        name: of the file in it.
        sums: the folder's manifest.
        remedy: what to do when the manifest lacks the file.
    Returns: the settings; None when there is no such file.
    Raises: BundleError with the remedy when the manifest, whose sums are given, lacks the file; as `read_checked`.
    """
    path = root / name
    if not path.is_file():
        if name in sums:
            raise BundleError(f"{path} is missing", hint="copy the complete model folder again")
        return None
    if name not in sums:
        raise BundleError(f"{path} is not in the manifest, so it may not belong to the model", hint=remedy)
    return parse_settings(kind, read_checked(root, name, sums), path)


def read_fold_settings(
    kind: type[S], folder: Path, name: str, sums: Mapping[str, str] | None, *, remedy: str
) -> S | None:
    """`read_sealed` for a file of a fold.

    Args:
        kind: class of the settings.
        folder: the fold's folder.
        name: of the file in it.
        sums: the manifest of its run; None to read it, which is not needed where there is no such file.
        remedy: what to do when the manifest lacks the file.
    Returns: the settings; None when there is no such file.
    Raises: as `read_sealed`.
    """
    if sums is None and not (folder / name).is_file():
        return None
    known = read_sums(folder.parent) if sums is None else sums
    return read_sealed(kind, folder.parent, f"{folder.name}/{name}", known, remedy=remedy)


def write_unsealed(settings: Settings, path: Path) -> None:
    """Write the file without updating the manifest."""
    write_text(path, json.dumps(settings.model_dump(mode="json"), indent=2) + "\n")


def _sum_of(file: Path) -> str | None:
    return _sha256(file) if file.is_file() else None


def path_inside(root: Path, name: str) -> Path:
    """The path of a file in a model. Raises: BundleError for a name, or a link, that leads out of the folder."""
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
        raise BundleError(f"the manifest of {root} names a file outside it: {name!r}", hint="do not use this model")
    file = root / name
    if "\0" in name or not file.resolve().is_relative_to(root.resolve()):
        raise BundleError(
            f"{file} is a link that leads out of the model folder",
            hint="if you trust it, copy the folder with the files that its links lead to (cp -rL)",
        )
    return file


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(
            f"cannot read {file}: {error.strerror or error}", hint="check its permissions, or copy the model again"
        ) from error


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(
            f"cannot read {file}: {error.strerror or error}", hint="check its permissions, or copy the model again"
        ) from error


def _altered(file: Path) -> BundleError:
    return BundleError(
        f"{file} was changed after training (its sha256 differs from the manifest's)",
        hint="copy the model folder again from its source, or train again",
    )
