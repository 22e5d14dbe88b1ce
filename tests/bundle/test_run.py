"""The folder of a run: loaded if complete, otherwise refused with a hint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from attunet.bundle import (
    Execution,
    Skipping,
    fold_folder,
    load_bundle,
    localizer_folder,
    save_execution,
    save_manifest,
    save_plan,
    save_postprocessing,
    withdraw_fold,
    write_skipping,
)
from attunet.config import ComponentRules, Postprocessing, QualityCalibration, RankCorrelation
from attunet.errors import BundleError
from attunet.locks import LOCK


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
    assert name in refused(model, "was changed after training").message
    (model / name).unlink()
    assert name in refused(model, "is missing").message


def test_an_unfinished_run_is_distinguished_from_other_folders(model, tmp_path):
    refused(tmp_path / "none", "no model folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "not a model folder")
    (model / "manifest.json").unlink()
    assert "--resume" in refused(model, "unfinished training").hint
    refused(model / "plan.json", "no model folder")


def test_a_run_without_a_finished_fold_is_not_a_model(tmp_path, make_plan_of):
    save_plan(make_plan_of(), tmp_path)
    save_manifest(tmp_path)
    refused(tmp_path, "finished folds: none")


def test_the_results_of_a_cross_validation_are_in_the_manifest(model):
    assert load_bundle(model).postprocessing == Postprocessing()
    save_postprocessing(Postprocessing(temperature=1.5), model)
    assert load_bundle(model).postprocessing.temperature == 1.5
    (model / "postprocessing.json").write_text('{"temperature": 9}')
    refused(model, "was changed after training")


def test_postprocessing_of_unknown_origin_is_refused(model):
    (model / "postprocessing.json").write_text("{}")
    assert "--cross-validation" in refused(model, "not in the manifest").hint


EARLIER_REFINEMENT = """{
  "postprocessing": {"body": {"fill_holes": false, "minimum_ml": 0.5, "largest_component": true}},
  "temperature": 1.25,
  "quality": {
    "cases": 40, "spearman": 0.2, "low": -0.15, "high": 0.52, "slope": 0.9, "intercept": 0.05, "error": 0.03
  },
  "attention": {"cases": 40, "spearman": 0.3, "low": 0.1, "high": 0.5},
  "reasons": {"temperature": "ECE 0.042 to 0.023"}
}
"""


def test_a_folder_of_an_earlier_version_is_read(model):
    """With the file name and the keys of 0.1: refinement.json."""
    (model / "refinement.json").write_text(EARLIER_REFINEMENT)
    save_manifest(model)
    learnt = load_bundle(model).postprocessing
    assert learnt.components == {"body": ComponentRules(minimum_ml=0.5, largest_component=True)}
    assert learnt.temperature == 1.25
    assert learnt.quality == QualityCalibration(
        cases=40, spearman=0.2, low=-0.15, high=0.52, slope=0.9, intercept=0.05, error=0.03
    )
    assert learnt.attention_agreement == RankCorrelation(cases=40, spearman=0.3, low=0.1, high=0.5)
    (model / "refinement.json").write_text("{}")
    refused(model, "was changed after training")


def test_the_earlier_file_gives_way_to_the_new_one(model):
    (model / "refinement.json").write_text(EARLIER_REFINEMENT)
    save_manifest(model)
    save_postprocessing(Postprocessing(temperature=2.0), model)
    assert load_bundle(model).postprocessing == Postprocessing(temperature=2.0)
    assert not (model / "refinement.json").exists()


class KilledError(BaseException):
    """Stands for a kill: nothing of ours catches it."""


@pytest.fixture
def killed(monkeypatch):
    """Runs a function that ends before its `step`-th change of a name in a folder; whether it was cut."""

    def run(step, action):
        left = [step]

        def cut(change):
            def changed(path, *more, **named):
                left[0] -= 1
                if left[0] < 0 and path.name != LOCK:  # a lock ends with a process, but not in this test
                    raise KilledError
                return change(path, *more, **named)

            return changed

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", cut(Path.replace))
            patched.setattr(Path, "unlink", cut(Path.unlink))
            try:
                action()
            except KilledError:
                return True
        return False

    return run


@pytest.mark.parametrize("earlier", [None, "postprocessing.json", "refinement.json"])
def test_a_kill_between_a_file_and_its_seal_leaves_a_model(earlier, model, killed, tmp_path):
    old, new = Postprocessing(temperature=2.0), Postprocessing(temperature=1.5)
    if earlier:
        save_postprocessing(old, model)
        (model / "postprocessing.json").rename(model / earlier)
        save_manifest(model)
    for step in range(20):
        copy = shutil.copytree(model, tmp_path / str(step))
        cut = killed(step, lambda copy=copy: save_postprocessing(new, copy))
        found = load_bundle(copy).postprocessing
        assert found == new or (cut and found == (old if earlier else Postprocessing()))
        save_postprocessing(new, copy)
        assert load_bundle(copy).postprocessing == new
        assert "replaced" not in json.loads((copy / "manifest.json").read_text())
        if not cut:
            break
    assert step > 2


def test_a_kill_while_an_engine_is_chosen_leaves_a_model(model, killed, tmp_path):
    for step in range(20):
        copy = shutil.copytree(model, tmp_path / str(step))
        for fold in (0, 2, 10):
            (fold_folder(copy, fold) / "model.onnx").write_text("a graph")
        cut = killed(step, lambda copy=copy: save_execution(Execution(engine="onnxruntime"), copy))
        assert load_bundle(copy).execution.engine in ("openvino", "onnxruntime")
        if not cut:
            break
    assert load_bundle(copy).execution.engine == "onnxruntime"


def test_a_new_seal_does_not_cover_what_was_altered_before(model):
    (model / "fold_2" / "graph.bin").write_bytes(b"altered")
    save_postprocessing(Postprocessing(temperature=2.0), model)
    refused(model, "was changed")
    save_manifest(model, changed="fold_0")
    refused(model, "was changed")


def test_a_fold_that_is_about_to_change_leaves_the_others_usable(model):
    save_postprocessing(Postprocessing(temperature=2.0), model)
    withdraw_fold(model, "fold_2")
    bundle = load_bundle(model)
    assert [fold.name for fold in bundle.folds] == ["fold_0", "fold_10"]
    assert bundle.postprocessing == Postprocessing()
    save_manifest(model, changed="fold_2")
    assert len(load_bundle(model).folds) == 3


@pytest.fixture
def cascade_model(tmp_path, make_plan_of, make_cascade):
    """A sealed folder of two folds with two localizers each."""
    root = tmp_path / "run"
    save_plan(make_cascade(make_plan_of()), root)
    for fold in (0, 1):
        folder = fold_folder(root, fold)
        for place in (folder, localizer_folder(folder, 0), localizer_folder(folder, 1)):
            place.mkdir(parents=True)
            for name in ("weights.safetensors", "graph.xml", "graph.bin"):
                (place / name).write_bytes(f"{place} {name}".encode())
        write_skipping(Skipping(used=True, threshold=0.2, margin=9, cases=8, lost=0, skipped=0.5, bound=0.3), folder)
    save_manifest(root)
    return root


def test_localizers_are_read_through_the_manifest(cascade_model):
    fold = load_bundle(cascade_model).folds[1]
    assert [files.folder.name for files in fold.localizers] == ["localizer_0", "localizer_1"]
    graph = fold.localizers[1].graph
    assert fold.localizers[1].has(graph)
    assert fold.localizers[1].read(graph) == graph.read_bytes()
    assert fold.skipping is not None
    assert fold.skipping.margin == 9

    graph.write_bytes(b"another")
    with pytest.raises(BundleError, match="changed after training"):
        fold.localizers[1].read(graph)
    refused(cascade_model, "changed after training")


def test_a_cascade_needs_every_localizer_of_its_plan(cascade_model):
    shutil.rmtree(cascade_model / "fold_1" / "localizer_1")
    save_manifest(cascade_model)
    assert "--resume" in refused(cascade_model, "does not list fold_1/localizer_1").hint
    assert len(load_bundle(cascade_model, [0]).folds) == 1


def test_a_fold_is_withdrawn_with_its_localizers(cascade_model):
    withdraw_fold(cascade_model, "fold_0")
    names = json.loads((cascade_model / "manifest.json").read_text())["sha256"]
    assert not [name for name in names if name.startswith("fold_0")]
    assert not (cascade_model / "fold_0" / "localizer.json").exists()
    assert [fold.name for fold in load_bundle(cascade_model).folds] == ["fold_1"]


def test_localizers_have_no_8_bit_integers(cascade_model):
    save_execution(Execution(precision="int8"), cascade_model)
    (first, *_) = load_bundle(cascade_model).folds
    assert {files.execution.precision for files in first.localizers} == {"auto"}
