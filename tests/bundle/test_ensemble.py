"""An ensemble's folder: complete, protected by checksums, and of one task."""

from __future__ import annotations

import json
import shutil

import pytest

from attunet.bundle import load_bundle, load_model, save_ensemble, save_manifest, save_plan, save_postprocessing
from attunet.bundle.ensemble import check_agreement
from attunet.bundle.manifest import seal
from attunet.config import ComponentRules, Postprocessing, QualityCalibration
from attunet.errors import BundleError, ConfigError

QUALITY = QualityCalibration(cases=9, spearman=0.7, low=0.4, high=0.9, error=0.02)


def write_run(root, plan, folds=(0,)):
    save_plan(plan, root)
    for fold in folds:
        for name in ("weights.safetensors", "graph.xml", "graph.bin", "split.yaml", "curves.png"):
            (root / f"fold_{fold}").mkdir(exist_ok=True)
            (root / f"fold_{fold}" / name).write_text(f"{root.name} {fold} {name}")
    (root / "fold_0" / "checkpoints").mkdir()
    (root / "fold_0" / "checkpoints" / "last.ckpt").write_text("large")
    (root / "training.yaml").write_text("epochs: 1")
    save_manifest(root)
    return root


@pytest.fixture
def runs(tmp_path, make_plan_of):
    return {
        "3d": write_run(tmp_path / "3d", make_plan_of(), folds=(0, 1)),
        "2d": write_run(tmp_path / "2d", make_plan_of(2)),
    }


@pytest.fixture
def ensemble(runs, tmp_path):
    save_ensemble(runs, Postprocessing(quality=QUALITY), tmp_path / "both")
    return tmp_path / "both"


def test_an_ensemble_holds_complete_copies(ensemble, runs, make_plan_of):
    for run in runs.values():
        shutil.rmtree(run)
    model = load_model(ensemble)
    assert list(model.members) == ["3d", "2d"]
    assert model.members["2d"].plan == make_plan_of(2)
    assert [fold.name for fold in model.members["3d"].folds] == ["fold_0", "fold_1"]
    assert model.postprocessing.quality == QUALITY
    kept = {str(path.relative_to(ensemble / "members/2d")) for path in (ensemble / "members/2d").rglob("*")}
    assert {"training.yaml", "fold_0/graph.bin"} <= kept
    assert not {"fold_0/curves.png", "fold_0/checkpoints", "fold_0/split.yaml"} & kept


def test_a_run_is_a_model_of_one_member(runs):
    save_postprocessing(Postprocessing(temperature=2.0), runs["2d"])
    model = load_model(runs["2d"])
    assert list(model.members) == ["2d"]
    assert model.postprocessing.temperature == 2.0


def test_folds_are_chosen_in_every_member(ensemble):
    assert [fold.name for fold in load_model(ensemble, [0]).members["3d"].folds] == ["fold_0"]
    with pytest.raises(BundleError, match="no finished fold_1"):
        load_model(ensemble, [1])


def test_an_ensemble_is_no_run(ensemble):
    with pytest.raises(BundleError, match="is an ensemble") as refused:
        load_bundle(ensemble)
    assert "members" in refused.value.hint


@pytest.mark.parametrize(
    "name", ["ensemble.json", "postprocessing.json", "members/2d/manifest.json", "members/3d/fold_1/graph.bin"]
)
def test_a_changed_byte_is_found_anywhere(name, ensemble):
    (ensemble / name).write_text((ensemble / name).read_text() + " ")
    with pytest.raises(BundleError, match="was changed after training"):
        load_model(ensemble)


@pytest.mark.parametrize("members", [[], ["../2d"], [".."], [""], 3, ["2d", "/etc"]])
def test_a_list_of_members_that_makes_no_sense_is_refused(members, ensemble):
    (ensemble / "ensemble.json").write_text(json.dumps({"format": 1, "members": members}))
    seal(ensemble, [ensemble / "ensemble.json"])
    with pytest.raises(BundleError, match="is not valid") as refused:
        load_model(ensemble)
    assert refused.value.hint


def test_a_member_that_is_replaced_whole_is_noticed(ensemble):
    member = ensemble / "members" / "2d"
    (member / "fold_0" / "graph.bin").write_text("another network")
    save_manifest(member)
    with pytest.raises(BundleError, match=r"members/2d/manifest\.json was changed"):
        load_model(ensemble)


def test_nothing_is_left_of_an_ensemble_that_cannot_be_made(runs, tmp_path):
    (runs["2d"] / "manifest.json").unlink()
    with pytest.raises(BundleError):
        save_ensemble(runs, Postprocessing(), tmp_path / "both")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["2d", "3d"]


def test_members_must_be_of_one_task(make_plan_of):
    plans = {"a": make_plan_of(), "b": make_plan_of(labels={"background": 0, "lesion": 7, "body": 1})}
    with pytest.raises(ConfigError, match="a and b differ in their labels: background=0, body=1, lesion=7 and"):
        check_agreement(plans)
    with pytest.raises(ConfigError, match="differ in their channels: channel 0 and channel 0, channel 1"):
        check_agreement({"a": make_plan_of(), "c": make_plan_of(in_channels=2)})
    check_agreement({"a": make_plan_of(), "flat": make_plan_of(2)})


def test_cleaning_survives_the_way_to_the_disk(runs):
    taught = Postprocessing(
        components={"body": ComponentRules(largest_component=True)}, reasons={"body": "Dice + 0.01"}
    )
    save_postprocessing(taught, runs["2d"])
    assert load_bundle(runs["2d"]).postprocessing == taught
