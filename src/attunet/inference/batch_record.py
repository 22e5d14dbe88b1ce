"""Records of a batch of predictions: statistics.json, and the record of settings and results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attunet.config import QualityCalibration, RankCorrelation
from attunet.documents import read_document, reading
from attunet.files import write_text
from attunet.inference.batch import CaseResult
from attunet.inference.segmenter import Segmenter

__all__ = ["batch_record", "describe_correlation", "write_batch_record", "write_statistics"]


def write_statistics(
    results: Sequence[CaseResult], path: Path, quality: QualityCalibration | None = None, *, extend: bool = False
) -> None:
    """Write volumes and predicted Dice by case as JSON.

    Args:
        results: results of a batch; failed cases are left out.
        path: the file, usually statistics.json next to the masks.
        quality: how reliable the predicted Dice is; None leaves it out.
        extend: keep the file's entries for other cases, from an earlier part of the same batch.
    Raises: FormatError when an existing file should be extended but has other content.
    """
    with reading(path, hint="move it away: attunet adds only to a file that it wrote"):
        earlier = read_document(path) if extend and path.is_file() else {"cases": {}}
        volumes, dice = dict(earlier["cases"]), dict(earlier.get("predicted_dice", {}))
    done = [result for result in results if result.mask]
    content: dict[str, Any] = {"unit": "ml", "cases": volumes | {result.case: result.volumes_ml for result in done}}
    if quality is not None:
        content["predicted_dice"] = dice | {result.case: result.predicted_dice for result in done}
        content["predicted_dice_reliability"] = describe_correlation(quality)
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_batch_record(
    path: Path, model: Path, segmenter: Segmenter, results: Sequence[CaseResult], settings: Mapping[str, Any]
) -> None:
    """Write `batch_record` as JSON.

    Args:
        path: the file.
        model: the model folder.
        segmenter: the model that was loaded from it.
        results: results of the batch.
        settings: settings of the batch.
    """
    write_text(path, json.dumps(batch_record(model, segmenter, results, settings), indent=2) + "\n")


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
