"""Atomic writes: a file appears complete or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attunet.errors import FormatError

__all__ = ["staged", "write_text"]


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A temporary path of the same name; the file written there moves to `path` when the block succeeds.

    A format of two files (header and data) keeps both names, because the temporary path is in a folder next to the
    target; `path` itself moves last. Nothing is left behind when the block fails. Missing folders are created.
    Raises: FormatError when the folder of `path` cannot be written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".attunet-", dir=path.parent))
    except OSError as error:
        raise FormatError(f"cannot write into {path.parent}: {error.strerror}", hint="choose another folder") from error
    try:
        yield stage / path.name
        for part in sorted(stage.iterdir(), key=lambda part: part.name == path.name):
            part.replace(path.parent / part.name)
    except OSError as error:
        raise FormatError(
            f"cannot write {path}: {error.strerror or error}", hint="free disk space, or choose another folder"
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text. Raises: FormatError as `staged`."""
    with staged(path) as stage:
        stage.write_text(text, encoding="utf-8")
