"""The one evaluator: segment labelled cases with a model, and score the masks against the references."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Event
from typing import Self

from attunet.config import Plan
from attunet.data.cases import Case, GeometryPolicy, read_case_label
from attunet.data.volume import Volume
from attunet.evaluation.scores import CaseScores, dice_case, score_case, scored_labels
from attunet.failures import Failures, one_case
from attunet.inference.prediction import Prediction, PredictOptions
from attunet.inference.segmenter import Segmenter

__all__ = ["EvaluateOptions", "EvaluatedCase", "LoadedCase", "evaluate_case", "evaluate_cases"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How labelled cases are read and segmented.

    Args:
        geometry: what to do where the grid of a label differs from its image's.
        prediction: options of the prediction.
    """

    geometry: GeometryPolicy = "fail"
    prediction: PredictOptions = field(default_factory=PredictOptions)


@dataclass(frozen=True)
class LoadedCase:
    """A case in memory.

    Args:
        case: its files.
        image: its image, checked against the model's requirements.
        reference: its label on the image's grid; None if it has none.
    """

    case: Case
    image: Volume
    reference: Volume | None = None

    @classmethod
    def read(cls, case: Case, segmenter: Segmenter, geometry: GeometryPolicy = "fail") -> Self:
        """Read the image and the label of a case.

        Args:
            case: its files.
            segmenter: the model that the image must suit.
            geometry: what to do where the label's grid differs from the image's.
        Returns: the case in memory.
        Raises: DataError and its subclasses when a file cannot be read or does not suit the model.
        """
        _, image = segmenter.read(case)
        return cls(case, image, None if case.label is None else read_case_label(case, image, geometry=geometry))


@dataclass(frozen=True)
class EvaluatedCase:
    """A segmented case and its scores, which are computed on first access.

    Args:
        loaded: image and reference.
        prediction: the prediction of the model.
        seconds: time of the prediction, without reading and scoring.
        plan: plan of the model, which determines what is scored.
    """

    loaded: LoadedCase
    prediction: Prediction
    seconds: float
    plan: Plan = field(repr=False)

    @property
    def name(self) -> str:
        """Name of the case."""
        return self.loaded.case.id

    @property
    def image(self) -> Volume:
        """Its image."""
        return self.loaded.image

    @property
    def reference(self) -> Volume | None:
        """Its label on the image's grid; None if it has none."""
        return self.loaded.reference

    @cached_property
    def scores(self) -> CaseScores:
        """Every metric of every label annotated in the case; none where it has no label."""
        case, reference = self.loaded.case, self.reference
        if reference is None:
            return CaseScores(self.name)
        scores = score_case(
            reference.array[0],
            self.prediction.segmentation.array[0],
            scored_labels(self.plan),
            self.image.voxel,
            ignore=self.plan.ignore_label,
            annotated=case.annotated,
        )
        return CaseScores(self.name, scores, reference_file=str(case.label))

    @cached_property
    def dice(self) -> dict[str, float]:
        """The Dice of every label annotated in the case, without the other metrics, which take longer."""
        mask, annotated = self.prediction.segmentation.array[0], self.loaded.case.annotated
        return {} if self.reference is None else dice_case(self.reference.array[0], mask, self.plan, annotated)


def evaluate_cases(
    segmenter: Segmenter,
    cases: Sequence[Case],
    options: EvaluateOptions | None = None,
    *,
    progress: Progress = lambda _done, _total: None,
    cancelled: Event | None = None,
    failures: Failures | None = None,
) -> Iterator[EvaluatedCase]:
    """Segment cases one after the other; one at a time is held in memory.

    Args:
        segmenter: the model.
        cases: cases to segment; a case without a label has no scores.
        options: None for the defaults.
        progress: called with the number of finished cases and of all cases, when the next case is requested.
        cancelled: an event that ends a prediction before its next windows.
        failures: receives the cases that cannot be used, which yield nothing; None raises the first failure.
    Yields: the cases in order.
    Raises: DataError and its subclasses for a case that cannot be read or does not suit the model, CancelledError once
        `cancelled` is set.
    """
    options = options or EvaluateOptions()
    for done, case in enumerate(cases, start=1):
        evaluated = None
        with failures.of(case.id) if failures is not None else one_case(case.id):
            loaded = LoadedCase.read(case, segmenter, options.geometry)
            evaluated = evaluate_case(segmenter, loaded, options, cancelled=cancelled)
            del loaded
        if evaluated is not None:
            yield evaluated
        del evaluated  # before the next is read
        progress(done, len(cases))


def evaluate_case(
    segmenter: Segmenter,
    loaded: LoadedCase,
    options: EvaluateOptions | None = None,
    *,
    cancelled: Event | None = None,
) -> EvaluatedCase:
    """Segment a loaded case.

    Args:
        segmenter: the model.
        loaded: the case.
        options: None for the defaults; `geometry` is not used.
        cancelled: an event that ends the prediction before its next windows.
    Returns: its mask, the time it took, and its scores.
    Raises: as `Segmenter.predict`.
    """
    options = options or EvaluateOptions()
    started = time.perf_counter()
    prediction = segmenter.predict(loaded.image, options.prediction, name=loaded.case.id, cancelled=cancelled)
    return EvaluatedCase(loaded, prediction, time.perf_counter() - started, segmenter.plan)
