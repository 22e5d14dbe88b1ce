"""Training of folds on many workers on the console: a bar for each running fold, with its node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attunet.cli.cluster_options import parse_workers
from attunet.cli.console import notes
from attunet.cli.options import Device
from attunet.cli.training_progress import VariantDisplay
from attunet.data.slabs import available_cores
from attunet.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from attunet.cluster.folds import ClusterFolds
    from attunet.cluster.ray_worker import RayWorkers
    from attunet.training.callbacks.fold_progress import FoldProgress
    from attunet.training.finish import FoldResult

__all__ = ["FoldWorkers", "FoldsDisplay", "fold_workers"]

_PARTS = 1000
_SECONDS_BETWEEN_LINES = 20


class FoldsDisplay(VariantDisplay):
    """Shows plan, warnings and all folds that run, each on a bar with its node; without a terminal, lines."""

    def __init__(
        self, bars: Callable[[], Iterator[Progress]] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(bars, clock)
        self._bars_of: dict[str, TaskID] = {}
        self._line_of: dict[str, float] = {}

    def on_fold_start(self, fold: int, run: Path) -> None:
        """See `TrainingCallbacks`; its bar appears with its node."""

    def on_fold_running(self, fold: str, node: str, progress: FoldProgress | None) -> None:
        """See `FoldWatch`."""
        if progress is None and not notes().is_terminal:
            notes().print(f"{fold}: on {node}", markup=False, highlight=False, soft_wrap=True)
        text = f"{fold} on {node} · {_described(progress) if progress else 'starting'}"
        done = int(progress.progress * _PARTS) if progress and progress.stage == "train" else 0
        bar = self._bar(fold)
        self._open().update(bar, description=text, completed=done, total=_PARTS if done else None)
        if progress and progress.stage == "train" and progress.dice is not None:
            self._print_sometimes(fold, text, progress)

    def on_fold_lost(self, fold: str, node: str, tries: int, reason: str) -> None:
        """See `FoldWatch`."""
        self._remove(fold)
        text = f"{fold}: lost on {node} ({reason or 'no reason is known'}); continued from its last checkpoint"
        notes().print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def on_fold_failed(self, fold: str, node: str, reason: str) -> None:
        """See `FoldWatch`."""
        self._remove(fold)
        where = f" on {node}" if node else ""
        text = f"{fold}: failed{where}: {reason}; the other folds go on"
        notes().print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def on_fold_end(self, result: FoldResult) -> None:
        """See `TrainingCallbacks`."""
        name = f"{result.folder.parent.name}/{result.folder.name}"
        self._remove(name)
        self.folds.append(result)
        notes().print(
            f"{name}: finished, mean Dice {result.summary.foreground_mean():.4f}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def _bar(self, fold: str) -> TaskID:
        if fold not in self._bars_of:
            self._bars_of[fold] = self._open().add_task(fold, total=None)
        return self._bars_of[fold]

    def _remove(self, fold: str) -> None:
        if fold in self._bars_of:
            self._open().remove_task(self._bars_of.pop(fold))

    def _print_sometimes(self, fold: str, text: str, progress: FoldProgress) -> None:
        if notes().is_terminal or self._clock() - self._line_of.get(fold, float("-inf")) < _SECONDS_BETWEEN_LINES:
            return
        self._line_of[fold] = self._clock()
        notes().print(f"{text} · {progress.progress:.0%} done", markup=False, highlight=False, soft_wrap=True)


def _described(progress: FoldProgress) -> str:
    if progress.stage != "train":
        return f"{'preprocessed' if progress.stage == 'preprocess' else 'evaluated'} {progress.cases} cases"
    parts = [progress.network] if progress.network else []
    parts += [f"epoch {progress.epoch}"]
    parts += [f"loss {progress.loss:.3f}"] if progress.loss is not None else []
    parts += [f"Dice {progress.dice:.3f}"] if progress.dice is not None else []
    return " · ".join(parts)


@dataclass(frozen=True, kw_only=True)
class FoldWorkers:
    """What trains folds on a cluster, what shows them, what each worker gets, and the device of their plan."""

    runner: ClusterFolds
    display: FoldsDisplay
    workers: RayWorkers
    device: Device


def fold_workers(
    engine: str,
    address: str | None,
    workers: int | None,
    cpus: int | None,
    gpus: float | None,
    device: Device,
    *,
    jobs: int,
) -> FoldWorkers | None:
    """The workers that the options ask for, one fold each; None for this process.

    Without --cpus-per-worker and --gpus-per-worker, each has a GPU of this machine, if there are any, or an equal share
    of its cores; those of another cluster have the defaults of the options.
    Raises: ConfigError for options that contradict each other.
    """
    if parse_workers(engine, address, workers, cpus, gpus) is None:
        return None
    if address is None and cpus is None:
        count = _gpus_here() if device != "cpu" else 0
        if gpus is None and count:
            gpus = 1.0
        shares = count / gpus if gpus and count else min(workers or jobs, jobs)
        cpus = max(1, int(len(available_cores()) // max(1.0, shares)))
    asked = parse_workers(engine, address, workers, cpus, gpus)
    assert asked is not None
    if device == "cuda" and not asked.gpus:
        raise ConfigError("--device cuda needs GPUs", hint="add --gpus-per-worker 1")
    if device == "cpu" and asked.gpus:
        raise ConfigError("--device cpu needs no GPUs", hint="leave out --gpus-per-worker, or --device")
    from attunet.cluster.folds import ClusterFolds
    from attunet.cluster.ray_engine import RayEngine

    display = FoldsDisplay()
    runner = ClusterFolds(
        lambda make, payload: RayEngine(make, payload, asked, on_notice=display.on_warning),
        device="cuda" if asked.gpus else "cpu",
        threads=asked.cpus or None,
        watch=display,
    )
    return FoldWorkers(runner=runner, display=display, workers=asked, device=device if asked.gpus else "cpu")


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()
