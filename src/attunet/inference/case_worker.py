"""One case from its file to its mask: what a batch on one machine and a worker of a cluster do alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Any

from attunet.config import PredictionInterval
from attunet.data.cases import Case, image_warnings, source_uids
from attunet.data.geometry import rounded
from attunet.data.inputs import fetched
from attunet.errors import AttunetError, CancelledError
from attunet.failures import one_case
from attunet.inference.destination import Destination
from attunet.inference.intervals import rounded_interval, rounded_intervals
from attunet.inference.prediction import Prediction, PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.locks import require_held

__all__ = ["CaseResult", "CaseWorker"]

LARGE = 2**24
"""Size of a case (voxels × classes) from which it keeps every core busy by itself."""

Hook = Callable[[Prediction], Mapping[str, Any] | None]
"""Called with each prediction before it is written; its return value becomes `CaseResult.extra`."""

Progress = Callable[[str, int, int], None]
"""Called with a case, the number of its finished windows and of all its windows."""


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """The outcome of one case.

    Args:
        case: its name.
        mask: file of its mask, or of the first other type where no image files are written; None when the case failed.
        files: its files by the type of output, as of `Destination`.
        seconds: time of its own steps, which overlap with those of other cases; that of fetching is not included.
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


class CaseWorker:
    """Reads, segments and writes cases, in several threads; large ones are segmented one at a time.

    This way, one case is read or written while another is predicted, and small ones are predicted in parallel.

    Args:
        segmenter: the model.
        output: the folder of the results, which this program or the one that it works for holds, see `exclusive`.
        options: options of every prediction.
        destination: what is written, and how it is named.
        on_prediction: see `Hook`; None for none.
        progress: see `Progress`; None for none.
        save_attention: write the attention as image files.
        large: size of a case (voxels × classes) from which it is predicted alone.
        cancelled: an event that stops predictions before their next windows; None for none.
        alone: the turn of large cases, which several workers of a process share; None for one of its own.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        output: Path,
        options: PredictOptions,
        *,
        destination: Destination,
        on_prediction: Hook | None = None,
        progress: Progress | None = None,
        save_attention: bool = True,
        large: int = LARGE,
        cancelled: Event | None = None,
        alone: Lock | None = None,
    ) -> None:
        self.options = options
        self.cancelled = cancelled or Event()
        self._segmenter, self._output, self._destination = segmenter, output, destination
        self._on_prediction, self._progress = on_prediction, progress
        self._save_attention, self._large, self._alone = save_attention, large, alone or Lock()

    def __call__(self, case: Case, *, shared: bool = False) -> CaseResult:
        """Predict a case and write its results.

        Args:
            case: the case.
            shared: whether other programs may write the same case at this time, so that the first to publish wins.
        Returns: its result, with the error of one that cannot be predicted.
        Raises: CancelledError once `cancelled` is set, FormatError when the folder has vanished.
        """
        if self.cancelled.is_set():
            raise CancelledError("the prediction was cancelled")
        self._check_output()
        started = time.perf_counter()
        try:
            with one_case(), fetched(case, self.options.scratch or self._output) as local, ExitStack() as turn:
                started = time.perf_counter() if case.remote else started  # a slow network costs no windows
                self._destination.check(local)
                volume = self._segmenter.read(local)[1]
                if volume.array[0].size * len(self._segmenter.plan.outputs) > self._large:
                    queued = time.perf_counter()
                    turn.enter_context(self._alone)
                    started += time.perf_counter() - queued
                prediction = self._segmenter.predict(
                    volume,
                    self._options_left(time.perf_counter() - started),
                    name=case.id,
                    progress=self._progress and partial(self._progress, case.id),
                    cancelled=self.cancelled,
                )
                if prediction.probabilities is None:
                    turn.close()  # the remaining outputs are small
                extra = (self._on_prediction(prediction) if self._on_prediction else None) or {}
                files, notices = self._write(prediction, local, shared=shared)
                return _result(local, prediction, files, notices, extra, time.perf_counter() - started)
        except CancelledError:
            raise
        except AttunetError as error:
            self._check_output()  # which concerns all cases
            spent = round(time.perf_counter() - started, 3)
            source = source_uids(case)
            return CaseResult(case=case.id, seconds=spent, source=source, error=error.message, hint=error.hint)

    def _options_left(self, seconds: float) -> PredictOptions:
        """The options of a prediction, `seconds` of whose time are spent."""
        limit = self.options.time_limit
        return self.options if limit is None else replace(self.options, time_limit=max(0.0, limit - seconds))

    def _write(self, prediction: Prediction, case: Case, *, shared: bool) -> tuple[_Files, tuple[str, ...]]:
        """Write a prediction; its files as a user knows them, and what a reader of them should know."""
        self._check_output()
        write = self._destination.publish if shared or self._destination.store else self._destination.save
        written, notices = write(prediction, case, self._output, attention=self._save_attention)
        shown = {
            name: tuple(self._destination.shown(file, self._output) for file in paths)
            for name, paths in written.items()
        }
        return shown, notices

    def _check_output(self) -> None:
        """Raises: FormatError when the folder has vanished, into which the results go."""
        if self._destination.store is None:
            require_held(self._output)


_Files = dict[str, tuple[str, ...]]


def _result(
    case: Case,
    prediction: Prediction,
    files: _Files,
    notices: tuple[str, ...],
    extra: Mapping[str, Any],
    seconds: float,
) -> CaseResult:
    """The result of a case that was written."""
    return CaseResult(
        case=case.id,
        mask=next(reversed(files.values()))[-1],
        files=files,
        seconds=round(seconds, 3),
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
