"""Files appear under their name whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attunet.errors import FormatError

__all__ = ["staged"]


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A path of the same name to write to; what was written there moves to `path` when the block ends well.

    A format of two files (header and data) keeps both names, because the stage is a folder beside the target;
    the header moves last. Nothing is left behind when the block fails.
    Raises: FormatError when the folder of `path` is missing or cannot be written to.
    """
    if not path.parent.is_dir():
        raise FormatError(
            f"cannot write {path}: there is no folder {path.parent}", hint="create the folder first"
        )
    try:
        stage = Path(tempfile.mkdtemp(prefix=".attunet-", dir=path.parent))
    except OSError as error:
        raise FormatError(
            f"cannot write into {path.parent}: {error.strerror}", hint="choose another folder"
        ) from error
    try:
        yield stage / path.name
        for part in sorted(stage.iterdir(), key=lambda part: part.name == path.name):
            part.replace(path.parent / part.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
