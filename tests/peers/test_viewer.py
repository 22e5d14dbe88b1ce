"""What OHIF's panel of MONAI Label asks, against Orthanc: the PACS through the server, a mask of one of its series."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from urllib.parse import quote

import httpx
import nibabel
import numpy as np
import pydicom
import pytest
from dicom_series import make_series, sample, save_series

from attunet.data.cases import find_cases, read_case_image
from attunet.dicom.network import parse_address, send_files
from attunet.inference.segmenter import Segmenter

pytestmark = pytest.mark.peers

PEERS = Path(__file__).parents[2] / "build" / "peers-monailabel"
BROWSER = Path(__file__).parents[2] / "build" / "peers-browser"
RUN = Path(__file__).parents[1] / "generators" / "ohif_run.py"
OHIF = next(PEERS.glob("lib/python*/site-packages/monailabel/endpoints/static/ohif"), PEERS / "absent")


@pytest.fixture
def series(tmp_path):
    """The folder of a series, and its UID."""
    made = make_series(sample((24, 20, 12)), np.diag([-1.0, -1.0, 2.0, 1.0]))
    return save_series(made, tmp_path / "series"), made[0].SeriesInstanceUID


@pytest.fixture
def server(start_server, gated, real_pacs, series):
    files = sorted(series[0].rglob("*.dcm"))
    assert all(sent.error is None for sent in send_files(parse_address(real_pacs.web), files))
    words = ["--studies", real_pacs.web, *(["--ohif", OHIF] if OHIF.is_dir() else [])]
    server = start_server({"organs": gated}, *words)
    yield server
    server.stop()


@pytest.fixture
def expected(series, gated):
    (case,) = find_cases([series[0]], 1)
    return Segmenter.load(gated).predict(case).segmentation


def test_a_series_of_the_pacs_is_segmented_by_its_uid(server, series, expected):
    """The bytes after the header are those of the mask, slice by slice as the viewer has them."""
    address = f"{server.url}/infer/organs?image={series[1]}&output=image"
    answer = httpx.post(address, files={"params": (None, "{}")}, timeout=120)
    assert answer.status_code == 200, answer.text
    content = answer.content
    assert content.startswith(b"NRRD")
    assert b"encoding: raw" in content
    mask = expected.array[0] if np.linalg.det(expected.affine[:3, :3]) > 0 else expected.array[0][:, :, ::-1]
    raw = np.frombuffer(content[-mask.size :], np.uint8).reshape(mask.shape, order="F")
    assert np.array_equal(raw, mask)
    assert int(answer.headers["content-length"]) == len(content)
    unknown = httpx.post(f"{server.url}/infer/organs?image=1.2.3.4&output=image", files={"params": (None, "{}")})
    assert unknown.status_code == 422
    assert "no series 1.2.3.4" in unknown.json()["detail"]


def test_a_series_of_the_pacs_is_given_out_as_a_file(server, series, tmp_path):
    answer = httpx.get(f"{server.url}/datastore/image?image={series[1]}", timeout=120)
    assert f'filename="{series[1]}.nii.gz"' in answer.headers["content-disposition"]
    (tmp_path / "image.nii.gz").write_bytes(answer.content)
    (case,) = find_cases([series[0]], 1)
    image = nibabel.load(tmp_path / "image.nii.gz")
    expected = read_case_image(case)
    assert np.array_equal(np.asanyarray(image.dataobj), expected.array[0])
    assert np.allclose(image.affine, expected.affine)
    assert httpx.get(f"{server.url}/datastore/image?image=1.2.3.4", timeout=120).status_code == 422


def test_the_pacs_answers_through_the_server(server, series):
    found = httpx.get(
        f"{server.url}/proxy/dicom/qido/series?SeriesInstanceUID={series[1]}",
        headers={"Accept": "application/dicom+json"},
    ).json()
    (entry,) = found
    assert entry["0020000E"]["Value"] == [series[1]]
    study = entry["0020000D"]["Value"][0]
    address = f"{server.url}/proxy/dicom/wado/studies/{study}/series/{series[1]}/metadata"
    assert len(httpx.get(address, headers={"Accept": "application/dicom+json"}).json()) == 12


def test_the_viewer_is_there_with_the_address_of_its_server(server):
    if not OHIF.is_dir():
        pytest.skip("OHIF is not installed: see tests/peers/install.sh")
    page = httpx.get(f"{server.url}/ohif/viewer?StudyInstanceUIDs=1.2")
    assert "<html" in page.text.lower()
    assert f"MONAILABEL_SERVER_URL={quote(server.url, safe='')};" in page.headers["set-cookie"]
    script = next(path for path in OHIF.glob("*.js"))
    assert httpx.get(f"{server.url}/ohif/{script.name}").headers["content-type"].startswith("text/javascript")


def test_run_pressed_in_the_viewer_shows_the_mask_at_its_place(server, series, expected, tmp_path):
    """Each labelled voxel of the viewer's volume is where predict has it, in mm."""
    python, chromium = BROWSER / "bin" / "python", shutil.which("chromium")
    if not OHIF.is_dir() or not python.exists() or chromium is None:
        pytest.skip("OHIF, Playwright or chromium is not installed: see tests/peers/install.sh")
    study = read_study(series[0])
    words = [python, RUN, server.url, study, chromium, tmp_path / "ohif.png"]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr + server.log()[-2000:]
    said = json.loads(done.stdout)
    assert said["status"] == 200
    assert not said["elsewhere"]
    assert said["server"] == server.url
    shown = said["mask"]
    voxels = np.array(shown["voxels"], np.uint8).reshape(shown["dimensions"], order="F")
    axes = np.array(shown["direction"]).reshape(3, 3).T * np.array(shown["spacing"])
    lps = np.argwhere(voxels) @ axes.T + np.array(shown["origin"])
    wanted = np.argwhere(expected.array[0]) @ expected.affine[:3, :3].T + expected.affine[:3, 3]
    assert len(lps) == len(wanted) > 0
    assert np.allclose(ordered(lps * (-1, -1, 1)), ordered(wanted), atol=1e-2)


def ordered(places):
    """Places in mm in an order of their own."""
    rounded = np.round(places, 2)
    return rounded[np.lexsort(rounded.T)]


def read_study(folder):
    return pydicom.dcmread(next(folder.rglob("*.dcm")), stop_before_pixels=True).StudyInstanceUID


def test_a_zip_of_dicom_gives_a_segmentation_object(server, series, expected, tmp_path):
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for file in series[0].rglob("*.dcm"):
            archive.write(file, f"../../{file.name}")
    with server.client() as client:
        job = client.wait(client.submit(client.upload(tmp_path / "series.zip").id, "organs", ["dicom-seg"]).id, 120)
        mask = nibabel.load(client.download(job.id, "mask", tmp_path / "mask.nii.gz"))
        assert np.array_equal(np.asanyarray(mask.dataobj), expected.array[0])
        assert client.download(job.id, "dicom-seg", tmp_path / "seg.dcm").read_bytes()[128:132] == b"DICM"
        files = client.submit(client.upload(series[0]).id, "organs")
        client.download(client.wait(files.id, 120).id, "mask", tmp_path / "again.nii.gz")
    again = nibabel.load(tmp_path / "again.nii.gz")
    assert np.array_equal(np.asanyarray(again.dataobj), expected.array[0])
