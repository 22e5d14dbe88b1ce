"""Settings that lie beside a model: written as JSON, and read only where the manifest vouches for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from attunet.config import Settings, load_settings
from attunet.errors import BundleError
from attunet.files import write_text

__all__ = ["read_sealed", "write_unsealed"]

S = TypeVar("S", bound=Settings)


def read_sealed(kind: type[S], root: Path, name: str, sums: Mapping[str, str], *, remedy: str) -> S | None:
    """What the file `name` of a model folder holds; None when there is none.

    Raises: BundleError with the remedy when the manifest, whose sums are given, lacks the file.
    """
    path = root / name
    if not path.is_file():
        return None
    if name not in sums:
        raise BundleError(f"{path} is not in the manifest, so it is not known to belong to the model", hint=remedy)
    return load_settings(kind, path)


def write_unsealed(settings: Settings, path: Path) -> None:
    """Write the file and leave the manifest as it is: it must be renewed."""
    write_text(path, json.dumps(settings.model_dump(mode="json"), indent=2) + "\n")
