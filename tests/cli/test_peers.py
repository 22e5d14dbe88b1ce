"""`attunet predict` with inputs from a PACS, and results that go there."""

import tempfile
from pathlib import Path

import pydicom
import pytest
from dicom_peers import write_study

from attunet.cli.predict import predict
from attunet.errors import ConfigError, FormatError, NetworkError


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(3, spacing=(1.0, 1.0, 2.0), modality="ct")


@pytest.fixture
def series(tmp_path):
    """A folder with a series of eight slices."""
    return write_study(tmp_path / "sources", slices=8, uid="1.2")[1][0].parent


def test_a_study_is_fetched_predicted_and_the_copy_deleted(model, series, invoke, tmp_path, monkeypatch):
    asked, private = [], tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(private))

    def fetch(source, folder, access):
        asked.append((str(source.service), source.study, source.series, access.credentials))
        target = folder / source.study / "1.2.1"
        target.mkdir(parents=True)
        for file in series.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return folder / source.study

    monkeypatch.setattr("attunet.dicom.network.fetch_source", fetch)
    address = "dicomweb://pacs.example/rs/studies/1.2"
    done = invoke(predict, "-m", model, "-i", address, "-o", tmp_path / "out", "--credentials", tmp_path / "netrc")
    assert done.exit_code == 0, done.output
    assert asked == [("https://pacs.example/rs", "1.2", None, tmp_path / "netrc")]
    assert "fetches study 1.2 from https://pacs.example/rs" in done.stderr
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 1
    assert list(private.iterdir()) == []


def test_objects_are_sent(model, series, invoke, tmp_path, make_pacs):
    pacs = make_pacs()
    words = ("-m", model, "-i", series, "-o", tmp_path / "out", "--output-type", "dicom-seg", "--send", pacs.address)
    done = invoke(predict, *words)
    assert done.exit_code == 0, done.output
    assert f"1 of 1 objects sent to {pacs.address}" in done.stderr
    (written,) = (tmp_path / "out").glob("*_seg.dcm")
    assert pacs.received == [pydicom.dcmread(written).SOPInstanceUID]
    pacs.status = 0xA700
    done = invoke(predict, *words)
    assert done.exit_code == 1
    assert "0 of 1 objects sent" in done.stderr
    assert "0xA700" in done.stderr
    pacs.stop()
    done = invoke(predict, *words)
    assert done.exit_code == 1
    assert "cannot be reached" in done.stderr


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (("--send", "dicom://PACS@127.0.0.1"), ConfigError, "--send has no DICOM object to send"),
        (("--output-type", "dicom-seg", "--send", "/share"), ConfigError, "expected the address of a peer"),
        (("--output-type", "dicom-seg", "--send", "dicom://127.0.0.1"), ConfigError, "names no AE title"),
        (("-i", "dicomweb://127.0.0.1:1/rs/studies/1.2"), NetworkError, "cannot be reached"),
        (("-i", "dicomweb://127.0.0.1:1/rs"), ConfigError, "names no study"),
        (("-i", "dicom://PACS@127.0.0.1/studies/1"), ConfigError, "DICOMweb"),
        (("-i", "dicomweb://127.0.0.1:1/rs/studies/x"), FormatError, "which is no UID"),
    ],
)
def test_what_cannot_be_fetched_or_sent_is_told_before_any_work(words, kind, said, model, series, invoke, tmp_path):
    done = invoke(predict, "-m", model, "-i", series, "-o", tmp_path / "out", *words)
    assert isinstance(done.exception, kind)
    assert said in str(done.exception)
    assert not Path(tmp_path / "out").exists()
