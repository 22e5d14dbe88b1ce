"""`attunet predict`: masks for new scans, and what happens to those that cannot be segmented."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from dicom_series import make_series, save_series

from attunet.bundle import save_ensemble, save_postprocessing
from attunet.cli.predict import predict
from attunet.config import Postprocessing, PredictionChoice, QualityCalibration
from attunet.data.formats import read_label, read_volume, write_volume
from attunet.data.volume import Volume
from attunet.errors import BundleError, BusyError, ConfigError, DatasetError, EngineError, FormatError
from attunet.inference.batch import predict_cases
from attunet.locks import exclusive


def write_scan(path, seed=0, shape=(20, 16, 10)):
    array = np.random.default_rng(seed).normal(100, 30, (1, *shape)).astype(np.int16)
    write_volume(Volume(array, np.diag([-1.0, -1.0, 2.0, 1.0])), path)
    return path


@pytest.fixture
def scans(tmp_path):
    """Three scans in three formats."""
    for seed, name in enumerate(("a.nii.gz", "b.mha", "c.nrrd")):
        write_scan(tmp_path / "scans" / name, seed)
    return tmp_path / "scans"


@pytest.fixture
def segment(tiny_run, tmp_path, invoke):
    """Predict with one fold of the small model into tmp_path/masks."""

    def run(*arguments, model=tiny_run):
        return invoke(predict, "-m", model, "-o", tmp_path / "masks", "--fold", "0", "--disable-tta", *arguments)

    return run


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_folder_becomes_masks_in_the_formats_of_its_images(segment, scans, tmp_path):
    done = segment("-i", scans)
    assert done.exit_code == 0
    assert "3 of 3 cases written" in done.stderr
    assert names(tmp_path / "masks") == ["a.nii.gz", "b.mha", "c.nrrd"]
    for mask in (tmp_path / "masks").iterdir():
        np.testing.assert_allclose(read_label(mask).affine, read_volume(scans / mask.name).affine, atol=1e-6)
        assert set(np.unique(read_label(mask).array)) == {0, 1, 7}


def test_a_scan_unlike_those_of_the_training_is_told_in_every_way_to_predict(segment, ranged_run, tmp_path, invoke):
    write_scan(tmp_path / "scans" / "thick.nii.gz")  # slices of 2 mm, and those of the training of at most 1.2
    expected = "2 mm from foot to head (usually 0.8 to 1.2 mm)"
    done = segment("-i", tmp_path / "scans", "--report", tmp_path / "run.json", model=ranged_run)
    assert expected in " ".join(done.stderr.split())
    assert expected in (tmp_path / "run.json").read_text()
    assert expected in " ".join(segment("-i", tmp_path / "scans", "--dry-run", model=ranged_run).stderr.split())
    save_ensemble({"a": ranged_run, "b": ranged_run}, Postprocessing(), tmp_path / "ensemble")
    told = invoke(predict, "-m", tmp_path / "ensemble", "-i", tmp_path / "scans", "-o", tmp_path / "both")
    assert expected in " ".join(told.stderr.split())


def test_files_are_named_one_by_one_or_after_one_flag(segment, scans, tmp_path):
    segment("-i", scans / "a.nii.gz", "-i", scans / "b.mha")
    assert names(tmp_path / "masks") == ["a.nii.gz", "b.mha"]
    segment("-i", scans / "a.nii.gz", scans / "b.mha", scans / "c.nrrd")
    assert names(tmp_path / "masks") == ["a.nii.gz", "b.mha", "c.nrrd"]


def test_all_that_can_be_requested_is_written(segment, scans, tmp_path):
    extras = ("--attention", "--save-probabilities", "--statistics", "--preview")
    done = segment("-i", scans / "a.nii.gz", *extras, "--report", tmp_path / "run.json")
    assert done.exit_code == 0
    masks = tmp_path / "masks"
    assert set(names(masks)) == {"a.nii.gz", "attention", "probabilities", "preview", "statistics.json"}
    assert names(masks / "attention") == ["a_level2.nii.gz"]
    assert (names(masks / "probabilities"), names(masks / "preview")) == (["a.nii.gz"], ["a.png"])
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["settings"]["attention"]
    assert report["engine"].startswith("openvino cpu")
    statistics = json.loads((tmp_path / "masks" / "statistics.json").read_text())
    mask = read_label(tmp_path / "masks" / "a.nii.gz").array
    assert statistics["cases"]["a"]["lesion"] == pytest.approx((mask == 7).sum() * 0.002, abs=1e-3)
    assert "lesion ml" in done.stdout


def test_the_precision_is_chosen(segment, scans, tmp_path):
    done = segment("-i", scans / "a.nii.gz", "--precision", "fp32", "--report", tmp_path / "run.json")
    assert done.exit_code == 0
    assert json.loads((tmp_path / "run.json").read_text())["engine"] == "openvino cpu fp32"
    refused = segment("-i", scans / "a.nii.gz", "--precision", "int8")
    assert isinstance(refused.exception, EngineError)


def test_a_report_that_cannot_be_written_is_said_before_anything_is_predicted(segment, scans, tmp_path):
    (tmp_path / "file").touch()
    done = segment("-i", scans, "--report", tmp_path / "file" / "run.json")
    assert isinstance(done.exception, FormatError)
    assert not (tmp_path / "masks").exists()


def test_the_predicted_dice_is_reported_with_its_reliability(segment, scans, tiny_run, tmp_path):
    model = shutil.copytree(tiny_run, tmp_path / "model")
    quality = QualityCalibration(cases=42, spearman=0.71, low=0.55, high=0.82, slope=0.0, intercept=0.85, error=0.02)
    save_postprocessing(Postprocessing(quality=quality), model)
    done = segment("-i", scans, "--statistics", "--report", tmp_path / "run.json", model=model)
    worth = "rank correlation with the true Dice on 42 held-out cases: 0.71 (0.55 to 0.82)"
    assert f"predicted Dice: {worth}" in done.stdout
    assert done.stdout.count("0.850") == 3
    statistics = json.loads((tmp_path / "masks" / "statistics.json").read_text())
    assert statistics["predicted_dice"] == {"a": 0.85, "b": 0.85, "c": 0.85}
    assert statistics["predicted_dice_reliability"] == worth
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["predicted_dice_reliability"] == worth
    assert report["cases"][0]["predicted_dice"] == 0.85
    assert report["cases"][0]["expected_dice"].keys() == {"body", "lesion"}


def test_volumes_and_dice_are_reported_with_their_intervals(segment, scans, tiny_run, make_interval, tmp_path):
    model = shutil.copytree(tiny_run, tmp_path / "model")
    quality = QualityCalibration(cases=42, spearman=0.71, low=0.55, high=0.82, slope=0.0, intercept=0.85, error=0.02)
    dice = make_interval(power=0.0, bound=0.05, limit=1.0)
    reasons = {"volume interval body": "none: 12 held-out cases, at least 20 are needed"}
    intervals = {"volume_intervals": {"lesion": make_interval()}, "dice_interval": dice}
    save_postprocessing(Postprocessing(quality=quality, reasons=reasons, **intervals), model)
    done = segment("-i", scans / "a.nii.gz", "--statistics", "--report", tmp_path / "run.json", model=model)
    assert "0.850 (0.800–0.900, 90%)" in done.stdout
    assert "interval of body: none: 12 held-out cases, at least 20 are needed" in done.stdout
    assert "interval of lesion: 90% from 40 held-out cases" in done.stdout
    statistics = json.loads((tmp_path / "masks" / "statistics.json").read_text())
    volume, interval = statistics["cases"]["a"]["lesion"], statistics["volume_intervals"]["a"]["lesion"]
    assert volume > 0
    assert interval["low"] == pytest.approx(0.9 * volume, abs=0.002)
    assert interval["high"] == pytest.approx(1.1 * volume, abs=0.002)
    assert interval["level"] == 0.9
    assert statistics["volume_intervals"]["a"]["body"] is None
    assert statistics["predicted_dice_intervals"]["a"] == {"low": 0.8, "high": 0.9, "level": 0.9}
    assert statistics["interval_reliability"]["body"].startswith("none: 12")
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["cases"][0]["volume_intervals_ml"] == statistics["volume_intervals"]["a"]
    assert report["interval_reliability"] == statistics["interval_reliability"]


def test_a_model_without_held_out_cases_says_how_to_get_intervals(segment, scans):
    done = segment("-i", scans / "a.nii.gz", "--statistics")
    assert "interval of lesion: none: there are no held-out cases; attunet evaluate --cross-validation" in done.stdout


@pytest.mark.parametrize(
    ("flags", "mirror", "folds"),
    [
        ([], False, 1),
        (["--tta", "auto", "--fold", "auto"], False, 1),
        (["--tta", "on"], True, 1),
        (["--disable-tta", "--fold", "all"], False, 2),
        (["--tta", "off", "--fold", "0"], False, 1),
    ],
)
def test_the_decisions_of_the_model_are_followed_and_overridden(flags, mirror, folds, tiny_run, tmp_path, invoke):
    model, scan = shutil.copytree(tiny_run, tmp_path / "model"), write_scan(tmp_path / "a.nii")
    choice = PredictionChoice(mirror=False, folds=(1,))
    save_postprocessing(Postprocessing(prediction=choice), model)
    record = tmp_path / "run.json"
    done = invoke(predict, "-m", model, "-i", scan, "-o", tmp_path / "masks", "--report", record, *flags)
    assert done.exit_code == 0
    written = json.loads(record.read_text())
    assert (written["settings"]["mirror"], written["folds"]) == (mirror, folds)
    automatic = "--tta" not in flags or "auto" in flags
    assert ("without mirrored copies (--tta on" in done.stderr) is (automatic and "--disable-tta" not in flags)
    assert ("1 of its folds (--fold all" in done.stderr) is ("--fold" not in flags or "auto" in flags)


def test_contradicting_flags_are_refused(segment, scans):
    wrong = segment("-i", scans, "--tta", "on")
    assert isinstance(wrong.exception, ConfigError)
    assert "--disable-tta" in str(wrong.exception)


def test_an_ensemble_predicts_like_any_model(scans, tiny_run, make_model, tmp_path, invoke):
    save_ensemble({"deep": tiny_run, "flat": make_model(2)}, Postprocessing(), tmp_path / "both")
    asked = ("--attention", "--report", tmp_path / "run.json")
    done = invoke(predict, "-m", tmp_path / "both", "-i", scans / "a.nii.gz", "-o", tmp_path / "masks", *asked)
    assert done.exit_code == 0
    assert names(tmp_path / "masks" / "attention") == ["a_deep_level2.nii.gz", "a_flat_level2.nii.gz"]
    assert json.loads((tmp_path / "run.json").read_text())["members"] == {"deep": 2, "flat": 1}


def test_one_bad_file_does_not_stop_the_others(segment, scans, tmp_path):
    whole = (scans / "a.nii.gz").read_bytes()
    (scans / "a.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_scan(scans / "[flat].nii.gz", shape=(20, 16, 1))
    done = segment("-i", scans, "--report", tmp_path / "run.json")
    assert done.exit_code == 1
    assert names(tmp_path / "masks") == ["b.mha", "c.nrrd"]
    assert "2 of 4 cases written" in done.stderr
    assert "not segmented: [flat], a" in done.stderr
    cases = {case["case"]: case["error"] for case in json.loads((tmp_path / "run.json").read_text())["cases"]}
    assert "a.nii.gz" in cases["a"]
    assert "2-D image" in cases["[flat]"]
    assert cases["b"] is cases["c"] is None


def test_nothing_but_bad_files_is_bad_input(segment, tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no image")
    done = segment("-i", tmp_path / "a.nii.gz")
    assert done.exit_code == 2
    assert not names(tmp_path / "masks")


def test_a_prediction_continues_where_it_stopped(segment, scans, tmp_path):
    segment("-i", scans / "a.nii.gz", "--statistics")
    before = (tmp_path / "masks" / "a.nii.gz").stat().st_mtime_ns
    done = segment("-i", scans, "--continue-prediction", "--statistics")
    assert "a: skipped, its mask exists already" in done.stderr
    assert "2 of 2 cases written" in done.stderr
    assert (tmp_path / "masks" / "a.nii.gz").stat().st_mtime_ns == before
    assert set(json.loads((tmp_path / "masks" / "statistics.json").read_text())["cases"]) == {"a", "b", "c"}


def test_statistics_of_what_is_done_survive_an_interruption(segment, scans, tmp_path, monkeypatch):
    def interrupted(segmenter, cases, output, options, *, on_result, **_rest):
        predict_cases(segmenter, cases[:1], output, options, on_result=on_result)
        raise KeyboardInterrupt

    monkeypatch.setattr("attunet.inference.batch.predict_cases", interrupted)
    segment("-i", scans, "--statistics", "--report", tmp_path / "run.json")
    monkeypatch.undo()
    written = tmp_path / "masks" / "statistics.json"
    assert set(json.loads(written.read_text())["cases"]) == {"a"}
    assert [case["case"] for case in json.loads((tmp_path / "run.json").read_text())["cases"]] == ["a"]
    segment("-i", scans, "--statistics", "--continue-prediction")
    assert set(json.loads(written.read_text())["cases"]) == {"a", "b", "c"}


def test_a_foreign_statistics_file_is_not_added_to(segment, scans, tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "statistics.json").write_text("[1]")
    done = segment("-i", scans / "a.nii.gz", "--continue-prediction", "--statistics")
    assert isinstance(done.exception, FormatError)
    assert (tmp_path / "masks" / "statistics.json").read_text() == "[1]"


def test_images_are_never_overwritten_by_their_masks(scans, tiny_run, invoke):
    before = (scans / "a.nii.gz").read_bytes()
    done = invoke(predict, "-m", tiny_run, "-i", scans, "-o", scans)
    assert isinstance(done.exception, ConfigError)
    assert "a, b, c would overwrite" in str(done.exception)
    assert (scans / "a.nii.gz").read_bytes() == before


def test_numbered_images_lose_their_number(segment, scans, tmp_path):
    (scans / "a.nii.gz").rename(tmp_path / "a_0000.nii.gz")
    segment("-i", tmp_path / "a_0000.nii.gz")
    assert names(tmp_path / "masks") == ["a.nii.gz"]


def test_attention_needs_a_gate(make_model, scans, segment):
    done = segment("-i", scans, "--attention", model=make_model(3, gate=None))
    assert isinstance(done.exception, ConfigError)
    assert "a model with gates" in str(done.exception)


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        (("-i", "none.nii.gz"), DatasetError),
        (("--fold", "7", "-i", "."), BundleError),
        (("--fold", "first", "-i", "."), ConfigError),
    ],
)
def test_wrong_input_is_an_error_with_a_remedy(typed, kind, segment, tmp_path):
    done = segment(*typed)
    assert isinstance(done.exception, kind)
    assert done.exception.hint
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("typed", [("--step-size", "0"), ("--step-size", "1.5"), ("--device", "tpu")])
def test_values_out_of_range_are_usage_errors(typed, segment, scans):
    assert segment("-i", scans, *typed).exit_code == 2


@pytest.mark.parametrize("flaw", ["absent", "unfinished", "changed", "image"])
def test_the_user_sees_one_line_and_exit_code_2(flaw, tiny_run, scans, tmp_path):
    model, image, message = tmp_path / "model", scans, ""
    if flaw != "absent":
        shutil.copytree(tiny_run, model)
    if flaw == "absent":
        message = "no model folder at"
    elif flaw == "unfinished":
        (model / "manifest.json").unlink()
        message = "unfinished training"
    elif flaw == "changed":
        with (model / "fold_0" / "graph.bin").open("r+b") as stream:
            stream.write(b"\x01")
        message = "was changed after training"
    else:
        image, message = tmp_path / "none", "there is no file or folder"
    code = "from attunet.cli import main; main()"
    arguments = ["predict", "-m", model, "-i", image, "-o", tmp_path / "masks"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not (tmp_path / "masks").exists()


def test_records_grow_with_each_case_and_a_kill_loses_none(segment, scans, tmp_path, monkeypatch):
    """A kill after the second mask, before its record is written."""
    records = ("--statistics", "--report", tmp_path / "run.json")
    segment("-i", scans / "a.nii.gz", *records)
    segment("-i", scans / "b.mha")
    done = segment("-i", scans, *records, "--continue-prediction")
    assert "a: skipped" in done.stderr
    assert "b: segmented again, because the requested statistics or report lack it" in done.stderr
    assert json.loads((tmp_path / "masks" / "statistics.json").read_text())["cases"].keys() == {"a", "b", "c"}
    cases = json.loads((tmp_path / "run.json").read_text())["cases"]
    assert sorted(case["case"] for case in cases) == ["a", "b", "c"]


def test_sigterm_stops_in_order_and_tells_what_is_done(tiny_run, tmp_path):
    for seed in range(30):
        write_scan(tmp_path / "scans" / f"c{seed:02}.nii", seed, (40, 40, 20))
    masks = tmp_path / "masks"
    words = ["predict", "-m", tiny_run, "-i", tmp_path / "scans", "-o", masks, "--statistics"]
    with subprocess.Popen([sys.executable, "-m", "attunet", *words], stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(masks.glob("*.nii")):
            time.sleep(0.01)
        process.terminate()
        told = process.communicate()[1]
    assert process.returncode == 143
    assert "--continue-prediction segments the other cases" in told
    assert "Traceback" not in told
    assert not list(masks.rglob(".attunet*"))
    written = {mask.stem for mask in masks.glob("*.nii")}
    assert set(json.loads((masks / "statistics.json").read_text())["cases"]) == written


def test_a_second_program_on_one_folder_is_refused(segment, scans, tmp_path):
    with exclusive(tmp_path / "masks", "attunet predict"), ThreadPoolExecutor(1) as another:
        done = another.submit(segment, "-i", scans).result()
    assert isinstance(done.exception, BusyError)
    assert "attunet predict, process" in str(done.exception)
    assert not list((tmp_path / "masks").iterdir())


def write_series(folder):
    stored = np.random.default_rng(0).normal(100, 30, (20, 16, 10)).astype(np.int16)
    return save_series(make_series(stored, np.diag([1.0, 1.0, 2.0, 1.0])), folder)


def test_types_of_output_follow_their_flag_like_paths(segment, tmp_path):
    done = segment("-i", write_series(tmp_path / "series"), "--output-type", "nifti", "dicom-seg,dicom-sr")
    assert done.exit_code == 0, done.stderr
    assert "no standard code for body" in done.stderr
    endings = [name.split("_", 2)[-1] if name.endswith(".dcm") else "mask" for name in names(tmp_path / "masks")]
    assert sorted(ending for ending in endings if not ending.startswith(".")) == ["mask", "mask", "seg.dcm", "sr.dcm"]


def test_a_batch_of_objects_alone_is_continued(segment, tmp_path):
    series = write_series(tmp_path / "series")
    assert segment("-i", series, "--output-type", "dicom-seg").exit_code == 0
    again = segment("-i", series, "--output-type", "dicom-seg", "--continue-prediction")
    assert "its mask exists already" in again.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output-type", "dicom-segg"), "no type of output 'dicom-segg'"),
        (("--output-type", "dicom-seg", "--attention"), "--attention is held by none of dicom-seg"),
        (("--output-type", "dicom-sr", "--save-probabilities"), "--save-probabilities is held by none of dicom-sr"),
        (("--output-type", "dicom-seg", "--output-layout", "bids"), "consists of NIfTI files"),
        (("--output-type", "dicom-seg"), "need DICOM images, which a, b, c are not"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused_before_any_work(words, message, segment, scans, tmp_path):
    done = segment("-i", scans, *words)
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)
    assert not list(tmp_path.glob("masks/*.*"))
