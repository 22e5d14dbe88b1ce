"""Sending finished objects: C-STORE or STOW-RS to a PACS, or into a folder; each file is reported for itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attunet.dicom import require_dicom
from attunet.dicom.network.addresses import FolderAddress, PeerAddress, WebAddress
from attunet.dicom.network.identity import Identity, read_identity
from attunet.dicom.network.web import WebAccess, WebClient
from attunet.errors import FormatError, NetworkError, RefusedError, first_line
from attunet.files import staged

if TYPE_CHECKING:
    from pynetdicom.association import Association

__all__ = ["Sent", "send_files"]

MOST_CONTEXTS = 128
"""Presentation contexts of one association (PS3.8, section 9.3.2.2: odd identifiers from 1 to 255)."""
CALLING = "ATTUNET"
TIMEOUT = 60
_PERMANENT = {0x0122: "it does not store this class of object", 0x0124: "it does not allow us to store"}
_WARNINGS = range(0xB000, 0xC000)


@dataclass(frozen=True)
class Sent:
    """What became of one file.

    Args:
        file: the file.
        error: why the peer did not take it; None when it did.
    """

    file: Path
    error: NetworkError | None = None


def send_files(
    address: PeerAddress | WebAddress | FolderAddress,
    files: Sequence[Path],
    *,
    calling: str = CALLING,
    access: WebAccess | None = None,
) -> Iterator[Sent]:
    """Send files to a peer, as they are: nothing is transcoded. Sending the same object again changes nothing there.

    Args:
        address: the peer.
        files: DICOM files; a folder takes files of any format.
        calling: our own AE title.
        access: how a DICOMweb service is asked; None for the defaults.
    Yields: each file, as soon as the peer has answered.
    Raises: NetworkError when the peer cannot be reached, FormatError when a folder cannot be written to.
    """
    if isinstance(address, FolderAddress):
        yield from _into_folder(address.path, files)
    elif isinstance(address, WebAddress):
        yield from _by_stow(WebClient(address, access), files)
    else:
        yield from _by_c_store(address, files, calling)


def _into_folder(folder: Path, files: Sequence[Path]) -> Iterator[Sent]:
    for file in files:
        with staged(folder / file.name) as stage:
            shutil.copyfile(file, stage)
        yield Sent(file)


def _by_stow(client: WebClient, files: Sequence[Path]) -> Iterator[Sent]:
    for file in files:
        try:
            client.store(file)
        except RefusedError as error:
            yield Sent(file, error)
        else:
            yield Sent(file)


def _by_c_store(address: PeerAddress, files: Sequence[Path], calling: str) -> Iterator[Sent]:
    """One association for each 128 kinds of object: a context for every class and syntax, so that none is converted."""
    kinds: dict[tuple[str, str], list[Path]] = {}
    for file in files:
        try:
            identity = read_identity(file)
        except FormatError as error:
            yield Sent(file, RefusedError(error.message, hint=error.hint))
        else:
            kinds.setdefault((identity.sop_class, identity.transfer_syntax), []).append(file)
    remaining = iter(kinds)
    while batch := tuple(islice(remaining, MOST_CONTEXTS)):
        association = _associate(address, batch, calling)
        try:
            for file in (file for kind in batch for file in kinds[kind]):
                yield Sent(file, _stored(association, address, file))
        finally:
            if association.is_established:
                association.release()


def _associate(address: PeerAddress, kinds: Sequence[tuple[str, str]], calling: str) -> Association:
    require_dicom("sending by C-STORE")
    from pynetdicom import AE, _config

    _config.STORE_SEND_CHUNKED_DATASET = True  # the bytes of the file, without decoding them
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT
    entity.connection_timeout = TIMEOUT / 4
    for sop_class, syntax in kinds:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(address.host, address.port, ae_title=address.ae_title)
    if association.is_established:
        return association
    if association.is_rejected:
        raise NetworkError(
            f"{address} rejects the association of {calling}", hint="check both AE titles, and whether it knows ours"
        )
    raise NetworkError(f"{address} cannot be reached", hint="check host and port, and whether the PACS runs")


def _stored(association: Association, address: PeerAddress, file: Path) -> NetworkError | None:
    try:
        status: Any = association.send_c_store(file)
    except ValueError:  # no context was accepted for it
        identity = read_identity(file)
        return RefusedError(
            f"{address} accepts no {_kind(identity)}", hint="allow this class and transfer syntax in the PACS"
        )
    except RuntimeError as error:
        raise NetworkError(f"{address} ended the association: {first_line(error)}", hint="look into its log") from error
    if not status:  # an empty data set: no answer in time, or none that is one
        association.abort()
        raise NetworkError(f"{address} gave no answer to a C-STORE", hint="look into its log")
    code = int(status.Status)
    if code == 0 or code in _WARNINGS:
        return None
    if code in _PERMANENT:
        return RefusedError(f"{address} refuses an object: {_PERMANENT[code]} (status 0x{code:04X})")
    return NetworkError(f"{address} could not store an object (status 0x{code:04X})", hint="look into its log")


def _kind(identity: Identity) -> str:
    from pydicom.uid import UID

    return f"{UID(identity.sop_class).name} in {UID(identity.transfer_syntax).name}"
