"""nnU-Net v2 in its own environment: installation, and its commands for one set of training cases."""

import json
import os
import subprocess
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

VERSION = "2.8.1"
TORCH = "torch==2.13.0"
# Installed without their dependencies, which would require torchvision and another torch.
PEER = (f"nnunetv2=={VERSION}", "dynamic_network_architectures==0.4.4", "batchgeneratorsv2==0.3.6", "acvl_utils==0.2.6")
IMAGES = ("imagecodecs", "nibabel", "scikit-image", "SimpleITK", "tifffile")
NUMBERS = ("batchgenerators", "blosc2", "connected-components-3d", "einops", "pandas", "scikit-learn")
OTHERS = ("graphviz", "requests", "seaborn", "tqdm", "yacs")
# nnU-Net imports timm for networks that are not used here; stubs are enough.
STUB = "def __getattr__(name):\n    return type(name, (), {})\n"
PLANS = "nnUNetPlans"
ALL = "all"
"""nnU-Net's name for training on every case instead of on a fold."""


def install(env: Path) -> None:
    """Create the environment, unless it is complete."""
    if (env / "installed").exists():
        return
    venv.create(env, with_pip=True)
    constraints = env / "constraints.txt"
    constraints.write_text(TORCH + "\n")
    for packages in ([TORCH], ["--no-deps", *PEER], ["-c", str(constraints), *IMAGES, *NUMBERS, *OTHERS]):
        call([env / "bin" / "pip", "install", "--quiet", *packages], env / "install.log")
    for module in ("__init__", "layers", "models/__init__", "models/eva"):
        file = env / "stubs" / "timm" / f"{module}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("" if module.endswith("__init__") else STUB)
    (env / "installed").touch()


def call(command: Sequence[str | Path], log: Path, **variables: str) -> float:
    """Run a program and append its output to the log. A failure ends the benchmark. Returns: its seconds."""
    started = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as stream:
        done = subprocess.run(
            list(map(str, command)), env=os.environ | variables, stdout=stream, stderr=subprocess.STDOUT
        )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{log.read_text()[-2000:]}\nAll of its output is in {log}.")
    return time.monotonic() - started


def link(path: Path, target: Path) -> None:
    """Make `path` a symbolic link to the target, replacing an existing file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target.resolve())


@dataclass(frozen=True)
class Peer:
    """nnU-Net for one set of training cases.

    Args:
        env: its virtual environment.
        data: a folder for the preprocessed cases, which trainings of any length share.
        results: a folder for its models and logs.
        trainer: a class of `trainer/`.
        configuration: 2d or 3d_fullres.
        prefix: words to put before its commands, such as taskset.
    """

    env: Path
    data: Path
    results: Path
    trainer: str
    configuration: str
    prefix: tuple[str, ...] = ()

    def prepare(self, training: Path) -> None:
        """Plan and preprocess training cases in nnU-Net's raw layout."""
        finished = self.data / "preprocessed" / "finished"
        if not finished.exists():
            link(self.data / "raw" / "Dataset001_Share", training)
            self._run("nnUNetv2_plan_and_preprocess", "-d", "1", "-c", self.configuration, "-np", "2", "-npfp", "2")
            finished.touch()

    def train(self, seconds: float, threads: int) -> dict[str, float]:
        """Train on all cases. Returns: its "steps" and "seconds"."""
        budget = {"BENCHMARK_SECONDS": str(seconds), "nnUNet_n_proc_DA": str(threads)}
        self._run("nnUNetv2_train", "1", self.configuration, ALL, *self._flags, **budget)
        folder = self.results / "Dataset001_Share" / f"{self.trainer}__{PLANS}__{self.configuration}" / f"fold_{ALL}"
        result: dict[str, float] = json.loads((folder / "steps.json").read_text())
        return result

    def predict(self, images: Path, output: Path) -> float:
        """Predict a folder of images, mirrored along the axes that the trainer mirrored. Returns: seconds."""
        paths = ("-i", str(images), "-o", str(output), "-d", "1", "-c", self.configuration, "-f", ALL)
        return self._run("nnUNetv2_predict", *paths, "-npp", "1", "-nps", "1", *self._flags)

    @property
    def _flags(self) -> tuple[str, ...]:
        return ("-tr", self.trainer, "-device", "cpu")

    def _run(self, program: str, *arguments: str, **more: str) -> float:
        variables = {
            "nnUNet_raw": str(self.data / "raw"),
            "nnUNet_preprocessed": str(self.data / "preprocessed"),
            "nnUNet_results": str(self.results),
            "nnUNet_extTrainer": str(Path(__file__).with_name("trainer")),
            "PYTHONPATH": str(self.env / "stubs"),
        }
        command = [*self.prefix, self.env / "bin" / program, *arguments]
        return call(command, self.results / "log.txt", **variables, **more)
