"""Batch prediction: many cases with one segmenter."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any

from attunet.config import PredictionInterval
from attunet.data.cases import Case, image_warnings, source_uids
from attunet.data.geometry import rounded
from attunet.errors import AttunetError, CancelledError
from attunet.failures import one_case
from attunet.inference.destination import Destination
from attunet.inference.intervals import rounded_interval, rounded_intervals
from attunet.inference.prediction import Prediction, PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.locks import exclusive, require_held

__all__ = ["CaseResult", "predict_cases"]

LARGE = 2**24
"""Size of a case (voxels × classes) from which it keeps every core busy by itself."""

_THREADS = 2

Hook = Callable[[Prediction], Mapping[str, Any] | None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """The outcome of one case.

    Args:
        case: its name.
        mask: file of its mask, or of the first other type where no image files are written; None when the case failed.
        files: its files by the type of output, as of `Destination`.
        seconds: time of its own steps, which overlap with those of other cases.
        volumes_ml: millilitres of each foreground label.
        volume_intervals_ml: see `Prediction.volume_intervals_ml`.
        expected_dice: see `Prediction.expected_dice`.
        predicted_dice: see `Prediction.predicted_dice`.
        dice_interval: see `Prediction.dice_interval`.
        windows: see `Prediction.windows`.
        air_windows: see `Prediction.air_windows`.
        skipped_windows: see `Prediction.skipped_windows`.
        warnings: see `Prediction.warnings`.
        extra: the return value of `on_prediction`.
        source: UIDs of the study and series of DICOM that it was read from; empty for other formats.
        error: why it failed; None when it succeeded.
        hint: what to do about the error.
    """

    case: str
    mask: str | None = None
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    volumes_ml: dict[str, float] = field(default_factory=dict)
    volume_intervals_ml: dict[str, PredictionInterval | None] = field(default_factory=dict)
    expected_dice: dict[str, float | None] = field(default_factory=dict)
    predicted_dice: float | None = None
    dice_interval: PredictionInterval | None = None
    windows: int = 0
    air_windows: int = 0
    skipped_windows: int = 0
    warnings: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    hint: str = ""


def predict_cases(
    segmenter: Segmenter,
    cases: Sequence[Case],
    output: Path,
    options: PredictOptions | None = None,
    *,
    destination: Destination | None = None,
    skip_existing: bool = False,
    save_attention: bool = True,
    large: int = LARGE,
    on_prediction: Hook | None = None,
    on_result: Callable[[CaseResult], None] | None = None,
    progress: Progress | None = None,
    cancelled: Event | None = None,
) -> list[CaseResult]:
    """Segment cases and write their masks into a folder; a case that fails does not stop the others.

    Args:
        segmenter: the model.
        cases: their images; labels are not needed.
        output: folder for the masks, and for attention/ and probabilities/.
        options: options of every prediction; scratch files go to `output` by default; None for the default options.
        destination: the types of output, and how they are named; None for masks in each image's format.
        skip_existing: skip cases of which everything was written already.
        save_attention: write the attention requested in `options` as image files; False computes it only for
            `on_prediction` and for types of output that hold it.
        large: size of a case (voxels × classes) from which it is predicted alone.
        on_prediction: called with each prediction before it is written, from several threads; its return value becomes
            `CaseResult.extra`.
        on_result: called with every result in the order of the cases, from the calling thread.
        progress: called with a case, the number of its finished windows and of all its windows, from several threads.
        cancelled: an event that stops running predictions before their next windows.
    Returns: results in the order of the cases; when cancelled, those of the finished cases.
    Raises: ConfigError when a mask would overwrite an image, BusyError when another program writes into the folder,
        FormatError when it vanishes.
    """
    options = options or PredictOptions()
    destination = destination or Destination()
    save_attention = save_attention and options.attention
    options = replace(options, attention=options.attention or destination.attention)
    worker = _Worker(
        segmenter,
        output,
        options if options.scratch else replace(options, scratch=output),
        on_prediction=on_prediction,
        progress=progress,
        save_attention=save_attention,
        large=large,
        destination=destination,
        cancelled=_Stop(cancelled),
    )
    results: list[CaseResult] = []
    pending: deque[Future[CaseResult]] = deque()

    def finish(future: Future[CaseResult]) -> None:
        results.append(future.result())
        if on_result is not None:
            on_result(results[-1])

    # Two cases run at any time, and a few more are queued. With a memory limit there is only one, because the memory
    # that a case needs is known only after reading it.
    threads = _THREADS if options.max_memory is None else 1
    with exclusive(output, "attunet predict"), ThreadPoolExecutor(threads) as pool:
        destination.begin(cases, output)
        missing = [case for case in cases if not (skip_existing and destination.done(case, output))]
        try:
            for case in missing:
                pending.append(pool.submit(worker, case))
                if len(pending) > 2 * _THREADS:
                    pending[0].result()  # a case is pending until it is finished, even if this wait is interrupted
                    finish(pending.popleft())
            while pending:
                pending[0].result()
                finish(pending.popleft())
        except BaseException as error:
            worker.cancelled.set()
            pool.shutdown(cancel_futures=True)
            written = [future for future in pending if not future.cancelled() and future.exception() is None]
            pending = deque(written if isinstance(error, CancelledError | KeyboardInterrupt) else ())
            while pending:  # whose masks would otherwise be skipped by the next call, and in no record
                finish(pending.popleft())
            if not isinstance(error, CancelledError):
                raise
    return results


class _Stop(Event):
    """The end of a batch: set by the batch itself, or by the caller, whose event is only read."""

    def __init__(self, cancelled: Event | None) -> None:
        super().__init__()
        self._cancelled = cancelled

    def is_set(self) -> bool:
        """Whether either is set."""
        return super().is_set() or (self._cancelled is not None and self._cancelled.is_set())


class _Worker:
    """Reads, segments and writes cases, in several threads; large ones are segmented one at a time.

    This way, one case is read or written while another is predicted, and small ones are predicted in parallel.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        output: Path,
        options: PredictOptions,
        *,
        on_prediction: Hook | None,
        progress: Progress | None,
        save_attention: bool,
        large: int,
        destination: Destination,
        cancelled: Event,
    ) -> None:
        self.options = options
        self.cancelled = cancelled
        self._segmenter, self._output, self._destination = segmenter, output, destination
        self._on_prediction, self._progress = on_prediction, progress
        self._save_attention, self._large, self._alone = save_attention, large, Lock()

    def __call__(self, case: Case) -> CaseResult:
        if self.cancelled.is_set():
            raise CancelledError("the prediction was cancelled")
        require_held(self._output)
        started = time.perf_counter()
        try:
            with one_case(), ExitStack() as turn:
                self._destination.check(case)
                volume = self._segmenter.read(case)[1]
                if volume.array[0].size * len(self._segmenter.plan.outputs) > self._large:
                    queued = time.perf_counter()
                    turn.enter_context(self._alone)
                    started += time.perf_counter() - queued
                limit = self.options.time_limit
                left = None if limit is None else max(0.0, limit - (time.perf_counter() - started))
                progress = self._progress
                prediction = self._segmenter.predict(
                    volume,
                    replace(self.options, time_limit=left),
                    name=case.id,
                    progress=None if progress is None else lambda done, total: progress(case.id, done, total),
                    cancelled=self.cancelled,
                )
                if prediction.probabilities is None:
                    turn.close()  # the remaining outputs are small
                extra = (self._on_prediction(prediction) if self._on_prediction else None) or {}
                require_held(self._output)
                written, notices = self._destination.save(
                    prediction, case, self._output, attention=self._save_attention
                )
        except CancelledError:
            raise
        except AttunetError as error:
            require_held(self._output)  # which concerns all cases
            spent = round(time.perf_counter() - started, 3)
            source = source_uids(case)
            return CaseResult(case=case.id, seconds=spent, source=source, error=error.message, hint=error.hint)
        return CaseResult(
            case=case.id,
            mask=str(next(reversed(written.values()))[-1]),
            files={name: tuple(map(str, files)) for name, files in written.items()},
            seconds=round(time.perf_counter() - started, 3),
            volumes_ml={name: rounded(volume, 3) for name, volume in prediction.volumes_ml.items()},
            volume_intervals_ml=rounded_intervals(prediction.volume_intervals_ml, 3),
            expected_dice={name: dice and round(dice, 4) for name, dice in prediction.expected_dice.items()},
            predicted_dice=None if prediction.predicted_dice is None else round(prediction.predicted_dice, 4),
            dice_interval=rounded_interval(prediction.dice_interval, 4),
            windows=prediction.windows,
            air_windows=prediction.air_windows,
            skipped_windows=prediction.skipped_windows,
            warnings=(*image_warnings(case), *notices, *prediction.warnings),
            extra=dict(extra),
            source=source_uids(case),
        )
