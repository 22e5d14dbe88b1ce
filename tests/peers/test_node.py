"""A node among real peers: dcmtk sends, Orthanc keeps the results, and nothing is changed on the way."""

import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest
from dicom_peers import answer, answer_uid, free_port, make_instance, running, send_to, wait_until, write_study
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from attunet.dicom.network import parse_address, send_files
from attunet.dicom.node import NodeSettings, read_state

pytestmark = pytest.mark.peers


@pytest.fixture
def make_settings(tmp_path):
    """`make_settings(address, **changes)`: settings of a fast node that sends there."""

    def make(address, **changes):
        values = {
            "state": tmp_path / "state",
            "settle": 1,
            "receive": {"port": free_port()},
            "rules": [{"name": "organs", "model": tmp_path / "model", "modality": ["CT"]}],
            "destinations": [{"name": "pacs", "address": address}],
            "retry": {"first": 0.2, "longest": 1},
            "least_free_mb": 0,
            "page": None,
        }
        return NodeSettings.model_validate({**values, **changes})

    return make


def answered(settings, number=1):
    return lambda: read_state(settings.state).counts["answered"] == number


def data_set(content):
    """What follows the file header."""
    return content[144 + int.from_bytes(content[140:144], "little") :]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, JPEGLSLossless])
def test_storescu_sends_and_everything_is_kept_as_it_came(syntax, call, make_settings, tmp_path):
    dataset = make_instance("2.25.1", "2.25.1.1")
    if syntax == ImplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = syntax
    elif syntax.is_compressed:
        dataset.compress(syntax, generate_instance_uid=False)
    file = tmp_path / "slice.dcm"
    dataset.save_as(file, enforce_file_format=True, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    settings = make_settings(str(tmp_path / "share"))
    propose = {ImplicitVRLittleEndian: "-xi", ExplicitVRLittleEndian: "-xe", RLELossless: "-xr", JPEGLSLossless: "-xt"}
    with running(settings):
        call("echoscu", "-aec", "ATTUNET", "127.0.0.1", settings.receive.port)
        call("storescu", propose[syntax], "-aec", "ATTUNET", "127.0.0.1", settings.receive.port, file)
    (stored,) = (settings.state / "inbox").rglob("*.dcm")
    assert pydicom.dcmread(stored).file_meta.TransferSyntaxUID == syntax
    assert data_set(stored.read_bytes()) == data_set(file.read_bytes())


def test_storescu_is_rejected_with_another_title(call, make_settings, tmp_path):
    file = write_study(tmp_path, slices=1)[1][0]
    settings = make_settings(str(tmp_path / "share"), receive={"port": free_port(), "peers": [{"ae_title": "SCANNER"}]})
    with running(settings):
        place = ("127.0.0.1", settings.receive.port, file)
        assert "Rejected" in call("storescu", "-aet", "STRANGER", "-aec", "ATTUNET", *place, code=None)
        assert "Rejected" in call("storescu", "-aet", "SCANNER", "-aec", "ELSE", *place, code=None)
        assert not list((settings.state / "inbox").rglob("*.dcm"))
        call("storescu", "-aet", "SCANNER", "-aec", "ATTUNET", *place)
        assert list((settings.state / "inbox").rglob("*.dcm"))


@pytest.mark.parametrize("by", ["address", "web"])
def test_orthanc_forwards_a_study_and_gets_its_result(by, make_orthanc, make_settings, tmp_path):
    port = free_port()
    pacs = make_orthanc(modalities={"node": ("ATTUNET", port)})
    settings = make_settings(getattr(pacs, by), receive={"port": port, "peers": [{"ae_title": "ORTHANC"}]})
    uid, files = write_study(tmp_path, slices=3)
    list(send_files(parse_address(pacs.address), files))
    with running(settings):
        pacs.post("/modalities/node/store", list(pacs.instances().values()))
        wait_until(answered(settings))
    expected = answer_uid(f"{uid}.1")
    assert set(pacs.instances()) == {pydicom.dcmread(file).SOPInstanceUID for file in files} | {expected}
    (made,) = (tmp_path / "again").glob("*") if answer_again(uid, files, tmp_path / "again") else ()
    assert data_set(pacs.file(expected)) == data_set(made.read_bytes())


def answer_again(uid, files, output):
    """The result once more, to compare."""
    folder = output.parent / f"{uid}.1"
    folder.mkdir()
    output.mkdir()
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    rule = type("Rule", (), {"name": "organs"})
    return answer(folder, rule, output, None)


def test_a_result_survives_the_absence_of_orthanc(real_pacs, make_settings, tmp_path):
    real_pacs.stop()
    uid, files = write_study(tmp_path)
    settings = make_settings(real_pacs.address)
    with running(settings):
        send_to(settings, files)
        wait_until(lambda: read_state(settings.state).waiting.get("pacs", {}).get("reason"))
        real_pacs.start()
        wait_until(answered(settings))
    assert set(real_pacs.instances()) == {answer_uid(f"{uid}.1")}


def test_a_query_fetches_what_orthanc_has(make_orthanc, make_settings, tmp_path):
    pacs = make_orthanc()
    today = time.strftime("%Y%m%d")
    uid, files = write_study(tmp_path, slices=3, StudyDate=today)
    _mr, others = write_study(tmp_path, slices=2, StudyDate=today, Modality="MR")
    _old, older = write_study(tmp_path, slices=2, StudyDate="20200101")
    compressed = [pydicom.dcmread(file) for file in files]
    for file, dataset in zip(files, compressed, strict=True):
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(file)
    list(send_files(parse_address(pacs.address), [*files, *others, *older]))
    query = {"url": pacs.web, "every": 0.5, "days": 1}
    settings = make_settings(pacs.web, receive=None, queries=[query], settle=0.5)
    with running(settings):
        wait_until(answered(settings))
        time.sleep(2)  # its own result in the PACS starts nothing
        assert {state: n for state, n in read_state(settings.state).counts.items() if n} == {"answered": 1}
        stored = sorted((settings.state / "inbox").rglob("*.dcm"))
        assert [data_set(file.read_bytes()) for file in stored] == [
            data_set(file.read_bytes()) for file in sorted(files)
        ]
    assert answer_uid(f"{uid}.1") in pacs.instances()


def test_dcmqrscp_takes_results(program, make_settings, tmp_path, call):
    port, storage = free_port(), tmp_path / "dcmqrscp"
    storage.mkdir()
    (tmp_path / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 4\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQRSCP {storage} RW (9, 1024mb) ANY\nAETable END\n"
    )
    archive = subprocess.Popen([program("dcmqrscp"), "-c", str(tmp_path / "dcmqrscp.cfg")])
    try:
        uid, files = write_study(tmp_path)
        settings = make_settings(f"dicom://QRSCP@127.0.0.1:{port}")
        with running(settings):
            send_to(settings, files)
            wait_until(answered(settings))
        (kept,) = [file for file in storage.iterdir() if file.name != "index.dat"]
        assert pydicom.dcmread(kept).SOPInstanceUID == answer_uid(f"{uid}.1")
    finally:
        archive.terminate()
        archive.wait()


def test_kills_and_an_absent_orthanc_lose_and_double_nothing(make_orthanc):
    script = Path(__file__).parents[2] / "chaos" / "node.py"
    words = [sys.executable, script, "--studies", "20", "--kills", "4", "--stops", "1"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every study answered exactly once (20 of 20)" in done.stdout
