"""What a prediction would cost, before anything is predicted: the windows and the memory of each case."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attunet.data.cases import Case, image_warnings
from attunet.data.inputs import fetched
from attunet.errors import AttunetError
from attunet.failures import one_case
from attunet.inference.case import warm_up
from attunet.inference.familiarity import unfamiliar
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter

__all__ = ["CaseEstimate", "estimate_cases"]


@dataclass(frozen=True, kw_only=True)
class CaseEstimate:
    """The estimated cost of one case.

    Args:
        case: its name.
        shape: voxels of its image along each axis.
        windows: number of windows to run.
        air_windows: see `Prediction.air_windows`.
        skipped_windows: see `Prediction.skipped_windows`.
        bands: number of bands into which the case is cut to save memory.
        peak_bytes: peak memory of the process.
        warnings: see `Prediction.warnings`.
        error: why it cannot be predicted; None when it can.
        hint: what to do about the error.
    """

    case: str
    shape: tuple[int, int, int] = (0, 0, 0)
    windows: int = 0
    air_windows: int = 0
    skipped_windows: int = 0
    bands: int = 0
    peak_bytes: int = 0
    warnings: tuple[str, ...] = ()
    error: str | None = None
    hint: str = ""


def estimate_cases(
    segmenter: Segmenter, cases: Sequence[Case], options: PredictOptions | None = None
) -> Iterator[CaseEstimate]:
    """Estimate the cost of each case: its image is read and preprocessed, localizers are run, and nothing is written.

    Args:
        segmenter: the model, whose engines are run once.
        cases: their images.
        options: options of the predictions; None for the defaults.
    Returns: an estimate for every case, with an error for one that cannot be predicted.
    """
    options = options or PredictOptions()
    warm_up(segmenter.members)
    scratch = options.scratch or Path(tempfile.gettempdir())
    for case in cases:
        try:
            with one_case(), fetched(case, scratch) as local:
                estimate = _estimate(segmenter, local, options)
        except AttunetError as error:
            estimate = CaseEstimate(case=case.id, error=error.message, hint=error.hint)
        yield estimate


def _estimate(segmenter: Segmenter, case: Case, options: PredictOptions) -> CaseEstimate:
    _, volume = segmenter.read(case)
    plan = segmenter.plan_case(volume, options)
    return CaseEstimate(
        case=case.id,
        shape=volume.spatial_shape,
        windows=plan.windows,
        air_windows=plan.air_windows,
        skipped_windows=plan.skipped_windows,
        bands=plan.chunking.bands,
        peak_bytes=plan.peak_bytes,
        warnings=(*image_warnings(case), *unfamiliar(volume, plan.content, segmenter.plan), *plan.warnings),
    )
