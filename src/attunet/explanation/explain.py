"""`explain`: where the gates of a model look, how their maps score against null maps, and what the gates do."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from threading import Event
from typing import TypeVar

from attunet.data.cases import Case, output_suffix
from attunet.data.volume import Volume
from attunet.errors import AttunetError, CancelledError, ConfigError, FormatError
from attunet.explanation.agreement import attention_agreement
from attunet.explanation.cases import ExplainCase, check_overwrites, select_held_out, spread_evenly
from attunet.explanation.explanation import CaseExplanation, Explanation, organs_of_case
from attunet.explanation.interventions.ablation import AblationRow, ablate_case, gates_of
from attunet.explanation.interventions.ablation_summary import Ablation
from attunet.explanation.interventions.context import localizers_of
from attunet.explanation.interventions.faithfulness import Curve, delete_and_insert
from attunet.explanation.interventions.faithfulness_summary import Faithfulness
from attunet.explanation.report import write_explanation
from attunet.explanation.scoring.case_maps import CaseMaps, MapGrid, case_scores, other_case_scores
from attunet.explanation.scoring.summary import SHUFFLED, TRAINED, AttentionScores, AttentionSummary
from attunet.failures import Failures, as_attunet_error
from attunet.inference.evaluation import EvaluateOptions, LoadedCase, evaluate_case
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.locks import exclusive
from attunet.report.windows import window_map

__all__ = ["ExplainOptions", "explain"]

T = TypeVar("T")
R = TypeVar("R")

SHUFFLE_SEED = 0

_SUBSTEPS = 100
"""Units of progress in one step, that is, one test of one case."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """Which networks `explain` uses, and which tests it runs.

    Args:
        folds: numbers of the folds whose networks are explained; None for all.
        max_cases: largest number of cases to explain, evenly spaced; None for all.
        ablation: replace the gates with 1, their mean, 0 and shuffled maps, and of a cascade the context with its mean,
            a shifted map and 0, and score the masks again.
        faithfulness: delete and insert image regions in order of attention, and score the masks again.
        device: "auto", "cpu" or "cuda", as for `Segmenter.load`.
    """

    folds: tuple[int, ...] | None = None
    max_cases: int | None = None
    ablation: bool = False
    faithfulness: bool = False
    device: str = "auto"


def explain(
    model: str | Path,
    cases: Sequence[Case] | None,
    output: str | Path,
    options: ExplainOptions | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    on_error: Callable[[str, AttunetError], None] | None = None,
    cancelled: Event | None = None,
) -> Explanation:
    """Write attention maps, their scores and a report on where a model looks, compared with null maps.

    The networks are explained as they are: without the calibration and post-processing learnt by cross-validation.
    Of a cascade, the map of the localizer is the first attention map, and all windows are run.
    When all held-out cases of all folds are explained, the rank correlation of attention agreement and Dice is stored
    in the model folder, and later predictions report it.

    Args:
        model: model folder of a network with attention gates, or of a cascade.
        cases: cases to explain, scored against their labels, or against the model's own masks where they have none;
            None for the held-out cases of the folds, each explained by its own fold.
        output: folder for masks, attention/ (maps as NIfTI), summary.json, report.html and its figures.
        options: which folds, how many cases, and which tests of the gates; None for the defaults.
        progress: called with the finished and the total work, in arbitrary units.
        on_error: called with a case and the reason why it cannot be used; by default the reason is logged.
        cancelled: an event that ends the call before its next step.
    Returns: every score; `Explanation.warnings` names the folds that were left out.
    Raises: ConfigError when the model has neither gates nor a localizer, no case could be used or a mask would
        overwrite an image; DatasetError when there are no held-out cases; CancelledError; BundleError, EngineError,
        FormatError.
    """
    model, output, options = Path(model), Path(output), options or ExplainOptions()
    if cases is None:
        selected, warnings = select_held_out(model, options.folds)
    else:
        selected, warnings = [ExplainCase(case, options.folds) for case in cases], ()
    if not selected:
        raise ConfigError("no cases were given to explain", hint="give at least one case, or None for held-out cases")
    study = _Study(
        model,
        spread_evenly(selected, options.max_cases),
        output,
        options,
        _Monitor(progress or _ignore, on_error or _log_error, cancelled or Event()),
    )
    with exclusive(output, "attunet explain"):
        explanation = replace(study.run(), warnings=warnings)
        write_explanation(explanation, output)
    if cases is None and options.max_cases is None and options.folds is None:
        explanation = _with_correlation_saved(explanation, model, output)
    return explanation


def _with_correlation_saved(explanation: Explanation, model: Path, output: Path) -> Explanation:
    """Store the correlation in the model folder; where that is read-only, say where it is instead."""
    if not os.access(model, os.W_OK):
        reason = f"{model} cannot be written to"
    else:
        try:
            explanation.save_correlation(model)
            return explanation
        except (FormatError, OSError) as error:
            reason = as_attunet_error(error).message
    warning = (
        f"{reason}, so its predictions will not report how far the agreement of attention and mask can be trusted; "
        f"the rank correlation is in {output / 'summary.json'}"
    )
    return replace(explanation, warnings=(*explanation.warnings, warning))


def _ignore(_done: int, _total: int) -> None:
    pass


def _log_error(case: str, error: AttunetError) -> None:
    _log.warning("case %s is left out: %s", case, error)


@dataclass
class _Monitor:
    """The caller's callbacks and event, and the steps done."""

    progress: Callable[[int, int], None]
    on_error: Callable[[str, AttunetError], None]
    cancelled: Event
    steps: int = 1
    done: int = 0

    def within(self, done: int, total: int) -> None:
        """Report how much of a step is done. Raises: CancelledError when the caller cancelled."""
        if self.cancelled.is_set():
            raise CancelledError("the explanation was cancelled")
        self.progress(self.done * _SUBSTEPS + done * _SUBSTEPS // total, self.steps * _SUBSTEPS)

    def each(
        self, work: Callable[[T], R], things: Sequence[T], name: Callable[[T], str], test: str = ""
    ) -> Iterator[R]:
        """The results of a step for each item; an item that cannot be used is reported and left out.

        Args:
            work: the step.
            things: its items.
            name: the case of an item.
            test: name of a test without which the case is still explained; empty for the explanation itself.
        Returns: the results.
        """
        for thing in things:
            self.within(0, 1)
            results: list[R] = []
            with Failures(partial(self._report, test)).of(name(thing)):
                results.append(work(thing))
            yield from results
            self.done += 1
        self.within(0, 1)

    def _report(self, test: str, case: str, error: AttunetError) -> None:
        if test:
            message = f"its attention was explained, but the {test} failed: {error.message}"
            error = type(error)(message, hint=error.hint)
        self.on_error(case, error)


class _Study:
    """A model, loaded without calibration and post-processing, and the cases to explain."""

    def __init__(
        self, model: Path, cases: Sequence[ExplainCase], output: Path, options: ExplainOptions, monitor: _Monitor
    ) -> None:
        self._model, self._cases, self._output, self._options = model, cases, output, options
        self._segmenters: dict[tuple[int, ...] | None, tuple[Segmenter, Segmenter]] = {}
        self._monitor = monitor
        self._monitor.steps = len(cases) * (1 + options.ablation + options.faithfulness)
        first, _ = self._open(cases[0].folds)
        self._plan, self._engine = first.plan, first.engines[0].name
        if not gates_of(first) and not localizers_of(first):
            raise ConfigError(f"{model} has no attention gates", hint="explain a model that was trained with a gate")
        check_overwrites(cases, output)

    def run(self) -> Explanation:
        each = self._monitor.each
        cases = tuple(each(self._explain_case, self._cases, lambda case: case.case.id))
        if not cases:
            raise ConfigError("none of the cases could be explained", hint="the warnings above say why")
        scores = [row for case in cases for row in case.scores]
        summary = AttentionSummary((*scores, *other_case_scores([self._maps(case) for case in cases])))
        ablation, faithfulness = None, None
        if self._options.ablation:
            rows = each(partial(self._ablate, _map_means(scores)), cases, lambda case: case.name, "ablation")
            ablation = Ablation(tuple(row for case_rows in rows for row in case_rows))
        if self._options.faithfulness:
            curves = each(self._delete_and_insert, cases, lambda case: case.name, "test of faithfulness")
            faithfulness = Faithfulness(tuple(curve for case_curves in curves for curve in case_curves))
        return Explanation(
            model=self._model.resolve().name,
            plan=self._plan,
            engine=self._engine,
            cases=cases,
            summary=summary,
            ablation=ablation,
            faithfulness=faithfulness,
        )

    def _open(self, folds: tuple[int, ...] | None) -> tuple[Segmenter, Segmenter]:
        """The networks of some folds, with their own and with shuffled weights."""
        if folds not in self._segmenters:
            load = partial(Segmenter.load, self._model, folds=folds, device=self._options.device, raw=True)
            self._segmenters[folds] = load(), load(shuffle=SHUFFLE_SEED)
        return self._segmenters[folds]

    def _explain_case(self, selected: ExplainCase) -> CaseExplanation:
        case, (segmenter, shuffled) = selected.case, self._open(selected.folds)
        # The gates of a cascade are scored on the whole image: the localizer, and not they, decides what is skipped.
        cascade = bool(localizers_of(segmenter))
        predicted = PredictOptions(attention=True, all_windows=cascade)
        options = EvaluateOptions(geometry=selected.geometry, prediction=predicted)
        loaded = LoadedCase.read(case, segmenter, options.geometry)
        evaluated = evaluate_case(segmenter, loaded, options, cancelled=self._monitor.cancelled)
        image, prediction = loaded.image, evaluated.prediction
        organs = organs_of_case(loaded.reference or prediction.segmentation, prediction.content, self._plan, case)
        scores = case_scores(TRAINED, evaluated.name, prediction.attention, prediction.content, organs)
        null = shuffled.predict(image, options.prediction, cancelled=self._monitor.cancelled)
        scores += case_scores(SHUFFLED, evaluated.name, null.attention, null.content, organs)
        suffix = output_suffix(case)
        return CaseExplanation(
            selected=selected,
            mask=prediction.save(self._output, suffix=suffix),
            maps=prediction.attention_files(self._output, suffix=suffix),
            grid=MapGrid(image.affine, image.spatial_shape, prediction.content),
            scores=scores,
            agreement=attention_agreement(prediction),
            dice=evaluated.dice,
            windows=window_map(segmenter.plan_case(image, PredictOptions()), image) if cascade else None,
        )

    def _maps(self, case: CaseExplanation) -> CaseMaps:
        return CaseMaps(case=case.name, grid=case.grid, maps=case.maps, organs=partial(case.organs, self._plan))

    def _ablate(self, means: Mapping[str, float], case: CaseExplanation) -> tuple[AblationRow, ...]:
        segmenter, _ = self._open(case.selected.folds)
        return ablate_case(
            segmenter,
            *_image_and_reference(case),
            case=case.name,
            annotated=case.selected.case.annotated,
            means=means,
            advance=self._monitor.within,
        )

    def _delete_and_insert(self, case: CaseExplanation) -> tuple[Curve, ...]:
        segmenter, _ = self._open(case.selected.folds)
        return delete_and_insert(
            segmenter,
            *_image_and_reference(case),
            case=case.name,
            annotated=case.selected.case.annotated,
            advance=self._monitor.within,
        )


def _image_and_reference(case: CaseExplanation) -> tuple[Volume, Volume | None]:
    return case.image(), case.reference() if case.dice else None


def _map_means(rows: Sequence[AttentionScores]) -> dict[str, float]:
    """The mean of each map of the trained model over the cases."""
    means: dict[str, list[float]] = {}
    for row in rows:
        if row.source == TRAINED and not row.label:
            means.setdefault(row.gate, []).append(row.values["mean"])
    return {gate: fmean(values) for gate, values in means.items()}
