"""What is typed to segment a CT with each program: ours, MONAI by a script, nnU-Net by its own command."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from nnunet.peer import install
from processes import measure

from attunet.config import Plan

__all__ = ["Command", "NNUNet", "attunet", "monai"]

Command = list[str | Path]
HERE = Path(__file__).parent


def attunet(model: Path, image: Path, output: Path, step: float, *more: str) -> Command:
    """Ours, without mirroring."""
    where: Command = [sys.executable, "-m", "attunet", "predict", "-m", model, "-i", image, "-o", output]
    return [*where, "--step-size", str(step), "--disable-tta", *more]


def monai(model: Path, image: Path, output: Path, step: float, *more: str) -> Command:
    """MONAI with our network and its weights."""
    return [sys.executable, HERE / "monai_case.py", model, image, output, "--step", str(step), *more]


@dataclass(frozen=True)
class NNUNet:
    """nnU-Net in its environment, with an untrained model of a plan's size.

    gflop: of one window of its network.
    """

    env: Path
    model: Path
    gflop: float

    @classmethod
    def of(cls, plan: Plan, env: Path, work: Path) -> NNUNet:
        """Install it where it is not, and write its model."""
        env.mkdir(parents=True, exist_ok=True)
        install(env.resolve())
        scale = plan.preprocessing.normalization[0]
        marks = {"mean": scale.mean, "std": scale.std, "percentile_00_5": scale.lower, "percentile_99_5": scale.upper}
        content = {
            "patch": plan.patch_size,
            "spacing": plan.preprocessing.spacing,
            "channels": plan.network.channels,
            "labels": plan.labels,
            "normalization": marks,
        }
        file, model = work / "nnunet.json", work / "nnunet_model"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")
        made = cls(env.resolve(), model.resolve(), 0.0)
        log = work / "nnunet_model.log"
        measure([made._bin / "python", HERE / "nnunet" / "untrained.py", file, model], log, **made.variables)
        return cls(made.env, made.model, json.loads(log.read_text().splitlines()[-1])["gflop"])

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that it needs."""
        folders = {f"nnUNet_{kind}": str(self.model) for kind in ("raw", "preprocessed", "results")}
        return folders | {"PYTHONPATH": str(self.env / "stubs")}

    def predict(self, image: Path, output: Path, step: float) -> Command:
        """Without mirroring, in one process for each stage."""
        inputs = output.with_name(f"{output.name}_input")
        link = inputs / f"{image.name.removesuffix('.nii.gz')}_0000.nii.gz"
        inputs.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(image.resolve())
        where: Command = [self._bin / "nnUNetv2_predict_from_modelfolder", "-i", inputs, "-o", output]
        how = ["-step_size", str(step), "--disable_tta", "-device", "cpu", "-npp", "1", "-nps", "1"]
        return [*where, "-m", self.model, "-f", "0", *how]

    def help(self) -> Command:
        """What a user waits for before anything starts."""
        return [self._bin / "nnUNetv2_predict_from_modelfolder", "-h"]

    def prepare(self, image: Path) -> Command:
        """Preprocessing alone; prints its seconds."""
        return [self._bin / "python", HERE / "nnunet" / "preparing.py", self.model, image]

    @property
    def _bin(self) -> Path:
        return self.env / "bin"
