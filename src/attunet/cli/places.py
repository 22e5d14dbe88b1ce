"""Where `attunet predict` reads from and writes to: paths, DICOMweb services, and URLs of any storage."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from attunet.cli.console import notes
from attunet.errors import BusyError, ConfigError

if TYPE_CHECKING:
    from attunet.storage import Store

__all__ = ["OutputPlace", "input_places", "open_output"]

_PERIOD, _SHARE = 30.0, 20
"""Records are copied to a URL this often, in seconds, and so rarely that it takes 5% of the time."""


def input_places(
    context: typer.Context, inputs: Sequence[str], credentials: Path | None, *, cluster: str | None = None
) -> list[str | Path]:
    """The paths and URLs of inputs. What a DICOMweb address names is fetched into a private folder, deleted at the end.

    Args:
        context: of the command.
        inputs: paths and addresses.
        credentials: a file with names and passwords for DICOMweb, None for ~/.netrc.
        cluster: address of a cluster whose nodes read the inputs, None for this machine.
    Returns: the paths and URLs, in the order of the inputs.
    Raises: ConfigError for an address that names no study, or a study that a cluster is to read; NetworkError when a
        service does not answer.
    """
    if not any("://" in text for text in inputs):
        return [Path(text) for text in inputs]
    from attunet.dicom.network import WebAccess, fetch_source, is_web_source, parse_web_source

    places: list[str | Path] = []
    for number, text in enumerate(inputs):
        if not is_web_source(text) and not text.lower().startswith("dicom://"):
            places.append(text if "://" in text else Path(text))
            continue
        source = parse_web_source(text)
        if cluster is not None:
            raise ConfigError(
                f"{text} is fetched to this machine, where the nodes of the cluster {cluster} do not see it",
                hint="leave out --address, or name a folder with the study that all nodes see",
            )
        notes().print(f"fetches study {source.study} from {source.service}", markup=False, soft_wrap=True)
        places.append(fetch_source(source, _private(context) / str(number), WebAccess(credentials)))
    return places


def open_output(context: typer.Context, output: str) -> OutputPlace:
    """The place of results that -o names; for a URL, a private folder on this machine that is deleted at the end.

    Args: the context of the command; a path or URL.
    Raises: ConfigError and EngineError for a URL into which nothing can be written.
    """
    from attunet.storage import Store, is_url, local_path

    path = local_path(output) if is_url(output) else Path(output)
    return OutputPlace(path, None) if path is not None else OutputPlace(_private(context), Store(output))


class OutputPlace:
    """The folder of a batch, and the store at a URL into which its files go.

    Args:
        folder: the folder, a private one if there is a store.
        store: where the results go; None for the folder itself.
    """

    def __init__(self, folder: Path, store: Store | None) -> None:
        self.folder, self.store = folder, store
        self._copied: dict[Path, tuple[int, int]] = {}
        self._next = time.monotonic() + _PERIOD

    def __str__(self) -> str:
        return str(self.store or self.folder)

    def fetch(self, *patterns: str, again: bool = False) -> None:
        """Copy what earlier runs, and other parts, recorded from the store into the folder.

        Args:
            patterns: names, or patterns with *, such as ledger*.jsonl.
            again: whether the store is listed anew.
        Raises: NetworkError and RefusedError when it cannot be reached.
        """
        if self.store is None:
            return
        from attunet.storage import RemoteFile, Store, fetch

        store = Store(self.store.url) if again else self.store
        for name in sorted(store.existing):
            file = self.folder / name
            if any(fnmatchcase(name, pattern) for pattern in patterns) and self._copied.get(file) != _state(file):
                fetch(RemoteFile(url=store.path_of(name)), file)
                self._copied[file] = _state(file)

    def first(self, name: str, text: str) -> str:
        """Write a text that all runs share, unless another run was first.

        Args: the name of its file; the text.
        Returns: the text that is there.
        Raises: FormatError and NetworkError when it cannot be written.
        """
        from attunet.files import publish, staging, write_text
        from attunet.storage import RemoteFile, fetch

        file = self.folder / name
        if self.store is None:
            with staging(file) as stage:
                (stage / name).write_text(text, encoding="utf-8")
                publish(stage, self.folder, Path(name))
        else:
            write_text(file, text)
            if not self.store.publish(file, name):
                fetch(RemoteFile(url=self.store.path_of(name)), file)
            self._copied[file] = _state(file)
        return file.read_text(encoding="utf-8")

    def keep_first(self, name: str) -> None:
        """Publish a file that all runs share, such as the secret from which cases are named.

        Raises: BusyError when another run has just published its own.
        """
        file = self.folder / name
        if self.store is None or not file.exists() or self._copied.get(file) == _state(file):
            return
        if self.first(name, text := file.read_text(encoding="utf-8")) != text:
            raise BusyError(f"another run has just begun to write into {self}", hint="start this one again")

    def copy(self, *, now: bool = False) -> None:
        """Copy the records and previews that have changed into the store, from time to time; results are there already.

        Args: `now`: whether at once.
        Raises: NetworkError and RefusedError when it cannot be reached.
        """
        if self.store is None or (time.monotonic() < self._next and not now):
            return
        started = time.monotonic()
        for file in [file for file in self._copied if not file.exists()]:  # merged into another
            self.store.remove(file.relative_to(self.folder).as_posix())
            del self._copied[file]
        for file in sorted(self.folder.rglob("*")):
            name = file.relative_to(self.folder)
            if (
                file.is_file()
                and not name.parts[0].startswith(".")
                and self._copied.get(file) != (state := _state(file))
            ):
                self.store.publish(file, name.as_posix(), replace=True)
                self._copied[file] = state
        self._next = time.monotonic() + max(_PERIOD, _SHARE * (time.monotonic() - started))

    def check(self, send: str | None, *, preview: bool) -> None:
        """Raises: ConfigError for --send, and for a preview on a cluster, which a URL cannot hold."""
        if self.store is not None and send is not None:
            raise ConfigError("--send needs the objects in a folder, and -o is a URL", hint="write them to a folder")
        if self.store is not None and preview:
            raise ConfigError("--preview on a cluster needs a folder, and -o is a URL", hint="leave it out")


def _private(context: typer.Context) -> Path:
    """A new folder that only this user can read, deleted with the command."""
    return Path(context.with_resource(tempfile.TemporaryDirectory(prefix="attunet-")))


def _state(file: Path) -> tuple[int, int]:
    status = file.stat() if file.exists() else None
    return (status.st_mtime_ns, status.st_size) if status else (0, -1)
