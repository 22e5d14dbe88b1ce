"""What clients are told about a model, from its folder, without loading its networks."""

from __future__ import annotations

from attunet.bundle import Bundle, Model
from attunet.config import Plan
from attunet.documents import parse_document
from attunet.errors import AttunetError
from attunet.inference.intervals import interval_reasons
from attunet.serve.shapes import ServedModel

__all__ = ["describe_model"]


def describe_model(name: str, model: Model) -> ServedModel:
    """The description of a model folder.

    Args: the name under which it is served; the folder's content.
    Returns: the description.
    """
    bundles = list(model.members.values())
    plan = bundles[0].plan
    cases = plan.fingerprint.cases
    return ServedModel(
        name=name,
        description=f"{', '.join(plan.foreground)} in {_kind(plan)}; trained on {cases} cases, data set {plan.name}",
        labels=plan.labels,
        channels=list(plan.channel_names),
        modality=plan.modality,
        spatial_dims=plan.network.spatial_dims,
        spacing=list(plan.preprocessing.spacing),
        gates=_gates(plan),
        dice=_dice(bundles),
        warnings=_warnings(model, plan),
    )


def _kind(plan: Plan) -> str:
    """The images of a model in words."""
    return "images" if plan.modality in ("image", "other") else f"{plan.modality.upper()} images"


def _gates(plan: Plan) -> list[str]:
    """The maps that an explanation of the model has: one for each gate, and that of the localizer."""
    return [*(["localizer"] if plan.localizer is not None else []), *plan.network.gate_names]


def _dice(bundles: list[Bundle]) -> dict[str, float | None]:
    """The mean held-out Dice of each label over the folds; None where no fold has one."""
    found: dict[str, list[float]] = {}
    for fold in (fold for bundle in bundles for fold in bundle.folds):
        try:
            content = parse_document(fold.read(fold.metrics)) if fold.has(fold.metrics) else {"labels": {}}
            for name, value in content["labels"].items():
                dice = content["mean"][str(value)]["Dice"]
                found.setdefault(name, []).extend([] if dice is None else [float(dice)])
        except (AttunetError, KeyError, TypeError, ValueError):  # a description is no place to fail
            continue
    plan = bundles[0].plan
    return {name: _mean(found.get(name, [])) for name in plan.foreground}


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _warnings(model: Model, plan: Plan) -> list[str]:
    """Where the model has no held-out scores or intervals, and why."""
    reasons = interval_reasons(model.postprocessing, plan)
    missing = [name for name in plan.foreground if name not in model.postprocessing.volume_intervals]
    grouped: dict[str, list[str]] = {}
    for name in missing:
        grouped.setdefault(reasons[name].removeprefix("none: "), []).append(name)
    warnings = [f"no interval of the volume of {', '.join(names)}: {why}" for why, names in grouped.items()]
    if model.postprocessing.quality is None:
        warnings.append("it predicts no Dice of a mask: that was not calibrated on held-out cases")
    return [*warnings, "This is research software, not a medical device."]
