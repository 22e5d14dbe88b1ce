"""A cross-validated run: how it does on cases that it has not seen, and what that teaches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attunet.bundle import load_bundle, save_postprocessing
from attunet.config import Plan, Postprocessing, QualityCalibration
from attunet.errors import DataError
from attunet.evaluation.scores import scored_labels
from attunet.evaluation.summary import Summary, summarize
from attunet.report.agreement import DicePair
from attunet.report.cross_validation import write_cross_validation_report
from attunet.selection.calibration import Calibration, calibrate, voxels_per_case
from attunet.selection.judging import judge, mean_dice, take_mask_apart, view
from attunet.selection.out_of_fold import HeldOut, out_of_fold_cases, predict_held_out
from attunet.selection.postprocessing import FEWEST_CASES, Trial, decide_cleaning, kept_cleaning
from attunet.selection.quality import fit_quality
from attunet.selection.samples import Sample

__all__ = ["CrossValidation", "cross_validate"]

Samples = Mapping[str, Sample]

_SHOWN = 3


@dataclass(frozen=True)
class CrossValidation:
    """What a cross-validation found.

    Args:
        folder: where masks, summaries and the report lie.
        summary, postprocessed: scores of the masks as predicted, and after the cleaning that was kept.
        postprocessing: what was kept, with its reasons; it lies in the run as postprocessing.json.
        trials: every cleaning that was kept, and of each label the best one that was not.
        calibration: None where there were too few fully labelled cases.
        dice: case to the mean Dice that the model expected of itself, calibrated, and the one that it had.
        notices: what is to be said about folds that were left out.
    """

    folder: Path
    summary: Summary
    postprocessed: Summary
    postprocessing: Postprocessing
    trials: tuple[Trial, ...]
    calibration: Calibration | None
    dice: Mapping[str, DicePair]
    notices: tuple[str, ...]

    @property
    def report(self) -> Path:
        """Everything on one page, to open in a browser."""
        return self.folder / "report.html"

    def worst(self, count: int = 5) -> list[str]:
        """The cases of the lowest mean Dice after the cleaning, worst first."""
        known = {case: pair.measured for case, pair in self.dice.items() if not np.isnan(pair.measured)}
        return sorted(known, key=lambda case: known[case])[:count]


def cross_validate(
    run: Path, *, device: str = "auto", advance: Callable[[int, int], None] = lambda _done, _total: None
) -> CrossValidation:
    """Judge a run's finished folds on the cases they have not seen; learn cleaning, temperature and quality from them.

    Writes into RUN/cross_validation and RUN/postprocessing.json, which every prediction applies from then on. What an
    earlier call predicted is used again, unless the fold was trained further.
    Args: a model folder; where to compute; called with the steps done and the steps in all.
    Raises: BundleError, DatasetError, DataError as `out_of_fold_cases` and `predict_held_out`.
    """
    cases, notices = out_of_fold_cases(run)
    bundle = load_bundle(run)
    plan = bundle.plan
    step = _counter(4 * len(cases), advance)
    predict_held_out(run, cases, device=device, advance=step)
    trials = decide_cleaning([take_mask_apart(held, plan) for held in _each(cases, step)], plan.foreground)
    cleaning = kept_cleaning(trials)
    summary = summarize([judge(held, plan) for held in _each(cases, step)], scored_labels(plan))
    cleaned = [judge(held, plan, cleaning) for held in _each(cases if cleaning else (), step)]
    postprocessed = summarize(cleaned, scored_labels(plan)) if cleaning else summary
    samples = _load_samples(cases, plan)
    calibration = _calibrate(cases, samples, plan)
    dice = _agreement(cases, samples, plan, postprocessed, calibration.temperature if calibration else 1.0)
    learnt = _refine(plan, trials, calibration, list(dice.values()))
    postprocessing = learnt.model_copy(update={"attention_agreement": bundle.postprocessing.attention_agreement})
    folder = run / "cross_validation"
    found = CrossValidation(folder, summary, postprocessed, postprocessing, trials, calibration, dice, notices)
    summary.write(folder / "summary.json")
    postprocessed.write(folder / "summary_postprocessed.json")
    _write_report(found, run, cases, plan)
    save_postprocessing(postprocessing, run)
    advance(4 * len(cases), 4 * len(cases))
    return found


def _counter(total: int, advance: Callable[[int, int], None]) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        advance(done, total)

    return step


def _each(cases: Sequence[HeldOut], step: Callable[[], None]) -> Iterator[HeldOut]:
    for held in cases:
        yield held
        step()


def _load_samples(cases: Sequence[HeldOut], plan: Plan) -> Samples:
    most = voxels_per_case(len(plan.outputs), len(cases))
    found = {}
    for held in cases:
        sample = Sample.load(held.sample)
        if sample is None:
            raise DataError(f"{held.sample} cannot be read", hint="remove it and start again")
        found[held.case.id] = sample.head(most)
    return found


def _calibrate(cases: Sequence[HeldOut], samples: Samples, plan: Plan) -> Calibration | None:
    """Without the partly labelled cases, whose background may hold labels that were not drawn."""
    complete = [held for held in cases if held.case.annotated is None]
    chosen = {held.case.id: samples[held.case.id] for held in complete}
    return calibrate(chosen, {held.case.id: held.fold for held in complete}, regions=bool(plan.regions))


def _agreement(
    cases: Sequence[HeldOut], samples: Samples, plan: Plan, summary: Summary, temperature: float
) -> dict[str, DicePair]:
    found = {}
    for held, scores in zip(cases, summary.cases, strict=True):
        drawn = [held.case.annotated is None or name in held.case.annotated for name in plan.foreground]
        expected = samples[held.case.id].expected_at(temperature)[drawn]
        known = expected[~np.isnan(expected)]
        found[held.case.id] = DicePair(float(known.mean()) if len(known) else np.nan, mean_dice(scores))
    return found


def _refine(
    plan: Plan, trials: Sequence[Trial], calibration: Calibration | None, dice: Sequence[DicePair]
) -> Postprocessing:
    quality = fit_quality([pair.expected for pair in dice], [pair.measured for pair in dice])
    reasons = {f"postprocessing {name}": _cleaning_reason(name, trials) for name in plan.foreground}
    reasons["temperature"] = (
        calibration.reason if calibration else "1: fewer than five fully labelled cases to fit it on"
    )
    reasons["quality"] = _quality_reason(quality, len(dice))
    return Postprocessing(
        components=kept_cleaning(trials),
        temperature=calibration.temperature if calibration else 1.0,
        quality=quality,
        reasons=reasons,
    )


def _cleaning_reason(name: str, trials: Sequence[Trial]) -> str:
    mine = [trial for trial in trials if trial.label == name]
    if not mine:
        return f"nothing: fewer than {FEWEST_CASES} cases to decide on"
    kept = [trial.reason for trial in mine if trial.kept] or ["nothing"]
    return "; ".join(kept + [f"not kept: {trial.reason}" for trial in mine if not trial.kept])


def _quality_reason(quality: QualityCalibration | None, cases: int) -> str:
    if quality is None:
        return f"not measured: {cases} cases are too few, or all the same"
    return (
        f"rank correlation of expected and measured Dice on {quality.cases} unseen cases: {quality.spearman:.2f} "
        f"({quality.low:.2f} to {quality.high:.2f}); the predicted Dice is off by {quality.error:.3f} on average"
    )


def _write_report(found: CrossValidation, run: Path, cases: Sequence[HeldOut], plan: Plan) -> None:
    known = {held.case.id: held for held in cases}
    cleaning = found.postprocessing.components
    views = [
        view(known[case], plan, cleaning, f"{case}: mean Dice {found.dice[case].measured:.3f}, fold {known[case].fold}")
        for case in found.worst(_SHOWN)
    ]
    calibration = found.calibration
    after = "after" if calibration and calibration.kept else "after, not kept"
    write_cross_validation_report(
        found.report,
        plan=plan,
        subtitle=f"{run.resolve().name}: {len(cases)} cases, each judged by the one network that had not seen it",
        summary=found.summary,
        postprocessed=found.postprocessed,
        postprocessing=found.postprocessing,
        reliability={"before": calibration.before, after: calibration.after} if calibration else {},
        dice=found.dice,
        worst=found.worst(),
        views=views,
    )
