"""The clients for C-STORE and DICOMweb against Orthanc."""

import subprocess
import sys

import pydicom
import pytest
from dicom_peers import make_instance, write_study
from pydicom.uid import JPEGLSLossless, RLELossless

from attunet.dicom.network import WebAccess, WebClient, parse_address, send_files
from attunet.errors import NetworkError, RefusedError

pytestmark = pytest.mark.peers


def mixed_series(folder):
    """A series of three slices, each in another transfer syntax."""
    files = []
    for number, syntax in enumerate((None, RLELossless, JPEGLSLossless), start=1):
        dataset = make_instance("2.25.1", "2.25.1.1", number)
        if syntax is not None:
            dataset.compress(syntax, generate_instance_uid=False)
        files.append(folder / f"{number}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


@pytest.mark.parametrize("by", ["address", "web"])
def test_a_series_of_mixed_syntaxes_comes_back_as_it_was(by, real_pacs, tmp_path):
    files = mixed_series(tmp_path)
    assert all(sent.error is None for sent in send_files(parse_address(getattr(real_pacs, by)), files))
    client = WebClient(parse_address(real_pacs.web))
    assert client.studies({"ModalitiesInStudy": "CT"}) == {"2.25.1": 3}
    (series,) = client.series("2.25.1")
    assert (series.uid, series.modality, series.instances) == ("2.25.1.1", "CT", 3)
    for number, content in enumerate(client.retrieve("2.25.1", "2.25.1.1"), start=1):
        (tmp_path / f"back{number}.dcm").write_bytes(content)
    back = {read.SOPInstanceUID: read for read in (pydicom.dcmread(tmp_path / f"back{n}.dcm") for n in (1, 2, 3))}
    for file in files:
        sent = pydicom.dcmread(file)
        assert back[sent.SOPInstanceUID] == sent
        assert back[sent.SOPInstanceUID].file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID


def test_a_password_is_asked_for_and_found(make_orthanc, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HOME", str(tmp_path))
    pacs = make_orthanc(users={"attunet": "very secret"})
    address, files = parse_address(pacs.web), write_study(tmp_path)[1]
    with pytest.raises(NetworkError, match="does not allow a query of studies") as refused:
        WebClient(address).studies({})
    assert ".netrc" in refused.value.hint
    secrets = tmp_path / "credentials"
    secrets.touch(mode=0o600)
    secrets.write_text('machine 127.0.0.1 login attunet password "very secret"\n')
    access = WebAccess(credentials=secrets)
    assert all(sent.error is None for sent in send_files(address, files, access=access))
    assert len(WebClient(address, access).studies({})) == 1
    assert "very secret" not in caplog.text


def test_an_object_without_a_study_is_refused_for_ever(real_pacs, tmp_path):
    dataset = make_instance("2.25.1", "2.25.1.1")
    del dataset.SOPInstanceUID
    file = tmp_path / "slice.dcm"
    dataset.save_as(file, enforce_file_format=True)
    (sent,) = send_files(parse_address(real_pacs.web), [file])
    assert isinstance(sent.error, RefusedError)
    assert real_pacs.instances() == {}


def test_predict_fetches_from_orthanc_and_sends_back(real_pacs, make_model, dicom_faults, tmp_path):
    model = make_model(3, spacing=(1.0, 1.0, 2.0), modality="ct")
    uid, files = write_study(tmp_path, slices=8)
    assert all(sent.error is None for sent in send_files(parse_address(real_pacs.address), files))
    source = f"dicomweb://127.0.0.1:{real_pacs.http_port}/dicom-web/studies/{uid}"
    objects = ["--output-type", "dicom-seg", "--output-type", "dicom-rtstruct"]
    for number, peer in enumerate((real_pacs.address, real_pacs.web)):  # the second time: the same objects again
        words = ["predict", "-m", model, "-i", source, "-o", tmp_path / f"out{number}", *objects, "--send", peer]
        done = subprocess.run([sys.executable, "-m", "attunet", *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"2 of 2 objects sent to {peer}" in done.stderr
    written = {pydicom.dcmread(file).SOPInstanceUID: file for file in (tmp_path / "out0").glob("*.dcm")}
    assert set(real_pacs.instances()) == {*written, *(pydicom.dcmread(file).SOPInstanceUID for file in files)}
    for made, file in written.items():
        kept = tmp_path / f"{made}.dcm"
        kept.write_bytes(real_pacs.file(made))
        assert pydicom.dcmread(kept) == pydicom.dcmread(file)
        assert dicom_faults(kept) == []
