"""`attunet info`: a description of this installation, or of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from attunet.cli.console import show

__all__ = ["info"]


def info(
    model: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A model folder; without it, this machine is described.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show versions, devices and engines; or a model's training data, expected input and scores."""
    from attunet.inference.info import DICE_AND_SECONDS, machine_facts, model_facts

    if model is None:
        from attunet.training.run_folder import describe_store

        facts = machine_facts() | {"prepared cases": describe_store()}
    else:
        facts = model_facts(model)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    from attunet.cli.tables.models import facts_table, prediction_table

    measured = facts.pop(DICE_AND_SECONDS, None)
    show(facts_table(facts))
    if measured:
        show(prediction_table(measured))
