"""Peers of a prediction, to which its DICOM objects are sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.console import fail, notes
from attunet.errors import AttunetError, ConfigError

if TYPE_CHECKING:
    from attunet.dicom.network import FolderAddress, PeerAddress, WebAddress
    from attunet.inference.case_worker import CaseResult
    from attunet.inference.destination import Destination

__all__ = ["CredentialsOption", "SendOption", "parse_send", "send_results"]

SendOption = Annotated[
    str | None,
    typer.Option(
        "--send",
        metavar="ADDRESS",
        help="Send the DICOM objects that were written: dicom://AETITLE@host:port (C-STORE) or dicomweb://host/path.",
    ),
]
CredentialsOption = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        metavar="FILE",
        help="Names and passwords for DICOMweb, in the format of netrc. [default: ~/.netrc]",
    ),
]


def parse_send(text: str | None, destination: Destination) -> PeerAddress | WebAddress | FolderAddress | None:
    """The peer to which results are sent; None for none.

    Args: its address; what is written.
    Raises: ConfigError for what is no address of a peer, or when nothing is written that a peer takes.
    """
    if text is None:
        return None
    from attunet.dicom.network import FolderAddress, parse_address

    peer = parse_address(text)
    if isinstance(peer, FolderAddress):
        raise ConfigError(
            f"--send got {text!r}, expected the address of a peer", hint="write dicom://AETITLE@host:port"
        )
    if destination.writer is None:
        raise ConfigError("--send has no DICOM object to send", hint="add --output-type dicom-seg")
    return peer


def send_results(
    peer: PeerAddress | WebAddress | FolderAddress | None, results: Sequence[CaseResult], credentials: Path | None
) -> int:
    """Send the DICOM objects of a prediction, and print how many were taken; how many were not.

    Args:
        peer: where to; None sends nothing.
        results: the finished cases.
        credentials: a file with names and passwords, None for ~/.netrc.
    Returns: the number of objects that the peer did not take.
    """
    if peer is None:
        return 0
    from attunet.dicom.network import WebAccess, send_files

    files = [
        Path(file)
        for result in results
        for kind, written in result.files.items()
        if kind.startswith("dicom-")
        for file in written
    ]
    taken = 0
    try:
        for sent in send_files(peer, files, access=WebAccess(credentials)):
            if sent.error is None:
                taken += 1
            else:
                fail(f"{sent.file.name}: {sent.error.message}", sent.error.hint)
    except AttunetError as error:
        fail(error.message, error.hint)
    notes().print(f"{taken} of {len(files)} objects sent to {peer}", markup=False, soft_wrap=True)
    return len(files) - taken
