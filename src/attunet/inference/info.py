"""Descriptions of a model and of this machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from attunet.bundle import Bundle, Execution, FoldFiles, Skipping, load_model
from attunet.config import ImageRanges, Postprocessing
from attunet.config.prediction_choice import FOLDS_AVERAGED
from attunet.documents import parse_document, reading
from attunet.errors import BundleError
from attunet.inference.engines.factory import available_devices
from attunet.inference.engines.precision import int8_choice
from attunet.inference.intervals import interval_reasons
from attunet.names import listed
from attunet.planning.hardware import cpu_int8

__all__ = ["DICE_AND_SECONDS", "machine_facts", "model_facts"]

DICE_AND_SECONDS = "Dice against seconds"
"""The name of the fact that is a table: a row for each measured way to predict."""

_MOST_NAMES = 8
_PACKAGES = ("attunet", "numpy", "openvino", "nibabel", "SimpleITK", "torch", "lightning", "monai", "blosc2")


def machine_facts() -> dict[str, Any]:
    """Versions of the packages that matter, devices and processor cores."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "versions": versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "devices": available_devices(),
        "8-bit integers": cpu_int8() or "not native to this CPU",
        "can train": versions["torch"] != "not installed" and versions["lightning"] != "not installed",
    }


def model_facts(model: Path) -> dict[str, Any]:
    """Properties of a model folder, member by member for an ensemble.

    Raises: BundleError when it is unfinished or altered.
    """
    opened = load_model(model)
    members = {name: _run_facts(bundle) for name, bundle in opened.members.items()}
    (first, *others) = members.values()
    plan = next(iter(opened.members.values())).plan
    refined = _postprocessing_facts(opened.postprocessing) | {
        "prediction intervals": interval_reasons(opened.postprocessing, plan)
    }
    if not others:
        return first | refined
    shared = {name: value for name, value in first.items() if all(other[name] == value for other in others)}
    own = {name: {key: value for key, value in facts.items() if key not in shared} for name, facts in members.items()}
    return shared | {"members": own} | refined


def _run_facts(bundle: Bundle) -> dict[str, Any]:
    plan, network, int8 = bundle.plan, bundle.plan.network, int8_choice(bundle.folds)
    return {
        "trained on": plan.name,
        "cases": plan.fingerprint.cases,
        **_image_facts(plan.fingerprint.ranges),
        "labels": plan.labels,
        **({"regions": {name: list(values) for name, values in plan.regions.items()}} if plan.regions else {}),
        "channels": list(plan.channel_names),
        "modality": plan.modality,
        "network": f"{plan.preset}, {network.spatial_dims}-D, gate {network.gate or 'none'}, size {plan.size}",
        "patch size": list(plan.patch_size),
        "spacing mm": list(plan.preprocessing.spacing),
        "computed by": f"{bundle.execution.engine}, 8-bit integers" if int8.used else _engine(bundle.execution),
        **_localizer_facts(bundle),
        **({"8-bit integers": int8.reason} if int8.reason else {}),
        "folds": {fold.name: _dice(fold) for fold in bundle.folds},
    }


def _image_facts(ranges: ImageRanges | None) -> dict[str, Any]:
    """How far the images of the training differ; empty for models of earlier versions, which do not know."""
    if ranges is None:
        return {}
    sizes = {"voxels": ranges.shape, "spacing mm": ranges.spacing, "field of view mm": ranges.extent}
    facts = {name: " x ".join(map(_span_text, spans)) for name, spans in sizes.items()}
    return {"images": facts | {"slices": listed(ranges.planes) or "none: voxels are about as long as wide"}}


def _span_text(span: tuple[float, float]) -> str:
    low, high = (f"{value:.3g}" if value < 1000 else f"{value:.0f}" for value in span)
    return low if low == high else f"({low} to {high})"


def _localizer_facts(bundle: Bundle) -> dict[str, Any]:
    """The first stage of a cascade, and for each fold what it skips and what that is worth; empty for one stage."""
    plan = bundle.plan
    if plan.localizer is None:
        return {}
    coarse = plan.localizer
    size, voxel = (" x ".join(f"{value:g}" for value in values) for values in (coarse.patch_size, coarse.spacing))
    seen = f"; the network sees its probabilities of {listed(plan.context, _MOST_NAMES)}" if plan.context else ""
    return {
        "localizer": f"{coarse.members} per fold, windows of {size} voxels of {voxel} mm{seen}",
        "windows skipped": {fold.name: _skipping(fold.skipping) for fold in bundle.folds},
    }


def _skipping(skipping: Skipping | None) -> str:
    if skipping is None:
        return "off: it was not audited"
    if not skipping.used:
        return skipping.worth
    return (
        f"{skipping.skipped:.0%}, farther than {skipping.margin:g} mm from where a label has a probability of "
        f"{skipping.threshold:g}; {skipping.worth}"
    )


def _engine(execution: Execution) -> str:
    """The CPU engine, and the effect of 8-bit integers if they are used."""
    tried = execution.quantization
    if tried is not None and tried.kept:
        cost = f"Dice {tried.dice_before:.4f} before, {tried.dice_after:.4f} after, {tried.cases} cases"
        return f"{execution.engine}, 8-bit integers ({cost})"
    return f"{execution.engine}, {'fp32' if execution.precision == 'fp32' else 'bf16 where the CPU has it'}"


def _postprocessing_facts(postprocessing: Postprocessing) -> dict[str, Any]:
    """What was decided on held-out cases; empty where nothing was."""
    facts: dict[str, Any] = {}
    if postprocessing.evidence:
        facts["decided on"] = postprocessing.evidence.text
    if postprocessing.components:
        facts["post-processing"] = {
            label: rules.model_dump(exclude_defaults=True) for label, rules in postprocessing.components.items()
        }
    if postprocessing.logit_bias:
        facts["operating point"] = postprocessing.reasons.get("operating point", str(postprocessing.logit_bias))
    if postprocessing.temperature != 1:
        facts["temperature"] = postprocessing.temperature
    if quality := postprocessing.quality:
        interval = f"{quality.spearman:.2f} ({quality.low:.2f} to {quality.high:.2f})"
        facts["predicted Dice"] = f"rank correlation with the true Dice on {quality.cases} held-out cases: {interval}"
    chosen = postprocessing.prediction
    if chosen.measured:
        reasons = postprocessing.reasons
        facts |= {name: reasons[name] for name in ("mirroring", FOLDS_AVERAGED) if name in reasons}
        facts[DICE_AND_SECONDS] = [row.model_dump() for row in chosen.measured]
    return facts


def _dice(fold: FoldFiles) -> dict[str, float] | str:
    """Mean Dice of each label on the fold's validation cases."""
    if not fold.has(fold.metrics):
        return "no scores in this folder"
    with reading(fold.metrics, BundleError, "delete it, or evaluate the fold again"):
        content = parse_document(fold.read(fold.metrics))
        return {
            name: round(content["mean"][str(value)]["Dice"], 4)
            for name, value in content["labels"].items()
            if content["mean"][str(value)]["Dice"] is not None
        }
