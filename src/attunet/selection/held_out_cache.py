"""The cache of a run's held-out results: scores as JSON, and masks and samples where they are required."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from typing import Any

from attunet.bundle import HeldOutCase
from attunet.config import Plan
from attunet.data.cases import output_suffix
from attunet.data.file_states import content_digest, file_states, unchanged
from attunet.data.formats import mask_suffix
from attunet.documents import read_document, reading
from attunet.errors import FormatError
from attunet.evaluation.metrics import METRICS
from attunet.evaluation.scores import CaseScores, scored_labels
from attunet.evaluation.summary_file import case_from_json, case_to_json, plain
from attunet.files import write_text
from attunet.selection.samples import Sample
from attunet.selection.saved_masks import score_mask

__all__ = ["HeldOutCache", "HeldOutResult", "biased_cache", "caches_of_variants"]


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
        mirror: whether the cases are predicted with mirrored copies, where the plan allows them.
        biases: fold to the bias of each label's logit; empty for none.
    """

    records: Path
    earlier: Path | None = None
    outputs: Path | None = None
    mirror: bool = True
    biases: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

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
        if not self.mirror or self.biases:  # which no earlier version did: an interrupted call left these files
            return None
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


def caches_of_variants(folder: Path, plan: Plan) -> tuple[HeldOutCache, ...]:
    """The caches of a cross-validation: with mirrored copies and, if the plan allows any, without.

    The first has the files of earlier versions, which made all results with mirrored copies.
    """
    mirrored, plain = folder, folder / "without_mirroring"
    caches = HeldOutCache(records=mirrored / "cases", outputs=mirrored)
    without = HeldOutCache(records=plain / "cases", outputs=plain, mirror=False)
    return (caches, without) if plan.mirror_axes else (caches,)


def biased_cache(folder: Path, *, mirror: bool, biases: Mapping[int, Mapping[str, float]]) -> HeldOutCache:
    """The cache of results at an operating point, which each fold has from the others.

    Args:
        folder: the folder of the cross-validation.
        mirror: as of `HeldOutCache`.
        biases: as of `HeldOutCache`.
    Returns: the cache.
    """
    own = folder / "operating_point"
    return HeldOutCache(records=own / "cases", outputs=own, mirror=mirror, biases=biases)


def _read_json(path: Path | None) -> dict[str, Any]:
    """The content of a JSON file; empty if it is missing or damaged."""
    try:
        with reading(path or Path()):
            content = read_document(path) if path else {}
    except FormatError:
        return {}
    return content if isinstance(content, dict) else {}
