"""Explain a model on many cases: look at each, score its maps beside their nulls, then test the gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from attunet.data.cases import Case, read_case_label
from attunet.data.formats import mask_suffix, suffix_of
from attunet.data.volume import Volume
from attunet.errors import AttunetError, ConfigError
from attunet.evaluation.scores import dice_case
from attunet.explanation.agreement import attention_agreement
from attunet.explanation.explanation import CaseExplanation, ExplainCase, Explanation, organs_of_case
from attunet.explanation.interventions.ablation import AblationRow, ablate_case, gates_of
from attunet.explanation.interventions.ablation_summary import Ablation
from attunet.explanation.interventions.faithfulness import Curve, delete_and_insert
from attunet.explanation.interventions.faithfulness_summary import Faithfulness
from attunet.explanation.scoring.case_maps import CaseMaps, case_scores, other_case_scores
from attunet.explanation.scoring.summary import SHUFFLED, TRAINED, AttentionScores, AttentionSummary
from attunet.inference.segmenter import Segmenter

__all__ = ["Study"]

T = TypeVar("T")
R = TypeVar("R")

SEED = 0
"""Of the shuffled weights."""

_PARTS = 100
"""In which a step is told."""


class Study:
    """A model, opened as the networks themselves (without refinement), and the cases to explain it by.

    Args: the model folder; the cases; where masks and maps are written; the device; whether to replace gates, and to
        delete and insert the image; told of steps done and in all, and of each case that cannot be used.
    Raises: ConfigError when the model has no gates or a mask would overwrite an image; BundleError, EngineError.
    """

    def __init__(
        self,
        model: Path,
        selected_cases: Sequence[ExplainCase],
        output: Path,
        *,
        device: str = "auto",
        ablation: bool = False,
        faithfulness: bool = False,
        advance: Callable[[int, int], None] = lambda _done, _total: None,
        failed: Callable[[str, AttunetError], None] = lambda _case, _error: None,
    ) -> None:
        self._model, self._device = model, device
        self._opened: dict[tuple[int, ...] | None, tuple[Segmenter, Segmenter]] = {}
        self._subjects, self._output = tuple(selected_cases), output
        self._ablation, self._faithfulness = ablation, faithfulness
        self._advance, self._failed = advance, failed
        self._done, self._steps = 0, len(selected_cases) * (1 + ablation + faithfulness)
        first, _ = self._segmenters(selected_cases[0])
        self._plan = first.plan
        if not gates_of(first):
            raise ConfigError(f"{model} has no attention gates", hint="explain a model that was trained with a gate")
        _spare_images(selected_cases, output)

    def run(self) -> Explanation:
        """Look at every case, then test the gates; a case that cannot be used is told of and left out.

        Raises: ConfigError when none could be used.
        """
        cases = tuple(self._each(self._look, self._subjects, lambda selected: selected.case.id))
        if not cases:
            raise ConfigError("none of the cases could be explained", hint="see above what was wrong with each")
        own = [row for case in cases for row in case.scores]
        summary = AttentionSummary((*own, *other_case_scores([self._looked(case) for case in cases])))
        ablation, faithfulness = None, None
        if self._ablation:
            rows = self._each(partial(self._ablate, _means(own)), cases, lambda case: case.name)
            ablation = Ablation(tuple(row for found in rows for row in found))
        if self._faithfulness:
            curves = self._each(self._delete, cases, lambda case: case.name)
            faithfulness = Faithfulness(tuple(curve for found in curves for curve in found))
        engine = self._segmenters(self._subjects[0])[0].engines[0].name
        return Explanation(self._model.resolve().name, self._plan, engine, cases, summary, ablation, faithfulness)

    def _each(self, work: Callable[[T], R], things: Sequence[T], name: Callable[[T], str]) -> Iterator[R]:
        for thing in things:
            self._within(0, 1)
            try:
                yield work(thing)
            except AttunetError as error:
                self._failed(name(thing), error)
            self._done += 1
        self._within(0, 1)

    def _segmenters(self, selected: ExplainCase) -> tuple[Segmenter, Segmenter]:
        """The model as it is and with shuffled weights, for a case."""
        if selected.folds not in self._opened:
            load = partial(Segmenter.load, self._model, folds=selected.folds, device=self._device, raw=True)
            self._opened[selected.folds] = load(), load(shuffle=SEED)
        return self._opened[selected.folds]

    def _look(self, selected: ExplainCase) -> CaseExplanation:
        case = selected.case
        segmenter, shuffled = self._segmenters(selected)
        name, image = segmenter.read(case)
        label = read_case_label(case, image, geometry=selected.geometry) if case.label else None
        seen = segmenter.predict(image, name=name, attention=True)
        organs = organs_of_case(label or seen.segmentation, seen.content, self._plan, case)
        scores = case_scores(TRAINED, name, seen.attention, seen.content, organs)
        null = shuffled.predict(image, attention=True)
        scores += case_scores(SHUFFLED, name, null.attention, null.content, organs)
        mask = seen.save(self._output, suffix=_suffix(case))
        return CaseExplanation(
            selected=selected,
            mask=mask,
            maps=seen.attention_files(self._output, suffix=_suffix(case)),
            place=(image.affine, image.spatial_shape, seen.content),
            scores=scores,
            agreement=attention_agreement(seen),
            dice=dice_case(label.array[0], seen.segmentation.array[0], self._plan, case.annotated) if label else {},
        )

    def _looked(self, case: CaseExplanation) -> CaseMaps:
        return CaseMaps(case.name, case.place, case.maps, partial(case.organs, self._plan))

    def _ablate(self, means: Mapping[str, float], case: CaseExplanation) -> tuple[AblationRow, ...]:
        segmenter, _ = self._segmenters(case.selected)
        image, reference, annotated = self._given(case)
        return ablate_case(
            segmenter, image, reference, case=case.name, annotated=annotated, means=means, advance=self._within
        )

    def _delete(self, case: CaseExplanation) -> tuple[Curve, ...]:
        segmenter, _ = self._segmenters(case.selected)
        image, reference, annotated = self._given(case)
        return delete_and_insert(segmenter, image, reference, case=case.name, annotated=annotated, advance=self._within)

    def _given(self, case: CaseExplanation) -> tuple[Volume, Volume | None, tuple[str, ...] | None]:
        """Image, reference if there is one, and the labels that were drawn in it."""
        return case.image(), case.reference() if case.dice else None, case.selected.case.annotated

    def _within(self, done: int, total: int) -> None:
        """Part of a step was done."""
        self._advance(self._done * _PARTS + done * _PARTS // total, self._steps * _PARTS)


def _means(rows: Sequence[AttentionScores]) -> dict[str, float]:
    """Of each map of the trained model, its mean over the cases."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.source == TRAINED and not row.label:
            found.setdefault(row.gate, []).append(row.values["mean"])
    return {gate: fmean(values) for gate, values in found.items()}


def _suffix(case: Case) -> str:
    return suffix_of(case.images[0]) or ".nii.gz"


def _spare_images(selected_cases: Sequence[ExplainCase], output: Path) -> None:
    for selected in selected_cases:
        target = output / f"{selected.case.id}{mask_suffix(_suffix(selected.case))}"
        kept = [*selected.case.images, *([selected.case.label] if selected.case.label else [])]
        if target.resolve() in [path.resolve() for path in kept]:
            raise ConfigError(f"{target} would be overwritten by its mask", hint="choose another -o")
