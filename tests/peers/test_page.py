"""The page of the server in a real browser: a scan is dropped, and its mask and attention are seen and corrected."""

import subprocess
import sys
from itertools import pairwise

import browser
import dicom_series
import nibabel
import numpy as np
import pytest

from attunet.data.formats import write_volume
from attunet.data.phantom import make_phantom

pytestmark = pytest.mark.peers

SHAPE, SPACING = (40, 32, 20), (7.0, 7.0, 10.0)
TOKEN = "a token of more than sixteen letters"


@pytest.fixture(scope="module")
def chromium():
    if reason := browser.absent():
        pytest.skip(reason)
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def model(make_model):
    """A model of CT with gates."""
    return make_model(3, gate="grid", spacing=SPACING, modality="ct")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A phantom, LPS as from a scanner."""
    path = tmp_path_factory.mktemp("scan") / "phantom.nii.gz"
    write_volume(make_phantom(0, shape=SHAPE, spacing=SPACING)[0], path)
    return path


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """A folder of studies, one image of another orientation than the other."""
    folder = tmp_path_factory.mktemp("studies")
    image = make_phantom(1, shape=SHAPE, spacing=SPACING)[0]
    write_volume(image, folder / "straight.nii.gz")
    turned = nibabel.as_closest_canonical(nibabel.load(folder / "straight.nii.gz"))
    turned = turned.as_reoriented(nibabel.orientations.axcodes2ornt(("S", "P", "R")))
    nibabel.save(turned, folder / "turned.nii.gz")
    return folder


@pytest.fixture(scope="module")
def server(start_server, model, studies):
    return start_server({"organs": model}, "--studies", str(studies))


@pytest.fixture
def open_page(chromium, server):
    """`open_page(**how)`: the page; at its end, its console was silent and it asked nobody else."""
    opened = []

    def open_one(url=server.url, **how):
        opened.append(browser.WatchedPage(chromium, url, **how))
        return opened[-1]

    yield open_one
    for one in opened:
        one.context.close()
        assert one.console == []
        assert one.foreign == []


@pytest.fixture(scope="module")
def shown(chromium, server, scan):
    """The address of a job of the phantom."""
    page = browser.WatchedPage(chromium, server.url)
    page.ready()
    page.drop(scan)
    address = page.opened().page.url
    page.context.close()
    return address


def test_a_dropped_scan_becomes_the_mask_of_predict(open_page, model, scan, tmp_path):
    page = open_page().ready()
    told = []
    page.page.expose_function("tell", lambda text: told.append(text))
    watch = "() => new MutationObserver(() => tell(document.getElementById('announce').textContent))"
    page.page.evaluate(f"({watch})().observe(document.getElementById('announce'), {{childList: true}})")
    page.drop(scan)
    page.opened()
    page.page.wait_for_timeout(200)
    assert told[0] == "phantom.nii.gz is being sent"
    assert told[-1] == "phantom.nii.gz is segmented"
    assert any(text in ("Reading the scan", "Waiting for its turn") or "predicted" in text for text in told)

    command = ["predict", "-m", model, "-i", scan, "-o", tmp_path / "predicted"]
    subprocess.run([sys.executable, "-m", "attunet", *map(str, command)], check=True, capture_output=True)
    (expected,) = (tmp_path / "predicted").glob("*.nii.gz")
    mask, reference = nibabel.load(page.download("Mask", tmp_path)), nibabel.load(expected)
    assert np.array_equal(np.asanyarray(mask.dataobj), np.asanyarray(reference.dataobj))
    assert np.unique(mask.dataobj).size > 1
    assert np.array_equal(mask.affine, reference.affine)


def test_sliders_labels_and_windows_change_the_picture(open_page, shown):
    page = open_page(shown).opened()
    plain = page.pixels()
    page.page.check('[name="map"][value="Attention level2"]')
    page.page.wait_for_selector("#scale:not([hidden])")
    page.announced("Attention of level2 is shown")
    page.slide("#map-opacity", 0)
    assert np.array_equal(page.pixels(), plain)
    page.slide("#map-opacity", 0.5)
    half = page.pixels()
    page.slide("#map-opacity", 1)
    full = page.pixels()
    assert np.abs(half - plain).mean() > 1
    assert np.abs(full - plain).mean() > np.abs(half - plain).mean()
    page.page.check('[name="map"][value="None"]')
    assert np.array_equal(page.pixels(), plain)

    page.slide("#mask-opacity", 0)
    bare = page.pixels()
    assert np.abs(bare - plain).mean() > 1
    page.slide("#mask-opacity", 0.5)
    for box in page.page.locator("#label-rows input[type=checkbox]").all():
        box.uncheck()
    assert np.array_equal(page.pixels(), bare)
    page.page.select_option("#preset", "Lung")
    assert np.abs(page.pixels() - bare).mean() > 1
    assert page.page.input_value("#level") == "-600"


def test_probabilities_are_a_map_for_each_label(open_page, shown, server):
    page = open_page(shown).opened()
    pictures = []
    for name in ("background", "body", "lesion"):
        page.page.check(f'[name="map"][value="Probability {name}"]')
        page.announced(f"Probability of {name} is shown")
        pictures.append(page.pixels())
    assert all(np.abs(first - second).mean() > 0.1 for first, second in pairwise(pictures))
    assert 0 <= float(page.page.text_content("#readout").split()[-1]) <= 1


@pytest.mark.skipif(not browser.AXE_CORE.exists(), reason="axe-core is not installed: see tests/peers/install.sh")
@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, server, shown, scheme, width):
    page = open_page(server.url, scheme=scheme, width=width, height=844)
    page.ready()
    assert page.faults() == []
    page.page.goto(shown)
    page.opened().page.check('[name="map"][value="Attention level2"]')
    page.page.click("#edit")
    page.page.click("#options summary")
    assert page.faults() == []
    page.page.click("#help-open")
    assert page.faults() == []
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width


def test_keys_move_the_cross_hairs_and_leave_the_viewer(open_page, shown):
    page = open_page(shown).opened()
    page.page.focus("#canvas")
    places = []
    for key in ("Home", "ArrowDown", "ArrowRight", "ArrowUp", "PageUp"):
        page.page.keyboard.press(key)
        words = page.page.text_content("#readout")
        places.append([float(word) for word in words.split(" mm")[0].split(",")])
    moves = np.diff(places[1:], axis=0)  # the first move goes to the middle of a voxel
    assert moves == pytest.approx(np.diag([-SPACING[0], SPACING[1], SPACING[2]]), abs=0.11)  # radiological
    page.page.keyboard.press("2")
    assert page.page.get_attribute('[data-view="axial"]', "aria-pressed") == "true"
    assert page.page.is_visible("#slice")
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.id") == "slice"
    focused = []
    page.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.page.reload()
    page.opened()
    for _ in range(6):
        page.page.keyboard.press("Tab")
        focused.append(page.page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert focused == ["skip", "theme", "help-open", "model", "pick-files", "pick-folder"]


@pytest.mark.parametrize("name", ["straight", "turned"])
def test_a_correction_becomes_the_label_of_a_study(open_page, studies, name, tmp_path):
    page = open_page()
    page.page.wait_for_selector("#studies:not([hidden])")
    page.page.select_option("#study", name)
    page.page.click("#study-run")
    page.opened()
    assert page.page.text_content("#viewer-title") == name
    mask = nibabel.load(page.download("Mask", tmp_path))
    page.page.click("#edit")
    page.page.click("#save-label")
    page.announced("The corrected mask is saved")
    page.page.wait_for_selector("#save-label:not(:disabled)")
    saved = nibabel.load(studies / "labels" / f"{name}.nii.gz")
    before = np.asanyarray(mask.dataobj)
    assert np.array_equal(np.asanyarray(saved.dataobj), before)
    assert np.allclose(saved.affine, mask.affine, atol=1e-4)

    page.page.click('[data-view="axial"]')
    page.page.select_option("#pen", "7")
    page.slide("#pen-size", 3)
    box = page.page.locator("#canvas").bounding_box()
    centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.page.mouse.move(*centre)
    page.page.mouse.down()
    page.page.mouse.move(centre[0] + 60, centre[1], steps=4)
    page.page.mouse.up()
    page.page.evaluate("document.getElementById('announce').textContent = ''")
    page.page.click("#save-label")
    page.announced("The corrected mask is saved")
    page.page.wait_for_selector("#save-label:not(:disabled)")
    after = np.asanyarray(nibabel.load(studies / "labels" / f"{name}.nii.gz").dataobj)
    changed = after != before
    assert changed.any()
    assert set(after[changed]) == {7}
    axis = nibabel.aff2axcodes(mask.affine).index("S")
    assert len(np.unique(np.nonzero(changed)[axis])) == 1  # the slice that was painted on

    page.page.reload()
    page.opened().page.click("#edit-saved")
    page.page.click("#save-label")
    page.announced("The corrected mask is saved")
    again = np.asanyarray(nibabel.load(studies / "labels" / f"{name}.nii.gz").dataobj)
    assert np.array_equal(again, after)


def test_a_folder_of_dicom_is_sent_whole(open_page, tmp_path):
    array = dicom_series.sample((24, 20, 16))
    folder = dicom_series.save_series(
        dicom_series.make_series(array, np.diag([-7.0, -7.0, 10.0, 1.0])), tmp_path / "series"
    )
    (folder / ".hidden").write_text("nothing")
    page = open_page().ready()
    page.page.set_input_files("#folder", folder)
    page.opened()
    assert page.page.text_content("#viewer-title") == "series"
    mask = nibabel.load(page.download("Mask", tmp_path))
    assert mask.shape == array.shape


def test_an_error_is_told_in_words(open_page, tmp_path):
    page = open_page().ready()
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8bno image at all")
    page.drop(tmp_path / "broken.nii.gz")
    page.page.wait_for_selector("#problem:not([hidden])")
    assert "broken.nii.gz" in page.page.text_content("#problem strong")
    page.console[:] = [line for line in page.console if "status of 4" not in line]  # Chromium's own line


def test_a_password_is_asked_for(open_page, start_server, model, scan):
    closed = start_server({"organs": model}, "--token", TOKEN)
    page = open_page(closed.url)
    page.page.wait_for_selector("#login[open]")
    page.page.fill("#password", "something else")
    page.page.keyboard.press("Enter")
    page.until("document.getElementById('login-problem').textContent !== ''")
    page.page.fill("#password", TOKEN)
    page.page.keyboard.press("Enter")
    page.ready()
    page.drop(scan)
    page.opened()
    page.page.click("#logout")
    page.page.wait_for_selector("#login[open]")
    page.console[:] = [line for line in page.console if "401" not in line]  # Chromium's own line


def test_earlier_jobs_are_opened_and_deleted(open_page, shown):
    page = open_page(shown).opened()
    page.page.goto("about:blank")
    page.page.goto(shown.split("#")[0])
    page.page.wait_for_selector("#jobs .open")
    jobs = page.page.locator("#jobs li").count()
    page.page.locator("#jobs .open:not(:has(.failed))").first.click()
    page.opened()
    page.page.go_back()
    page.page.locator("#jobs .remove").first.click()
    page.until(f"document.querySelectorAll('#jobs li').length === {max(jobs - 1, 1)}")
