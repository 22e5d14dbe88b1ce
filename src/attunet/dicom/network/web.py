"""A client of a DICOMweb service: what is there (QIDO-RS), fetched as stored (WADO-RS), and stored (STOW-RS)."""

from __future__ import annotations

import netrc
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attunet.dicom import require_dicom
from attunet.dicom.network.addresses import WebAddress, WebSource, is_loopback
from attunet.dicom.network.identity import is_uid
from attunet.errors import AttunetError, ConfigError, NetworkError, RefusedError

if TYPE_CHECKING:
    from requests import Session

__all__ = ["FoundSeries", "WebAccess", "WebClient", "fetch_series", "fetch_source"]

AS_STORED = (("application/dicom", "*"),)
"""Without the star a service converts what it sends to Explicit VR Little Endian."""
PAGE = 500
STUDY_COUNT, SERIES_COUNT = "NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances"
TIMEOUT = (10.0, 120.0)
"""Seconds to connect, and between two answers."""
_FOREVER = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.METHOD_NOT_ALLOWED,
}
_NOT_ALLOWED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_OUT_OF_RESOURCES = 0xA7
OTHERS_MAY_READ = 0o077


@dataclass(frozen=True)
class WebAccess:
    """How a service is asked.

    Args:
        credentials: a file in the format of netrc with name and password; None for ~/.netrc, if it has the host.
        authority: a PEM file with the certificates that are trusted; None for those of the system.
    """

    credentials: Path | None = None
    authority: Path | None = None


@dataclass(frozen=True)
class FoundSeries:
    """A series of a service.

    Args:
        study: StudyInstanceUID.
        uid: SeriesInstanceUID.
        modality: its modality; empty when the service does not say.
        instances: number of its instances; None when the service does not say.
    """

    study: str
    uid: str
    modality: str
    instances: int | None


class WebClient:
    """One DICOMweb service. Args: its address, and how it is asked; None for the defaults."""

    def __init__(self, address: WebAddress, access: WebAccess | None = None) -> None:
        require_dicom("DICOMweb")
        from dicomweb_client.api import DICOMwebClient

        self.address = address
        self._client = DICOMwebClient(
            address.url, session=_session(address, access or WebAccess()), timeout=TIMEOUT, permissive_uid=True
        )
        self._client.set_http_retry_params(retry=False)  # a repeated upload would send what is left of its stream

    def studies(self, filters: Mapping[str, str]) -> dict[str, int | None]:
        """Studies that match, such as `{"ModalitiesInStudy": "CT", "StudyDate": "20260101-"}`, and their instances.

        Raises: NetworkError when the service does not answer.
        """
        search = partial(self._client.search_for_studies, search_filters=dict(filters), fields=[STUDY_COUNT])
        with self._talking("a query of studies"):
            found = _all_pages(search, "0020000D")
        return {uid: _number(entry, "00201208") for uid, entry in found.items()}

    def series(self, study: str) -> list[FoundSeries]:
        """The series of a study. Raises: NetworkError when the service does not answer."""
        search = partial(self._client.search_for_series, study_instance_uid=study, fields=[SERIES_COUNT])
        with self._talking("a query of series"):
            found = _all_pages(search, "0020000E")
        return [
            FoundSeries(study, uid, _text(entry, "00080060"), _number(entry, "00201209"))
            for uid, entry in found.items()
        ]

    def study_of(self, series: str) -> str:
        """The study of a series. Raises: NetworkError when the service does not answer, or has no such series."""
        search = partial(self._client.search_for_series, search_filters={"SeriesInstanceUID": series})
        with self._talking("a query of a series"):
            found = _all_pages(search, "0020000E")
        if series not in found or not is_uid(study := _text(found[series], "0020000D")):
            raise NetworkError(f"{self.address} has no series {series}", hint="check its SeriesInstanceUID")
        return study

    def retrieve(self, study: str, series: str) -> Iterator[bytes]:
        """The instances of a series, each as a file in the transfer syntax in which it is stored.

        Args:
            study: StudyInstanceUID.
            series: SeriesInstanceUID.
        Yields: the content of each file.
        Raises: NetworkError when the service does not answer, gives something else, or ends before the last instance
            that it announced.
        """
        expected = {found.uid: found.instances for found in self.series(study)}
        if series not in expected:
            raise NetworkError(f"{self.address} has no series {series} of study {study}", hint="check both UIDs")
        count = 0
        with self._talking("a retrieval"):
            for dataset in self._client.iter_series(study, series, media_types=AS_STORED):
                if (dataset.get("StudyInstanceUID"), dataset.get("SeriesInstanceUID")) != (study, series):
                    raise NetworkError(f"{self.address} gave an instance of another series than {series}", hint=_LOG)
                yield _encoded(dataset)
                count += 1
        announced = expected[series]
        if announced is not None and count < announced:
            raise NetworkError(
                f"{self.address} gave {count} of the {announced} instances of series {series}", hint="ask again later"
            )

    def store(self, file: Path) -> None:
        """Store a file. Raises: NetworkError when the service fails, RefusedError when it will never take it."""
        import pydicom

        with self._talking("a storage"):
            answer = self._client.store_instances([pydicom.dcmread(file)])
        for failed in answer.get("FailedSOPSequence", ()):  # within an answer of success, code 202
            reason = int(failed.get("FailureReason", 0))
            kind = NetworkError if reason >> 8 == _OUT_OF_RESOURCES else RefusedError
            raise kind(f"{self.address} did not store an object (reason 0x{reason:04X})", hint=_LOG)

    @contextmanager
    def _talking(self, what: str) -> Iterator[None]:
        """Turn every failure of the block, which asks the service, into one error that names the service."""
        import requests

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they quote values
                yield
        except AttunetError:
            raise
        except requests.HTTPError as error:
            raise self._refusal(what, error.response.status_code if error.response is not None else 0) from error
        except requests.exceptions.SSLError as error:
            hint = "give the certificate of its authority, or correct the host name"
            raise NetworkError(f"{self.address} has no certificate that is trusted", hint=hint) from error
        except requests.TooManyRedirects as error:
            raise NetworkError(
                f"{self.address} redirects elsewhere", hint="give the address that it leads to"
            ) from error
        except (requests.ConnectionError, requests.Timeout) as error:
            raise NetworkError(
                f"{self.address} cannot be reached", hint="check the address, and that it runs"
            ) from error
        except Exception as error:  # an answer may hold anything
            message = f"{self.address} gave an answer to {what} that is not DICOMweb: {type(error).__name__}"
            raise NetworkError(message, hint="check the path of the address, such as /dicom-web") from error

    def _refusal(self, what: str, status: int) -> NetworkError:
        if status in _NOT_ALLOWED:
            hint = f"give name and password for {self.address.host} in ~/.netrc, or in a file given as credentials"
            return NetworkError(f"{self.address} does not allow {what} (status {status})", hint=hint)
        kind = RefusedError if status in _FOREVER else NetworkError
        return kind(f"{self.address} answers {what} with status {status}", hint=_LOG)


def fetch_source(source: WebSource, folder: Path, access: WebAccess | None = None) -> Path:
    """Fetch a study, or one series of it.

    Args:
        source: what to fetch.
        folder: an existing folder that nobody else may enter.
        access: how the service is asked; None for the defaults.
    Returns: the folder of the study, with a folder for each series.
    Raises: NetworkError when the service does not answer, or has no such study or series.
    """
    client = WebClient(source.service, access)
    every = [found.uid for found in client.series(source.study)]
    if not every:
        raise NetworkError(f"{source.service} has no study {source.study}", hint="check its StudyInstanceUID")
    for series in every if source.series is None else [source.series]:
        target = folder / source.study / series
        target.mkdir(parents=True, mode=0o700)
        for number, content in enumerate(client.retrieve(source.study, series)):
            (target / f"{number}.dcm").write_bytes(content)
    return folder / source.study


def fetch_series(service: WebAddress, series: str, folder: Path) -> Path:
    """Fetch a series of which only the SeriesInstanceUID is known.

    Args:
        service: where it is.
        series: its SeriesInstanceUID.
        folder: an existing folder that nobody else may enter.
    Returns: the folder with its files.
    Raises: NetworkError when the service does not answer, or has no such series.
    """
    study = WebClient(service).study_of(series)
    return fetch_source(WebSource(service, study, series), folder)


def _session(address: WebAddress, access: WebAccess) -> Session:
    import requests

    session = requests.Session()
    session.max_redirects = 0  # another host would get what was meant for this one
    session.trust_env = False  # else the environment overrides the authority, and ~/.netrc what is checked below
    session.proxies.update(requests.utils.get_environ_proxies(address.url))
    session.verify = str(access.authority or os.environ.get("REQUESTS_CA_BUNDLE") or "") or True
    known = _credentials(address.host, access.credentials)
    if known is not None and not address.encrypted and not is_loopback(address.host):
        raise ConfigError(
            f"the password for {address} would be sent unencrypted", hint="give an address that begins with https://"
        )
    session.auth = known
    return session


def _credentials(host: str, file: Path | None) -> tuple[str, str] | None:
    """Name and password for a host; None where no file has any."""
    path = file if file is not None else Path.home() / ".netrc"
    if file is None and not path.exists():
        return None
    try:
        if os.name == "posix" and path.stat().st_mode & OTHERS_MAY_READ:
            raise ConfigError(f"{path} can be read by other users", hint=f"run chmod 600 {path}")
        entry = netrc.netrc(path).authenticators(host)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}", hint="check its permissions") from error
    except netrc.NetrcParseError as error:  # its message may quote a password
        raise ConfigError(f"{path} is not in the format of netrc, line {error.lineno}", hint=_NETRC) from None
    if entry is None and file is not None:
        raise ConfigError(f"{path} has no entry for {host}", hint=_NETRC)
    return None if entry is None else (entry[0], entry[2] or "")


_LOG = "look into its log"
_NETRC = "write: machine HOST login NAME password PASSWORD"


def _all_pages(search: Callable[..., list[dict[str, Any]]], tag: str) -> dict[str, dict[str, Any]]:
    """Every answer to a query by the UID under a tag, page by page until a page holds nothing new.

    Services give any number of answers at once, and some give the same page for ever, whatever is asked for.
    """
    found: dict[str, dict[str, Any]] = {}
    while True:
        page = search(limit=PAGE, offset=len(found))
        new = {uid: entry for entry in page if is_uid(uid := _text(entry, tag)) and uid not in found}
        if not new:
            return found
        found |= new


def _encoded(dataset: Any) -> bytes:
    import pydicom

    with BytesIO() as stream:
        pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
        return stream.getvalue()


def _text(entry: Mapping[str, Any], tag: str) -> str:
    values = entry.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _number(entry: Mapping[str, Any], tag: str) -> int | None:
    text = _text(entry, tag)
    return int(text) if text.isdecimal() else None
