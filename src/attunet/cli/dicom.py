"""`attunet dicom`: a node beside a PACS, its state, and its dead-letter list."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attunet.cli.console import notes, results, show

if TYPE_CHECKING:
    from attunet.dicom.node import NodeState, StudyState

__all__ = ["dicom"]

dicom = typer.Typer(
    name="dicom",
    help="Run a node beside a PACS: studies come in, are predicted, and their results go back.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file with the settings of the node.")]


@dicom.command()
def node(config: ConfigArgument) -> None:
    """Receive studies, predict them by the rules of CONFIG, and send the results, until Ctrl-C or SIGTERM.

    A study waits until it has settled. Killed at any moment and started again, the node goes on: each study is answered
    once. Logs name studies by their UIDs only.
    """
    from attunet.dicom.node import Node, load_node_settings

    settings = load_node_settings(config)
    _log_to_stderr()
    running = Node(settings)
    with suppress(KeyboardInterrupt):
        running.run()
    notes().print("stopped; what is unfinished goes on at the next start", markup=False)


@dicom.command()
def status(
    config: ConfigArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as /state.json of the node.")] = False,
) -> None:
    """Print the studies in each state, what waits for a destination, and the dead-letter list with its reasons.

    Exit code 1 when a study has failed.
    """
    from attunet.dicom.node import load_node_settings, read_state

    state = read_state(load_node_settings(config).state)
    if as_json:
        results().print(json.dumps(asdict(state), indent=2), markup=False, highlight=False, soft_wrap=True)
    else:
        _show_state(state)
    if state.counts["failed"]:
        raise typer.Exit(1)


@dicom.command()
def retry(
    config: ConfigArgument,
    study: Annotated[str, typer.Argument(metavar="STUDY", help="StudyInstanceUID, as `attunet dicom status` prints.")],
) -> None:
    """Begin a study of the dead-letter list again, or an answered one with instances that came in late.

    Works while the node runs, and before it is started.
    """
    from attunet.dicom.node import load_node_settings, retry_study

    told = retry_study(load_node_settings(config).state, study)
    results().print(f"study {study}: {told}", markup=False, highlight=False, soft_wrap=True)


def _log_to_stderr() -> None:
    """Show the node's own log; the libraries' may quote what identifies a patient, and stay silent."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("attunet")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    for name in ("pydicom", "pynetdicom", "dicomweb_client", "highdicom", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.showwarning = _say_nothing


def _say_nothing(*_arguments: Any, **_named: Any) -> None:
    """Shows no warning of Python: pydicom's quote the value of a tag, such as a name that is too long."""


def _show_state(state: NodeState) -> None:
    from rich.table import Table

    from attunet.dicom.node import STUDY_STATES

    counts = Table("state", "studies", "meaning", box=None)
    for name, meaning in STUDY_STATES.items():
        counts.add_row(name, str(state.counts[name]), meaning)
    show(counts)
    for name, waiting in state.waiting.items():
        why = f"; the last failure: {waiting['reason']}" if waiting["reason"] else ""
        text = f"{waiting['results']} results wait for {name}{why}"
        results().print(text, markup=False, highlight=False, soft_wrap=True)
    _show_studies("dead-letter list", state.failed)
    _show_studies("answered, with instances that came in late", state.late)


def _show_studies(title: str, studies: Sequence[StudyState]) -> None:
    if studies:
        results().print(f"\n{title}:", markup=False, highlight=False)
    for study in studies:
        late = f", {study.late} of {study.instances} instances late" if study.late else ""
        text = f"{study.uid}  since {study.since}{late}  {study.reason}".rstrip()
        results().print(text, markup=False, highlight=False, soft_wrap=True)
