"""`attunet predict`: masks for new scans, in their own format and on their own grid."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attunet.cli.console import fail, notes, progress_bar, results
from attunet.cli.options import DeviceOption, parse_folds
from attunet.errors import AttunetError, ConfigError, FormatError

if TYPE_CHECKING:
    from rich.progress import Progress

    from attunet.data.cases import Case
    from attunet.inference.prediction import Prediction
    from attunet.inference.segmenter import Segmenter

__all__ = ["Wanted", "predict", "predict_cases"]


@dataclass(frozen=True)
class Wanted:
    """What to write for each case beside its mask."""

    step: float = 0.5
    mirror: bool = True
    probabilities: bool = False
    attention: bool = False
    preview: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of one case."""

    case: str
    mask: str | None
    seconds: float
    volumes_ml: dict[str, float]
    error: str | None = None


def predict(
    model: Annotated[Path, typer.Option("-m", "--model", metavar="RUN", help="Model folder made by `attunet train`.")],
    images: Annotated[
        list[Path],
        typer.Option("-i", "--input", metavar="PATH", help="Image file or folder of images; repeat for more."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the masks.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="More images, after -i A B C.")] = None,
    fold: Annotated[str, typer.Option(help="Fold to use, or all: their probabilities are averaged.")] = "all",
    disable_tta: Annotated[bool, typer.Option("--disable-tta", help="Do not average over mirrored copies.")] = False,
    step_size: Annotated[float, typer.Option(min=0.05, max=1.0, help="Step between windows, in patches.")] = 0.5,
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Write DIR/probabilities: one channel per class.")
    ] = False,
    attention: Annotated[
        bool, typer.Option("--attention", help="Write DIR/attention: each gate's coefficients on the image grid.")
    ] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Print volumes in ml; write statistics.json.")
    ] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Draw DIR/preview: a PNG for each case.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what was done to this JSON file.")] = None,
    continue_prediction: Annotated[
        bool, typer.Option("--continue-prediction", help="Skip the cases whose mask is there already.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Segment images. Masks come in each image's format, grid and orientation, with the label values of the training.

    One unusable file does not stop the others: it is listed at the end and the exit code is 1, or 2 when none is left.
    """
    from attunet.data.cases import find_cases
    from attunet.files import write_text
    from attunet.inference.segmenter import Segmenter

    segmenter = Segmenter.load(model, folds=parse_folds(fold), device=device)
    cases = find_cases([*images, *(more or [])], segmenter.plan.network.in_channels)
    wanted = Wanted(step_size, not disable_tta, save_probabilities, attention, preview)
    if attention and not segmenter.plan.network.gate_widths:
        raise ConfigError("--attention was asked of a model without gates", hint="leave it out, or train with a gate")
    outcomes = predict_cases(segmenter, cases, output, wanted, skip_done=continue_prediction)
    _tell(outcomes, output, statistics)
    if statistics:
        _write_statistics(outcomes, output / "statistics.json", keep=continue_prediction)
    if report:
        write_text(report, json.dumps(_record(model, segmenter, wanted, outcomes), indent=2) + "\n")
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        raise typer.Exit(2 if len(failed) == len(cases) else 1)


def predict_cases(
    segmenter: Segmenter, cases: Sequence[Case], output: Path, wanted: Wanted, *, skip_done: bool = False
) -> list[Outcome]:
    """Segment and write one case after another; a bad one is noted and passed over.

    Raises: ConfigError when a mask would take the place of an image.
    """
    overwritten = [case.id for case in cases if mask_path(case, output).resolve() in map(Path.resolve, case.images)]
    if overwritten:
        raise ConfigError(
            f"the masks of {', '.join(overwritten[:5])} would overwrite their images", hint="choose another -o"
        )
    output.mkdir(parents=True, exist_ok=True)
    outcomes = []
    with progress_bar() as progress:
        overall = progress.add_task("predict", total=len(cases))
        for case in cases:
            mask = mask_path(case, output)
            if skip_done and mask.exists():
                notes().print(f"{case.id}: there already", markup=False, highlight=False)
            else:
                outcomes.append(_predict_case(segmenter, case, output, wanted, progress))
            progress.advance(overall)
    return outcomes


def mask_path(case: Case, output: Path) -> Path:
    """Where the mask of a case is written."""
    from attunet.data.formats import mask_suffix, suffix_of

    return output / f"{case.id}{mask_suffix(suffix_of(case.images[0]) or '.nii.gz')}"


def _predict_case(segmenter: Segmenter, case: Case, output: Path, wanted: Wanted, progress: Progress) -> Outcome:
    from attunet.data.formats import suffix_of

    started = time.perf_counter()
    windows = progress.add_task(f"  {case.id} windows", total=None)
    try:
        result = segmenter.predict(
            case,
            step=wanted.step,
            mirror=wanted.mirror,
            probabilities=wanted.probabilities,
            attention=wanted.attention,
            advance=lambda done, total: progress.update(windows, completed=done, total=total),
        )
        mask = result.save(output, suffix=suffix_of(case.images[0]) or ".nii.gz")
        if wanted.preview:
            _draw(result, segmenter, output)
    except AttunetError as error:
        fail(f"{case.id}: {error.message}", error.hint)
        return Outcome(case.id, None, time.perf_counter() - started, {}, str(error))
    finally:
        progress.remove_task(windows)
    seconds = time.perf_counter() - started
    return Outcome(case.id, str(mask), round(seconds, 3), {k: round(v, 3) for k, v in result.volumes_ml.items()})


def _draw(result: Prediction, segmenter: Segmenter, output: Path) -> None:
    from attunet.report.figures import overlay, save_figure

    figure = overlay(
        result.image,
        result.segmentation,
        result.labels,
        attention=result.attention or None,
        modality=segmenter.plan.modality,
        title=result.case,
    )
    save_figure(figure, output / "preview" / f"{result.case}.png")


def _tell(outcomes: list[Outcome], output: Path, statistics: bool) -> None:
    done = [outcome for outcome in outcomes if outcome.error is None]
    if statistics and done:
        results().print(_volume_table(done))
    seconds = sum(outcome.seconds for outcome in done) / max(1, len(done))
    done_text = f"{len(done)} of {len(outcomes)} cases written to {output}, {seconds:.1f} s each"
    notes().print(done_text, markup=False, soft_wrap=True)
    failed = [outcome.case for outcome in outcomes if outcome.error]
    if failed:
        notes().print(f"not segmented: {', '.join(failed)}", style="red", markup=False, soft_wrap=True)


def _write_statistics(outcomes: list[Outcome], path: Path, *, keep: bool) -> None:
    """Volumes by case; those of cases segmented earlier are kept when their prediction goes on."""
    from attunet.files import write_text

    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))["cases"] if keep and path.is_file() else {}
    except (ValueError, LookupError, TypeError) as error:
        raise FormatError(f"{path} is none of ours, so it was not added to", hint="move it away") from error
    volumes = earlier | {outcome.case: outcome.volumes_ml for outcome in outcomes if outcome.mask}
    write_text(path, json.dumps({"unit": "ml", "cases": volumes}, indent=2) + "\n")


def _volume_table(outcomes: list[Outcome]) -> Any:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table("Case", *(f"{escape(name)} ml" for name in outcomes[0].volumes_ml), box=box.SIMPLE_HEAD)
    for outcome in outcomes:
        table.add_row(escape(outcome.case), *(f"{value:.2f}" for value in outcome.volumes_ml.values()))
    return table


def _record(model: Path, segmenter: Segmenter, wanted: Wanted, outcomes: list[Outcome]) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "attunet": version("attunet"),
        "model": str(model),
        "engine": segmenter.engines[0].name,
        "folds": len(segmenter.engines),
        "settings": asdict(wanted),
        "labels": segmenter.plan.labels,
        "cases": [asdict(outcome) for outcome in outcomes],
    }
