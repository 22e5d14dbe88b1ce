"""What `attunet train` does with what was typed: settings, folds, plan, one fold after another, and what to show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from attunet.cli.console import notes, progress_bar, results, show
from attunet.cli.options import Geometry, parse_folds
from attunet.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from attunet.config import Plan, TrainingConfig
    from attunet.data.cases import Dataset
    from attunet.planning.options import PlanOptions
    from attunet.training.finish import FoldResult

__all__ = ["choose_plan", "require_training", "show_fold", "train_fold", "training_settings", "wanted_folds"]


def require_training() -> None:
    """Raises: EngineError when the training extra is not installed."""
    from importlib.util import find_spec

    absent = [name for name in ("torch", "lightning", "monai", "blosc2") if find_spec(name) is None]
    if absent:
        raise EngineError(f"training needs {', '.join(absent)}", hint='install them with: pip install "attunet[train]"')


def training_settings(recipe: Path | None, run: Path, resume: bool, **flags: Any) -> TrainingConfig:
    """The recipe (or, when resuming, what the run was started with), and over it the flags that are not None."""
    from attunet.config import TrainingConfig, load_settings

    given = {name: value for name, value in flags.items() if value is not None}
    if "epochs" in given and "max_time" in given:
        raise ConfigError("both --epochs and --max-time were given", hint="give one of them")
    if "epochs" in given:
        given["max_time"] = None
    earlier = run / "training.yaml"
    source = earlier if resume and recipe is None and earlier.exists() else recipe
    return load_settings(TrainingConfig, source or {}, **given)


def wanted_folds(fold: str, source: Dataset, config: TrainingConfig, run: Path) -> list[int]:
    """The folds that --fold names. Raises: ConfigError when one of them does not exist."""
    from attunet.data.folds import assign_groups
    from attunet.training.run_folder import require_fold, run_folds

    grouped_source = assign_groups(source, config.group_by)
    wanted = parse_folds(fold) or range(len(run_folds(grouped_source, config, run)))
    for index in wanted:
        require_fold(grouped_source, config, run, index)
    return list(dict.fromkeys(wanted))


def choose_plan(
    run: Path,
    given: Path | None,
    resume: bool,
    source: Dataset,
    options: PlanOptions,
    labels: str | None,
) -> Plan:
    """The plan given, or that of a training begun here, or a new one."""
    from rich.markup import escape

    from attunet.cli.plan import show_planning
    from attunet.cli.tables.plans import plan_table
    from attunet.config import Plan, load_settings
    from attunet.training.processes import is_rank_zero, wait_until
    from attunet.training.run_folder import any_started

    existing = run / "plan.json"
    if not is_rank_zero():
        wait_until(existing.exists)
        return load_settings(Plan, existing)
    if given is None and existing.exists() and (resume or any_started(run)):
        notes().print(f"using the plan in {escape(str(existing))}", soft_wrap=True)
        return load_settings(Plan, existing)
    made = load_settings(Plan, given) if given else show_planning(source, options, labels)[1]
    show(plan_table(made), stderr=True)
    return made


def train_fold(
    source: Dataset,
    plan: Plan,
    config: TrainingConfig,
    run: Path,
    fold: int,
    *,
    device: str = "auto",
    resume: bool = False,
    geometry: Geometry = "fail",
    store: Path | None = None,
    again: str = "the same command and --resume",
) -> FoldResult:
    """Train one fold with its progress shown. Ctrl-C ends the command with 130 and a word on how to go on: `again`."""
    from attunet.cli.training_progress import EpochLines, TrainingBar
    from attunet.training.fit import FitCallbacks, fit

    with progress_bar() as progress:
        storing = progress.add_task("preprocess", total=None)
        training = progress.add_task(f"train fold {fold}", total=1.0, visible=False)
        judging = progress.add_task("validate", total=None, visible=False)
        report = FitCallbacks(
            stored=lambda: progress.advance(storing),
            training=lambda schedule, history: (
                TrainingBar(progress, storing, training, judging, schedule, history),
                EpochLines(schedule, history),
            ),
            validated=lambda: progress.advance(judging),
            notice=lambda text: notes().print(text, style="yellow", markup=False, soft_wrap=True),
        )
        try:
            return fit(
                source,
                plan,
                config,
                run,
                fold=fold,
                device=device,
                resume=resume,
                geometry=geometry,
                store=store,
                report=report,
            )
        except KeyboardInterrupt:
            progress.stop()
            notes().print(f"stopped: go on with {again}", style="yellow", markup=False, soft_wrap=True)
            raise typer.Exit(130) from None


def show_fold(result: FoldResult) -> None:
    """The scores of a finished fold and where its report lies."""
    from attunet.cli.tables.scores import score_table
    from attunet.training.judge import validated_held_out
    from attunet.training.run_folder import FoldPaths

    if not result.trained:
        more = "give a larger --epochs or --max-time to train it further"
        if not FoldPaths(result.folder).last.exists():
            more = "its checkpoint was deleted, so it cannot be trained further"
        notes().print(f"fold {result.fold} was finished already: {more}")
    seen = "" if validated_held_out(result.folder) else ", [yellow]the same it was trained on[/yellow]"
    results().print(f"[bold]fold {result.fold}[/bold]: validation cases, whole, on their own grid{seen}")
    show(score_table(result.summary))
    notes().print(f"report: {result.folder / 'report.html'}", soft_wrap=True, markup=False, highlight=False)
