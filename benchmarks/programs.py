"""The command lines that segment a CT: attunet's and nnU-Net's own commands, and a script for MONAI."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from nnunet.peer import install
from processes import measure

from attunet.config import Plan

__all__ = ["Command", "NNUNet", "attunet_command", "monai_command"]

Command = list[str | Path]
HERE = Path(__file__).parent


def attunet_command(model: Path, image: Path, output: Path, step: float, *more: str) -> Command:
    """`attunet predict` without mirroring."""
    command: Command = [sys.executable, "-m", "attunet", "predict", "-m", model, "-i", image, "-o", output]
    return [*command, "--step-size", str(step), "--disable-tta", *more]


def monai_command(model: Path, image: Path, output: Path, step: float, *more: str) -> Command:
    """MONAI's sliding window with our network and weights."""
    return [sys.executable, HERE / "monai_case.py", model, image, output, "--step", str(step), *more]


@dataclass(frozen=True)
class NNUNet:
    """nnU-Net in its own environment, with an untrained model of the size of a plan.

    Args:
        env: nnU-Net's virtual environment.
        model: the folder of its model.
        gflop: GFLOP per window of its network.
    """

    env: Path
    model: Path
    gflop: float

    @classmethod
    def create(cls, plan: Plan, env: Path, work: Path) -> NNUNet:
        """Install nnU-Net if it is missing, and write its model."""
        env.mkdir(parents=True, exist_ok=True)
        install(env.resolve())
        scale = plan.preprocessing.normalization[0]
        intensities = {
            "mean": scale.mean,
            "std": scale.std,
            "percentile_00_5": scale.lower,
            "percentile_99_5": scale.upper,
        }
        content = {
            "patch": plan.patch_size,
            "spacing": plan.preprocessing.spacing,
            "channels": plan.network.channels,
            "labels": plan.labels,
            "normalization": intensities,
        }
        file, model = work / "nnunet.json", work / "nnunet_model"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")
        peer = cls(env.resolve(), model.resolve(), 0.0)
        log = work / "nnunet_model.log"
        measure([peer._bin / "python", HERE / "nnunet" / "untrained.py", file, model], log, **peer.variables)
        return cls(peer.env, peer.model, json.loads(log.read_text().splitlines()[-1])["gflop"])

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that nnU-Net needs."""
        folders = {f"nnUNet_{kind}": str(self.model) for kind in ("raw", "preprocessed", "results")}
        return folders | {"PYTHONPATH": str(self.env / "stubs")}

    def predict_command(self, image: Path, output: Path, step: float) -> Command:
        """Prediction without mirroring, with one process per stage."""
        inputs = output.with_name(f"{output.name}_input")
        link = inputs / f"{image.name.removesuffix('.nii.gz')}_0000.nii.gz"
        inputs.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(image.resolve())
        command: Command = [self._bin / "nnUNetv2_predict_from_modelfolder", "-i", inputs, "-o", output]
        flags = ["-step_size", str(step), "--disable_tta", "-device", "cpu", "-npp", "1", "-nps", "1"]
        return [*command, "-m", self.model, "-f", "0", *flags]

    def help_command(self) -> Command:
        """Its help text: the start-up time that a user waits for."""
        return [self._bin / "nnUNetv2_predict_from_modelfolder", "-h"]

    def preprocess_command(self, image: Path) -> Command:
        """Preprocessing only; prints its duration in seconds."""
        return [self._bin / "python", HERE / "nnunet" / "preparing.py", self.model, image]

    @property
    def _bin(self) -> Path:
        return self.env / "bin"
