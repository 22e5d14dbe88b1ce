"""The files of a node: instances that came in, and results that go out, each under its UIDs, complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from attunet.dicom.network.identity import Identity, check_uid
from attunet.dicom.node.database import DATABASE
from attunet.errors import FormatError

__all__ = ["Storage"]

PRIVATE = 0o700
MEGABYTE = 2**20


class Storage:
    """The folder of a node's state, which only its user may enter.

    Args: the folder; megabytes that stay free on its disk.
    Attributes: incoming, a folder for what is not complete yet.
    """

    def __init__(self, folder: Path, least_free_mb: float = 0) -> None:
        self.folder = folder
        self._least_free = least_free_mb * MEGABYTE
        self._inbox, self._outbox, self.incoming = (folder / name for name in ("inbox", "outbox", "incoming"))
        try:
            for part in (folder, self._inbox, self._outbox, self.incoming):
                part.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            folder.chmod(PRIVATE)
        except OSError as error:
            raise _unwritable(folder, error) from error

    @property
    def database(self) -> Path:
        """The file of the queue."""
        return self.folder / DATABASE

    def has_room(self, size: int = 0) -> bool:
        """Whether the disk takes so many bytes and keeps what it has to keep free."""
        return shutil.disk_usage(self.folder).free - size >= self._least_free

    def instance(self, identity: Identity) -> Path:
        """Where an instance is kept."""
        return self.series(identity.study, identity.series) / f"{check_uid(identity.uid, 'SOPInstanceUID')}.dcm"

    def series(self, study: str, series: str) -> Path:
        """The folder of a series."""
        return self._inbox / check_uid(study, "StudyInstanceUID") / check_uid(series, "SeriesInstanceUID")

    def work(self, study: str) -> Path:
        """A folder for a prediction in progress, empty."""
        folder = self.folder / "work" / check_uid(study, "StudyInstanceUID")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=PRIVATE, parents=True)
        return folder

    def result(self, study: str, name: str) -> Path:
        """Where a result is kept until every destination has it."""
        return self._outbox / check_uid(study, "StudyInstanceUID") / name

    def write(self, identity: Identity, content: bytes) -> Path:
        """Store an instance so that it outlives a loss of power; when this returns, its sender may delete its own.

        Args: who it is; its file.
        Raises: FormatError when the disk is full.
        """
        target = self.instance(identity)
        try:
            _make_folders(target.parent, self._inbox)
            descriptor, name = tempfile.mkstemp(dir=self.incoming)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                Path(name).replace(target)
            except BaseException:
                with suppress(OSError):
                    Path(name).unlink()
                raise
            _sync_folder(target.parent)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        return target

    def publish(self, file: Path, study: str) -> Path:
        """Move a finished result into the outbox, so that it outlives a loss of power."""
        target = self.result(study, file.name)
        try:
            _make_folders(target.parent, self._outbox)
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
            file.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        return target

    def instances(self) -> Iterator[Path]:
        """Every file of the inbox."""
        return self._inbox.glob("*/*/*.dcm")

    def studies(self) -> list[str]:
        """The studies that have instances in the inbox."""
        return sorted(folder.name for folder in self._inbox.iterdir())

    def results(self) -> list[str]:
        """The studies that have results in the outbox."""
        return sorted(folder.name for folder in self._outbox.iterdir())

    def remove_instances(self, study: str) -> bool:
        """Delete the instances of a study; whether there were any."""
        return _removed(self._inbox / check_uid(study, "StudyInstanceUID"))

    def remove_results(self, study: str) -> bool:
        """Delete the results of a study; whether there were any."""
        return _removed(self._outbox / check_uid(study, "StudyInstanceUID"))

    def clear_unfinished(self) -> None:
        """After a kill: delete what was being received or predicted."""
        for folder in (self.incoming, self.folder / "work"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=PRIVATE, exist_ok=True)


def _make_folders(folder: Path, root: Path) -> None:
    """Make a folder below a root, and write the names of new ones to the disk."""
    missing = [part for part in (folder, *folder.parents) if root in part.parents and not part.exists()]
    for part in reversed(missing):
        part.mkdir(mode=PRIVATE, exist_ok=True)
        _sync_folder(part.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _removed(folder: Path) -> bool:
    if not folder.exists():
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _unwritable(folder: Path, error: OSError) -> FormatError:
    return FormatError(f"cannot write into {folder}: {error.strerror or error}", hint="free disk space, or check it")
