import json
import shutil

import nibabel
import numpy as np
import pytest

from attunet.bundle import load_bundle
from attunet.cli.explain import explain
from attunet.config import RankCorrelation
from attunet.errors import ConfigError, DatasetError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def explained(make_folded, tmp_path_factory, invoke):
    """A run of random weights, explained by its held-out cases with all tests of its gates."""
    root = tmp_path_factory.mktemp("explained")
    run = make_folded(root)
    done = invoke(explain, "-m", run, "-o", root / "out", "--ablate", "--faithfulness", "--cases", 2)
    assert done.exit_code == 0, done.exception
    return run, root / "out", done


def test_maps_lie_on_the_grid_of_their_image(explained):
    run, out, _ = explained
    maps = sorted((out / "attention").iterdir())
    assert [path.name for path in maps] == ["case0_level2.nii", "case1_level2.nii"]
    image = nibabel.load(run.parent / "blobs" / "images" / "case0.nii")
    found = nibabel.load(maps[0])
    assert found.shape == image.shape
    assert np.allclose(found.affine, image.affine)
    assert 0 <= found.get_fdata().min() <= found.get_fdata().max() <= 1


def test_the_summary_has_every_number(explained):
    found = json.loads((explained[1] / "summary.json").read_text())
    assert found["scored_against"] == "references"
    assert {"trained", "shuffled weights", "other cases"} <= found["attention"]["gates"]["level2"]["labels"]["blob"][
        "metrics"
    ]["lift"].keys()
    assert {row["replacement"] for row in found["ablation"]["rows"]} == {"one", "mean", "zero", "shuffled"}
    assert {curve["kind"] for curve in found["faithfulness"]["curves"]} == {"deletion", "insertion"}
    assert [case["case"] for case in found["cases"]] == ["case0", "case1"]


def test_findings_are_printed_and_the_report_holds_them(explained):
    _, out, done = explained
    sentences = json.loads((out / "summary.json").read_text())["findings"]
    page = (out / "report.html").read_text()
    for sentence in sentences:
        assert sentence in done.stdout
    assert page.count("<img") >= 5
    names = {path.stem for path in (out / "report_figures").iterdir()}
    assert {"lift", "ablation", "deletion", "insertion", "case_1"} <= names


def test_only_all_held_out_cases_store_the_rank_correlation(explained, invoke, tmp_path):
    run = shutil.copytree(explained[0], tmp_path / "run")
    assert load_bundle(run).postprocessing.attention_agreement is None
    assert invoke(explain, "-m", run, "-o", tmp_path / "out").exit_code == 0
    learnt = load_bundle(run).postprocessing.attention_agreement
    assert learnt is None or isinstance(learnt, RankCorrelation)
    told = json.loads((tmp_path / "out" / "summary.json").read_text())["agreement_rank_correlation"]
    assert (learnt and learnt.model_dump()) == told


def test_images_without_labels_are_scored_against_their_masks(explained, invoke, tmp_path):
    run, _, _ = explained
    images = run.parent / "blobs" / "images"
    done = invoke(explain, "-m", run, "-i", images / "case3.nii", "-o", tmp_path)
    assert done.exit_code == 0, done.exception
    assert json.loads((tmp_path / "summary.json").read_text())["scored_against"] == "the model's own masks"


def test_labels_are_found_by_name(explained, invoke, tmp_path):
    run, _, _ = explained
    blobs = run.parent / "blobs"
    done = invoke(explain, "-m", run, "-i", blobs / "images", "--labels", blobs / "labels", "-o", tmp_path)
    assert done.exit_code == 0, done.exception
    assert len(json.loads((tmp_path / "summary.json").read_text())["cases"]) == 6
    empty = tmp_path / "empty"
    empty.mkdir()
    wrong = invoke(explain, "-m", run, "-i", blobs / "images", "--labels", empty, "-o", tmp_path / "c")
    assert isinstance(wrong.exception, DatasetError)
    assert "no mask of case0" in str(wrong.exception)


def test_a_bad_image_is_reported_and_the_others_are_explained(explained, invoke, tmp_path):
    run, _, _ = explained
    folder = shutil.copytree(run.parent / "blobs" / "images", tmp_path / "images")
    (folder / "case1.nii").write_bytes(b"no image")
    done = invoke(explain, "-m", run, "-i", folder, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "case1" in done.stderr
    assert len(json.loads((tmp_path / "out" / "summary.json").read_text())["cases"]) == 5


def test_a_model_without_gates_is_refused(explained, make_model, invoke, tmp_path):
    images = explained[0].parent / "blobs" / "images"
    done = invoke(explain, "-m", make_model(3, gate=None), "-i", images, "-o", tmp_path / "out")
    assert isinstance(done.exception, ConfigError)
    assert "no attention gates" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_labels_need_images(explained, invoke, tmp_path):
    done = invoke(explain, "-m", explained[0], "--labels", tmp_path, "-o", tmp_path / "out")
    assert isinstance(done.exception, ConfigError)
    assert "-i" in done.exception.hint


def test_images_are_never_overwritten(explained, invoke):
    images = explained[0].parent / "blobs" / "images"
    done = invoke(explain, "-m", explained[0], "-i", images, "-o", images)
    assert isinstance(done.exception, ConfigError)
    assert "overwritten" in str(done.exception)
