"""manifest.json: a sha256 sum of every file that a prediction depends on, so that an altered model is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from attunet.config import Settings, load_settings
from attunet.errors import BundleError
from attunet.files import write_text

__all__ = ["FORMAT", "MANIFEST", "check_sums", "read_sealed", "read_sums", "seal", "write_unsealed"]

S = TypeVar("S", bound=Settings)

MANIFEST = "manifest.json"
FORMAT = 1


def seal(root: Path, files: Iterable[Path]) -> None:
    """Write the manifest of a folder: the sums of those of the given files that exist."""
    sums = {file.relative_to(root).as_posix(): _sha256(file) for file in files if file.is_file()}
    write_text(root / MANIFEST, json.dumps({"format": FORMAT, "sha256": sums}, indent=2) + "\n")


def read_sums(root: Path) -> dict[str, str]:
    """Read the manifest: file name, relative to the folder, to its expected sum.

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
        if content["format"] != FORMAT or not isinstance(sums, dict):
            raise KeyError("format")
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is not valid: {error}", hint="copy the model folder again") from error
    return {str(name): str(value) for name, value in sums.items()}


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


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
