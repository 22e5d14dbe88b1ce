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
    "exclusive",
    "exclusive_if_writable",
    "lock_descriptor",
    "lock_stage",
    "require_held",
    "sharing",
]

LOCK = ".attunet.lock"
"""Name of the lock file in a folder; it exists only while a program uses the folder, or after a kill."""

_MOMENTS, _MOMENT = 20, 0.05
_TRIES = 1000  # to create a folder that others keep removing

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
    key = _key(folder)
    descriptor = None if key in _depths else _acquire(folder / LOCK, Holder.this(doing))
    _depths[key] = _depths.get(key, 0) + 1
    try:
        yield
    finally:
        _depths[key] -= 1
        if descriptor is not None:
            del _depths[key]
            _release(folder / LOCK, descriptor)


@contextmanager
def sharing(folder: Path, part: int, parts: int, doing: str = "attunet") -> Iterator[None]:
    """Be one of several programs that write into a folder at the same time, each its own part of the work.

    Other parts of the same division may enter, too, but no part twice, none of another division, and no program that
    wants the folder for itself. Within the block, this thread may enter it as with `exclusive`.

    Args:
        folder: the folder.
        part, parts: the number of the part, from 0, and the number of all.
        doing: see `exclusive`.
    Yields: nothing, while this part holds the folder.
    Raises: as `exclusive`.
    """
    key, holder, own = _key(folder), Holder.this(doing), folder / f"{LOCK}-{part}-of-{parts}"
    with ExitStack() as stack:
        stack.callback(_release, own, _acquire(own, holder))
        stack.callback(_release, folder / LOCK, _acquire(folder / LOCK, holder, shared=True), shared=True)
        for other in _parts_in(folder):
            if not other.name.endswith(f"-of-{parts}") and _is_held(other):
                hint = f"wait until they have ended, or use --num-parts {other.name.rpartition('-')[2]} as they do"
                raise BusyError(f"{folder} is in use by {Holder.read(other) or 'parts of another division'}", hint=hint)
        _depths[key] = 1
        stack.callback(_depths.pop, key)
        yield


def require_held(folder: Path) -> None:
    """Raises: FormatError when a folder that this program holds has vanished; one made anew may be on another disk."""
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


def lock_descriptor(descriptor: int, *, shared: bool = False) -> bool | None:
    """Lock an open file, for others too if `shared`: True if locked, False if another holds it, None where unknown."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
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


def _key(folder: Path) -> tuple[int, int, Path]:
    """A folder, which is created if it is missing, for this process and thread. Raises: FormatError."""
    try:
        _create(folder)
        return os.getpid(), threading.get_ident(), folder.resolve()
    except OSError as error:
        raise _unwritable(folder, error) from error


def _create(folder: Path) -> None:
    """Create a folder if it is missing, also while programs that leave it remove it and its empty parents."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError, FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
            return
    folder.mkdir(parents=True, exist_ok=True)  # the error says what is in the way


def _open(path: Path) -> int:
    """Open a lock file; its folder is created again when a program that left it has just removed it."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        _create(path.parent)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _acquire(path: Path, holder: Holder, *, shared: bool = False) -> int:
    """The descriptor of a lock file that this program now holds. Raises: as `exclusive`."""
    patience = _MOMENTS if shared else 0  # another part that leaves holds the lock alone for a moment
    while True:
        try:
            descriptor = _open(path)
        except OSError as error:
            raise _unwritable(path.parent, error) from error
        locked = lock_descriptor(descriptor, shared=shared)
        parts = _parts_in(path.parent) if path.name == LOCK and not shared else ()
        known = [found for found in map(Holder.read, (path, *parts)) if found is not None]
        other = next((found for found in known if not found.gone), known[0] if known else None)
        if locked is False or (locked is None and other is not None and not other.gone):
            os.close(descriptor)
            if patience and locked is False:
                patience -= 1
                time.sleep(_MOMENT)
                continue
            hint = "wait until it has ended, or choose another folder"
            if locked is None:
                hint += f"; if it no longer runs, delete {path}"
            raise BusyError(f"{path.parent} is in use{f' by {other}' if other else ' by another program'}", hint=hint)
        if _is(path, descriptor):
            break
        os.close(descriptor)  # its holder has just deleted it
    with suppress(OSError):  # a full disk: the lock holds, only its holder stays unnamed
        os.ftruncate(descriptor, 0)
        if not shared:
            os.write(descriptor, json.dumps(asdict(holder)).encode())
    return descriptor


def _release(path: Path, descriptor: int, *, shared: bool = False) -> None:
    """Give a lock back, and delete its file if nobody else holds it."""
    locked = lock_descriptor(descriptor) if shared else True
    last = locked or (locked is None and len(_parts_in(path.parent)) < 2)
    with suppress(OSError):
        if last and _is(path, descriptor):
            path.unlink()  # while it is locked: who opens the file meanwhile finds it deleted, and opens a new one
    os.close(descriptor)


def _parts_in(folder: Path) -> list[Path]:
    """The lock files of the parts that share a folder, and of those that were killed."""
    try:
        return sorted(folder.glob(f"{LOCK}-*-of-*"))
    except FileNotFoundError:  # a program that left it has just removed it
        return []


def _is_held(path: Path) -> bool:
    """Whether a program holds a lock file."""
    with suppress(OSError), path.open("r+b") as stream:
        locked = lock_descriptor(stream.fileno())
        return locked is False or (locked is None and (other := Holder.read(path)) is not None and not other.gone)
    return False


def _is(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one at this path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _unwritable(folder: Path, error: OSError) -> FormatError:
    hint = "choose another folder, or copy this one to where you may write"
    return FormatError(f"cannot write into {folder}: {error.strerror or error}", hint=hint)
