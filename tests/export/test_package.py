"""An exported folder is a model: complete, sealed, and with the masks of the run it was made from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from attunet.bundle import (
    Execution,
    Skipping,
    fold_folder,
    load_bundle,
    save_ensemble,
    save_manifest,
    save_plan,
    write_skipping,
)
from attunet.config import Postprocessing
from attunet.data.cases import read_case_image
from attunet.data.volume import Volume
from attunet.errors import BundleError, ConfigError, TrainingError
from attunet.evaluation.overlap import dice
from attunet.export import package
from attunet.export.formats import FORMATS, export_openvino
from attunet.export.monai_bundle import export_monai
from attunet.export.package import export_model, export_run, select_engine
from attunet.inference.engines.factory import cpu_engine
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.inference.engines.torch_engine import TorchEngine
from attunet.inference.member import Member
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter

NAMES = {"engine.json", "manifest.json", "plan.json", "postprocessing.json", "fold_0"}
FILES = {"openvino": {"graph.xml", "graph.bin"}, "onnx": {"model.onnx"}, "torch": {"model.pt2"}}


@pytest.fixture(scope="module")
def reference(trained_run):
    """Of each case, the mask that torch finds in fp32."""
    bundle = load_bundle(trained_run)
    return masks_of(TorchEngine(bundle.folds[0].weights, bundle.plan.network, device="cpu"), bundle.plan)


def masks_of(engine, plan):
    segmenter = Segmenter((Member("one", plan, (engine,)),))
    return lambda case: segmenter.predict(read_case_image(case)).segmentation.array[0]


def agreement(masks, others, cases):
    """Dice over all cases together: in one of these tiny ones a single voxel weighs more than a thousandth."""
    return dice(*(np.stack([found(case) for case in cases]) > 0 for found in (masks, others)))


@pytest.mark.integration
@pytest.mark.parametrize("format", FILES)
def test_the_folder_predicts_as_the_run_it_was_made_from(format, exported, reference, blobs):
    folder = exported(format).folder
    assert {entry.name for entry in folder.iterdir()} == NAMES
    assert {entry.name for entry in (folder / "fold_0").iterdir()} == FILES[format]
    segmenter = Segmenter.load(folder, device="cpu")
    assert segmenter.postprocessing.temperature == 1.5
    assert (
        agreement(reference, lambda case: segmenter.predict(read_case_image(case)).segmentation.array[0], blobs)
        >= 0.999
    )
    assert segmenter.predict(read_case_image(blobs[0]), attention=True).attention.keys() == {"level2"}


@pytest.mark.parametrize(("engine", "precision"), [("torch", "auto"), ("openvino", "fp32"), ("openvino", "auto")])
def test_every_engine_of_a_run_finds_the_masks_of_torch(engine, precision, trained_run, reference, blobs):
    bundle = load_bundle(trained_run)
    execution = Execution(engine=engine, precision=precision)
    masks = masks_of(cpu_engine(bundle.folds[0], bundle.plan, execution), bundle.plan)
    assert agreement(reference, masks, blobs) >= 0.999


def test_an_ensemble_is_exported_member_by_member(trained_run, tmp_path, blobs):
    both, out = tmp_path / "both", tmp_path / "out"
    save_ensemble({"one": trained_run, "two": trained_run}, Postprocessing(temperature=1.5), both)
    made = export_model(both, out, "openvino")
    assert made.keys() == {"one", "two"}
    assert made["two"].folder == out / "members" / "two"
    assert not list(out.rglob("*.safetensors"))
    case = read_case_image(blobs[0])
    before, after = (Segmenter.load(model, device="cpu") for model in (both, out))
    assert after.postprocessing.temperature == 1.5
    np.testing.assert_array_equal(before.predict(case).segmentation.array, after.predict(case).segmentation.array)


def test_an_ensemble_appears_whole_or_not_at_all(trained_run, tmp_path, monkeypatch):
    save_ensemble({"one": trained_run, "two": trained_run}, Postprocessing(), tmp_path / "both")
    monkeypatch.setattr(package, "save_plan", _fail_the_second_time())
    with pytest.raises(TrainingError):
        export_model(tmp_path / "both", tmp_path / "out", "openvino")
    assert [entry.name for entry in tmp_path.iterdir()] == ["both"]


def _fail_the_second_time():
    calls = []

    def save(plan, folder):
        calls.append(folder)
        if len(calls) == 2:
            raise TrainingError("no more")
        save_plan(plan, folder)

    return save


@pytest.fixture(scope="module")
def cascade_run(make_model):
    """A run of one fold with two localizers, which skips windows far from the half per cent they find most probable."""
    run = make_model(3, localizer={})
    case = Segmenter.load(run, device="cpu").plan_case(spots(), PredictOptions()).members[0]
    threshold = float(np.quantile(case.found.values, 0.995))
    audit = {"cases": 40, "lost": 0, "skipped": 0.5, "bound": 0.072}
    write_skipping(Skipping(used=True, threshold=threshold, margin=0.0, **audit), fold_folder(run, 0))
    save_manifest(run)
    return run


def spots(seed=0):
    """A scan of which a cascade skips some windows."""
    array = np.random.default_rng(seed).normal(size=(48, 36, 24)).astype(np.float32)
    array[20:26, 16:22, 8:14] += 9
    return Volume.from_array(array)


def networks_of(root):
    """The files of each folder that holds a network."""
    folders = [*root.glob("fold_*"), *root.glob("fold_*/localizer_*")]
    return {
        folder.relative_to(root).as_posix(): {file.name for file in folder.iterdir() if file.is_file()}
        for folder in folders
    }


@pytest.mark.parametrize("format", FILES)
@pytest.mark.slow
def test_a_cascade_is_exported_with_its_localizers_and_skips_as_the_run(format, cascade_run, tmp_path):
    made = export_run(cascade_run, tmp_path / "out", format)
    names = {"fold_0", "fold_0/localizer_0", "fold_0/localizer_1"}
    assert made.differences.keys() == names
    assert networks_of(made.folder) == {
        name: FILES[format] | ({"localizer.json"} if "/" not in name else set()) for name in names
    }
    execution = load_bundle(made.folder).execution
    assert execution.tensors["image"][:2] == ("batch", 3)
    assert execution.reasons["image"].endswith("body, lesion")
    precision = "auto" if format == "openvino" else "fp32"
    before = Segmenter.load(cascade_run, device="cpu", precision=precision).predict(spots())
    after = Segmenter.load(made.folder, device="cpu").predict(spots())
    assert 0 < before.skipped_windows == after.skipped_windows
    same = before.segmentation.array == after.segmentation.array
    assert same.all() if format == "openvino" else same.mean() > 0.999
    assert (before.segmentation.array != 0).any()


def test_a_missing_localizer_of_an_export_is_noticed(cascade_run, tmp_path):
    made = export_run(cascade_run, tmp_path / "out", "openvino")
    (made.folder / "fold_0" / "localizer_1" / "graph.bin").unlink()
    with pytest.raises(BundleError, match=r"localizer_1.*is missing"):
        load_bundle(made.folder)


@pytest.mark.integration
def test_an_ensemble_of_cascades_keeps_the_localizers_of_its_members(cascade_run, tmp_path):
    both, out = tmp_path / "both", tmp_path / "out"
    save_ensemble({"one": cascade_run, "two": cascade_run}, Postprocessing(), both)
    assert networks_of(both / "members" / "two") == {
        name: files - {"metrics.json"} for name, files in networks_of(cascade_run).items()
    }
    made = export_model(both, out, "openvino")
    assert made["two"].differences.keys() == {"fold_0", "fold_0/localizer_0", "fold_0/localizer_1"}
    case = spots()
    copied, exported = [Segmenter.load(model, device="cpu").predict(case).segmentation.array for model in (both, out)]
    np.testing.assert_array_equal(copied, exported)


def test_a_cascade_changes_its_engine_with_its_localizers(cascade_run, tmp_path, monkeypatch):
    run = shutil.copytree(cascade_run, tmp_path / "run")
    written = []
    fake = replace(FORMATS["onnx"], write=lambda _network, plan, path: written.append(plan) or path.write_bytes(b"x"))
    monkeypatch.setitem(FORMATS, "onnx", fake)
    (fold_folder(run, 0) / "model.onnx").write_bytes(b"not of this model: the manifest lacks it")
    select_engine(run, Execution(engine="onnxruntime", precision="fp32"))
    bundle = load_bundle(run)
    assert [plan.localizer is None for plan in written] == [False, True, True]
    (fold,) = bundle.folds
    assert [files.read(files.onnx) for files in (fold, *fold.localizers)] == [b"x"] * 3
    select_engine(run, Execution(engine="onnxruntime", precision="fp32"))
    assert len(written) == 3


def test_what_was_written_says_what_it_is(exported):
    content = json.loads((exported("torch").folder / "engine.json").read_text())
    assert content["engine"] == "torch program"
    assert content["tensors"]["logits"] == ["batch", 2, "4i", "4j", "4k"]
    assert "fold_0" in content["reasons"]["parity"]
    assert content["quantization"] is None


def test_an_altered_export_is_refused(exported, tmp_path):
    folder = shutil.copytree(exported("openvino").folder, tmp_path / "model")
    (folder / "engine.json").write_text('{"engine": "openvino", "precision": "fp32"}')
    with pytest.raises(BundleError, match="was changed after training"):
        load_bundle(folder)


def test_what_cannot_be_exported_leaves_nothing(trained_run, exported, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="8-bit"):
        export_run(trained_run, tmp_path / "out", "onnx", int8=True)
    with pytest.raises(ConfigError, match="exists already"):
        export_run(trained_run, tmp_path, "openvino")
    with pytest.raises(BundleError, match="no weights"):
        export_run(exported("openvino").folder, tmp_path / "out", "openvino")
    with pytest.raises(BundleError, match="no finished fold_3"):
        export_run(trained_run, tmp_path / "out", "openvino", folds=[3])
    strict = replace(FORMATS["openvino"], write=partial(export_openvino, tolerance=-1.0))
    monkeypatch.setitem(FORMATS, "openvino", strict)
    with pytest.raises(TrainingError, match="differs"):
        export_run(trained_run, tmp_path / "out", "openvino")
    assert not list(tmp_path.iterdir())


def test_folds_are_chosen_and_keep_their_numbers(tiny_run, tmp_path):
    made = export_run(tiny_run, tmp_path / "out", "openvino", folds=[1])
    assert list(made.differences) == ["fold_1"]
    assert [fold.name for fold in load_bundle(made.folder).folds] == ["fold_1"]


def test_a_run_changes_its_engine_and_stays_valid(trained_run, tmp_path, monkeypatch):
    run = shutil.copytree(trained_run, tmp_path / "run")
    fake = replace(FORMATS["onnx"], write=lambda _network, _plan, path: path.write_bytes(b"graph"))
    monkeypatch.setitem(FORMATS, "onnx", fake)
    (fold_folder(run, 0) / "model.onnx").write_bytes(b"not of this model: the manifest lacks it")
    select_engine(run, Execution(engine="onnxruntime", precision="fp32"))
    bundle = load_bundle(run)
    assert bundle.folds[0].read(bundle.folds[0].onnx) == b"graph"
    assert bundle.folds[0].execution.engine == "onnxruntime"
    (fold_folder(run, 0) / "model.onnx").write_bytes(b"another")
    with pytest.raises(BundleError, match="differs"):
        load_bundle(run)


def test_the_attention_of_the_exported_graph_can_be_replaced(exported):
    folder = exported("openvino").folder
    plan = load_bundle(folder).plan
    engine = OpenVINOEngine(folder / "fold_0" / "graph.xml", (1, *plan.patch_size), precision="fp32")
    patches = np.random.default_rng(0).normal(size=(1, 1, *plan.patch_size)).astype(np.float32)
    closed = {gate: np.zeros_like(alpha) for gate, alpha in engine(patches).attention.items()}
    assert np.abs(engine(patches, closed).logits - engine(patches).logits).max() > 0.01


WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(("torch", "lightning", "monai", "blosc2")))
from attunet.cli import main
main()
"""


def contents(folder):
    """Every file by its name, and the parts of those that are archives."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        yield path.name, path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from ((f"{path.name}/{part}", archive.read(part)) for part in archive.namelist())


@pytest.mark.parametrize("format", [*FILES, "monai"])
def test_an_export_names_no_case_and_no_folder_of_this_machine(format, exported, trained_run, blobs, tmp_path):
    if format == "monai":
        pytest.importorskip("monai")
        export_monai(trained_run, tmp_path / "bundle")
    folder = tmp_path / "bundle" if format == "monai" else exported(format).folder
    places = (trained_run.parent, Path(torch.__file__).parents[1], Path(package.__file__).parents[1])
    words = [str(word).encode() for word in (*(case.id for case in blobs), *places)]
    assert not [(name, word) for name, content in contents(folder) for word in words if word in content]


@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_the_folder_predicts_where_torch_is_absent(format, exported, blobs, tmp_path):
    arguments = ["predict", "-m", exported(format).folder, "-i", blobs[0].images[0], "-o", tmp_path, "--attention"]
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / blobs[0].images[0].name).is_file()
