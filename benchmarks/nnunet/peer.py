"""nnU-Net v2 in its own environment: installation, data set conversion, training and prediction."""

import json
import os
import re
import subprocess
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attunet.data.cases import Dataset
from attunet.data.formats import suffix_of

VERSION = "2.8.1"
TORCH = "torch==2.13.0"
# Installed without their dependencies, which would require torchvision and another torch.
PEER = (f"nnunetv2=={VERSION}", "dynamic_network_architectures==0.4.4", "batchgeneratorsv2==0.3.6", "acvl_utils==0.2.6")
IMAGES = ("imagecodecs", "nibabel", "scikit-image", "SimpleITK", "tifffile")
NUMBERS = ("batchgenerators", "blosc2", "connected-components-3d", "einops", "pandas", "scikit-learn")
OTHERS = ("graphviz", "requests", "seaborn", "tqdm", "yacs")
# nnU-Net imports timm for networks that are not used here; stubs are enough.
STUB = "def __getattr__(name):\n    return type(name, (), {})\n"
CONFIGURATION, PLANS, TRAINER = "3d_fullres", "nnUNetPlans", "WallClockTrainer"


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
    with log.open("a") as stream:
        done = subprocess.run(command, env=os.environ | variables, stdout=stream, stderr=subprocess.STDOUT)
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
    """nnU-Net on one data set. Folds already trained or predicted in `work` are not repeated.

    Args:
        env: nnU-Net's virtual environment.
        work: the folder for all its files.
        name: the data set's name in that folder, Dataset000_Name.
        seconds: training time per fold.
        mirror: average predictions over mirrored images.
    """

    env: Path
    work: Path
    name: str
    seconds: float
    mirror: bool = True

    @property
    def predictions(self) -> Path:
        """The folder of the masks of all folds."""
        return self.work / ("predictions" if self.mirror else "predictions_without_mirroring") / self.name

    def prepare(self, dataset: Dataset, splits: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> None:
        """Convert the data set, preprocess it, and write the folds: ids of training and validation cases."""
        raw, preprocessed = self.work / "raw" / self.name, self.work / "preprocessed" / self.name
        _write_raw(dataset, raw)
        if not (preprocessed / f"{PLANS}_{CONFIGURATION}").exists():
            self._run("nnUNetv2_plan_and_preprocess", "-d", self._number, "-c", CONFIGURATION, "-np", "2", "-npfp", "2")
        file = preprocessed / "splits_final.json"
        content = [{"train": list(train), "val": list(validation)} for train, validation in splits]
        existing = json.loads(file.read_text()) if file.exists() else []
        if any(old != new and old["train"] and new["train"] for old, new in zip(existing, content, strict=False)):
            raise SystemExit(f"{self.work} contains other folds of {self.name}: choose another --work")
        file.write_text(json.dumps(content))

    def train(self, fold: int) -> dict[str, float]:
        """Train a fold. Returns: its "steps" and "seconds"."""
        folder = self.work / "results" / self.name / f"{TRAINER}__{PLANS}__{CONFIGURATION}" / f"fold_{fold}"
        if not (folder / "steps.json").exists():
            self._run("nnUNetv2_train", self._number, CONFIGURATION, str(fold), *self._flags)
        result: dict[str, float] = json.loads((folder / "steps.json").read_text())
        if result["budget"] != self.seconds:
            raise SystemExit(
                f"fold {fold} in {self.work} was trained for {result['budget']:g} s: choose another --work"
            )
        return result

    def predict(self, fold: int, cases: Sequence[str]) -> float:
        """Predict cases with one fold. Returns: the seconds of the whole process."""
        timing = self.predictions.with_name(f"{self.name}_fold_{fold}.txt")
        if not timing.exists():
            inputs = self.work / "inputs" / self.name / f"fold_{fold}"
            for file in (file for case in cases for file in self._images.glob(f"{case}_[0-9][0-9][0-9][0-9].*")):
                link(inputs / file.name, file)
            paths = ("-i", str(inputs), "-o", str(self.predictions), "-d", self._number, "-c", CONFIGURATION)
            flags = ("-f", str(fold), "-npp", "1", "-nps", "1", *([] if self.mirror else ["--disable_tta"]))
            seconds = self._run("nnUNetv2_predict", *paths, *flags, *self._flags)
            timing.write_text(str(seconds))
        return float(timing.read_text())

    @property
    def _images(self) -> Path:
        return self.work / "raw" / self.name / "imagesTr"

    @property
    def _number(self) -> str:
        return re.findall(r"\d+", self.name)[0]

    @property
    def _flags(self) -> tuple[str, ...]:
        return ("-tr", TRAINER, "-device", "cpu")

    def _run(self, program: str, *arguments: str) -> float:
        variables = {f"nnUNet_{kind}": str(self.work / kind) for kind in ("raw", "preprocessed", "results")}
        variables |= {
            "nnUNet_extTrainer": str(Path(__file__).with_name("trainer")),
            "BENCHMARK_SECONDS": str(self.seconds),
            "PYTHONPATH": str(self.env / "stubs"),
        }
        return call([self.env / "bin" / program, *arguments], self.work / "log.txt", **variables)


def _write_raw(dataset: Dataset, folder: Path) -> None:
    """Link the data set's files in nnU-Net's layout. Requires named labels with consecutive values."""
    if not dataset.label_names or dataset.regions:
        raise SystemExit(f"{dataset.root} must have named labels and no regions for nnU-Net, got {dataset.label_names}")
    ending = suffix_of(dataset.labelled[0].label)
    for case in dataset.labelled:
        for channel, file in enumerate(case.images):
            link(folder / "imagesTr" / f"{case.id}_{channel:04d}{ending}", file)
        link(folder / "labelsTr" / f"{case.id}{ending}", case.label)
    ignored = {} if dataset.ignore_label is None else {"ignore": dataset.ignore_label}
    content = {
        "channel_names": dict(enumerate(dataset.channel_names)),
        "labels": dict(sorted(dataset.label_names.items(), key=lambda label: label[1])) | ignored,
        "numTraining": len(dataset.labelled),
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
