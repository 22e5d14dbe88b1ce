"""Many cases through a segmenter, two at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from attunet.cli.console import fail, notes, progress_bar
from attunet.errors import AttunetError, ConfigError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from rich.progress import Progress

    from attunet.data.cases import Case
    from attunet.data.volume import Volume
    from attunet.inference.prediction import Prediction
    from attunet.inference.segmenter import Segmenter

__all__ = ["Outcome", "Wanted", "mask_path", "predict_cases"]

_AT_ONCE = 2
_LARGE = 2**24  # numbers that the class volumes of a case would hold; each alone keeps every core busy


@dataclass(frozen=True)
class Wanted:
    """What to write for each case beside its mask, and what it may take: bytes of memory, seconds."""

    step: float = 0.5
    mirror: bool = True
    probabilities: bool = False
    attention: bool = False
    preview: bool = False
    agreement: bool = False
    skip_air: bool = True
    max_memory: int | None = None
    time_limit: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one case; the seconds are those of its own steps, which overlap with other cases'."""

    case: str
    mask: str | None
    seconds: float
    volumes_ml: dict[str, float] = field(default_factory=dict)
    expected_dice: dict[str, float | None] = field(default_factory=dict)
    predicted_dice: float | None = None
    attention_agreement: dict[str, Any] | None = None
    notices: tuple[str, ...] = ()
    error: str | None = None
    hint: str = ""


def predict_cases(
    segmenter: Segmenter,
    cases: Sequence[Case],
    output: Path,
    wanted: Wanted,
    *,
    skip_done: bool = False,
    each: Callable[[Outcome], None] = lambda _outcome: None,
) -> list[Outcome]:
    """Segment and write one case after another; a bad one is noted and passed over.

    Args: `each` is called with every outcome at once, for what must survive an interruption.
    Raises: ConfigError when a mask would take the place of an image.
    """
    overwritten = [case.id for case in cases if mask_path(case, output).resolve() in map(Path.resolve, case.images)]
    if overwritten:
        raise ConfigError(
            f"the masks of {', '.join(overwritten[:5])} would overwrite their images", hint="choose another -o"
        )
    output.mkdir(parents=True, exist_ok=True)
    done = {case.id for case in cases if skip_done and mask_path(case, output).exists()}
    for name in sorted(done):
        notes().print(f"{name}: there already", markup=False, highlight=False)
    outcomes = []
    with progress_bar() as progress:
        overall = progress.add_task("predict", total=len(cases), completed=len(done))
        worker = _Worker(segmenter, output, wanted, progress)
        for outcome in _outcomes(worker, [case for case in cases if case.id not in done]):
            if outcome.error:
                fail(f"{outcome.case}: {outcome.error}", outcome.hint)
            for notice in outcome.notices:
                notes().print(f"{outcome.case}: {notice}", style="yellow", markup=False, soft_wrap=True)
            outcomes.append(outcome)
            each(outcome)
            progress.advance(overall)
    return outcomes


def mask_path(case: Case, output: Path) -> Path:
    """Where the mask of a case is written."""
    from attunet.data.formats import mask_suffix

    return output / f"{case.id}{mask_suffix(_suffix(case))}"


def _outcomes(worker: _Worker, cases: Sequence[Case]) -> Iterator[Outcome]:
    """In the order of the cases, of which two are under way at any time and a few more queue behind them.

    Where memory is limited there is one at a time: what it takes is known only once it is read.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE if worker.wanted.max_memory is None else 1) as lanes:
        pending: deque[Future[Outcome]] = deque()
        try:
            for case in cases:
                pending.append(lanes.submit(worker, case))
                if len(pending) > 2 * _AT_ONCE:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            worker.stop.set()
            lanes.shutdown(cancel_futures=True)
            raise


class _Worker:
    """Reads, segments and writes cases, in several threads; large ones are segmented one at a time.

    So one case is read or written while another is computed, and small ones are computed side by side.
    """

    def __init__(self, segmenter: Segmenter, output: Path, wanted: Wanted, progress: Progress) -> None:
        self.stop = Event()
        self._segmenter = segmenter
        self._output = output
        self.wanted = wanted
        self._progress = progress
        self._alone = Lock()
        self._drawing = Lock()

    def __call__(self, case: Case) -> Outcome:
        started = time.perf_counter()
        try:
            volume = self._segmenter.read(case)[1]
            with ExitStack() as turn:
                if volume.array[0].size * len(self._segmenter.plan.outputs) > _LARGE:
                    queued = time.perf_counter()
                    turn.enter_context(self._alone)
                    started += time.perf_counter() - queued
                result = self._predict(case, volume, started)
                agreement = _agreement(result) if self.wanted.agreement else None
                if result.probabilities is None:
                    turn.close()  # what is left to write is small
                mask = self._save(result, case)
        except AttunetError as error:
            return _failed(case, started, error.message, error.hint)
        except MemoryError:
            return _failed(case, started, "there is not enough memory for it", "give --max-memory, or free some")
        return Outcome(
            case.id,
            str(mask),
            round(time.perf_counter() - started, 3),
            {name: round(volume, 3) for name, volume in result.volumes_ml.items()},
            {name: dice if dice is None else round(dice, 4) for name, dice in result.expected_dice.items()},
            None if result.predicted_dice is None else round(result.predicted_dice, 4),
            agreement,
            result.notices,
        )

    def _predict(self, case: Case, volume: Volume, started: float) -> Prediction:
        windows = self._progress.add_task(f"  {case.id} windows", total=None)

        def advance(done: int, total: int) -> None:
            if self.stop.is_set():
                raise KeyboardInterrupt
            self._progress.update(windows, completed=done, total=total)

        try:
            limit = self.wanted.time_limit
            return self._segmenter.predict(
                volume,
                name=case.id,
                step=self.wanted.step,
                mirror=self.wanted.mirror,
                probabilities=self.wanted.probabilities,
                attention=self.wanted.attention or self.wanted.agreement,
                skip_air=self.wanted.skip_air,
                max_memory=self.wanted.max_memory,
                time_limit=None if limit is None else max(0.0, limit - (time.perf_counter() - started)),
                scratch=self._output,
                advance=advance,
            )
        finally:
            self._progress.remove_task(windows)

    def _save(self, result: Prediction, case: Case) -> Path:
        asked = result if self.wanted.attention else replace(result, attention={})
        if self.wanted.preview:
            with self._drawing:  # matplotlib draws in one thread at a time
                _draw(asked, self._segmenter, self._output)
        return asked.save(self._output, suffix=_suffix(case))  # last: the mask says that the case is done


def _failed(case: Case, started: float, error: str, hint: str) -> Outcome:
    return Outcome(case.id, None, round(time.perf_counter() - started, 3), error=error, hint=hint)


def _agreement(result: Prediction) -> dict[str, Any]:
    from attunet.explanation.agreement import attention_agreement

    return attention_agreement(result).to_json()


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


def _suffix(case: Case) -> str:
    from attunet.data.formats import suffix_of

    return suffix_of(case.images[0]) or ".nii.gz"
