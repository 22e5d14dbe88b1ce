"""What a cross-validation taught about a model: written as refinement.json, applied by every prediction."""

from __future__ import annotations

from pydantic import Field

from attunet.config.settings import Settings

__all__ = ["Cleaning", "Quality", "Refinement", "Worth"]


class Cleaning(Settings):
    """Post-processing of one label's mask, in this order."""

    fill_holes: bool = Field(False, description="Fill cavities that the label encloses.")
    minimum_ml: float = Field(0.0, ge=0, description="Remove components smaller than this, in millilitres.")
    largest_component: bool = Field(False, description="Keep the largest component only.")


class Quality(Settings):
    """How well the Dice that a model expects of itself agrees with the Dice it has, case by case."""

    cases: int = Field(ge=0, description="Out-of-fold cases it was measured on.")
    spearman: float = Field(ge=-1, le=1, description="Rank correlation of expected and measured Dice.")
    low: float = Field(description="Lower end of the 95% bootstrap confidence interval of the correlation.")
    high: float = Field(description="Upper end.")
    slope: float = Field(1.0, description="Predicted Dice = slope * expected Dice + intercept.")
    intercept: float = Field(0.0, description="See slope.")
    error: float = Field(ge=0, description="Mean absolute error of the predicted Dice, leaving each case out in turn.")


class Worth(Settings):
    """How well the agreement of attention and mask ranks unseen cases by their Dice."""

    cases: int = Field(ge=0, description="Unseen cases it was measured on.")
    spearman: float = Field(ge=-1, le=1, description="Rank correlation of agreement and measured Dice.")
    low: float = Field(description="Lower end of the 95% bootstrap confidence interval of the correlation.")
    high: float = Field(description="Upper end.")


class Refinement(Settings):
    """Decided on out-of-fold predictions only, kept only where it helped."""

    postprocessing: dict[str, Cleaning] = Field(default_factory=dict, description="Label to what is done to its mask.")
    temperature: float = Field(1.0, gt=0, description="Divides the logits before they become probabilities.")
    quality: Quality | None = Field(None, description="What the predicted Dice is worth; null when not measured.")
    attention: Worth | None = Field(
        None, description="What the agreement of attention and mask is worth, as `attunet explain` found it."
    )
    reasons: dict[str, str] = Field(default_factory=dict, description="Why each was kept or not, with its figure.")
