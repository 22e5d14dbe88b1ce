"""Training progress on the console: a bar with the remaining time and the latest Dice, or a line per validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import typer
from rich.text import Text

from attunet.cli.console import notes, progress_bar, show
from attunet.cli.prediction_run import show_case
from attunet.cli.tables.plans import plan_table, transfer_table
from attunet.planning.layers import count_parameters
from attunet.training.callbacks.progress import TrainingCallbacks, TrainingState
from attunet.training.demo import DemoCallbacks
from attunet.training.variants import VariantCallbacks

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from attunet.config import Plan, TrainingConfig
    from attunet.inference.case_worker import CaseResult
    from attunet.nn.transfer import Transfer
    from attunet.planning.variants import Variant
    from attunet.training.finish import FoldResult

__all__ = ["DemoDisplay", "TrainingDisplay", "VariantDisplay", "stoppable"]

_PARTS = 1000
_SECONDS_BETWEEN_LINES = 20


class TrainingDisplay(TrainingCallbacks):
    """Shows plan and warnings on stderr, and the progress of one fold after another; use it in a `with` block.

    Attributes: folds, that are finished.
    """

    def __init__(
        self,
        bars: Callable[[], Iterator[Progress]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bars = contextmanager(bars) if bars else progress_bar
        self._clock = clock
        self.folds: list[FoldResult] = []
        self._printed = float("-inf")
        self._stack = ExitStack()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._name = self._fold = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._close()

    def on_planning_start(self, cases: int) -> None:
        """See `TrainingCallbacks`."""
        self._tasks["plan"] = self._open().add_task("plan", total=cases)

    def on_case_planned(self) -> None:
        """See `TrainingCallbacks`."""
        self._open().advance(self._tasks["plan"])

    def on_plan(self, plan: Plan, origin: Literal["given", "run", "new"], run: Path) -> None:
        """See `TrainingCallbacks`."""
        self._close()
        if origin == "run":
            notes().print(f"using the plan in {run / 'plan.json'}", soft_wrap=True, markup=False, highlight=False)
        else:
            show(plan_table(plan), stderr=True)

    def on_transfer(self, transfer: Transfer, source: str) -> None:
        """See `TrainingCallbacks`."""
        show(transfer_table(transfer, source), stderr=True)

    def on_fold_start(self, fold: int, run: Path) -> None:
        """See `TrainingCallbacks`."""
        self._name = self._fold = f"train fold {fold}"
        progress = self._open()
        self._tasks = {
            name: progress.add_task(name, total=None, visible=name == "preprocess")
            for name in ("preprocess", "train", "validate")
        }

    def on_case_stored(self) -> None:
        """See `TrainingCallbacks`."""
        self._open().advance(self._tasks["preprocess"])

    def on_network_start(self, network: str) -> None:
        """See `TrainingCallbacks`."""
        self._name = f"{self._fold} · {network}"
        self._open().update(self._tasks["validate"], visible=False)
        if not notes().is_terminal:
            notes().print(self._name, markup=False, highlight=False)

    def on_training_start(self) -> None:
        """See `TrainingCallbacks`."""
        self._open().update(self._tasks["preprocess"], visible=False)
        self._open().reset(self._tasks["train"], total=_PARTS, visible=True, description=self._name)

    def on_step(self, state: TrainingState) -> None:
        """See `TrainingCallbacks`."""
        text = f"{self._name} · epoch {state.epoch}"
        if state.loss is not None:
            text += f" · loss {state.loss:.3f}"
        if state.dice is not None:
            text += f" · Dice {state.dice:.3f}"
        self._open().update(self._tasks["train"], completed=int(state.progress * _PARTS), description=text)

    def on_epoch_end(self, state: TrainingState) -> None:
        """Print a line after a validation, at most every 20 seconds, if there is no terminal for a bar."""
        soon = self._clock() - self._printed < _SECONDS_BETWEEN_LINES and state.progress < 1
        if notes().is_terminal or not state.validated or soon:
            return
        self._printed = self._clock()
        notes().print(
            f"epoch {state.epoch}: {state.minutes:.1f} min, {state.progress:.0%} done, "
            f"loss {state.loss:.3f}, Dice {state.dice:.3f}",
            highlight=False,
        )

    def on_training_end(self) -> None:
        """See `TrainingCallbacks`."""
        self._open().update(self._tasks["train"], visible=False)
        self._open().reset(self._tasks["validate"], visible=True)

    def on_case_evaluated(self) -> None:
        """See `TrainingCallbacks`."""
        self._open().advance(self._tasks["validate"])

    def on_fold_end(self, result: FoldResult) -> None:
        """See `TrainingCallbacks`."""
        self._close()
        self.folds.append(result)

    def on_evaluation(self, done: int, total: int) -> None:
        """See `TrainingCallbacks`."""
        if "evaluate" not in self._tasks:
            self._tasks["evaluate"] = self._open().add_task("evaluating")
        self._open().update(self._tasks["evaluate"], completed=done, total=total)

    def on_warning(self, text: str) -> None:
        """See `TrainingCallbacks`."""
        notes().print(text, style="yellow", markup=False, soft_wrap=True)

    def _open(self) -> Progress:
        if self._progress is None:
            self._progress = self._stack.enter_context(self._bars())
        return self._progress

    def _close(self) -> None:
        self._stack.close()
        self._progress, self._tasks = None, {}


class VariantDisplay(TrainingDisplay, VariantCallbacks):
    """Shows the variants, and the training of one after another."""

    def on_variants(self, variants: Sequence[Variant], folds: Sequence[int], config: TrainingConfig) -> None:
        """See `VariantCallbacks`."""
        weights = ", ".join(f"{each.name} {count_parameters(each.plan.network):,}" for each in variants)
        text = f"{len(variants)} variants, {len(folds)} fold{'s' * (len(folds) != 1)}; weights: {weights}"
        notes().print(text, markup=False, highlight=False, soft_wrap=True)
        if config.max_time:
            minutes = len(variants) * len(folds) * config.max_time / 60
            notes().print(f"training takes {minutes:.0f} min at most", markup=False, highlight=False)

    def on_variant_start(self, variant: Variant, fold: int) -> None:
        """See `VariantCallbacks`."""
        notes().print(f"[bold]fold {fold}, {variant.name}[/bold]: {variant.description}", highlight=False)

    def on_variant_end(self, variant: Variant, fold: int, dice: float, trained: bool) -> None:
        """See `VariantCallbacks`."""
        done = "" if trained else " (finished before)"
        notes().print(f"fold {fold}, {variant.name}: mean Dice {dice:.4f}{done}", markup=False, highlight=False)


class DemoDisplay(TrainingDisplay, DemoCallbacks):
    """Shows the steps of the demonstration, and its training."""

    def on_stage(self, number: int, text: str, folder: Path) -> None:
        """See `DemoCallbacks`."""
        line = Text.assemble((f"{number}/5", "bold"), f" {text} → {folder}")
        notes().print(line, highlight=False, soft_wrap=True)

    def on_plan(self, plan: Plan, origin: Literal["given", "run", "new"], run: Path) -> None:
        """See `TrainingCallbacks`; the plan is not shown."""
        self._close()

    def on_prediction(self, result: CaseResult) -> None:
        """See `DemoCallbacks`."""
        show_case(result)


@contextmanager
def stoppable(how_to_resume: str) -> Iterator[None]:
    """Ctrl-C in this block ends the command with exit code 130 and a line on how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        notes().print(f"stopped: resume with {how_to_resume}", style="yellow", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
