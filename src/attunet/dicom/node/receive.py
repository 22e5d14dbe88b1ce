"""The node as a C-STORE provider: takes instances as they are, and answers success only when they are safe."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from attunet.dicom import require_dicom
from attunet.dicom.network.identity import read_identity
from attunet.dicom.node.intake import Intake
from attunet.dicom.node.settings import ReceiveSettings
from attunet.errors import AttunetError, ConfigError, FormatError

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity
    from pynetdicom.events import Event

__all__ = ["receiving"]

SUCCESS = 0x0000
SECOND_VERSION = 0xB000
"""A warning: the instance is known, with another content; the first version is kept."""
DUPLICATE = 0x0111
"""Another study has an instance of this UID."""
NOT_AUTHORIZED = 0x0124
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

TIMEOUT = 60
PACKET = 2**18
"""Bytes of a packet (PDU) that peers are asked to send at most."""
LARGEST_PACKET = 2**20
MEGABYTE = 2**20
_log = logging.getLogger(__name__)


@contextmanager
def receiving(settings: ReceiveSettings, intake: Intake) -> Iterator[None]:
    """Listen while the block runs; then let running associations end.

    Args: where and to whom to listen; where the instances go.
    Raises: ConfigError when the port cannot be used.
    """
    require_dicom("receiving by C-STORE")
    entity = _entity(settings)
    if settings.address in ("0.0.0.0", "::") and not settings.peers:
        _log.warning("everyone in the network may send: name the allowed senders in receive.peers")
    try:
        entity.start_server((settings.address, settings.port), block=False, evt_handlers=_handlers(settings, intake))
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.address}:{settings.port}: {error.strerror or error}",
            hint="choose another port, or end the program that uses it",
        ) from error
    _log.info("receives as %s on %s:%s", settings.ae_title, settings.address, settings.port)
    try:
        yield
    finally:
        entity.shutdown()


def _entity(settings: ReceiveSettings) -> ApplicationEntity:
    from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

    entity = AE(ae_title=settings.ae_title)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(Verification)
    entity.require_called_aet = True
    entity.require_calling_aet = [peer.ae_title for peer in settings.peers]
    entity.maximum_associations = settings.associations
    entity.maximum_pdu_size = PACKET
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT
    return entity


def _handlers(settings: ReceiveSettings, intake: Intake) -> list[Any]:
    from pynetdicom import evt

    limit = _SizeLimit(int(settings.largest_instance_mb * MEGABYTE))
    return [
        (evt.EVT_C_STORE, partial(_store, settings=settings, intake=intake, limit=limit)),
        (evt.EVT_CONN_OPEN, limit.on_open),
        (evt.EVT_DATA_RECV, limit.on_data),
        (evt.EVT_CONN_CLOSE, limit.on_close),
        (evt.EVT_REJECTED, _on_rejected),
    ]


class _SizeLimit:
    """Ends an association that sends more bytes than one instance may have. Args: that number."""

    def __init__(self, most: int) -> None:
        self._most, self._received, self._lock = most, dict[int, int](), Lock()

    def on_open(self, event: Event) -> None:
        """Refuse packets of any length: pynetdicom would wait for 4 GB if a header announced them."""
        connection: Any = event.assoc.dul.socket
        receive = connection.recv

        def limited(size: int) -> bytearray:
            if size > LARGEST_PACKET:
                raise OSError("the packet is too large")
            return bytearray(receive(size))

        connection.recv = limited

    def on_data(self, event: Event) -> None:
        """Count what an association sends."""
        key = id(event.assoc)
        with self._lock:
            self._received[key] = self._received.get(key, 0) + len(event.data)
            exceeded = self._received[key] > self._most
        if exceeded and event.assoc.is_established:
            _log.warning("aborted an association: an instance has more than largest_instance_mb")
            event.assoc.abort()

    def on_close(self, event: Event) -> None:
        """Forget an association."""
        with self._lock:
            self._received.pop(id(event.assoc), None)

    def restart(self, event: Event) -> None:
        """An instance is complete; the next one begins."""
        with self._lock:
            self._received[id(event.assoc)] = 0


def _on_rejected(_event: Event) -> None:
    _log.warning("rejected an association: its AE titles are not those of the settings, or there are too many")


def _store(event: Event, settings: ReceiveSettings, intake: Intake, limit: _SizeLimit) -> int:
    """Answer a C-STORE request with its status."""
    limit.restart(event)
    if not _may_send(event, settings):
        _log.warning("refused an instance: its sender has the AE title of a peer, and another address")
        return NOT_AUTHORIZED
    try:
        return _taken(event, intake)
    except AttunetError as error:
        _log.warning("an instance was not stored: %s", error)
        return OUT_OF_RESOURCES
    except Exception as error:  # pynetdicom would answer without a trace in our log
        _log.error("an instance was not stored: %s", type(error).__name__)
        return CANNOT_UNDERSTAND


def _taken(event: Event, intake: Intake) -> int:
    content = event.encoded_dataset()
    try:
        identity = read_identity(content)
    except FormatError as error:
        _log.warning("refused an instance: %s", error)
        return CANNOT_UNDERSTAND
    request: Any = event.request
    if (identity.uid, identity.sop_class) != (request.AffectedSOPInstanceUID, request.AffectedSOPClassUID):
        _log.warning("refused an instance: the request names another instance or class than the data set")
        return DOES_NOT_MATCH
    arrival = intake.take(identity, content)
    if arrival == "other":
        _log.warning("refused instance %s: another series has an instance of this UID", identity.uid)
        return DUPLICATE
    if arrival == "known" and not intake.holds(identity, content):
        _log.warning("instance %s came in again with another content; the first is kept", identity.uid)
        return SECOND_VERSION
    return SUCCESS


def _may_send(event: Event, settings: ReceiveSettings) -> bool:
    requestor = event.assoc.requestor
    peers = [peer for peer in settings.peers if peer.ae_title == requestor.ae_title.strip()]
    return not peers or any(peer.address in (None, requestor.address) for peer in peers)
