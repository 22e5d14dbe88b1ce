"""manifest.json: a sha256 sum of every file that a prediction depends on, so that an altered model is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from attunet.config import Settings, load_settings
from attunet.errors import BundleError
from attunet.files import staged, write_text

__all__ = [
    "FORMAT",
    "MANIFEST",
    "check_sums",
    "read_sealed",
    "read_sums",
    "resealed",
    "seal",
    "withdraw",
    "write_unsealed",
]

S = TypeVar("S", bound=Settings)

MANIFEST = "manifest.json"
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
    with staged(root / MANIFEST) as manifest:
        folder = manifest.parent / "new"
        folder.mkdir()
        yield folder
        new = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
        before = read_sums(root)
        added = {path.relative_to(root).as_posix(): path for path in unlisted if path.is_file()}
        after = {name: _sha256(file) for name, file in added.items()} | before
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


def withdraw(root: Path, names: Iterable[str]) -> None:
    """Remove files from the manifest, if there is one, before they change: the rest of the model stays valid."""
    if (root / MANIFEST).is_file():
        gone = set(names)
        write_text(root / MANIFEST, _text({name: total for name, total in read_sums(root).items() if name not in gone}))


def _text(sums: Mapping[str, str], *, replaced: Mapping[str, str | None] | None = None) -> str:
    """The content of a manifest; `replaced` are the sums of files that are about to be replaced, None for new ones."""
    content = {"format": FORMAT, "sha256": dict(sums)} | ({"replaced": dict(replaced)} if replaced else {})
    return json.dumps(content, indent=2) + "\n"


def read_sums(root: Path) -> dict[str, str]:
    """Read the manifest: file name, relative to the folder, to its expected sum.

    A file that was being replaced when a program was killed may have its old or its new content.
    Raises: BundleError when there is no folder, no manifest, or one that is not valid.
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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sums = content["sha256"]
        replaced = dict(content.get("replaced", {}))
        if content["format"] != FORMAT or not isinstance(sums, dict):
            raise KeyError("format")
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is not valid: {error}", hint="copy the model folder again") from error
    old = {name for name, total in replaced.items() if _sum_of(root / name) == total}
    expected = sums | {name: replaced[name] for name in old}
    return {str(name): str(value) for name, value in expected.items() if value is not None}


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
    for name, expected in sums.items():
        file = root / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise BundleError(f"the manifest of {root} names a file outside it: {name}", hint="do not use this model")
        if not file.is_file():
            raise BundleError(f"{file} is missing", hint="copy the complete model folder again")
        if _sha256(file) != expected:
            raise BundleError(
                f"{file} was changed after training (its sha256 differs from the manifest's)",
                hint="copy the model folder again from its source, or train again",
            )


def read_sealed(kind: type[S], root: Path, name: str, sums: Mapping[str, str], *, remedy: str) -> S | None:
    """Read settings next to a model, but only if the manifest lists them.

    Args:
        kind: class of the settings.
        root: the model folder.
        name: of the file in it.
        sums: the folder's manifest.
        remedy: what to do when the manifest lacks the file.
    Returns: the settings; None when there is no such file.
    Raises: BundleError with the remedy when the manifest, whose sums are given, lacks the file.
    """
    path = root / name
    if not path.is_file():
        return None
    if name not in sums:
        raise BundleError(f"{path} is not in the manifest, so it may not belong to the model", hint=remedy)
    return load_settings(kind, path)


def write_unsealed(settings: Settings, path: Path) -> None:
    """Write the file without updating the manifest."""
    write_text(path, json.dumps(settings.model_dump(mode="json"), indent=2) + "\n")


def _sum_of(file: Path) -> str | None:
    return _sha256(file) if file.is_file() else None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
