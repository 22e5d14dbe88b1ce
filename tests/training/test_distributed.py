"""Two processes that share a training: the same patches, the same model within noise, each case validated once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import nibabel
import pytest
import yaml

from attunet.bundle import load_bundle, save_plan

COUNTED = """
from attunet.training.callbacks import validation

whole = validation.FullVolumeValidation.case_dice

def counted(self, case, engine):
    with open({log!r}, "a") as log:
        log.write(case.id + "\\n")
    return whole(self, case, engine)

validation.FullVolumeValidation.case_dice = counted
from attunet.cli import main
main()
"""


@pytest.fixture
def command(blobs, tiny_plan, tiny_config, store, tmp_path):
    """Runs `attunet train` on the blobs as a program of its own; what it said, and which cases it validated."""
    save_plan(tiny_plan(), tmp_path / "plans")
    recipe = tiny_config(epochs=8, steps_per_epoch=10, learning_rate=1e-2, ema_decay=0.9)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))

    def run(name, *arguments, **variables):
        script, log = tmp_path / f"{name}.py", tmp_path / f"{name}.log"
        script.write_text(COUNTED.format(log=str(log)))
        typed = ["train", blobs.root, "-o", tmp_path / name, "--plan", tmp_path / "plans" / "plan.json", *arguments]
        typed += ["--recipe", tmp_path / "recipe.yaml", "--store", store, "--device", "cpu"]
        line = [sys.executable, str(script), *map(str, typed)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=240, env=os.environ | variables)
        assert done.returncode == 0, done.stderr[-2000:]
        return done, log.read_text().split()

    return run


def dice(run):
    return json.loads((run / "fold_0" / "metrics.json").read_text())["foreground_mean"]["Dice"]


def attention_frames(run):
    """Epochs and files of the attention frames, and the shapes of the maps."""
    folder = run / "fold_0" / "attention_frames"
    epochs = [frame["epoch"] for frame in json.loads((folder / "frames.json").read_text())["frames"]]
    return epochs, {file.name: nibabel.load(file).shape for file in folder.glob("*.nii.gz")}


@pytest.mark.slow
def test_two_processes_do_as_well_as_one_and_validate_each_case_once(command, tmp_path):
    _, alone = command("alone")
    said, shared = command("shared", "--devices", "2")
    assert sorted(shared) == sorted(alone)
    assert dice(tmp_path / "shared") == pytest.approx(dice(tmp_path / "alone"), abs=0.05)
    assert dice(tmp_path / "alone") > 0.8
    assert load_bundle(tmp_path / "shared").folds
    assert attention_frames(tmp_path / "shared") == attention_frames(tmp_path / "alone")
    assert said.stdout.count("fold 0: whole validation cases") == 1
