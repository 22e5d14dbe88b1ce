"""Where a fold that is being trained keeps its files. Knows no torch, so that a wrong command is refused at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attunet.bundle import FoldFiles

__all__ = ["FoldPaths", "any_started", "default_store"]


@dataclass(frozen=True)
class FoldPaths(FoldFiles):
    """All files of the fold in `folder`: those of the model, and those that only its training knows."""

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def begun(self) -> bool:
        """Whether the fold holds a training, or what is left of a finished one: nothing may take its place."""
        return self.last.exists() or self.weights.exists()

    @property
    def best(self) -> Path:
        """The averaged weights of the best validation."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def frames(self) -> Path:
        """The film's frames, to go on from: one file per recorded validation."""
        return self.folder / "checkpoints" / "film"

    @property
    def film(self) -> Path:
        """Where the gates looked in a few cases as the training went on, frame by frame."""
        return self.folder / "film"

    @property
    def log(self) -> Path:
        """One row per epoch."""
        return self.folder / "log.csv"

    @property
    def report(self) -> Path:
        """Scores, curves and the best, median and worst validation case, to open in a browser."""
        return self.folder / "report.html"

    @property
    def curves(self) -> Path:
        """Loss, rate and Dice over the epochs."""
        return self.folder / "curves.png"


def any_started(run: Path) -> bool:
    """Whether a fold of this model folder was begun, so that its plan and its folds are settled."""
    return any(FoldPaths(folder).begun for folder in run.glob("fold_*"))


def default_store() -> Path:
    """Where preprocessed cases are kept unless told otherwise."""
    return Path.home() / ".cache" / "attunet" / "store"
