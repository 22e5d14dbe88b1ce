"""A run is continued as it was started, or refused with the name of what differs."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml

from attunet.bundle import save_plan
from attunet.config import TrainingConfig
from attunet.data.cases import read_dataset
from attunet.errors import ConfigError, DatasetError
from attunet.planning.options import PlanOptions
from attunet.training.callbacks.progress import TrainingCallbacks
from attunet.training.resume import MAY_CHANGE, check_data, check_planning, continued_settings, record_data
from attunet.training.run_folder import FoldPaths
from attunet.training.store import Contents


@pytest.fixture
def run(tmp_path, tiny_plan, tiny_config):
    """A run whose first fold has a checkpoint."""
    folder = tmp_path / "run"
    save_plan(tiny_plan(), folder)
    (folder / "training.yaml").write_text(yaml.safe_dump(tiny_config().model_dump(mode="json")))
    last = FoldPaths(folder / "fold_0").last
    last.parent.mkdir(parents=True)
    last.touch()
    return folder


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd"},
        {"freeze_encoder": 1},
        {"init_weights": "other"},
        {"seed": 4},
        {"precision": "bf16"},
        {"class_weights": {"blob": 2.0}},
        {"group_by": "^[^_]+"},
        {"learning_rate": 0.1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_setting_is_refused_by_its_name(change, run, tiny_config):
    (name,) = change
    with pytest.raises(ConfigError, match=rf"started with another {name} \(") as error:
        continued_settings(run, tiny_config(**change))
    assert "--init-weights" in error.value.hint


def test_budget_and_machine_may_change(run, tiny_config):
    values = {"epochs": 9, "max_time": 8.0, "patience": 3, "validation_fraction": 0.2, "workers": 3}
    values |= {"loggers": ("wandb",), "devices": 2, "nodes": 2, "compile": True, "int8": False}
    assert set(values) == set(MAY_CHANGE)
    changed = tiny_config(**values)
    assert continued_settings(run, changed) == changed


def test_the_precision_is_that_of_the_run_unless_one_is_given(run, tiny_config):
    assert continued_settings(run, tiny_config(precision="auto")).precision == "fp32"
    earlier = tiny_config().model_dump(mode="json") | {"precision": "bf16"}  # the default of earlier versions
    (run / "training.yaml").write_text(yaml.safe_dump(earlier))
    assert continued_settings(run, tiny_config(precision="auto")).precision == "bf16"


def test_what_was_not_started_takes_any_setting(run, tmp_path):
    FoldPaths(run / "fold_0").last.unlink()
    for folder in (run, tmp_path / "new"):
        assert continued_settings(folder, TrainingConfig(seed=7)).seed == 7


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"preset": "paper"}, r"--network \(paper, the plan: default\)"),
        ({"size": "large"}, r"--size \(large, the plan: base\)"),
        ({"gate": "none"}, r"--gate \(none, the plan: grid\)"),
        ({"spatial_dims": 2}, r"--spatial-dims \(2, the plan: 3\)"),
        ({"resolution": "low"}, r"--resolution \(low, the plan: full\)"),
        ({"labels": {"liver": 1}}, r"--labels \(liver=1, the plan: blob=1\)"),
        ({"memory_gb": 0.1}, r"--memory \(0.1, the plan: 0\.\d GB\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_option_that_contradicts_the_plan_is_refused_by_its_name(option, words, tiny_plan):
    with pytest.raises(ConfigError, match=words):
        check_planning(tiny_plan(), PlanOptions(**option), Path("plan.json"))


def test_options_that_say_what_the_plan_says_are_accepted(tiny_plan):
    check_planning(tiny_plan(), PlanOptions(), Path("plan.json"))
    said = PlanOptions(preset="default", size="base", gate="grid", spatial_dims=3, labels={"blob": 1}, memory_gb=99.0)
    check_planning(tiny_plan(), replace(said, resolution="full"), Path("plan.json"))
    with pytest.raises(ConfigError, match="--network"):
        check_planning(tiny_plan(preset="paper"), PlanOptions(preset="default"), Path("plan.json"))


def test_other_images_or_labels_of_the_same_names_are_refused(run):
    contents = {"a": Contents((1,), "image", "label"), "b": Contents((1,), "image b", "label b")}
    check_data(run, contents)  # an earlier version recorded nothing
    record_data(FoldPaths(run / "fold_0"), contents)
    check_data(run, contents)
    for changed in (Contents((1,), "another", "label"), Contents((1,), "image", "another")):
        with pytest.raises(DatasetError, match=r"1 cases has changed since .*fold_0 was started: a"):
            check_data(run, contents | {"a": changed})
    FoldPaths(run / "fold_0").last.unlink()
    check_data(run, contents | {"a": Contents((1,), "another", "label")})


def test_a_resumed_training_knows_its_data(write_blobs, train, tmp_path, tiny_config):
    folder, warned = write_blobs(tmp_path / "data"), []

    class Record(TrainingCallbacks):
        def on_warning(self, text):
            warned.append(text)

    train(dataset=read_dataset(folder), epochs=1, steps_per_epoch=1)
    write_blobs(folder, cases=5)  # the same four, and a new one
    train(dataset=read_dataset(folder), epochs=1, steps_per_epoch=1, resume=True, callbacks=Record())
    assert any("case4" in text and "not part of its folds" in text for text in warned)
    image = nibabel.load(folder / "images" / "case1.nii")
    nibabel.save(
        nibabel.Nifti1Image(np.asarray(image.dataobj) + 1 * (np.arange(16) > 8), np.eye(4)), image.get_filename()
    )
    with pytest.raises(DatasetError, match="case1"):
        train(dataset=read_dataset(folder), epochs=2, steps_per_epoch=1, resume=True)
