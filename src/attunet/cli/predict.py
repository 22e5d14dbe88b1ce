"""`attunet predict`: masks for new scans, in their own format and on their own grid."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attunet.cli.console import notes, results
from attunet.cli.options import DeviceOption, parse_folds, parse_memory, parse_time
from attunet.cli.prediction_forecast import foresee_cases
from attunet.cli.prediction_run import Outcome, Wanted, predict_cases
from attunet.errors import ConfigError, FormatError

if TYPE_CHECKING:
    from rich.table import Table

    from attunet.config import Quality, Worth
    from attunet.inference.segmenter import Segmenter

__all__ = ["predict"]


def predict(
    model: Annotated[
        Path,
        typer.Option("-m", "--model", metavar="RUN", help="Model folder made by `attunet train` or `attunet select`."),
    ],
    images: Annotated[
        list[Path],
        typer.Option("-i", "--input", metavar="PATH", help="Image file or folder of images; repeat for more."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the masks.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="More images, after -i A B C.")] = None,
    fold: Annotated[
        str, typer.Option(help="Folds to use, such as 0 or 0,2; or all: their probabilities are averaged.")
    ] = "all",
    disable_tta: Annotated[bool, typer.Option("--disable-tta", help="Do not average over mirrored copies.")] = False,
    step_size: Annotated[float, typer.Option(min=0.05, max=1.0, help="Step between windows, in patches.")] = 0.5,
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Write DIR/probabilities: one channel per label or region.")
    ] = False,
    attention: Annotated[
        bool, typer.Option("--attention", help="Write DIR/attention: each gate's coefficients on the image grid.")
    ] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Print volumes in ml and predicted Dice; write statistics.json.")
    ] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Draw DIR/preview: a PNG for each case.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what was done, and where attention and mask disagree, as JSON."),
    ] = None,
    continue_prediction: Annotated[
        bool, typer.Option("--continue-prediction", help="Skip the cases whose mask is there already.")
    ] = False,
    max_memory: Annotated[
        str | None,
        typer.Option("--max-memory", metavar="GB", help="What the process may hold, such as 4GB: slower if need be."),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option("--time-limit", metavar="TIME", help="For each case, such as 30s: fewer windows if need be."),
    ] = None,
    all_windows: Annotated[
        bool, typer.Option("--all-windows", help="Run windows of mere air, too, which are left out where that is safe.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Read and prepare the cases; tell windows and peak memory; write nothing."),
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Segment images. Masks come in each image's format, grid and orientation, with the label values of the training.

    One unusable file does not stop the others: it is listed at the end and the exit code is 1, or 2 when none is left.
    """
    from attunet.data.cases import find_cases
    from attunet.files import write_text
    from attunet.inference.segmenter import Segmenter

    memory, seconds = parse_memory(max_memory, "--max-memory"), parse_time(time_limit, "--time-limit")
    segmenter = Segmenter.load(model, folds=parse_folds(fold), device=device)
    cases = find_cases([*images, *(more or [])], segmenter.plan.network.in_channels)
    gated = any(member.plan.network.gate_widths for member in segmenter.members)
    wanted = Wanted(
        step=step_size,
        mirror=not disable_tta,
        probabilities=save_probabilities,
        attention=attention,
        preview=preview,
        agreement=gated and report is not None,
        skip_air=not all_windows,
        max_memory=None if memory is None else int(memory * 2**30),
        time_limit=seconds,
    )
    if attention and not gated:
        raise ConfigError("--attention was asked of a model without gates", hint="leave it out, or train with a gate")
    if dry_run:
        raise typer.Exit(2 if foresee_cases(segmenter, cases, wanted) else 0)
    started = time.perf_counter()
    worth = _worth(segmenter.refinement.quality)
    outcomes: list[Outcome] = []

    def save() -> None:
        if statistics:
            _write_statistics(outcomes, output / "statistics.json", worth, keep=continue_prediction)
        if report:
            write_text(report, json.dumps(_record(model, segmenter, wanted, outcomes), indent=2) + "\n")

    try:
        predict_cases(segmenter, cases, output, wanted, skip_done=continue_prediction, each=outcomes.append)
    except BaseException:
        if outcomes:  # what is done is told, though the rest is not
            save()
        raise
    save()
    if statistics:
        _show_statistics(outcomes, worth)
    _tell(outcomes, output, time.perf_counter() - started)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        raise typer.Exit(2 if len(failed) == len(cases) else 1)


def _tell(outcomes: list[Outcome], output: Path, seconds: float) -> None:
    done = [outcome for outcome in outcomes if outcome.error is None]
    each = seconds / max(1, len(outcomes))
    text = f"{len(done)} of {len(outcomes)} cases written to {output}, {each:.1f} s each"
    notes().print(text, markup=False, soft_wrap=True)
    failed = [outcome.case for outcome in outcomes if outcome.error]
    if failed:
        notes().print(f"not segmented: {', '.join(failed)}", style="red", markup=False, soft_wrap=True)


def _show_statistics(outcomes: list[Outcome], worth: str | None) -> None:
    done = [outcome for outcome in outcomes if outcome.error is None]
    if done:
        results().print(_volume_table(done))
    if done and worth:
        results().print(f"predicted Dice: {worth}", highlight=False, soft_wrap=True)


def _worth(quality: Quality | Worth | None) -> str | None:
    """What a score of single cases is worth, in words; None when it was not measured."""
    if quality is None:
        return None
    interval = f"{quality.spearman:.2f} ({quality.low:.2f} to {quality.high:.2f})"
    return f"rank correlation with the true Dice on {quality.cases} unseen cases: {interval}"


def _write_statistics(outcomes: list[Outcome], path: Path, worth: str | None, *, keep: bool) -> None:
    """Volumes and predicted Dice by case; those of cases segmented earlier are kept when their prediction goes on."""
    from attunet.files import write_text

    try:
        earlier = json.loads(path.read_text(encoding="utf-8")) if keep and path.is_file() else {"cases": {}}
        volumes, dice = dict(earlier["cases"]), dict(earlier.get("predicted_dice", {}))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FormatError(f"{path} is none of ours, so it was not added to", hint="move it away") from error
    done = [outcome for outcome in outcomes if outcome.mask]
    content: dict[str, Any] = {"unit": "ml", "cases": volumes | {entry.case: entry.volumes_ml for entry in done}}
    if worth:
        content["predicted_dice"] = dice | {entry.case: entry.predicted_dice for entry in done}
        content["predicted_dice_is_worth"] = worth
    write_text(path, json.dumps(content, indent=2) + "\n")


def _volume_table(outcomes: list[Outcome]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    predicted = any(outcome.predicted_dice is not None for outcome in outcomes)
    names = [f"{escape(name)} ml" for name in outcomes[0].volumes_ml]
    table = Table("Case", *names, *(["Predicted Dice"] if predicted else []), box=box.SIMPLE_HEAD)
    for outcome in outcomes:
        dice = "–" if outcome.predicted_dice is None else f"{outcome.predicted_dice:.3f}"
        volumes = (f"{value:.2f}" for value in outcome.volumes_ml.values())
        table.add_row(escape(outcome.case), *volumes, *([dice] if predicted else []))
    return table


def _record(model: Path, segmenter: Segmenter, wanted: Wanted, outcomes: list[Outcome]) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "attunet": version("attunet"),
        "model": str(model),
        "engine": segmenter.engines[0].name,
        "members": {member.name: len(member.engines) for member in segmenter.members},
        "folds": len(segmenter.engines),
        "settings": asdict(wanted),
        "labels": segmenter.plan.labels,
        "refinement": segmenter.refinement.model_dump(mode="json"),
        "predicted_dice_is_worth": _worth(segmenter.refinement.quality),
        "attention_agreement_is_worth": _worth(segmenter.refinement.attention),
        "cases": [asdict(outcome) for outcome in outcomes],
    }
