"""Locks that end with the program that holds them: one program at a time in a folder, and in a staging folder.

The lock is the kernel's (`flock`), so that a killed program leaves none behind. File systems without locks (some
network mounts, Windows) fall back to the host and process that the lock file names.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from attunet.errors import BusyError, FormatError

__all__ = [
    "LOCK",
    "Holder",
    "claimed",
    "claimed_in_turn",
    "exclusive",
    "exclusive_if_writable",
    "lock_descriptor",
    "lock_stage",
    "require_held",
]

LOCK = ".attunet.lock"
"""Name of the lock file in a folder; it exists only while a program uses the folder, or after a kill."""

_depths: dict[tuple[int, int, Path], int] = {}
"""How often a process's thread holds a folder, so that one step of a command may call another."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The program that uses a folder.

    Args:
        host: name of its machine.
        pid: number of its process.
        since: local time at which it began.
        doing: what it does, such as "attunet predict".
    """

    host: str
    pid: int
    since: str
    doing: str

    @classmethod
    def this(cls, doing: str) -> Holder:
        """This process."""
        return cls(host=socket.gethostname(), pid=os.getpid(), since=time.strftime("%Y-%m-%d %H:%M:%S"), doing=doing)

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """The holder that a lock file names; None when it names none."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            host, since, doing = (str(content[key]) for key in ("host", "since", "doing"))
            return cls(host=host, pid=int(content["pid"]), since=since, doing=doing)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None

    @property
    def gone(self) -> bool:
        """Whether it certainly no longer runs; a process of another machine may."""
        import psutil

        return self.host == socket.gethostname() and not psutil.pid_exists(self.pid)

    def __str__(self) -> str:
        return f"{self.doing}, process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def exclusive(folder: Path, doing: str = "attunet") -> Iterator[None]:
    """Be the only program that writes into a folder, which is created if it is missing.

    The same thread may enter a folder again. The lock is released when the block or the process ends, however it ends.

    Args:
        folder: the folder.
        doing: what the program does, which another one is told that finds the folder in use.
    Raises: BusyError when another program, or another thread, uses the folder; FormatError when nobody may write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        key = os.getpid(), threading.get_ident(), folder.resolve()
    except OSError as error:
        raise _unwritable(folder, error) from error
    descriptor = None if key in _depths else _acquire(folder, Holder.this(doing))
    _depths[key] = _depths.get(key, 0) + 1
    try:
        yield
    finally:
        _depths[key] -= 1
        if descriptor is not None:
            del _depths[key]
            _release(folder / LOCK, descriptor)


def require_held(folder: Path) -> None:
    """Check that a folder which this program holds is still there: a folder made anew may be on another disk.

    Raises: FormatError when it has vanished.
    """
    if not (folder / LOCK).exists():
        raise FormatError(
            f"{folder} has vanished, or its file {LOCK} was deleted, while it was written to",
            hint="mount or create it again, and repeat the command; what is still there can be continued",
        )


@contextmanager
def exclusive_if_writable(folders: Sequence[Path], doing: str = "attunet") -> Iterator[None]:
    """Be the only program that uses these folders, as `exclusive`; for programs that work without writing, too.

    Nobody can write into a folder that is read-only, so that it is used without a lock. Folders that were made for
    their lock only, and their empty parents, are removed.

    Args:
        folders: the folders.
        doing: what the program does, which another one is told that finds a folder in use.
    Raises: BusyError when another program uses one of the folders.
    """
    made = [folder for folder in (*folders, *(folder.parent for folder in folders)) if not folder.exists()]
    try:
        with ExitStack() as stack:
            for folder in folders:
                with suppress(FormatError):
                    stack.enter_context(exclusive(folder, doing))
            yield
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()  # only if it is empty


@contextmanager
def claimed(output: Path, doing: str = "attunet") -> Iterator[None]:
    """Be the only program that makes a file or folder, which does not exist before it is complete.

    The lock is in a hidden folder beside it, which is removed at the end, and by the next program after a kill.

    Args:
        output: what is made.
        doing: what the program does, which another one is told that would make the same.
    Raises: BusyError when another program makes it, FormatError when nobody may write there.
    """
    sign = output.with_name(f".{output.name}.attunet-claim")
    made = [] if output.parent.exists() else [output.parent]
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive(sign, doing))
            except BusyError as error:
                raise BusyError(error.message.replace(str(sign), str(output), 1), hint=error.hint) from None
            except FormatError as error:
                message = error.message.replace(str(sign), str(output.parent), 1)
                raise FormatError(message, hint=error.hint) from None
            yield
    finally:
        for folder in (sign, *made):
            with suppress(OSError):
                folder.rmdir()  # only if it is empty


@contextmanager
def claimed_in_turn(output: Path, doing: str = "attunet", *, patience: float) -> Iterator[None]:
    """As `claimed`, after the programs that make the same have ended.

    Where nobody can tell whether a machine that died still holds it, it is made beside them after a while: only for
    what every program makes alike, and puts in place whole.

    Args:
        output: what is made.
        doing: what the program does.
        patience: seconds to wait at most.
    Yields: nothing, once it may be made.
    Raises: FormatError when nobody may write there.
    """
    last = time.monotonic() + patience
    with ExitStack() as stack:
        while time.monotonic() < last:
            try:
                stack.enter_context(claimed(output, doing))
                break
            except BusyError:
                time.sleep(0.1)
        yield


def lock_descriptor(descriptor: int) -> bool | None:
    """Lock an open file without waiting: True if locked, False if another holds it, None where that is unknown."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks on this file system
        return None
    return True


def lock_stage(stage: Path) -> tuple[bool | None, int | None]:
    """Lock a staging folder itself, as `lock_descriptor`; False also when it is gone. The descriptor holds the lock."""
    try:
        descriptor = os.open(stage, os.O_RDONLY)
    except FileNotFoundError:
        return False, None
    except OSError:  # Windows opens no folders
        return None, None
    locked = lock_descriptor(descriptor)
    if locked and not _is(stage, descriptor):
        locked = False
    if not locked:
        os.close(descriptor)
        return locked, None
    return True, descriptor


def _acquire(folder: Path, holder: Holder) -> int:
    path = folder / LOCK
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise _unwritable(folder, error) from error
        locked, other = lock_descriptor(descriptor), Holder.read(path)
        if locked is False or (locked is None and other is not None and not other.gone):
            os.close(descriptor)
            hint = "wait until it has ended, or choose another folder"
            if locked is None:
                hint += f"; if it no longer runs, delete {path}"
            raise BusyError(f"{folder} is in use{f' by {other}' if other else ' by another program'}", hint=hint)
        if _is(path, descriptor):
            break
        os.close(descriptor)  # its holder has just deleted it
    with suppress(OSError):  # a full disk: the lock holds, only its holder stays unnamed
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(asdict(holder)).encode())
    return descriptor


def _release(path: Path, descriptor: int) -> None:
    with suppress(OSError):
        if _is(path, descriptor):
            path.unlink()  # while it is locked: who opens the file meanwhile finds it deleted, and opens a new one
    os.close(descriptor)


def _is(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one at this path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _unwritable(folder: Path, error: OSError) -> FormatError:
    hint = "choose another folder, or copy this one to where you may write"
    return FormatError(f"cannot write into {folder}: {error.strerror or error}", hint=hint)
