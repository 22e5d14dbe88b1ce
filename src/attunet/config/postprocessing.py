"""Calibration and post-processing, learnt on held-out cases: postprocessing.json, applied to every prediction."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from attunet.config.intervals import IntervalCalibration
from attunet.config.prediction_choice import Evidence, PredictionChoice
from attunet.config.settings import Settings

__all__ = ["ComponentRules", "Postprocessing", "QualityCalibration", "RankCorrelation"]

_EARLIER_KEYS = {"postprocessing": "components", "attention": "attention_agreement"}
"""Keys of this file when it was called refinement.json."""


class ComponentRules(Settings):
    """Post-processing of one label's mask, in this order."""

    fill_holes: bool = Field(False, description="Fill cavities that the label encloses.")
    minimum_ml: float = Field(
        0.0, ge=0, le=1e9, description="Remove connected components smaller than this, in millilitres."
    )
    largest_component: bool = Field(False, description="Keep only the largest connected component.")


class RankCorrelation(Settings):
    """How well a score ranks held-out cases by their Dice."""

    cases: int = Field(ge=0, le=10**9, description="Held-out cases it was measured on.")
    spearman: float = Field(ge=-1, le=1, description="Rank correlation (Spearman) of the score with the measured Dice.")
    low: float = Field(
        ge=-1, le=1, description="Lower end of the 95% bootstrap confidence interval of the correlation."
    )
    high: float = Field(ge=-1, le=1, description="Upper end of the interval.")


class QualityCalibration(RankCorrelation):
    """The line from a model's expected Dice to the predicted Dice that is reported, with the rank correlation."""

    slope: float = Field(1.0, ge=-1e6, le=1e6, description="Predicted Dice = slope * expected Dice + intercept.")
    intercept: float = Field(0.0, ge=-1e6, le=1e6, description="See slope.")
    error: float = Field(
        ge=0, le=1e6, description="Mean absolute error of the predicted Dice, leaving each case out in turn."
    )


class Postprocessing(Settings):
    """Learnt only on held-out cases; whatever did not improve them is left out."""

    components: dict[str, ComponentRules] = Field(
        default_factory=dict, description="Label to the rules for the connected components of its mask."
    )
    temperature: float = Field(1.0, gt=0, le=1e6, description="Divides the logits before they become probabilities.")
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(
        default_factory=dict,
        description="Label to a number added to its logit, before the temperature: below 0, the label is predicted "
        "less often.",
    )
    quality: QualityCalibration | None = Field(
        None, description="How the Dice of a case is predicted; null when not measured."
    )
    dice_interval: IntervalCalibration | None = Field(
        None, description="The interval of the predicted Dice; null when there were too few held-out cases."
    )
    volume_intervals: dict[str, IntervalCalibration] = Field(
        default_factory=dict,
        description="Label to the interval of its volume in ml; without labels that have too few cases.",
    )
    attention_agreement: RankCorrelation | None = Field(
        None, description="How the agreement of attention and mask ranks cases, as measured by `attunet explain`."
    )
    prediction: PredictionChoice = Field(
        default_factory=PredictionChoice,
        description="Whether mirrored copies and which folds are averaged, with the measured Dice and seconds.",
    )
    evidence: Evidence | None = Field(
        None, description="The cases that all this was decided on; null in files of earlier versions."
    )
    reasons: dict[str, str] = Field(
        default_factory=dict, description="Why each was accepted or rejected, with the measured value."
    )

    @model_validator(mode="before")
    @classmethod
    def _rename_earlier_keys(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {_EARLIER_KEYS.get(key, key): value for key, value in values.items()}
