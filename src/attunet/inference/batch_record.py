"""Records of a batch of predictions: statistics.json, and the record of settings and results."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from glob import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attunet.config import QualityCalibration, RankCorrelation
from attunet.errors import FormatError
from attunet.files import staged, write_text
from attunet.inference.case_worker import CaseResult
from attunet.inference.intervals import interval_reasons
from attunet.inference.segmenter import Segmenter

__all__ = ["RecordFiles", "batch_record", "describe_correlation", "of_part", "parts_of"]

_LEAST_PAUSE = 20
"""Files are written again when this many times the duration of writing has passed, so that it takes 5% of the time."""


class RecordFiles:
    """statistics.json and the report of a batch, which grow with each finished case, so that a kill loses none.

    A case that was segmented shortly before a kill may have a mask and no record; a continued batch segments it again.

    Args:
        model: the model folder.
        segmenter: the model that was loaded from it.
        settings: settings of the batch.
        statistics: the file of volumes and predicted Dice; None for none.
        report: the file of `batch_record`; None for none.
        extend: keep the files' entries for other cases, from an earlier run of the same batch.
        part: such as 0-of-4, if several programs share the batch: its files are then statistics-0-of-4.json and so on,
            and those of all parts become one when the batch is extended without a part.
    Raises: FormatError when an existing file should be extended but has other content, or the report cannot be written.
    """

    def __init__(
        self,
        model: Path,
        segmenter: Segmenter,
        settings: Mapping[str, Any],
        *,
        statistics: Path | None = None,
        report: Path | None = None,
        extend: bool = False,
        part: str = "",
    ) -> None:
        self._model, self._segmenter, self._settings = model, segmenter, settings
        self._statistics, self._report = of_part(statistics, part), of_part(report, part)
        volumes, cases = ([], []) if part else (parts_of(statistics), parts_of(report))
        self._parts = [*volumes, *cases]
        self._entries = _earlier_statistics([self._statistics, *volumes] if extend else [])
        self._cases = _earlier_cases(self._report, cases) if extend else {}
        self._elsewhere = _recorded(statistics, report) if extend and part else (set(), set())
        if self._report:
            with staged(self._report):
                pass  # what cannot be written is said before the first case, not after it
        self._written, self._duration, self._once = 0.0, 0.0, False

    def has(self, case: str) -> bool:
        """Whether the requested files have an entry for a case."""
        volumes, cases = self._elsewhere
        known = (
            self._statistics is None or case in self._entries["cases"] or case in volumes,
            self._report is None or case in self._cases or case in cases,
        )
        return all(known)

    def add(self, result: CaseResult) -> None:
        """Add a finished case and write the files, unless that was done so recently that it would cost much time.

        Raises: FormatError when the files could not be written even once.
        """
        self._cases[result.case] = _case_record(result)
        if result.mask:
            for name, entry in _statistics_of(result).items():
                self._entries[name][result.case] = entry
        if time.monotonic() - self._written < _LEAST_PAUSE * self._duration:
            return
        try:
            self.write()
        except FormatError:
            if not self._once:
                raise

    def write(self) -> None:
        """Write the requested files, which take the place of those of parts. Raises: FormatError if they cannot be."""
        started = time.monotonic()
        if self._statistics:
            write_text(self._statistics, json.dumps(self._statistics_content(), indent=2) + "\n")
        if self._report:
            record = batch_record(self._model, self._segmenter, (), self._settings)
            record["cases"] = list(self._cases.values())
            write_text(self._report, json.dumps(record, indent=2) + "\n")
        while self._parts:
            self._parts.pop().unlink(missing_ok=True)
        self._written, self._once = time.monotonic(), True
        self._duration = self._written - started

    def _statistics_content(self) -> dict[str, Any]:
        postprocessing, entries = self._segmenter.postprocessing, self._entries
        content: dict[str, Any] = {"unit": "ml", "cases": entries["cases"]}
        content["volume_intervals"] = entries["volume_intervals"]
        if postprocessing.quality is not None:
            content["predicted_dice"] = entries["predicted_dice"]
            content["predicted_dice_intervals"] = entries["predicted_dice_intervals"]
            content["predicted_dice_reliability"] = describe_correlation(postprocessing.quality)
        content["interval_reliability"] = interval_reasons(postprocessing, self._segmenter.plan)
        return content


_ENTRIES = ("cases", "volume_intervals", "predicted_dice", "predicted_dice_intervals")
"""Keys of statistics.json with an entry for each case."""


def _statistics_of(result: CaseResult) -> dict[str, Any]:
    """What statistics.json has about a case, by `_ENTRIES`."""
    volumes = {name: interval and asdict(interval) for name, interval in result.volume_intervals_ml.items()}
    dice = result.dice_interval and asdict(result.dice_interval)
    return dict(zip(_ENTRIES, (result.volumes_ml, volumes, result.predicted_dice, dice), strict=True))


def of_part(path: Path | None, part: str) -> Path | None:
    """The file that a part writes in place of one of the whole batch, such as statistics-0-of-4.json."""
    return path.with_name(f"{path.stem}-{part}{path.suffix}") if path and part else path


def parts_of(path: Path | None) -> list[Path]:
    """The files that parts wrote in place of one of the whole batch, in the order of their names."""
    return sorted(path.parent.glob(f"{escape(path.stem)}-*-of-*{path.suffix}")) if path else []


def _earlier_statistics(paths: Sequence[Path | None]) -> dict[str, dict[str, Any]]:
    """The entries of files of statistics, of which later ones count; those that are not there have none."""
    entries: dict[str, dict[str, Any]] = {name: {} for name in _ENTRIES}
    for path in paths:
        if path is not None and path.is_file():
            with _extending(path):
                content = json.loads(path.read_text(encoding="utf-8"))
                for name in _ENTRIES:
                    entries[name] |= content["cases"] if name == "cases" else content.get(name, {})
    return entries


def _earlier_cases(report: Path | None, parts: Sequence[Path]) -> dict[str, Any]:
    """Entries of the cases that were segmented, and of those that failed in parts, which nobody has tried again."""
    cases: dict[str, Any] = {}
    for path in (report, *parts):
        if path is not None and path.is_file():
            with _extending(path):
                found = json.loads(path.read_text(encoding="utf-8"))["cases"]
                cases |= {str(case["case"]): case for case in found if path != report or case["error"] is None}
    return cases


def _recorded(statistics: Path | None, report: Path | None) -> tuple[set[str], set[str]]:
    """The cases that the statistics and the report of the whole batch hold."""
    return set(_earlier_statistics([statistics])["cases"]), set(_earlier_cases(report, []))


@contextmanager
def _extending(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(
            f"{path} was not written by attunet, so nothing was added to it", hint="move it away"
        ) from error


def batch_record(
    model: Path, segmenter: Segmenter, results: Sequence[CaseResult], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Versions, model, engine, settings and every result, as plain values.

    Args:
        model: the model folder.
        segmenter: the model that was loaded from it.
        results: results of the batch.
        settings: settings of the batch, such as `asdict` of its `PredictOptions`.
    Returns: the record; the return value of `on_prediction` is stored with the other values of a case.
    """
    postprocessing = segmenter.postprocessing
    return {
        "attunet": version("attunet"),
        "model": str(model),
        "engine": segmenter.engines[0].name,
        "members": {member.name: len(member.engines) for member in segmenter.members},
        "folds": len(segmenter.engines),
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()},
        "labels": segmenter.plan.labels,
        "postprocessing": postprocessing.model_dump(mode="json"),
        "predicted_dice_reliability": describe_correlation(postprocessing.quality),
        "interval_reliability": interval_reasons(postprocessing, segmenter.plan),
        "attention_agreement_reliability": describe_correlation(postprocessing.attention_agreement),
        "cases": [_case_record(result) for result in results],
    }


def describe_correlation(quality: QualityCalibration | RankCorrelation | None) -> str | None:
    """How well a quality score ranks cases, in words; None when it was not measured."""
    if quality is None:
        return None
    interval = f"{quality.spearman:.2f} ({quality.low:.2f} to {quality.high:.2f})"
    return f"rank correlation with the true Dice on {quality.cases} held-out cases: {interval}"


def _case_record(result: CaseResult) -> dict[str, Any]:
    fields = asdict(result)
    extra: dict[str, Any] = fields.pop("extra")
    return {**fields, **extra}
