"""localizer.json of a fold: where its localizer sends the fine network, and the audit that allows to skip the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field

from attunet.bundle.manifest import read_fold_settings, write_unsealed
from attunet.config import Settings

__all__ = ["SKIPPING", "Skipping", "all_skipping", "largest_share", "load_skipping", "write_skipping"]

SKIPPING = "localizer.json"
_CONFIDENCE = 0.95


class Skipping(Settings):
    """Windows far from what the localizer found are skipped, with the audit on held-out cases that allows it."""

    used: bool = Field(
        description="Whether predictions skip windows outside the region of the localizer: only when no held-out case "
        "lost a labelled voxel."
    )
    threshold: float = Field(
        ge=0, le=1, description="Least probability of any label for a voxel of the coarse grid to belong to the region."
    )
    margin: float = Field(ge=0, le=1e6, description="Distance in mm by which the region is dilated.")
    cases: int = Field(ge=0, le=10**9, description="Labelled held-out cases that were audited.")
    lost: int = Field(ge=0, le=10**12, description="Labelled voxels of these cases outside the region.")
    skipped: float = Field(ge=0, le=1, description="Share of the windows of these cases that is skipped.")
    bound: float = Field(
        ge=0,
        le=1,
        description="Upper 95% confidence bound (Clopper-Pearson) of the share of cases that lose a labelled voxel.",
    )
    reason: str = Field("", description="Why windows are skipped, or not.")

    @property
    def worth(self) -> str:
        """What the audit is worth, in a sentence; why skipping is off otherwise."""
        if not self.used:
            return f"off: {self.reason}" if self.reason else "off"
        return (
            f"0 of {self.cases} cases, which also chose the threshold, lost a voxel: at 95% confidence fewer than "
            f"{100 * self.bound:.1f}% of cases do"
        )


def largest_share(events: int, cases: int) -> float:
    """The upper 95% confidence bound of a share (Clopper and Pearson 1934): exact, one-sided.

    Args: number of events; number of independent cases.
    Returns: at most 1, which it is without cases.
    """
    from scipy.special import betaincinv

    return 1.0 if events >= cases else float(betaincinv(events + 1, cases - events, _CONFIDENCE))


def write_skipping(skipping: Skipping, folder: Path) -> None:
    """Write localizer.json next to the weights; the run's manifest must be updated afterwards."""
    write_unsealed(skipping, folder / SKIPPING)


def load_skipping(folder: Path, sums: Mapping[str, str] | None = None) -> Skipping | None:
    """Read localizer.json of a fold; None when it does not exist.

    Args: the fold's folder; the manifest of its run, None to read it.
    Raises: BundleError when the manifest lacks it.
    """
    return read_fold_settings(Skipping, folder, SKIPPING, sums, remedy="delete it to run every window")


def all_skipping(folds: Iterable[Skipping | None]) -> tuple[Skipping, ...]:
    """The settings of every fold if all of them allow to skip windows; otherwise none."""
    known = tuple(folds)
    allowed = tuple(skipping for skipping in known if skipping is not None and skipping.used)
    return allowed if len(allowed) == len(known) else ()
