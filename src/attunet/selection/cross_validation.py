"""Cross-validate a run: score its folds on their held-out cases, and decide how every prediction is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TypeVar, cast

import numpy as np

from attunet.bundle import Bundle, HeldOutCase, held_out_cases, load_bundle, save_postprocessing
from attunet.config import (
    Evidence,
    Plan,
    Postprocessing,
    PredictionChoice,
    QualityCalibration,
    TrainingConfig,
    load_settings,
)
from attunet.config.prediction_choice import FOLDS_AVERAGED
from attunet.errors import CancelledError, DataError
from attunet.evaluation.scores import scored_labels
from attunet.evaluation.summary import Summary, summarize
from attunet.failures import Failures
from attunet.locks import exclusive_if_writable
from attunet.report.calibration import DicePair
from attunet.report.cross_validation import write_cross_validation_report
from attunet.selection.calibration import Calibration, calibrate, voxels_per_case
from attunet.selection.fold_decision import single_fold_references
from attunet.selection.held_out import evaluate_held_out, evaluate_variants
from attunet.selection.held_out_cache import HeldOutResult, biased_cache, caches_of_variants
from attunet.selection.intervals import with_intervals
from attunet.selection.operating_point import OperatingPoint, choose_operating_point
from attunet.selection.postprocessing import Trial, accepted_rules, decide_rules, rules_reasons
from attunet.selection.prediction_choice import choose_mirroring, held_out_dice, settle, with_folds
from attunet.selection.quality import fit_quality
from attunet.selection.samples import Sample
from attunet.selection.saved_masks import mask_components, score_mask, view_mask

__all__ = ["CrossValidation", "cross_validate"]

T = TypeVar("T")
Samples = Mapping[str, Sample]
Progress = Callable[[int, int], None]

_SHOWN = 3
_STEPS = 3  # of a case: its mask is scored, divided into components, and scored after post-processing


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """The result of a cross-validation.

    Args:
        folder: folder of masks, summaries and the report.
        summary: scores of the masks as predicted.
        postprocessed: scores of the masks at the accepted operating point, after the accepted post-processing.
        postprocessing: what was decided on these cases, with reasons; saved in the run.
        trials: every accepted post-processing, and for each label the best rejected one.
        calibration: the temperature and its effect; None if there are too few fully annotated cases.
        dice: case to the mean Dice expected by the calibrated model, and the measured one.
        warnings: folds that were left out, and why.
        failed: cases that could not be used, and why; they count nowhere.
    """

    folder: Path
    summary: Summary
    postprocessed: Summary
    postprocessing: Postprocessing
    trials: tuple[Trial, ...]
    calibration: Calibration | None
    dice: Mapping[str, DicePair]
    warnings: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def worst(self, count: int = 5) -> list[str]:
        """The cases with the lowest mean Dice after post-processing, worst first."""
        measured = {case: pair.measured for case, pair in self.dice.items() if not np.isnan(pair.measured)}
        return sorted(measured, key=lambda case: measured[case])[:count]


def cross_validate(
    run: Path,
    *,
    device: str = "auto",
    progress: Progress = lambda _done, _total: None,
    cancelled: Event | None = None,
) -> CrossValidation:
    """Evaluate a run's finished folds on held-out cases, and decide on them how every prediction is made.

    That is: mirroring, the operating point, post-processing, temperature, predicted Dice and prediction intervals.

    Writes RUN/cross_validation and RUN/postprocessing.json, which every prediction applies from then on. Predictions of
    an earlier call are reused, unless the fold was trained further or the case has changed.

    Args:
        run: the model folder.
        device: auto, cpu or cuda.
        progress: called with the number of finished steps and of all steps, three for each case.
        cancelled: an event that ends the call after its current step; the next call reuses finished results.
    Returns: the scores, and the accepted post-processing and calibration with reasons.
    Raises: BundleError for a folder that is not a finished run, DatasetError when no case was held out, an error
        of the first case when none can be used, CancelledError once `cancelled` is set.
    """
    with exclusive_if_writable([fold.folder for fold in load_bundle(run).folds], "attunet, which cross-validates"):
        return _cross_validate(run, device, progress, cancelled)


def _cross_validate(run: Path, device: str, progress: Progress, cancelled: Event | None) -> CrossValidation:
    cases, warnings = held_out_cases(run)
    bundle = load_bundle(run)
    plan, folder = bundle.plan, run / "cross_validation"
    step = _counter(_STEPS * len(cases), progress, cancelled)
    failures = Failures()
    evaluated = evaluate_variants(
        run, cases, caches_of_variants(folder, plan), device=device, cancelled=cancelled, failures=failures
    )
    variants = [*_each(evaluated, step)]
    failures.raise_if_all(len(variants))
    measured = [
        [(held_out_dice(result), result.seconds) for result in column] for column in zip(*variants, strict=True)
    ]
    prediction, why_mirrored = choose_mirroring(measured, plan)
    plain = [variant[1 if prediction.mirror is False else 0] for variant in variants]
    cases = tuple(result.case for result in plain)
    point = choose_operating_point(cases, _load_samples(plain, plan), plan)
    results = plain
    if point.accepted:
        biased = biased_cache(folder, mirror=prediction.mirror is not False, biases=point.by_fold)
        shifted = [*evaluate_held_out(run, cases, biased, device=device, cancelled=cancelled)]
        point = _measured(point, plain, shifted)
        results = shifted if point.accepted else plain
    masks = [(result.case, cast(Path, result.mask)) for result in results]
    components = [mask_components(*saved, plan) for saved in _each(masks, step)]
    references = single_fold_references(run, cases, plan)
    trials = decide_rules(components, plan.foreground, references)
    rules = accepted_rules(trials)
    summary = replace(summarize([result.scores for result in plain], scored_labels(plan)), failed=failures.messages)
    cleaned = [score_mask(*saved, plan, rules) for saved in _each(masks if rules else (), step)]
    scores = cleaned or [result.scores for result in results]
    postprocessed = replace(summary, cases=summarize(scores, scored_labels(plan)).cases)
    samples = _load_samples(results, plan)
    calibration = _calibrate(cases, samples, plan)
    dice = _dice_pairs(cases, samples, plan, postprocessed, calibration.temperature if calibration else 1.0)
    reasons = rules_reasons(plan.foreground, trials, few=references is not None)
    fitted = _fit(reasons, trials, calibration, list(dice.values()))
    prediction = settle(with_folds(prediction, bundle.postprocessing.prediction), len(bundle.folds))
    fitted = fitted.model_copy(
        update={
            "attention_agreement": bundle.postprocessing.attention_agreement,
            "prediction": prediction,
            "evidence": Evidence(cases=len(cases), folds=tuple(dict.fromkeys(case.fold for case in cases))),
            "logit_bias": dict(point.fitted) if point.accepted else {},
            "reasons": {
                "mirroring": why_mirrored,
                "operating point": point.reason,
                **fitted.reasons,
                **_folds_reason(bundle, prediction),
            },
        }
    )
    postprocessing = with_intervals(fitted, postprocessed, list(dice.values()), [case.fold for case in cases])
    validated = CrossValidation(
        folder=folder,
        summary=summary,
        postprocessed=postprocessed,
        postprocessing=postprocessing,
        trials=trials,
        calibration=calibration,
        dice=dice,
        warnings=warnings,
        failed=failures.messages,
    )
    summary.write(folder / "summary.json")
    postprocessed.write(folder / "summary_postprocessed.json")
    _write_report(validated, run, results, plan)
    save_postprocessing(postprocessing, run)
    progress(_STEPS * len(cases), _STEPS * len(cases))
    return validated


def _measured(point: OperatingPoint, before: Sequence[HeldOutResult], after: Sequence[HeldOutResult]) -> OperatingPoint:
    """The operating point with its gain on the masks of the fully annotated cases."""
    pairs = [pair for pair in zip(before, after, strict=True) if pair[0].case.case.annotated is None]
    return point.measured(*([held_out_dice(result) for result in column] for column in zip(*pairs, strict=True)))


def _folds_reason(bundle: Bundle, prediction: PredictionChoice) -> dict[str, str]:
    """Why so many folds are averaged; only unseen cases can decide that, see `measure_folds`."""
    if len(bundle.folds) == 1:
        return {}
    if any(row.measured_on == "unseen" and row.cases for row in prediction.measured):
        return {FOLDS_AVERAGED: bundle.postprocessing.reasons[FOLDS_AVERAGED]}
    return {FOLDS_AVERAGED: "all, not decided: every case was seen by all folds but one; --unseen gives others"}


def _counter(total: int, progress: Progress, cancelled: Event | None) -> Callable[[], None]:
    """Counts steps, reports them, and raises CancelledError once the event is set."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, total)
        if cancelled is not None and cancelled.is_set():
            raise CancelledError("the cross-validation was cancelled", hint="start it again to resume")

    return step


def _each(items: Iterable[T], step: Callable[[], None]) -> Iterator[T]:
    for item in items:
        yield item
        step()


def _load_samples(results: Sequence[HeldOutResult], plan: Plan) -> Samples:
    most = voxels_per_case(len(plan.outputs), len(results))
    samples = {}
    for result in results:
        sample = Sample.load(result.sample) if result.sample else None
        if sample is None:
            raise DataError(f"{result.sample} cannot be read", hint="remove it and start again")
        samples[result.case.case.id] = sample.head(most)
    return samples


def _calibrate(cases: Sequence[HeldOutCase], samples: Samples, plan: Plan) -> Calibration | None:
    """Calibrate without partially annotated cases, whose background may contain labels that are not annotated."""
    complete = [entry for entry in cases if entry.case.annotated is None]
    chosen = {entry.case.id: samples[entry.case.id] for entry in complete}
    return calibrate(chosen, {entry.case.id: entry.fold for entry in complete}, regions=bool(plan.regions))


def _dice_pairs(
    cases: Sequence[HeldOutCase], samples: Samples, plan: Plan, summary: Summary, temperature: float
) -> dict[str, DicePair]:
    pairs = {}
    for entry, scores in zip(cases, summary.cases, strict=True):
        annotated = [entry.case.annotated is None or name in entry.case.annotated for name in plan.foreground]
        expected = samples[entry.case.id].expected_at(temperature)[annotated]
        known = expected[~np.isnan(expected)]
        pairs[entry.case.id] = DicePair(float(known.mean()) if len(known) else np.nan, scores.mean_dice)
    return pairs


def _fit(
    reasons: Mapping[str, str], trials: Sequence[Trial], calibration: Calibration | None, dice: Sequence[DicePair]
) -> Postprocessing:
    quality = fit_quality([pair.expected for pair in dice], [pair.measured for pair in dice])
    fitted = calibration.reason if calibration else "1: fewer than five fully annotated cases to fit it on"
    reasons = {**reasons, "temperature": fitted, "quality": _quality_reason(quality, len(dice))}
    return Postprocessing(
        components=accepted_rules(trials),
        temperature=calibration.temperature if calibration else 1.0,
        quality=quality,
        reasons=reasons,
    )


def _quality_reason(quality: QualityCalibration | None, cases: int) -> str:
    if quality is None:
        return f"not measured: {cases} cases are too few, or all the same"
    return (
        f"rank correlation of expected and measured Dice on {quality.cases} held-out cases: {quality.spearman:.2f} "
        f"({quality.low:.2f} to {quality.high:.2f}); the predicted Dice is off by {quality.error:.3f} on average"
    )


def _write_report(validated: CrossValidation, run: Path, results: Sequence[HeldOutResult], plan: Plan) -> None:
    known = {result.case.case.id: result for result in results}
    recipe, views = run / "training.yaml", []
    shown = not recipe.is_file() or load_settings(TrainingConfig, recipe).case_images
    for name in validated.worst(_SHOWN) if shown else ():
        case, mask = known[name].case, cast(Path, known[name].mask)
        title = f"{name}: mean Dice {validated.dice[name].measured:.3f}, fold {case.fold}"
        views.append(view_mask(case, mask, plan, validated.postprocessing.components, title))
    calibration = validated.calibration
    after = "after" if calibration and calibration.accepted else "after, not accepted"
    write_cross_validation_report(
        validated.report,
        plan=plan,
        subtitle=f"{run.resolve().name}: {len(results)} cases, each segmented by the fold that held it out",
        summary=validated.summary,
        postprocessed=validated.postprocessed,
        postprocessing=validated.postprocessing,
        reliability={"before": calibration.before, after: calibration.after} if calibration else {},
        dice=validated.dice,
        worst=validated.worst(),
        views=views,
    )
