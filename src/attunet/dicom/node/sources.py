"""Sources that the node asks itself: watched folders, and queries to a DICOMweb service."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path

from attunet.dicom.network.addresses import WebAddress, parse_address
from attunet.dicom.network.identity import read_identity
from attunet.dicom.network.web import FoundSeries, WebAccess, WebClient
from attunet.dicom.node.intake import Intake
from attunet.dicom.node.rules import may_match
from attunet.dicom.node.settings import NodeSettings, QuerySettings, WatchSettings
from attunet.errors import AttunetError, FormatError

__all__ = ["QuerySource", "WatchSource"]

_log = logging.getLogger(__name__)
_FileState = tuple[int, int]


class WatchSource:
    """A folder in which others put files. File names may name patients, so that none is logged.

    Args: the folder, and how often to look; where its instances go.
    """

    def __init__(self, settings: WatchSettings, intake: Intake) -> None:
        self._settings, self._intake = settings, intake
        self._seen: dict[Path, _FileState] = {}
        self._done: dict[Path, _FileState] = {}
        self._there = True

    def run(self) -> float:
        """Take every file that has not changed since the last look; the seconds until the next look."""
        folder = self._settings.folder
        if self._there != folder.is_dir():
            self._there = not self._there
            _log.warning("the watched folder %s is %s", folder, "there again" if self._there else "not there")
        found = dict(_files(folder))
        ready = [file for file, state in found.items() if self._seen.get(file) == state != self._done.get(file)]
        refused = 0
        for file in ready:
            try:
                read_identity(file)
            except FormatError:
                refused += 1
            else:
                try:
                    self._intake.take_files([file])
                except FormatError as error:
                    _log.warning("%s; the watched folder is read again later", error)
                    break
            self._done[file] = found[file]
        if refused:
            _log.warning("left out %d files of %s, which are not DICOM or lack a UID", refused, folder)
        self._seen, self._done = found, {file: state for file, state in self._done.items() if file in found}
        return self._settings.every


class QuerySource:
    """A DICOMweb service that is asked for new studies. A series is fetched when it has stopped growing there.

    Args:
        query: what to ask for, and how often.
        settings: of the node, for its rules and the time in which a series settles.
        intake: where the instances go.
        folder: for series that are being fetched.
        clock: seconds of a clock that never jumps.
    """

    def __init__(
        self,
        query: QuerySettings,
        settings: NodeSettings,
        intake: Intake,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._query, self._settings, self._intake = query, settings, intake
        self._folder, self._clock = folder, clock
        self._complete: dict[str, int] = {}
        self._growing: dict[str, tuple[int | None, float]] = {}
        address = parse_address(query.url)
        assert isinstance(address, WebAddress)  # the settings have checked it
        self._client = WebClient(address, WebAccess(query.credentials, query.authority))

    def run(self) -> float:
        """Fetch what is new and complete; the seconds until the next query."""
        try:
            for study, count in self._client.studies(self._filters()).items():
                if count is None or self._complete.get(study) != count:
                    self._look_into(study, count)
        except AttunetError as error:
            _log.warning("%s; it is asked again in %.0f s", error, self._query.every)
        return self._query.every

    def _filters(self) -> Mapping[str, str]:
        since = date.today() - timedelta(days=self._query.days)
        return {"StudyDate": f"{since:%Y%m%d}-", **self._query.filters}

    def _look_into(self, study: str, count: int | None) -> None:
        """Fetch the complete series of a study; when all are there, it is not asked for again until it grows."""
        wanted = [found for found in self._client.series(study) if may_match(found.modality, self._settings.rules)]
        missing = [found for found in wanted if not self._intake.has_series(found.uid, found.instances)]
        for found in missing:
            if self._has_settled(found):
                self._fetch(found)
                del self._growing[found.uid]
                missing = [other for other in missing if other is not found]
        if not missing and count is not None:
            self._complete[study] = count

    def _has_settled(self, found: FoundSeries) -> bool:
        before, since = self._growing.get(found.uid, (None, self._clock()))
        if found.uid not in self._growing or before != found.instances:
            self._growing[found.uid] = (found.instances, self._clock())
            return False
        return self._clock() - since >= self._settings.settle

    def _fetch(self, found: FoundSeries) -> None:
        """Fetch a series whole, then record all of it at once, so that no kill lets a part of it pass for all."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            files = []
            for number, content in enumerate(self._client.retrieve(found.study, found.uid)):
                file = Path(name) / str(number)
                file.write_bytes(content)
                files.append(file)
            self._intake.take_files(files)
        _log.info("study %s: fetched series %s, %d instances", found.study, found.uid, len(files))


def _files(folder: Path) -> Iterator[tuple[Path, _FileState]]:
    """The files below a folder, links and hidden ones aside, each with its size and time."""
    for parent, _folders, names in os.walk(folder):
        for name in names:
            file = Path(parent) / name
            try:
                state = file.lstat()
            except OSError:  # gone meanwhile
                continue
            if file.is_file() and not file.is_symlink() and not name.startswith("."):
                yield file, (state.st_size, state.st_mtime_ns)
