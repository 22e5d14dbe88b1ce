"""Batch prediction: many cases with one segmenter."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

from attunet.data.cases import Case
from attunet.errors import CancelledError
from attunet.inference.case_worker import LARGE, CaseResult, CaseWorker, Hook, Progress
from attunet.inference.destination import Destination
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.locks import exclusive

__all__ = ["predict_cases"]

_THREADS = 2


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
    worker = CaseWorker(
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
