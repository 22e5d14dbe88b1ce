"""How one run did on one case, kept on disk so that nothing is predicted twice."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from attunet.bundle import EXECUTION, HeldOutCase, fold_folder
from attunet.bundle.air import AIR
from attunet.bundle.manifest import read_sums
from attunet.config import Plan
from attunet.data.cases import read_case_label
from attunet.evaluation.scores import CaseScores, score_case, scored_labels
from attunet.evaluation.summary_file import case_from_json, case_to_json
from attunet.files import write_text
from attunet.inference.segmenter import Segmenter

__all__ = ["CaseVerdict", "Judge"]


@dataclass(frozen=True)
class CaseVerdict:
    """Scores of a case, the seconds that its prediction took (reading not counted), and the engine it ran on."""

    scores: CaseScores
    seconds: float
    engine: str


class Judge:
    """Lets the folds of one run segment cases that they have not seen, without post-processing, and scores the masks.

    Verdicts are kept in `folder`, one file per case; one counts while weights, plan, files of the case and device are
    those it was made with. Of the run's folds the last one asked for stays loaded.
    Args: the model folder; where verdicts are kept; auto, cpu or cuda.
    Raises: BundleError for what is no finished run.
    """

    def __init__(self, run: Path, plan: Plan, folder: Path, device: str = "auto") -> None:
        self._run, self._plan, self._folder, self._device = run, plan, folder, device
        self._sums = read_sums(run)
        self._labels = scored_labels(plan)
        self._loaded: tuple[int, Segmenter] | None = None

    def judge(self, unseen: HeldOutCase) -> CaseVerdict:
        """The verdict on a case. Raises: DataError and its kind when it cannot be read, EngineError, BundleError."""
        path, origin = self._folder / f"{unseen.case.id}.json", self._origin(unseen)
        known = self._kept(path, origin)
        if known is not None:
            return known
        verdict = self._predicted(unseen)
        content = {
            "origin": origin,
            "seconds": verdict.seconds,
            "engine": verdict.engine,
            "scores": case_to_json(verdict.scores, self._labels),
        }
        write_text(path, json.dumps(content, allow_nan=False) + "\n")
        return verdict

    def _kept(self, path: Path, origin: str) -> CaseVerdict | None:
        """What was written for the same question; None when there is nothing, or it cannot be understood."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["origin"] != origin:
                return None
            scores = case_from_json(content["scores"], self._labels)
            return CaseVerdict(scores, float(content["seconds"]), str(content["engine"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _origin(self, unseen: HeldOutCase) -> str:
        """A hash of all that the verdict depends on; files of the case by size and time, which are quick to ask."""
        fold = fold_folder(self._run, unseen.fold).name
        files = [path.stat() for path in (*unseen.case.images, unseen.case.label) if path is not None]
        facts = [
            [self._sums.get(name) for name in ("plan.json", EXECUTION, f"{fold}/weights.safetensors", f"{fold}/{AIR}")],
            self._device,
            unseen.geometry,
            unseen.case.annotated,
            [(file.st_size, file.st_mtime_ns) for file in files],
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _predicted(self, unseen: HeldOutCase) -> CaseVerdict:
        segmenter = self._segmenter(unseen.fold)
        _, image = segmenter.read(unseen.case)
        truth = read_case_label(unseen.case, image, geometry=unseen.geometry).array[0]
        started = time.perf_counter()
        mask = segmenter.predict(image).segmentation.array[0]
        seconds = time.perf_counter() - started
        found = score_case(
            truth, mask, self._labels, image.spacing, ignore=self._plan.ignore_label, annotated=unseen.case.annotated
        )
        scores = CaseScores(unseen.case.id, found, reference_file=str(unseen.case.label))
        return CaseVerdict(scores, seconds, segmenter.engines[0].name)

    def _segmenter(self, fold: int) -> Segmenter:
        if self._loaded is None or self._loaded[0] != fold:
            self._loaded = fold, Segmenter.load(self._run, folds=[fold], device=self._device, raw=True)
        return self._loaded[1]
