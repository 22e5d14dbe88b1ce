"""`attunet predict` on DICOM: cases of series, their names, what is said, and what is never written."""

from __future__ import annotations

import gzip
import json
import shutil

import numpy as np
import pytest
from dicom_series import DATE, ID, NAME, make_series, new_uid, sample, save_series

from attunet.cli.predict import predict
from attunet.data.formats import read_label
from attunet.data.formats.dicom import find_series
from attunet.errors import ConfigError, DatasetError

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


@pytest.fixture
def disc(tmp_path):
    """Two series in nested folders, files without suffix, and a localizer."""
    for number, seed in ((4, 1), (2, 2)):
        series = make_series(
            sample((20, 16, 10), seed), AFFINE, SeriesNumber=number, SeriesDescription=f"part {number}"
        )
        save_series(series, tmp_path / f"disc/A{number}/B", suffix="")
    localizer = make_series(sample((8, 8, 1)), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    save_series(localizer, tmp_path / "disc/C")
    return tmp_path / "disc"


@pytest.fixture
def segment(tiny_run, tmp_path, invoke):
    """Predict with one fold of the small model into tmp_path/masks."""

    def run(*arguments):
        return invoke(predict, "-m", tiny_run, "-o", tmp_path / "masks", "--fold", "0", "--disable-tta", *arguments)

    return run


def masks(folder):
    return sorted(entry.name for entry in folder.glob("*.nii.gz"))


def test_every_series_of_a_disc_becomes_a_case(segment, disc, tmp_path):
    done = segment("-i", disc, "--report", tmp_path / "run.json")
    assert done.exit_code == 0
    assert "2 of 2 cases written" in done.stderr
    assert all(word in done.stderr for word in ("part 2", "part 4", "1x1x2", "left out: localizer"))
    names = masks(tmp_path / "masks")
    assert len(names) == 2
    assert all(name.startswith("series_") for name in names)
    by_uid = {one.uid: one for one in find_series(disc).series}
    for case in json.loads((tmp_path / "run.json").read_text())["cases"]:
        series = by_uid[case["source"]["series_uid"]]
        assert case["source"]["study_uid"] == series.study_uid
        np.testing.assert_allclose(read_label(tmp_path / "masks" / f"{case['case']}.nii.gz").affine, series.affine)


def test_an_archive_is_segmented_like_its_folder(segment, disc, tmp_path):
    shutil.make_archive(str(tmp_path / "disc"), "zip", disc)
    segment("-i", disc)
    folder = {name: (tmp_path / "masks" / name).read_bytes() for name in masks(tmp_path / "masks")}
    shutil.move(tmp_path / "masks" / ".attunet-salt", tmp_path / "salt")
    shutil.rmtree(tmp_path / "masks")
    (tmp_path / "masks").mkdir()
    shutil.move(tmp_path / "salt", tmp_path / "masks" / ".attunet-salt")
    assert segment("-i", tmp_path / "disc.zip").exit_code == 0
    assert folder == {name: (tmp_path / "masks" / name).read_bytes() for name in masks(tmp_path / "masks")}


def test_a_prediction_goes_on_under_the_same_names(segment, disc, tmp_path):
    segment("-i", disc, "--series", "2")
    first = masks(tmp_path / "masks")
    done = segment("-i", disc, "--continue-prediction")
    assert "1 of 1 cases written" in done.stderr
    assert "skipped" in done.stderr
    assert set(first) < set(masks(tmp_path / "masks"))
    assert (tmp_path / "masks/.attunet-salt").stat().st_mode & 0o077 == 0


def test_another_folder_has_other_names(segment, disc, tmp_path, invoke, tiny_run):
    segment("-i", disc, "--series", "2")
    invoke(
        predict, "-m", tiny_run, "-o", tmp_path / "other", "--fold", "0", "--disable-tta", "-i", disc, "--series", "2"
    )
    assert masks(tmp_path / "masks") != masks(tmp_path / "other")


def test_a_series_is_chosen_by_number_and_uid(segment, disc, tmp_path):
    uid = next(one.uid for one in find_series(disc).series if one.number == 4)
    assert "1 of 1 cases" in segment("-i", disc, "--series", uid).stderr
    done = segment("-i", disc, "--series", "9")
    assert isinstance(done.exception, DatasetError)
    assert "no series 9, only 2, 4" in str(done.exception)


def test_cases_are_named_by_elements_on_request(segment, disc, tmp_path):
    segment("-i", disc, "--case-name", "AccessionNumber,SeriesNumber")
    assert masks(tmp_path / "masks") == ["4712_2.nii.gz", "4712_4.nii.gz"]
    for tag, kind, message in (
        ("AccessionNumber", DatasetError, "add an element that tells them apart: --case-name AccessionNumber,SeriesN"),
        ("Accession", ConfigError, "Accession is no element"),
        ("ProtocolName", DatasetError, "has no ProtocolName"),
    ):
        done = segment("-i", disc, "--case-name", tag)
        assert isinstance(done.exception, kind)
        assert message in str(done.exception)


def test_a_refused_series_is_a_case_that_fails(segment, disc, tmp_path):
    broken = make_series(sample((20, 16, 10)), AFFINE, SeriesNumber=7)
    save_series(broken[:4] + broken[5:], disc / "D")
    done = segment("-i", disc, "--report", tmp_path / "run.json")
    assert done.exit_code == 1
    assert "1 slice is missing" in done.stderr
    failed = [case for case in json.loads((tmp_path / "run.json").read_text())["cases"] if case["error"]]
    assert [case["source"]["series_uid"] for case in failed] == [broken[0].SeriesInstanceUID]


def test_two_acquisitions_are_two_cases(segment, tmp_path):
    uid = new_uid()
    for number in (1, 2):
        array = sample((20, 16, 10), number)
        save_series(
            make_series(array, AFFINE, uid=uid, AcquisitionNumber=number), tmp_path / "study", suffix=f"{number}.dcm"
        )
    assert "2 of 2 cases" in segment("-i", tmp_path / "study").stderr
    assert "1 of 1 cases" in segment("-i", tmp_path / "study", "--series", "3#2").stderr


def test_nothing_of_the_patient_is_written(segment, disc, tmp_path):
    extras = ("--attention", "--save-probabilities", "--statistics", "--preview")
    done = segment("-i", disc, *extras, "--report", tmp_path / "run.json")
    written = [done.stdout.encode(), done.stderr.encode(), (tmp_path / "run.json").read_bytes()]
    for file in (tmp_path / "masks").rglob("*"):
        written.append(str(file).encode())
        if file.is_file():
            content = file.read_bytes()
            written.append(gzip.decompress(content) if file.suffix == ".gz" else content)
    for private in (NAME, *NAME.split("^"), ID, DATE):
        assert not [text for text in written if private.encode() in text]
