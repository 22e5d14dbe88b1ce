"""`attunet serve`: models over HTTP, for browsers, programs, and the clients of MONAI Label."""

from __future__ import annotations

import logging
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from attunet.cli.console import notes, results
from attunet.cli.options import parse_memory, parse_time
from attunet.errors import ConfigError

__all__ = ["serve"]


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", metavar="RUN", help="Model folder, or NAME=RUN; repeat for more models."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback need a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")] = 8000,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Folder of uploads, results and the queue.")
    ] = Path("attunet-serve"),
    studies: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URL",
            help="Folder of images to choose from, where corrected labels go, too; or a DICOMweb service for viewers.",
        ),
    ] = None,
    viewer: Annotated[
        Path | None, typer.Option("--ohif", metavar="DIR", help="Folder of a built OHIF, served below /ohif.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(metavar="TOKEN", envvar="ATTUNET_TOKEN", help="Password of every client.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File of users and hashes of their passwords.")
    ] = None,
    add_user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Ask for a password, add the user to --users, and end.")
    ] = None,
    certfile: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate for https, PEM.")] = None,
    keyfile: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, if it is in another file.")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy in front does https and sends X-Forwarded-For.")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another name by which browsers may call the server.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Another site whose pages may use the server (CORS).")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="auto, cpu or cuda; repeat for a worker on each. [default: auto]")
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="GB", help="Memory limit of a worker, for models and predictions, such as 8GB."),
    ] = None,
    max_upload: Annotated[str, typer.Option(metavar="GB", help="Largest request.")] = "4GB",
    max_data: Annotated[str, typer.Option(metavar="GB", help="Most of all uploads and results.")] = "50GB",
    max_queue: Annotated[int, typer.Option(min=1, help="Most jobs that wait; more are told to come back.")] = 100,
    keep: Annotated[
        str, typer.Option(metavar="TIME", help="Time after which uploads and results are deleted.")
    ] = "24h",
) -> None:
    """Serve models over HTTP: a page, an API for programs, and MONAI Label's, which 3D Slicer and OHIF speak.

    Scans wait in a queue and are predicted by a worker process for each device. Killed at any moment and started again,
    the server goes on: each job ends once. It serves this machine only, unless there is a password and https.
    """
    from attunet.serve import require_serve

    require_serve("attunet serve")
    from attunet.serve.access import add_user as add_user_to
    from attunet.serve.server import serve as run
    from attunet.serve.settings import ServeSettings, name_models

    if add_user is not None:
        if users is None:
            raise ConfigError("--add-user was given without --users", hint="name the file with --users FILE")
        add_user_to(users, add_user, typer.prompt("password", hide_input=True, confirmation_prompt=True))
        return
    pacs = studies if studies is not None and "://" in studies else None
    settings = ServeSettings(
        models=name_models(model or []),
        data=data,
        host=host,
        port=port,
        studies=None if studies is None or pacs else Path(studies),
        pacs=pacs,
        viewer=viewer,
        token=token,
        users=users,
        certificate=certfile,
        key=keyfile,
        behind_proxy=behind_proxy,
        hosts=tuple(allow_host or ()),
        origins=tuple(allow_origin or ()),
        devices=tuple(device or ("auto",)),
        max_memory=_bytes(max_memory, "--max-memory"),
        max_upload=_bytes(max_upload, "--max-upload") or 0,
        max_bytes=_bytes(max_data, "--max-data") or 0,
        max_queue=max_queue,
        keep=parse_time(keep, "--keep") or 0,
    )
    _log_to_stderr()
    with suppress(KeyboardInterrupt):
        run(settings, on_ready=_say_where)
    notes().print("stopped; what is unfinished goes on at the next start", markup=False)


def _bytes(text: str | None, option: str) -> int | None:
    gigabytes = parse_memory(text, option)
    return None if gigabytes is None else int(gigabytes * 2**30)


def _say_where(url: str) -> None:
    results().print(f"listening on {url}", markup=False, highlight=False, soft_wrap=True)


def _log_to_stderr() -> None:
    """Show the server's own log and its audit; the libraries' may quote what identifies a patient, and stay silent."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("attunet.serve", "attunet.audit"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    for name in ("uvicorn", "uvicorn.error", "pydicom", "dicomweb_client", "urllib3", "httpx"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.showwarning = _say_nothing


def _say_nothing(*_arguments: Any, **_named: Any) -> None:
    """Shows no warning of Python: pydicom's quote the value of a tag, such as a name that is too long."""
