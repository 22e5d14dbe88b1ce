"""Files at URLs, in any storage that fsspec opens: fetched whole, published at once, asked for again after a fault.

Credentials come from the environment, as each storage's own tools find them (`~/.aws`, workload identity, `~/.netrc`,
...), and never from a URL. Messages show URLs without their signatures.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from random import uniform
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from attunet.errors import ConfigError, EngineError, FormatError, NetworkError, RefusedError

__all__ = ["RemoteFile", "Store", "fetch", "is_url", "list_files", "local_path", "name_of_url", "shown_url"]

PAUSES = (0.5, 2.0, 8.0)
"""Seconds before each further try after a fault of the network; each varies by a quarter, so that programs spread."""

CONDITIONAL = ("gcs", "gs", "memory", "s3", "s3a")
"""Storages that create an object only if there is none of its name, in one step."""

SMALL = 2**26
"""Bytes up to which a file is sent in one piece."""

READ_ONLY = ("github", "http", "https")
STALLED = 60
"""Seconds without a byte after which a download has failed; a large file may take as long as it needs."""

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://", re.ASCII)
_AGAIN = (408, 425, 429)
T = TypeVar("T")


def is_url(text: str) -> bool:
    """Whether an input or output is a URL and not a path."""
    return _URL.match(text) is not None


def local_path(url: str) -> Path | None:
    """The path that a URL such as file:///data/a.nii.gz stands for; None for other schemes."""
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme.lower() in ("file", "local") else None


def shown_url(url: str) -> str:
    """The URL as messages and records show it: without name, password and query, which may be secrets."""
    bare = re.sub(r"://[^/@\s]*@", "://", url)
    return re.sub(r"[?#].*" if _is_web(url) else r"\?.*", "", bare, flags=re.DOTALL)


def name_of_url(url: str) -> str:
    """The name of the file at a URL, such as a.nii.gz."""
    name = shown_url(url).rstrip("/").rpartition("/")[2]
    return unquote(name) if _is_web(url) else name


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file at a URL, or a folder of files that are one image.

    Args:
        url: where it is.
        size: in bytes; 0 when unknown.
        folder: whether it is a folder.
    """

    url: str
    size: int = 0
    folder: bool = False


def fetch(remote: RemoteFile, target: Path) -> None:
    """Copy what is at a URL to a path, whose folders are created.

    Args:
        remote: the file or folder.
        target: where the copy goes; no part of a file stays there that could not be copied whole.
    Raises: as `list_files`.
    """
    if remote.folder:
        base = remote.url.rstrip("/")
        for name in list_files(f"{base}/"):
            fetch(RemoteFile(url=f"{base}/{name}"), target / name)
        return
    files, path = _open(remote.url)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _persistently(lambda: files.get_file(path, str(target)), remote.url)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def list_files(url: str) -> dict[str, int]:
    """The files below a URL by their names relative to it, with their sizes in bytes; a single file has the name "".

    Raises: ConfigError for a URL that cannot be opened, EngineError when the package of its storage is not installed,
        FormatError when there is nothing, RefusedError when access is denied, NetworkError after several faults.
    """
    files, path = _open(url)
    files.invalidate_cache()
    found: Mapping[str, Any] = _persistently(lambda: files.find(path, detail=True), url)
    root = files._strip_protocol(path).rstrip("/")
    names = {name: entry for name, entry in found.items() if entry.get("type") != "directory"}
    if not names:
        raise FormatError(f"there is no file at {shown_url(url)}", hint="check the address")
    return {name[len(root) :].lstrip("/"): int(entry.get("size") or 0) for name, entry in sorted(names.items())}


@dataclass(frozen=True)
class Store:
    """A place at a URL into which results are published. Args: its URL, a prefix of names.

    Raises: ConfigError for a storage into which nothing can be written, and as `list_files`.
    """

    url: str

    def __post_init__(self) -> None:
        scheme = urlsplit(self.url).scheme.lower()
        if scheme in READ_ONLY:
            raise ConfigError(
                f"results cannot be written to {shown_url(self.url)}, because {scheme} storage is only read",
                hint="write to a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX",
            )
        _open(self.url)

    def __str__(self) -> str:
        return shown_url(self.url).rstrip("/")

    def path_of(self, name: str) -> str:
        """The URL of a file in it."""
        return f"{self.url.rstrip('/')}/{name}"

    @cached_property
    def existing(self) -> frozenset[str]:
        """The names of the files that were in it when this was first asked, by one listing. Raises: as `list_files`."""
        try:
            return frozenset(list_files(f"{self.url.rstrip('/')}/"))
        except FormatError:
            return frozenset()

    def publish(self, file: Path, name: str, *, replace: bool = False) -> bool:
        """Write a file under a name, whole or not at all.

        Args:
            file: the file.
            name: relative to the store.
            replace: whether it takes the place of a file of this name; otherwise the first one stays.
        Returns: whether it was written; False when there was one already.
        Raises: as `list_files`.
        """
        files, path = self._files, f"{self._root}/{name}"
        conditional = urlsplit(self.url).scheme.lower() in CONDITIONAL

        def put() -> bool:
            if replace:
                files.put_file(str(file), path)
            elif conditional and file.stat().st_size <= SMALL:
                files.pipe_file(path, file.read_bytes(), mode="create")
            elif conditional:
                files.put_file(str(file), path, mode="create")
            elif files.exists(path):
                return False
            else:
                self._put_and_rename(file, path)
            return True

        try:
            return _persistently(put, self.path_of(name))
        except FileExistsError:
            return False

    def check(self) -> None:
        """Write and remove a small file, so that what is in the way is told before any work is done for nothing.

        Raises: ConfigError when there is no such bucket, and as `list_files`.
        """
        name = f".attunet-{uniform(0, 1):.15f}"
        try:
            _persistently(lambda: self._files.pipe_file(f"{self._root}/{name}", b"attunet"), self.path_of(name))
        except FormatError as error:
            hint = "create its bucket, or check the address"
            raise ConfigError(f"nothing can be written to {self}, which does not exist", hint=hint) from error
        self.remove(name)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there. Raises: as `list_files`."""
        with suppress(FormatError):
            _persistently(lambda: self._files.rm_file(f"{self._root}/{name}"), self.path_of(name))

    @property
    def _files(self) -> Any:
        return _open(self.url)[0]

    @cached_property
    def _root(self) -> str:
        return str(_open(self.url)[1]).rstrip("/")

    def _put_and_rename(self, file: Path, path: str) -> None:
        """Write a file in two steps, for storages of files, such as those of SFTP."""
        folder, _, name = path.rpartition("/")
        stage = f"{folder}/.attunet-{name}-{uniform(0, 1):.12f}"
        self._files.makedirs(folder, exist_ok=True)
        self._files.put_file(str(file), stage)
        self._files.mv(stage, path)


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it. Raises: as `list_files`."""
    scheme = urlsplit(url).scheme.lower()
    if re.search(r"://[^/@\s]*:[^/@\s]*@", url):
        raise ConfigError(
            f"the address {shown_url(url)} holds a name and a password, which every user of this machine could read",
            hint="give credentials as the storage's own tools take them: ~/.netrc, ~/.aws, or its variables",
        )
    if find_spec("fsspec") is None:
        raise EngineError(f"{scheme}:// needs the package fsspec", hint='pip install "attunet[cluster]"')
    import fsspec

    try:
        options = _timeouts() if _is_web(url) else {}
        files, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        package = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}.get(scheme, "")
        hint = f"pip install {package}" if package else str(error).splitlines()[0]
        raise EngineError(f"{scheme}:// needs another package of fsspec", hint=hint) from error
    except ValueError as error:
        hint = "use a path, s3://, gs://, https://, or another scheme that fsspec knows"
        raise ConfigError(f"{shown_url(url)} is of no storage that is known", hint=hint) from error
    return files, path


def _is_web(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _timeouts() -> dict[str, Any]:
    """Options of HTTP: proxies and ~/.netrc are those of the environment, and a download may take long."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALLED, sock_read=STALLED)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}


def _persistently(action: Callable[[], T], url: str) -> T:
    """The result of an action, which is repeated after a fault of the network.

    Raises: FileExistsError, which tells of a conflict and no fault; FormatError, RefusedError and NetworkError as
        `list_files`.
    """
    for pause in (*PAUSES, None):
        try:
            return action()
        except FileExistsError:
            raise
        except (FileNotFoundError, IsADirectoryError) as error:
            raise FormatError(f"there is no file at {shown_url(url)}", hint="check the address") from error
        except PermissionError as error:
            raise _refused(url, "access is denied") from error
        except Exception as error:  # each storage has errors of its own
            status = getattr(error, "status", None)
            if isinstance(status, int) and 400 <= status < 500 and status not in _AGAIN:
                raise _refused(url, f"HTTP status {status}") from error
            if pause is None:
                raise NetworkError(
                    f"{shown_url(url)} could not be reached in {len(PAUSES) + 1} tries: {_reason(error)}",
                    hint="check the network; --continue-prediction then goes on",
                ) from error
        time.sleep(pause * uniform(0.75, 1.25))
    raise AssertionError("the last try returns or raises")


def _refused(url: str, why: str) -> RefusedError:
    hint = "check the credentials, which the environment holds, and the rights that they give"
    return RefusedError(f"{shown_url(url)} was refused: {why}", hint=hint)


def _reason(error: BaseException) -> str:
    """A fault in a few words: only its kind, because the texts of HTTP libraries repeat signed URLs."""
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return "it did not answer in time"
    status = getattr(error, "status", None)
    if isinstance(status, int) and status:
        return f"HTTP status {status}"
    if isinstance(error, OSError) and error.strerror and "://" not in error.strerror:
        return error.strerror
    return type(error).__name__
