"""How scans come to the page, whatever they are, and what it says when that goes wrong."""

import os
import signal
import zipfile
from contextlib import suppress
from pathlib import Path

import dicom_series
import nibabel
import numpy as np
import pytest

from attunet.data.formats import read_volume, write_volume
from attunet.data.volume import Volume

pytestmark = pytest.mark.peers

REFUSED = "ERR_CONNECTION_REFUSED"


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """The folder of a DICOM series of (24, 20, 16) voxels, with a file that is none of it."""
    array = dicom_series.sample((24, 20, 16))
    made = dicom_series.make_series(array, np.diag([-7.0, -7.0, 10.0, 1.0]))
    folder = dicom_series.save_series(made, tmp_path_factory.mktemp("dicom") / "series")
    (folder / ".hidden").write_text("nothing")
    return folder


@pytest.fixture
def paused(page_server):
    """The workers of the server stand still."""
    children = Path(f"/proc/{page_server.process.pid}/task/{page_server.process.pid}/children").read_text().split()
    workers = [
        pid for pid in map(int, children) if b"attunet.serve.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def told(page):
    page.page.wait_for_selector("#problem:not([hidden])")
    return page.page.text_content("#problem div")


def test_a_nrrd_file_is_dropped(open_page, page_scan, tmp_path):
    volume = read_volume(page_scan)
    write_volume(volume, tmp_path / "phantom.nrrd")
    page = open_page().ready()
    page.drop_from_disk(tmp_path / "phantom.nrrd")
    page.opened()
    mask = nibabel.load(page.download("Mask", tmp_path))
    assert mask.shape == volume.array.shape[1:]
    assert np.allclose(mask.affine, volume.affine, atol=1e-4)


@pytest.mark.parametrize("how", ["zip", "dropped folder", "chosen folder"])
def test_a_dicom_series_is_sent_whole(open_page, series, how, tmp_path):
    page = open_page().ready()
    if how == "zip":
        with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
            for path in series.iterdir():
                archive.write(path, f"series/{path.name}")
        page.drop_from_disk(tmp_path / "series.zip")
    elif how == "dropped folder":
        page.drop_from_disk(series)
    else:
        page.page.set_input_files("#folder", series)
    page.opened()
    assert page.page.text_content("#viewer-title") == ("series.zip" if how == "zip" else "series")
    assert nibabel.load(page.download("Mask", tmp_path)).shape == (24, 20, 16)


def test_each_file_becomes_the_channel_that_is_asked_for(open_page, page_scan, tmp_path):
    volume = read_volume(page_scan)
    paths = [tmp_path / f"{name}.nii.gz" for name in ("b_channel 0", "a_channel 1", "other")]
    for factor, path in zip((1, -1, 1), paths, strict=True):
        write_volume(Volume(volume.array * factor, volume.affine), path)
    page = open_page().ready()
    page.page.select_option("#model", "pair")
    assert "channel 0, channel 1" in page.page.text_content("#drop")

    def asked():
        rows = page.page.locator("#order-rows label")
        return [(row.inner_text().splitlines()[0], row.locator("option:checked").inner_text()) for row in rows.all()]

    page.drop(*paths[:2])
    page.page.wait_for_selector("#order[open]")
    expected = [("channel 0", "b_channel 0.nii.gz"), ("channel 1", "a_channel 1.nii.gz")]
    assert asked() == expected
    page.page.locator("#order-rows select").first.select_option(label="a_channel 1.nii.gz")
    assert [file for _, file in asked()] == ["a_channel 1.nii.gz", "b_channel 0.nii.gz"]
    page.page.keyboard.press("Escape")
    page.page.wait_for_selector("#order", state="hidden")
    assert page.page.is_hidden("#working")

    page.drop(*paths[:2])
    page.page.wait_for_selector("#order[open]")
    assert asked() == expected
    page.page.click("#order button.primary")
    page.opened()
    page.page.locator("#channel").select_option("channel 1")
    first = float(page.page.text_content("#readout").split("intensity ")[1].split()[0])
    page.page.locator("#channel").select_option("channel 0")
    page.page.focus("#canvas")
    page.page.keyboard.press("Home")
    assert float(page.page.text_content("#readout").split("intensity ")[1].split()[0]) == -first != 0

    page.drop(*paths)
    assert "3 files" in told(page) or "3 images" in told(page)


def test_an_upload_that_breaks_off_can_be_sent_again(open_page, page_scan):
    page = open_page().ready()
    page.context.route("**/api/v1/scans", lambda route: route.abort("connectionreset"))
    page.drop(page_scan)
    assert told(page) == "The connection ended during the upload.Send the scan again."
    page.page.wait_for_selector("#working", state="hidden")
    page.context.unroute("**/api/v1/scans")
    page.drop(page_scan)
    page.opened()
    assert page.page.is_hidden("#problem")
    page.forgive("ERR_CONNECTION_RESET")


def test_a_job_is_cancelled(open_page, paused, page_scan):
    page = open_page().ready()
    page.drop(page_scan)
    page.until("document.getElementById('working-text').textContent === 'Waiting in the queue'")
    page.drop(page_scan)
    assert told(page).startswith("Another scan is being segmented")
    page.page.click("#cancel")
    page.announced("The job was cancelled")
    page.page.wait_for_selector("#working", state="hidden")
    page.page.wait_for_selector("#jobs li:first-child :text('cancelled')")


def test_the_page_continues_when_a_server_is_back(open_page, page_server, page_scan, paused):
    page = open_page().ready()
    page.drop(page_scan)
    page.until("document.getElementById('working-text').textContent === 'Waiting in the queue'")
    page_server.stop(signal.SIGKILL)
    page.until("document.getElementById('working-text').textContent.startsWith('The server does not answer')")
    assert "The server does not answer" in told(page)
    page_server.start()
    page.opened()
    assert page.page.is_hidden("#problem")
    page.page.wait_for_selector("#jobs [aria-current=true]")
    page.forgive(REFUSED)
    page.forgive("ERR_INCOMPLETE_CHUNKED_ENCODING")
    page.forgive("ERR_CONNECTION_RESET")
