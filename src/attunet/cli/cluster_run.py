"""A prediction on a cluster on the console: cases done, a minute and left, failures, and what each node does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from attunet.cli.cluster_options import draining
from attunet.cli.console import notes
from attunet.cli.prediction_run import BatchDisplay

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from attunet.cluster.prediction import CaseJob, PredictionWork, RunProgress
    from attunet.cluster.ray_worker import RayWorkers
    from attunet.cluster.tasks import TaskEngine, TaskEvent
    from attunet.data.cases import Case
    from attunet.inference.segmenter import Segmenter

__all__ = ["ClusterDisplay", "describe_progress", "predict_on_ray"]

PAUSE = 60.0
"""Seconds between lines of progress where there is no terminal."""


def predict_on_ray(
    segmenter: Segmenter,
    work: PredictionWork,
    cases: Sequence[Case],
    workers: RayWorkers,
    display: BatchDisplay,
) -> None:
    """Predict cases on the workers of a Ray cluster, and show how it goes.

    Raises: KeyboardInterrupt when Ctrl-C has stopped it before the end; as `predict_on_engine`.
    """
    from attunet.cluster.prediction import predict_on_engine
    from attunet.cluster.ray_engine import RayEngine

    def make_engine(work: PredictionWork, payload: Callable[[str], CaseJob], memory: int) -> TaskEngine:
        return RayEngine(work, payload, replace(workers, memory=memory), on_notice=_warn)

    cluster = ClusterDisplay(display.progress)
    with draining() as cancelled:
        results = predict_on_engine(
            segmenter,
            work,
            cases,
            make_engine,
            on_result=display.on_result,
            on_event=cluster.on_event,
            cancelled=cancelled,
        )
        if cancelled.is_set() and len(results) < len(cases):
            raise KeyboardInterrupt


class ClusterDisplay:
    """Lines for the run and for each node below the bar of all cases; plain lines where there is no terminal."""

    def __init__(self, progress: Progress) -> None:
        self._bars = progress
        self._lines: dict[str, TaskID] = {}
        self._started = self._told = time.monotonic()

    def on_event(self, event: TaskEvent, progress: RunProgress) -> None:
        """Show an event, and where the run stands."""
        if event.kind == "lost":
            _warn(f"{event.task}: try {event.tries} was lost on {event.node}: {event.reason}")
        elif event.kind == "doubled":
            _warn(f"{event.task}: takes long, and is tried a second time on {event.node}")
        seconds = time.monotonic() - self._started
        self._show("", f"  {describe_progress(progress, seconds)}")
        for node in sorted({*progress.by_node, *progress.running}):
            self._show(node, f"  {node}: {progress.by_node[node]} done, {progress.running[node]} running")
        if self._bars.disable and time.monotonic() - self._told > PAUSE:
            self._told = time.monotonic()
            nodes = ", ".join(f"{node} {count}" for node, count in sorted(progress.by_node.items()))
            notes().print(f"{describe_progress(progress, seconds)}; by node: {nodes}", markup=False, soft_wrap=True)

    def _show(self, key: str, text: str) -> None:
        if key not in self._lines:
            self._lines[key] = self._bars.add_task(text, total=None, start=False)
        self._bars.update(self._lines[key], description=text)


def describe_progress(progress: RunProgress, seconds: float) -> str:
    """Where a run stands after some seconds, in words."""
    ended = progress.done + progress.failed
    text = f"{ended} of {progress.total} cases, {60 * ended / max(seconds, 1e-3):.1f} a minute"
    if 0 < progress.share < 1:
        left = seconds * (1 - progress.share) / progress.share
        text += f", {_duration(left)} left"
    return f"{text}, {progress.failed} failed" if progress.failed else text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _warn(text: str) -> None:
    notes().print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
