"""Prediction intervals: the ends that held-out residuals put around a predicted value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from attunet.config.settings import Settings
from attunet.display import decimals

__all__ = ["IntervalCalibration", "PredictionInterval", "interval_text"]

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class PredictionInterval:
    """The range in which the true value of a new case is expected.

    Args:
        low: its lower end.
        high: its upper end.
        level: the share of new cases whose true value it should contain, in (0, 1).
    """

    low: float
    high: float
    level: float


class IntervalCalibration(Settings):
    """The half-width of a prediction interval, from held-out cases, and how often it contained the true value.

    A residual is |true - predicted| / predicted ** power; its bound is an order statistic of those of held-out cases:
    split conformal prediction, see `attunet.selection.intervals` for the sources.
    """

    level: float = Field(gt=0, lt=1, description="Share of new cases whose true value the interval should contain.")
    cases: int = Field(ge=1, le=10**9, description="Held-out cases whose residuals it was made from.")
    power: float = Field(ge=0, le=1, description="Residual = |true - predicted| / predicted ** power.")
    bound: float = Field(ge=0, le=1e12, description="The interval reaches bound * predicted ** power to either side.")
    limit: float | None = Field(
        None, gt=0, le=1e12, description="The largest possible value, such as 1 for Dice; null for none."
    )
    typical: float = Field(ge=0, le=1e12, description="Median predicted value of the held-out cases.")
    width: float = Field(ge=0, le=1e12, description="Mean width of their intervals, in the unit of the value.")
    coverage: float = Field(
        ge=0, le=1, description="Share of the cases that is inside the interval of all others (leave-one-out)."
    )
    thirds: tuple[Share, Share, Share] = Field(
        description="The same share among the cases with small, medium and large predicted values."
    )
    folds: float | None = Field(
        None, ge=0, le=1, description="Share inside the interval of the other folds' cases; null for a single fold."
    )
    not_predicted: int = Field(
        0, ge=0, le=10**9, description="Held-out cases without a predicted voxel, for which there is no interval."
    )
    missed: int = Field(0, ge=0, le=10**9, description="Those of them whose reference has the label.")

    def around(self, value: float) -> PredictionInterval:
        """The interval of a predicted value above 0, in its unit; never below 0 or above `limit`."""
        reach = self.bound * value**self.power
        high = value + reach if self.limit is None else min(self.limit, value + reach)
        return PredictionInterval(max(0.0, value - reach), high, self.level)


def interval_text(value: float, interval: PredictionInterval | None, digits: int, *, level: bool = True) -> str:
    """A value and its interval, such as 1,480 (1,390–1,570, 90%); only the value when it has no interval.

    Args:
        value: the predicted value.
        interval: its interval; None for none.
        digits: decimals of a value below 100; larger ones have fewer.
        level: whether the level is written out.
    Returns: the text, with commas between thousands.
    """
    text = _grouped(value, digits)
    if interval is None:
        return text
    ends = f"{_grouped(interval.low, digits)}–{_grouped(interval.high, digits)}"
    return f"{text} ({ends}, {interval.level:.0%})" if level else f"{text} ({ends})"


def _grouped(value: float, digits: int) -> str:
    """Commas between thousands; no decimals from 1000, where a tenth of a millilitre means nothing."""
    return f"{value:,.0f}" if value >= 1000 else decimals(value, digits)
