"""Evaluate the folds of a run on their held-out cases, with a cache of results."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from threading import Event
from typing import Any

from attunet.bundle import EXECUTION, HeldOutCase, fold_folder, load_bundle
from attunet.bundle.execution import AIR
from attunet.bundle.manifest import read_sums
from attunet.bundle.skipping import SKIPPING
from attunet.config import Plan
from attunet.data.cases import output_suffix
from attunet.data.file_states import content_digest, file_states, record_files, unchanged
from attunet.data.formats import mask_suffix, write_volume
from attunet.data.preprocess import prepare, prepare_label
from attunet.documents import read_document, reading
from attunet.errors import CancelledError, FormatError
from attunet.evaluation.metrics import METRICS
from attunet.evaluation.scores import CaseScores, scored_labels
from attunet.evaluation.summary_file import case_from_json, case_to_json, plain
from attunet.failures import Failures, one_case
from attunet.files import write_text
from attunet.inference.evaluation import EvaluateOptions, LoadedCase, evaluate_cases
from attunet.inference.model_grid import find_context, predict_prepared
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.selection.samples import Sample, draw_sample
from attunet.selection.saved_masks import score_mask

__all__ = ["HeldOutCache", "HeldOutResult", "evaluate_held_out"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class HeldOutResult:
    """The result of a held-out case, segmented by the fold that held it out.

    Args:
        case: the case and its fold.
        scores: scores of its mask, before any post-processing.
        seconds: time of the prediction, without reading and scoring; nan if an earlier version did not record it.
        engine: name of the engine; empty if it was not recorded.
        mask: file of the mask; None if only scores are stored.
        sample: file of a sample of the probabilities (see `draw_sample`); None if only scores are stored.
    """

    case: HeldOutCase
    scores: CaseScores
    seconds: float
    engine: str
    mask: Path | None = None
    sample: Path | None = None


@dataclass(frozen=True, kw_only=True)
class HeldOutCache:
    """The cache of held-out results: one JSON file for each case, and masks and samples if required.

    Args:
        records: folder of the JSON files.
        earlier: folder with the JSON files of an earlier version, which are also read; None for none.
        outputs: folder of masks/ and samples/; None to store only scores.
    """

    records: Path
    earlier: Path | None = None
    outputs: Path | None = None

    def mask(self, case: HeldOutCase) -> Path | None:
        """The file of a case's mask."""
        suffix = mask_suffix(output_suffix(case.case))
        return self.outputs and self.outputs / "masks" / f"{case.case.id}{suffix}"

    def sample(self, case: HeldOutCase) -> Path | None:
        """The file of a case's sample."""
        return self.outputs and self.outputs / "samples" / f"{case.case.id}.npz"

    def load(self, case: HeldOutCase, origin: str, plan: Plan) -> HeldOutResult | None:
        """The cached result of a case, if it was computed from `origin` and its files are complete.

        Args:
            case: the case and its fold.
            origin: hash of everything that the result depends on.
            plan: plan of the run.
        Returns: None when there is no such result.
        """
        for folder in (self.records, self.earlier):
            record = folder and folder / f"{case.case.id}.json"
            content = _read_json(record)
            try:
                complete = all(metrics.keys() >= METRICS.keys() for metrics in content["scores"]["metrics"].values())
                if content["origin"] != origin or not complete or not self._whole(case):
                    continue
                written = record.stat().st_mtime_ns if record else 0
                if not unchanged(content.get("files"), case.case.paths, written) or not self._intact(case, content):
                    continue
                return self._result(
                    case,
                    case_from_json(content["scores"], scored_labels(plan)),
                    nan if content["seconds"] is None else float(content["seconds"]),
                    str(content["engine"]),
                )
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        return None

    def save(self, result: HeldOutResult, origin: str, plan: Plan, files: Mapping[str, Any]) -> None:
        """Write the JSON file of a result whose mask and sample are saved already.

        Args:
            result: result of a case.
            origin: hash of everything that it depends on.
            plan: plan of the run.
            files: `record_files` of the case before it was read.
        Raises: FormatError when the folder cannot be written to.
        """
        content = {
            "origin": origin,
            "files": files,
            "seconds": plain(result.seconds),
            "engine": result.engine,
            "scores": case_to_json(result.scores, scored_labels(plan)),
            "outputs": content_digest(path for path in (result.mask, result.sample) if path is not None),
        }
        path = self.records / f"{result.case.case.id}.json"
        write_text(path, json.dumps(content, allow_nan=False) + "\n")

    def adopt(self, case: HeldOutCase, weights: str, plan: Plan) -> HeldOutResult | None:
        """The result for a mask and a sample that an earlier version saved without a JSON file.

        Args:
            case: the case and its fold.
            weights: sha256 of the fold's weights.
            plan: plan of the run.
        Returns: None unless both were made with these weights, after the files of the case were last changed.
        """
        mask, sample = self.mask(case), self.sample(case)
        recorded = (self.records / f"{case.case.id}.json").exists()
        if recorded or mask is None or sample is None or not self._whole(case):
            return None
        newest = max(max(state[2:]) for state in file_states(case.case.paths))
        known = Sample.load(sample)
        if known is None or known.origin != weights or mask.stat().st_mtime_ns < newest:
            return None
        return self._result(case, score_mask(case, mask, plan), nan, "")

    def _whole(self, case: HeldOutCase) -> bool:
        mask, sample = self.mask(case), self.sample(case)
        return mask is None or sample is None or (mask.is_file() and Sample.load(sample) is not None)

    def _intact(self, case: HeldOutCase, content: Mapping[str, Any]) -> bool:
        """Whether mask and sample are those that were recorded; an earlier version recorded nothing about them."""
        saved = [path for path in (self.mask(case), self.sample(case)) if path is not None]
        return "outputs" not in content or content["outputs"] == content_digest(saved)

    def _result(self, case: HeldOutCase, scores: CaseScores, seconds: float, engine: str) -> HeldOutResult:
        mask = self.mask(case)
        saved = None if mask is None else str(mask)  # the run may have been moved
        return HeldOutResult(
            case=case,
            scores=replace(scores, reference_file=str(case.case.label), prediction_file=saved),
            seconds=seconds,
            engine=engine,
            mask=mask,
            sample=self.sample(case),
        )


def evaluate_held_out(
    run: Path,
    cases: Sequence[HeldOutCase],
    cache: HeldOutCache,
    *,
    device: str = "auto",
    progress: Progress = lambda _done, _total: None,
    cancelled: Event | None = None,
    failures: Failures | None = None,
) -> Iterator[HeldOutResult]:
    """Let each fold segment its held-out cases, without post-processing, and score the masks.

    A cached result is used as long as weights, plan and engine of the fold, the files of the case and the device are
    the same. With masks and samples, every window is run and the device does not matter.

    Args:
        run: the model folder.
        cases: held-out cases of its finished folds, grouped by fold, because one fold is loaded at a time.
        cache: cache of results.
        device: auto, cpu or cuda.
        progress: called with the number of finished cases and of all cases, when the next case is requested.
        cancelled: an event that ends the call; the next call uses the cache.
        failures: receives the cases that cannot be used, which yield nothing; None raises the first failure.
    Yields: a result for each case, in order.
    Raises: BundleError for a folder that is not a finished run, EngineError when the device is not available, DataError
        and its subclasses for a case that cannot be read, CancelledError once `cancelled` is set.
    """
    plan, sums = load_bundle(run).plan, read_sums(run)
    loaded: tuple[int, Segmenter] | None = None
    for done, case in enumerate(cases, start=1):
        if cancelled is not None and cancelled.is_set():
            raise CancelledError("the evaluation was cancelled", hint="start it again to resume")
        fold = fold_folder(run, case.fold).name
        results: list[HeldOutResult] = []
        with failures.of(case.case.id) if failures is not None else one_case(case.case.id):
            weights, origin = sums[f"{fold}/weights.safetensors"], _origin(case, fold, sums, device, cache)
            result = cache.load(case, origin, plan)
            if result is None:
                files = record_files(case.case.paths)
                result = cache.adopt(case, weights, plan)
                if result is None:
                    if loaded is None or loaded[0] != case.fold:
                        loaded = None  # before the next is in memory
                        loaded = case.fold, Segmenter.load(run, folds=[case.fold], device=device, raw=True)
                    result = _evaluate(loaded[1], case, cache, weights)
                cache.save(result, origin, plan, files)
            results.append(result)
        yield from results
        progress(done, len(cases))


def _evaluate(segmenter: Segmenter, case: HeldOutCase, cache: HeldOutCache, weights: str) -> HeldOutResult:
    mask, sample = cache.mask(case), cache.sample(case)
    if mask is not None and sample is not None:
        seconds = _save_outputs(segmenter, case, mask, sample, weights)
        scores = score_mask(case, mask, segmenter.plan)
    else:
        (evaluated,) = evaluate_cases(segmenter, [case.case], EvaluateOptions(geometry=case.geometry))
        seconds, scores = evaluated.seconds, evaluated.scores
    return HeldOutResult(
        case=case, scores=scores, seconds=seconds, engine=segmenter.engines[0].name, mask=mask, sample=sample
    )


def _save_outputs(segmenter: Segmenter, case: HeldOutCase, mask: Path, sample: Path, weights: str) -> float:
    """Segment with all windows, save mask and sample, return the seconds; probabilities stay on the model grid."""
    plan, loaded = segmenter.plan, LoadedCase.read(case.case, segmenter, case.geometry)
    assert loaded.reference is not None
    (member,) = segmenter.members
    started = time.perf_counter()
    prepared = prepare(loaded.image, plan.preprocessing)
    output = predict_prepared(member, prepared, PredictOptions(), find_context(member, loaded.image, prepared))
    seconds = time.perf_counter() - started
    truth = prepare_label(loaded.reference, prepared.record, plan.file_classes, plan.ignore_label)
    mask.parent.mkdir(parents=True, exist_ok=True)
    write_volume(loaded.image.with_array(output.mask[None]), mask)
    draw_sample(case.case.id, output.probabilities, truth, plan, weights).save(sample)
    return seconds


def _origin(case: HeldOutCase, fold: str, sums: dict[str, str], device: str, cache: HeldOutCache) -> str:
    """A hash of everything that a result depends on; files of the case by size and time, which are quick to read."""
    scores_only = cache.outputs is None
    names = ["plan.json", EXECUTION, f"{fold}/weights.safetensors"] + [f"{fold}/{AIR}"] * scores_only
    names += sorted(name for name in sums if name.startswith(f"{fold}/localizer_"))
    names += [f"{fold}/{SKIPPING}"] * (scores_only and f"{fold}/{SKIPPING}" in sums)
    facts = [
        [sums.get(name) for name in names],
        device if scores_only else "every window",
        case.geometry,
        case.case.annotated,
        [(size, changed) for _, size, changed, _ in file_states(case.case.paths)],
        *([reading] if (reading := case.case.reading) else []),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read_json(path: Path | None) -> dict[str, Any]:
    """The content of a JSON file; empty if it is missing or damaged."""
    try:
        with reading(path or Path()):
            content = read_document(path) if path else {}
    except FormatError:
        return {}
    return content if isinstance(content, dict) else {}
