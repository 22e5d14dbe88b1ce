"""Atomic writes: a file appears complete or not at all, also when the disk is full or the program is killed."""

from __future__ import annotations

import atexit
import errno
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from attunet.errors import CancelledError, ConfigError, FormatError
from attunet.locks import lock_stage

__all__ = ["publish", "refuse_existing", "remove_abandoned", "staged", "staging", "write_text"]

_STAGE = re.compile(r"\.attunet-(?P<pid>\d+)-(?P<host>[\w.]+)-\w+")
_HOUR = 3600
_ROOM = 2**20
_DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EIO)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A temporary path of the same name; the file written there moves to `path` when the block succeeds.

    A format of two files (header and data) keeps both names, because the temporary path is in a folder next to the
    target; `path` itself moves last. Nothing is left behind when the block fails; what a killed program left is removed
    by the next one that writes here. Missing folders are created. Files get the mode that the umask allows, whatever
    the library that writes them prefers, because others read a model, too.
    Raises: FormatError when the folder of `path` cannot be written to, or the disk is full, whichever exception the
        writing library has for it.
    """
    with staging(path) as stage:
        yield stage / path.name
        _follow_umask(stage)
        for part in sorted(stage.iterdir(), key=lambda part: part.name == path.name):
            part.replace(path.parent / part.name)


@contextmanager
def staging(path: Path) -> Iterator[Path]:
    """A private folder beside `path` for what is made of it; gone when the block ends, however it ends.

    Raises: as `staged`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _STAGE.fullmatch(path.parent.name):  # a stage in a stage goes with it
            _remove_abandoned_once(os.getpid(), path.parent)
        stage, sign = _make_stage(path.parent)
    except OSError as error:
        raise FormatError(
            f"cannot write into {path.parent}: {error.strerror or error}", hint="choose another folder"
        ) from error
    try:
        yield stage
    except CancelledError:
        raise
    except FormatError as error:
        if str(stage) not in error.message:
            raise
        raise FormatError(error.message.replace(str(stage), str(path.parent)), hint=error.hint) from error
    except Exception as error:
        reason = _disk_error(error, stage)
        if reason is None:
            raise
        raise FormatError(f"cannot write {path}: {reason}", hint="free disk space, or choose another folder") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if sign is not None:
            os.close(sign)


def publish(stage: Path, folder: Path, mark: Path) -> bool:
    """Give the files of a stage their places in a folder; of several programs that publish the same, the first wins.

    They are on the disk before they get their names, so that a machine that loses its power leaves no empty file.

    Args:
        stage: a folder on the same disk as `folder`, see `staging`; its files have the paths that they get there.
        folder: where they go.
        mark: the path within the stage of the file that says that all is there; it comes last.
    Returns: whether this call published them; otherwise nothing has changed.
    """
    target = folder / mark
    if target.exists():
        return False
    parts = [part.relative_to(stage) for part in stage.rglob("*") if part.is_file()]
    for part in sorted(parts, key=lambda part: part == mark):
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        _flush(stage / part)
        if part != mark:
            (stage / part).replace(folder / part)
    try:
        os.link(stage / mark, target)
    except FileExistsError:
        return False
    except OSError:  # no second names on this file system
        if target.exists():
            return False
        (stage / mark).replace(target)
    _flush(target.parent)
    return True


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        with suppress(OSError):  # nor do all network mounts flush them
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text. Raises: FormatError as `staged`."""
    with staged(path) as stage:
        stage.write_text(text, encoding="utf-8")


def _follow_umask(stage: Path) -> None:
    """Give the files of a private folder the mode of a new file; safetensors and tempfile write 0600."""
    probe = stage / ".mode"
    probe.touch()  # the umask itself can be read only by changing it, for all threads
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for part in stage.rglob("*"):
        if part.is_file() and not part.is_symlink() and part.stat().st_mode & 0o777 != mode:
            part.chmod(mode)


def refuse_existing(output: Path) -> None:
    """Make sure that a new model or package replaces nothing. Raises: ConfigError when its path exists."""
    if output.exists():
        raise ConfigError(f"{output} exists already", hint="choose another -o, or remove it")


def remove_abandoned(folder: Path) -> None:
    """Remove the staging folders that killed programs left in a folder; those of running programs stay."""
    with suppress(OSError):
        for stage in [entry for entry in folder.iterdir() if _STAGE.fullmatch(entry.name) and entry.is_dir()]:
            locked, sign = lock_stage(stage)
            if locked or (locked is None and _seems_abandoned(stage)):
                shutil.rmtree(stage, ignore_errors=True)
            if sign is not None:
                os.close(sign)


@lru_cache(maxsize=1024)
def _remove_abandoned_once(_process: int, folder: Path) -> None:
    """Once for each folder, because listing a large one for each file would take long; and once more at the end.

    A signal may arrive between the making of a stage and the block that removes it.
    """
    remove_abandoned(folder)
    atexit.register(_remove_own, folder)


def _remove_own(folder: Path) -> None:
    """Remove the stages of this process, which ends."""
    for stage in folder.glob(f".attunet-{os.getpid()}-{_host()}-*"):
        shutil.rmtree(stage, ignore_errors=True)


def _make_stage(folder: Path) -> tuple[Path, int | None]:
    """A new staging folder and the descriptor that locks it; None where folders cannot be locked."""
    while True:
        stage = Path(tempfile.mkdtemp(prefix=f".attunet-{os.getpid()}-{_host()}-", dir=folder))
        locked, sign = lock_stage(stage)
        if locked is not False:  # otherwise another program took it for abandoned before it was locked
            return stage, sign


def _seems_abandoned(stage: Path) -> bool:
    """Without locks: whether its process does not run on this machine, and it is old enough to be of no other one."""
    import psutil

    known = _STAGE.fullmatch(stage.name)
    if known is None or known["host"] != _host() or psutil.pid_exists(int(known["pid"])):
        return False
    return time.time() - stage.stat().st_mtime > _HOUR


def _host() -> str:
    return re.sub(r"\W", "_", socket.gethostname()) or "_"


def _disk_error(error: Exception, stage: Path) -> str | None:
    """Why the disk refused a file, which libraries report in many ways, or take for success; None if it did not."""
    if isinstance(error, OSError) and error.strerror:  # numpy's has none
        return error.strerror
    text = str(error).lower()
    for code in _DISK_ERRORS:
        if os.strerror(code).lower() in text or f"os error {code})" in text:
            return os.strerror(code)
    largest = max((part.stat().st_size for part in stage.rglob("*") if part.is_file()), default=0)
    try:  # a disk that took no more of a file takes no larger one now
        with tempfile.TemporaryFile(dir=stage) as probe:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(probe.fileno(), 0, largest + _ROOM)
    except OSError as refused:
        return refused.strerror or str(refused)
    return str(error) if isinstance(error, OSError) else None
