"""`ServeSettings`: where a server listens, whom it lets in, what it keeps, and how much it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attunet.dicom.network.addresses import WebAddress, is_loopback, parse_address
from attunet.errors import ConfigError
from attunet.names import listed

__all__ = ["ServeSettings", "name_models"]

MEGABYTE, GIGABYTE = 2**20, 2**30
DAY = 86400.0
LEAST_TOKEN = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How a server works.

    Args:
        models: model folders by the names under which they are served.
        data: folder of uploads, results and the queue, which only the server's user may enter.
        host: name or address at which it listens.
        port: its port; 0 for a free one.
        studies: folder with images that clients may choose from, and where corrected labels go; None: within `data`.
        pacs: URL of a DICOMweb service that viewers see below /proxy/dicom; None for none.
        viewer: folder of a built OHIF, served below /ohif; None for none.
        token: the password of every client; None for none.
        users: file with a line NAME:HASH for each user, made by `attunet serve --add-user`; None for none.
        certificate: PEM file of the certificate for TLS; None for none.
        key: PEM file of its key; None when the certificate holds it.
        behind_proxy: whether a proxy on the way does TLS, and tells the clients' addresses.
        hosts: further names by which browsers may call the server.
        origins: other origins, such as https://viewer.example.org, whose pages may ask it (CORS).
        devices: a worker process is started for each, as for `Segmenter.load`.
        max_memory: limit of a worker's memory in bytes, for models and predictions; None for no limit.
        max_upload: most bytes of one request.
        max_queue: most jobs that wait.
        max_bytes: most bytes of all uploads and results.
        keep: seconds after which uploads and results are deleted.
        tries: deaths of a worker after which the job that it worked on has failed.
        grace: seconds that a running job may take to finish at the end, before it is put back into the queue.
        header_seconds: seconds within which the headers of a request have to come.
        body_seconds: seconds between two pieces of a request's body.
    """

    models: Mapping[str, Path]
    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    studies: Path | None = None
    pacs: str | None = None
    viewer: Path | None = None
    token: str | None = field(default=None, repr=False)
    users: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    behind_proxy: bool = False
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("auto",)
    max_memory: int | None = None
    max_upload: int = 4 * GIGABYTE
    max_queue: int = 100
    max_bytes: int = 50 * GIGABYTE
    keep: float = DAY
    tries: int = 3
    grace: float = 20.0
    header_seconds: float = 20.0
    body_seconds: float = 60.0

    @property
    def local(self) -> bool:
        """Whether only programs of this machine can connect."""
        return is_loopback(self.host)

    @property
    def closed(self) -> bool:
        """Whether clients must say who they are."""
        return self.token is not None or self.users is not None

    @property
    def encrypted(self) -> bool:
        """Whether browsers reach it by https."""
        return self.certificate is not None or self.behind_proxy

    @property
    def least_free(self) -> int:
        """Bytes of the disk that uploads leave free."""
        return 256 * MEGABYTE

    def check(self) -> None:
        """Make sure that the server is closed to strangers.

        Raises: ConfigError when it is not, or a file is missing.
        """
        if not self.local and not self.closed:
            raise ConfigError(
                f"a server on {self.host} can be reached by others and has no password",
                hint="give --token or --users, or serve this machine only with --host 127.0.0.1",
            )
        if not self.local and not self.encrypted:
            raise ConfigError(
                f"passwords and scans would go to {self.host} unencrypted",
                hint="give --certfile, or --behind-proxy if a proxy in front does TLS",
            )
        if self.token is not None and len(self.token) < LEAST_TOKEN:
            raise ConfigError(
                f"the token has {len(self.token)} characters, expected at least {LEAST_TOKEN}",
                hint='make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"',
            )
        if self.pacs is not None and not isinstance(parse_address(self.pacs), WebAddress):
            raise ConfigError(f"{self.pacs} is no DICOMweb service", hint="write dicomweb://host/dicom-web")
        for file in (self.users, self.certificate, self.key):
            if file is not None and not file.is_file():
                raise ConfigError(f"{file} does not exist", hint="correct the path")
        for folder in (self.studies, self.viewer):
            if folder is not None and not folder.is_dir():
                raise ConfigError(f"{folder} is no folder", hint="correct the path")


def name_models(runs: Sequence[str]) -> dict[str, Path]:
    """Model folders by the names under which they are served: RUN by the name of its folder, or NAME=RUN.

    Raises: ConfigError for two models of one name, or a name that cannot be part of an address.
    """
    named: dict[str, Path] = {}
    for run in runs:
        name, equals, path = run.partition("=")
        folder = Path(path if equals and not Path(run).exists() else run)
        called = name if folder != Path(run) else folder.resolve().name
        if not _NAME.fullmatch(called):
            raise ConfigError(
                f"{called!r} cannot name a model in an address",
                hint=f"give it another name, such as -m organs={folder}: letters, digits, points and hyphens",
            )
        if called in named:
            raise ConfigError(f"two models are called {called}", hint=f"name one of them: -m NAME={folder}")
        named[called] = folder
    if not named:
        raise ConfigError(f"no model to serve in {listed(list(runs)) or 'an empty list'}", hint="give one with -m RUN")
    return named
