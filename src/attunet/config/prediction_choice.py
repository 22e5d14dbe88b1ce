"""How a model predicts unless told otherwise: mirrored copies and folds, and what each adds for how many seconds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from attunet.config.settings import Settings

__all__ = ["FOLDS_AVERAGED", "Evidence", "MeasuredPrediction", "PredictionChoice"]

FOLDS_AVERAGED = "folds averaged"
"""The key of `reasons` that says why so many folds are averaged."""

Fold = Annotated[int, Field(ge=0, le=10**6)]


class Evidence(Settings):
    """The cases that calibration and post-processing were decided on."""

    cases: int = Field(ge=0, le=10**9, description="Number of cases, none of which the deciding fold was trained on.")
    folds: tuple[Fold, ...] = Field(description="The folds that held them out: one after a single training.")

    @property
    def text(self) -> str:
        """The cases in words, such as "14 held-out cases of 5 folds"."""
        if len(self.folds) == 1:
            return f"{self.cases} validation cases of fold {self.folds[0]}"
        return f"{self.cases} held-out cases of {len(self.folds)} folds"


class MeasuredPrediction(Settings):
    """One way to predict: its Dice on cases that none of its folds was trained on, and its time."""

    folds: int = Field(ge=1, le=10**6, description="Number of folds that are averaged.")
    copies: int = Field(ge=1, le=64, description="Copies of each window, mirrored ones included: 1 without mirroring.")
    cases: int = Field(
        ge=0, le=10**9, description="Cases it was measured on; 0 where no case exists that none of its folds has seen."
    )
    measured_on: Literal["held-out", "unseen"] = Field(
        "held-out",
        description="held-out: each case predicted by the fold that held it out; unseen: labelled cases of no fold.",
    )
    dice: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Mean Dice, held-out before post-processing, unseen after it; null: not measured.",
    )
    gain: float | None = Field(
        None, ge=-1, le=1, description="Mean gain over the cheaper way that it was compared with, case by case."
    )
    low: float | None = Field(None, ge=-1, le=1, description="Lower end of the 95% bootstrap interval of the gain.")
    high: float | None = Field(None, ge=-1, le=1, description="Its upper end.")
    seconds: float | None = Field(
        None,
        ge=0,
        le=1e9,
        description="Median seconds per case, without reading and writing; estimated from one fold where `cases` is 0.",
    )
    used: bool = Field(False, description="Whether this is how the model predicts unless told otherwise.")


class PredictionChoice(Settings):
    """What every prediction does that is not told otherwise (`--tta`, `--fold`), and the measurements behind it."""

    mirror: bool | None = Field(
        None, description="Whether mirrored copies are averaged; null: not decided, which means that they are."
    )
    folds: tuple[Fold, ...] | None = Field(
        None, description="The folds that are averaged; null: not decided, which means all finished ones."
    )
    measured: tuple[MeasuredPrediction, ...] = Field((), description="Dice against seconds of each way to predict.")
