"""Evaluate the folds of a run on their held-out cases, with a cache of results."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from attunet.bundle import EXECUTION, HeldOutCase, fold_folder, load_bundle
from attunet.bundle.execution import AIR, INT8_FILES
from attunet.bundle.manifest import read_sums
from attunet.bundle.skipping import SKIPPING
from attunet.data.file_states import file_states, record_files
from attunet.data.formats import write_volume
from attunet.data.preprocess import prepare, prepare_label
from attunet.errors import CancelledError
from attunet.failures import Failures, one_case
from attunet.inference.engines.precision import choose_precision
from attunet.inference.evaluation import EvaluateOptions, LoadedCase, evaluate_cases
from attunet.inference.model_grid import find_context, predict_prepared
from attunet.inference.outputs import biases_of
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.selection.held_out_cache import HeldOutCache, HeldOutResult
from attunet.selection.samples import draw_sample
from attunet.selection.saved_masks import score_mask

__all__ = ["evaluate_held_out", "evaluate_variants"]

Progress = Callable[[int, int], None]


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

    A cached result is used as long as weights, plan, engine and precision of the fold, the files of the case and the
    device are the same. With masks and samples, every window is run and the device does not matter.

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
    variants = evaluate_variants(
        run, cases, [cache], device=device, progress=progress, cancelled=cancelled, failures=failures
    )
    for (result,) in variants:
        yield result


def evaluate_variants(
    run: Path,
    cases: Sequence[HeldOutCase],
    caches: Sequence[HeldOutCache],
    *,
    device: str = "auto",
    progress: Progress = lambda _done, _total: None,
    cancelled: Event | None = None,
    failures: Failures | None = None,
) -> Iterator[tuple[HeldOutResult, ...]]:
    """See `evaluate_held_out`: each case in several ways, one after the other, so that their times can be compared.

    Yields: a result for each of the caches, for each case in order; none for a case that fails in any of them.
    """
    loaded = _LoadedFold(run, device)
    for done, case in enumerate(cases, start=1):
        if cancelled is not None and cancelled.is_set():
            raise CancelledError("the evaluation was cancelled", hint="start it again to resume")
        results: list[tuple[HeldOutResult, ...]] = []
        with failures.of(case.case.id) if failures is not None else one_case(case.case.id):
            results.append(tuple(loaded.result(case, cache) for cache in caches))
        yield from results
        progress(done, len(cases))


class _LoadedFold:
    """One fold of a run at a time in memory, loaded only when a case is not in the cache."""

    def __init__(self, run: Path, device: str) -> None:
        self._run, self._device = run, device
        bundle = load_bundle(run)
        self._plan, self._sums = bundle.plan, read_sums(run)
        self._int8 = {fold.name for fold in bundle.folds if choose_precision([fold], device) == "int8"}
        self._loaded: tuple[int, Segmenter] | None = None

    def result(self, case: HeldOutCase, cache: HeldOutCache) -> HeldOutResult:
        """The cached result of a case, or a new one, which is then cached."""
        fold = fold_folder(self._run, case.fold).name
        weights = self._sums[f"{fold}/weights.safetensors"]
        graph = [self._sums.get(f"{fold}/{name}") for name in INT8_FILES] if fold in self._int8 else []
        origin = _origin(case, fold, self._sums, self._device, cache, graph)
        result = cache.load(case, origin, self._plan)
        if result is None:
            files = record_files(case.case.paths)
            result = cache.adopt(case, weights, self._plan) or _evaluate(
                _biased(self._segmenter(case), cache.biases.get(case.fold, {})), case, cache, weights
            )
            cache.save(result, origin, self._plan, files)
        return result

    def _segmenter(self, case: HeldOutCase) -> Segmenter:
        if self._loaded is None or self._loaded[0] != case.fold:
            self._loaded = None  # before the next is in memory
            self._loaded = case.fold, Segmenter.load(self._run, folds=[case.fold], device=self._device, raw=True)
        return self._loaded[1]


def _biased(segmenter: Segmenter, biases: Mapping[str, float]) -> Segmenter:
    (member,) = segmenter.members
    return replace(segmenter, members=(replace(member, bias=biases_of(member.plan, biases)),))


def _evaluate(segmenter: Segmenter, case: HeldOutCase, cache: HeldOutCache, weights: str) -> HeldOutResult:
    mask, sample, options = cache.mask(case), cache.sample(case), PredictOptions(mirror=cache.mirror)
    if mask is not None and sample is not None:
        seconds = _save_outputs(segmenter, case, _Outputs(mask, sample), options, weights)
        scores = score_mask(case, mask, segmenter.plan)
    else:
        how = EvaluateOptions(geometry=case.geometry, prediction=options)
        (evaluated,) = evaluate_cases(segmenter, [case.case], how)
        seconds, scores = evaluated.seconds, evaluated.scores
    return HeldOutResult(
        case=case, scores=scores, seconds=seconds, engine=segmenter.engines[0].name, mask=mask, sample=sample
    )


@dataclass(frozen=True)
class _Outputs:
    """The files of a case's mask and sample."""

    mask: Path
    sample: Path


def _save_outputs(
    segmenter: Segmenter, case: HeldOutCase, files: _Outputs, options: PredictOptions, weights: str
) -> float:
    """Segment with all windows, save mask and sample, return the seconds; probabilities stay on the model grid."""
    plan, loaded = segmenter.plan, LoadedCase.read(case.case, segmenter, case.geometry)
    assert loaded.reference is not None
    (member,) = segmenter.members
    started = time.perf_counter()
    prepared = prepare(loaded.image, plan.preprocessing)
    output = predict_prepared(member, prepared, options, find_context(member, loaded.image))
    seconds = time.perf_counter() - started
    truth = prepare_label(loaded.reference, prepared.record, plan.file_classes, plan.ignore_label)
    files.mask.parent.mkdir(parents=True, exist_ok=True)
    write_volume(loaded.image.with_array(output.mask[None]), files.mask)
    draw_sample(case.case.id, output.probabilities, truth, plan, weights).save(files.sample)
    return seconds


def _origin(
    case: HeldOutCase, fold: str, sums: dict[str, str], device: str, cache: HeldOutCache, int8: Sequence[str | None]
) -> str:
    """A hash of everything that a result depends on; files of the case by size and time, which are quick to read.

    int8: hashes of the graph in 8-bit integers, if that one is used.
    """
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
        *([] if cache.mirror else ["without mirrored copies"]),
        *([dict(biases)] if (biases := cache.biases.get(case.fold)) else []),
        *([["int8", *int8]] if int8 else []),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
