"""A model folder: found whole, or refused with a remedy."""

from __future__ import annotations

import json
import shutil

import pytest

from attunet.bundle import fold_folder, load_bundle, save_manifest, save_plan
from attunet.errors import BundleError


@pytest.fixture
def model(tmp_path, make_plan_of):
    """A sealed folder of three folds; what their files hold does not matter here."""
    root = tmp_path / "run"
    save_plan(make_plan_of(), root)
    for fold in (10, 2, 0):
        folder = fold_folder(root, fold)
        folder.mkdir()
        for name in ("weights.safetensors", "graph.xml", "graph.bin", "metrics.json", "curves.png"):
            (folder / name).write_bytes(f"{fold} {name}".encode())
    save_manifest(root)
    return root


def edit(root, change):
    path = root / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(root, message, **wanted):
    with pytest.raises(BundleError, match=message) as error:
        load_bundle(root, **wanted)
    assert error.value.hint
    return error.value


def test_folds_come_in_the_order_of_their_numbers(model, make_plan_of):
    bundle = load_bundle(model)
    assert [fold.name for fold in bundle.folds] == ["fold_0", "fold_2", "fold_10"]
    assert bundle.plan == make_plan_of()
    assert bundle.folds[1].weights == model / "fold_2" / "weights.safetensors"


def test_folds_are_chosen(model):
    assert [fold.name for fold in load_bundle(model, [10, 0]).folds] == ["fold_10", "fold_0"]
    assert "fold_3" in refused(model, "fold_0, fold_2, fold_10", folds=[3]).message


def test_an_unfinished_fold_is_not_part_of_the_model(model):
    (model / "fold_2" / "graph.bin").unlink()
    save_manifest(model)
    assert [fold.name for fold in load_bundle(model).folds] == ["fold_0", "fold_10"]
    refused(model, "no finished fold_2", folds=[2])


def test_a_model_can_be_moved(model, tmp_path):
    shutil.move(model, tmp_path / "elsewhere")
    assert len(load_bundle(tmp_path / "elsewhere").folds) == 3


def test_what_no_prediction_depends_on_may_change(model):
    (model / "fold_0" / "curves.png").unlink()
    (model / "notes.txt").write_text("mine")
    load_bundle(model)


@pytest.mark.parametrize(
    "name", ["plan.json", "fold_0/weights.safetensors", "fold_2/graph.xml", "fold_10/graph.bin", "fold_0/metrics.json"]
)
def test_a_changed_byte_or_a_missing_file_is_found(name, model):
    content = bytearray((model / name).read_bytes())
    content[0] ^= 1
    (model / name).write_bytes(content)
    assert name in refused(model, "differs from what was trained").message
    (model / name).unlink()
    assert name in refused(model, "is missing").message


def test_what_is_no_model_is_told_from_what_is_not_finished(model, tmp_path):
    refused(tmp_path / "none", "no model folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "not a model folder")
    (model / "manifest.json").unlink()
    assert "--resume" in refused(model, "unfinished training").hint
    refused(model / "plan.json", "no model folder")


def test_a_run_without_a_finished_fold_is_not_a_model(tmp_path, make_plan_of):
    save_plan(make_plan_of(), tmp_path)
    save_manifest(tmp_path)
    refused(tmp_path, "finished are: none")


@pytest.mark.parametrize("name", ["../secret.txt", "fold_0/../../secret.txt", "/etc/hostname"])
def test_a_manifest_cannot_reach_outside(name, model, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    edit(model, lambda content: content["sha256"].update({name: "0"}))
    refused(model, "outside")


@pytest.mark.parametrize("name", ["plan.json", "fold_2/graph.bin"])
def test_a_manifest_must_name_all_that_is_used(name, model):
    edit(model, lambda content: content["sha256"].pop(name))
    assert name in refused(model, "does not name").message


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 99, "sha256": {}}', '{"sha256": 3}']
)
def test_a_damaged_manifest_is_refused(text, model):
    (model / "manifest.json").write_text(text)
    refused(model, "cannot be understood")


def test_a_manifest_of_bytes_is_refused(model):
    (model / "manifest.json").write_bytes(b"\xff\xfe")
    refused(model, "cannot be understood")
