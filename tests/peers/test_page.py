"""The page of the server in a real browser: a scan is dropped, and its mask and attention are seen and corrected."""

import subprocess
import sys
from itertools import pairwise

import browser
import nibabel
import numpy as np
import pytest

pytestmark = pytest.mark.peers

TOKEN = "a token of more than sixteen letters"


def test_a_dropped_scan_becomes_the_mask_of_predict(open_page, page_model, page_scan, tmp_path):
    page = open_page().ready()
    told = []
    page.page.expose_function("tell", lambda text: told.append(text))
    watch = "() => new MutationObserver(() => tell(document.getElementById('announce').textContent))"
    page.page.evaluate(f"({watch})().observe(document.getElementById('announce'), {{childList: true}})")
    page.drop(page_scan)
    page.opened()
    page.page.wait_for_timeout(200)
    assert told[0] == "phantom.nii.gz is being sent"
    assert told[-1] == "phantom.nii.gz is segmented"
    assert any(text in ("Reading the scan", "Waiting in the queue") or "% segmented" in text for text in told)

    command = ["predict", "-m", page_model, "-i", page_scan, "-o", tmp_path / "predicted"]
    subprocess.run([sys.executable, "-m", "attunet", *map(str, command)], check=True, capture_output=True)
    (expected,) = (tmp_path / "predicted").glob("*.nii.gz")
    mask, reference = nibabel.load(page.download("Mask", tmp_path)), nibabel.load(expected)
    assert np.array_equal(np.asanyarray(mask.dataobj), np.asanyarray(reference.dataobj))
    assert np.unique(mask.dataobj).size > 1
    assert np.array_equal(mask.affine, reference.affine)


def test_sliders_labels_and_windows_change_the_picture(open_page, shown):
    page = open_page(shown).opened()
    page.page.click('[data-view="axial"]')
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
    seen = []
    for opacity in (0.2, 0.5, 1):
        page.slide("#mask-opacity", opacity)
        seen.append(np.abs(page.pixels() - bare).mean())
    assert 0.5 < seen[0] < 0.6 * seen[1] < 0.4 * seen[2]
    page.slide("#mask-opacity", 0.5)
    for box in page.page.locator("#label-rows input[type=checkbox]").all():
        box.uncheck()
    assert np.array_equal(page.pixels(), bare)
    page.page.select_option("#preset", "Lung")
    assert np.abs(page.pixels() - bare).mean() > 1
    assert page.page.input_value("#level") == "-600"


def test_each_label_has_a_colour_of_its_own(open_page, shown):
    page = open_page(shown).opened()
    page.page.click('[data-view="axial"]')
    both = page.pixels()
    changed = []
    for name in ("body", "lesion"):
        box = page.page.get_by_label(f"Show {name}", exact=True)
        box.uncheck()
        changed.append(np.abs(page.pixels() - both).sum(axis=2) > 0)
        box.check()
        assert np.array_equal(page.pixels(), both)
    assert changed[0].any()
    assert changed[1].any()
    assert not np.array_equal(*changed)
    page.page.get_by_label("Colour of body", exact=True).fill("#ff0000")
    assert np.abs(page.pixels() - both).mean() > 0.1


def test_probabilities_are_a_map_for_each_label(open_page, shown):
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
def test_axe_finds_nothing_serious(open_page, page_server, shown, scheme, width):
    page = open_page(page_server.url, scheme=scheme, width=width, height=844)
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
    assert moves == pytest.approx(np.diag([-7.0, 7.0, 10.0]), abs=0.11)  # radiological
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


def test_an_error_is_told_in_words(open_page, tmp_path):
    page = open_page().ready()
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8bno image at all")
    page.drop(tmp_path / "broken.nii.gz")
    page.page.wait_for_selector("#problem:not([hidden])")
    assert "broken.nii.gz" in page.page.text_content("#problem strong")
    page.console[:] = [line for line in page.console if "status of 4" not in line]  # Chromium's own line


def test_a_password_is_asked_for(open_page, start_server, page_model, page_scan):
    closed = start_server({"organs": page_model}, "--token", TOKEN)
    page = open_page(closed.url)
    page.page.wait_for_selector("#login[open]")
    page.page.fill("#password", "something else")
    page.page.keyboard.press("Enter")
    page.until("document.getElementById('login-problem').textContent !== ''")
    page.page.fill("#password", TOKEN)
    page.page.keyboard.press("Enter")
    page.ready()
    page.drop(page_scan)
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


def test_a_scan_is_segmented_with_the_keyboard_alone(open_page, page_scan):
    page = open_page().ready()
    page.tab_to("pick-files")
    with page.page.expect_file_chooser() as chooser:
        page.page.keyboard.press("Space")
    chooser.value.set_files(page_scan)
    page.opened()
    page.tab_to("help-open", "Shift+Tab")
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector("#help[open]")
    assert page.page.evaluate("document.getElementById('help').contains(document.activeElement)")
    page.page.keyboard.press("Escape")
    page.page.wait_for_selector("#help", state="hidden")
    assert page.page.evaluate("document.activeElement.id") == "help-open"
    for _ in range(2):
        page.page.keyboard.press("Shift+Tab")
    assert page.page.evaluate("document.activeElement.className") == "skip"
    page.page.keyboard.press("Enter")
    order = []
    for _ in range(6):
        page.page.keyboard.press("Tab")
        order.append(page.page.evaluate("document.activeElement.id || document.activeElement.dataset.view"))
    assert order == ["all", "axial", "coronal", "sagittal", "render", "canvas"]
    here = page.place()
    page.page.keyboard.press("PageUp")
    assert page.place()[2] > here[2]
