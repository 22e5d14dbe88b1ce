"""8-bit integers at the end of a training on a CPU: when they are tried, the time that they get, and their calibration.

Building, timing and auditing the graph takes part of the training's budget. It is set aside from the start, because the
learning rate decays to zero at the end of training. What is set aside and not needed is lost, so the share is small.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from attunet.bundle import FoldFiles
from attunet.bundle.execution import INT8_FILES, Int8, write_int8
from attunet.bundle.manifest import resealed
from attunet.config import Plan, TrainingConfig
from attunet.export.fold_int8 import HeldOutDice, build_int8
from attunet.export.int8_graph import INSTALL, has_nncf
from attunet.export.quantization import CALIBRATION_PATCHES
from attunet.inference.segmenter import Segmenter
from attunet.planning.hardware import cpu_int8
from attunet.training.patches.dataset import PatchDataset
from attunet.training.store import StoredCase

__all__ = ["Int8Training", "int8_seconds", "without_int8_time"]

Floats = npt.NDArray[np.float32]

SHARE = 0.05
"""Share of the training time that building and auditing the graph may take."""

MOST_SECONDS = 300.0
LEAST_SECONDS = 30.0
"""Less time than this is not worth setting aside: quantization alone takes about half of it."""


@dataclass(frozen=True, kw_only=True)
class Int8Training:
    """What the end of a training needs to build the graph in 8-bit integers of a fold.

    Args:
        train: the training cases.
        config: the recipe.
        accelerator: the device that trained, cpu or cuda.
        trained_seconds: time of the training so far; limits the time where there is no wall-clock budget.
    """

    train: Sequence[StoredCase]
    config: TrainingConfig
    accelerator: str
    trained_seconds: float

    def build(
        self, segmenter: Segmenter, run: Path, fold: FoldFiles, held_out: HeldOutDice, advance: Callable[[], None]
    ) -> Int8:
        """Build the graph, and seal it with int8.json into the run; or only int8.json, which says why there is none.

        Args:
            segmenter: the finished fold alone, on the CPU.
            run: the model folder.
            fold: the files of the fold in it.
            held_out: the Dice of the fold's validation cases.
            advance: called after every audited case.
        Returns: what int8.json says.
        """
        with TemporaryDirectory() as folder:
            made, reason = Path(folder), _refusal(self.config, self.accelerator, self._seconds)
            if not held_out.cases:
                reason = reason or "not built: the fold was validated on its own training cases"
            int8 = Int8(kept=False, reason=reason)
            if not reason:
                patches = calibration_windows(self.train, segmenter.plan, self.config)
                int8 = build_int8(
                    segmenter, fold.graph, patches, held_out, made, seconds=self._seconds, advance=advance
                )
            write_int8(int8, made)
            with resealed(run) as stage:
                target = stage / fold.folder.relative_to(run)
                target.mkdir(parents=True, exist_ok=True)
                for name in INT8_FILES:
                    if (made / name).is_file():
                        shutil.copyfile(made / name, target / name)
        return int8

    @property
    def _seconds(self) -> float:
        return int8_seconds(self.config.max_time or self.trained_seconds)


def int8_seconds(budget: float) -> float:
    """The seconds that the graph in 8-bit integers may take of a training of that many seconds; 0 when it is too short.

    At most a twentieth, and at most five minutes.
    """
    seconds = min(SHARE * budget, MOST_SECONDS)
    return seconds if seconds >= LEAST_SECONDS else 0.0


def without_int8_time(config: TrainingConfig, accelerator: str) -> TrainingConfig:
    """The recipe whose wall-clock budget lacks what is set aside for 8-bit integers.

    Args: the recipe; the device that trains, cpu or cuda.
    """
    if config.max_time is None or _refusal(config, accelerator, int8_seconds(config.max_time)):
        return config
    return config.model_copy(update={"max_time": config.max_time - int8_seconds(config.max_time)})


def calibration_windows(cases: Sequence[StoredCase], plan: Plan, config: TrainingConfig) -> list[Floats]:
    """Training patches without augmentation, half of them around labelled voxels, as input for the network.

    Args:
        cases: the training cases.
        plan: the plan.
        config: the recipe.
    Returns: arrays (1, C, *patch), the same on every call.
    """
    plain = {"augmentation": "none", "elastic": 0.0, "foreground_fraction": 0.5, "context_corruption": 0.0}
    patches = PatchDataset(cases, plan, config.model_copy(update=plain))
    return [patches[index].image.numpy()[np.newaxis] for index in range(CALIBRATION_PATCHES)]


def _refusal(config: TrainingConfig, accelerator: str, seconds: float) -> str:
    """Why no graph in 8-bit integers is built; empty when one is."""
    least = LEAST_SECONDS / SHARE / 60
    reasons = {
        "not built: the recipe turns it off": not config.int8,
        "not built: the training ran on a GPU": accelerator != "cpu",
        "not built: the CPU that trained has neither VNNI nor AMX": not cpu_int8(),
        f"not built: it needs nncf, which is not installed ({INSTALL})": not has_nncf(),
        f"not built: it takes a twentieth of the training at most, which needs {least:.0f} minutes": not seconds,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")
