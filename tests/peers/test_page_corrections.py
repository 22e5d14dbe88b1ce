"""Masks are corrected in the page: with the mouse, a finger and the keyboard, and exactly what was painted is kept."""

import nibabel
import numpy as np
import pytest

pytestmark = pytest.mark.peers


def segmented(page, name="straight"):
    """The page with a study that is segmented."""
    page.page.wait_for_selector("#studies:not([hidden])")
    page.page.select_option("#study", name)
    page.page.click("#study-run")
    return page.opened()


def save(page):
    """Keep the correction as the final label."""
    page.page.evaluate("document.getElementById('announce').textContent = ''")
    page.page.click("#save-label")
    page.announced("The corrected mask is saved")
    page.page.wait_for_selector("#save-label:not(:disabled)")


def saved(studies, name="straight"):
    """The values of the final label."""
    return np.asanyarray(nibabel.load(studies / "labels" / f"{name}.nii.gz").dataobj)


def voxel_of(page, image):
    """The voxel of the cross-hairs."""
    return tuple(np.rint(np.linalg.solve(image.affine, [*page.place(), 1])[:3]).astype(int))


@pytest.mark.parametrize("name", ["straight", "turned"])
def test_a_correction_becomes_the_label_of_a_study(open_page, page_studies, name, tmp_path):
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
    saved = nibabel.load(page_studies / "labels" / f"{name}.nii.gz")
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
    after = np.asanyarray(nibabel.load(page_studies / "labels" / f"{name}.nii.gz").dataobj)
    changed = after != before
    assert changed.any()
    assert set(after[changed]) == {7}
    axis = nibabel.aff2axcodes(mask.affine).index("S")
    assert len(np.unique(np.nonzero(changed)[axis])) == 1  # the slice that was painted on

    page.page.reload()
    page.opened().page.click("#edit-saved")
    page.page.click("#save-label")
    page.announced("The corrected mask is saved")
    again = np.asanyarray(nibabel.load(page_studies / "labels" / f"{name}.nii.gz").dataobj)
    assert np.array_equal(again, after)


def test_exactly_what_was_painted_with_the_keyboard_is_kept(open_page, page_studies, tmp_path):
    page = segmented(open_page())
    mask = nibabel.load(page.download("Mask", tmp_path))
    expected = np.asanyarray(mask.dataobj).copy()
    page.page.click("#edit")
    page.page.select_option("#pen", "7")
    page.slide("#pen-size", 1)
    page.page.focus("#canvas")
    page.page.keyboard.press("Home")
    for key in ("ArrowLeft", "ArrowUp", "PageUp"):
        page.page.keyboard.press(key)
        page.page.keyboard.press("Space")
        expected[voxel_of(page, mask)] = 7
    page.page.keyboard.press("e")
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("Space")
    expected[voxel_of(page, mask)] = 0
    save(page)
    assert np.array_equal(saved(page_studies), expected)

    page.page.reload()
    page.opened().page.click("#edit-saved")
    assert page.page.input_value("#pen") == "1"
    page.page.focus("#canvas")
    for key in ("Home", "ArrowLeft", "ArrowUp", "PageUp"):
        page.page.keyboard.press(key)
    assert page.page.text_content("#readout").endswith("lesion")


def test_undo_goes_back_to_the_mask_and_not_beyond(open_page, page_studies, tmp_path):
    page = segmented(open_page())
    before = np.asanyarray(nibabel.load(page.download("Mask", tmp_path)).dataobj)
    page.page.click("#edit")
    page.page.click('[data-view="axial"]')
    page.page.select_option("#pen", "7")
    x, y = page.centre()
    for shift in (0, 40):
        page.page.mouse.move(x + shift, y)
        page.page.mouse.down()
        page.page.mouse.move(x + shift + 30, y + 30, steps=3)
        page.page.mouse.up()
    save(page)
    twice = saved(page_studies)
    page.page.click("#undo")
    save(page)
    once = saved(page_studies)
    assert 0 < np.sum(once != before) < np.sum(twice != before)
    for _ in range(3):
        page.page.click("#undo")
    save(page)
    assert np.array_equal(saved(page_studies), before)


def test_a_finger_moves_the_cross_hairs_slides_and_paints(open_page, page_studies, tmp_path):
    page = segmented(open_page(width=390, height=844))
    mask = nibabel.load(page.download("Mask", tmp_path))
    page.page.locator('[data-view="axial"]').tap()
    page.page.locator("#canvas").scroll_into_view_if_needed()
    here = page.place()
    x, y = page.centre()
    page.stroke((x + 50, y + 30))
    page.until(f"document.getElementById('readout').textContent.split(',')[0] !== '{here[0]:.1f}'")
    assert np.all(np.asarray(page.place())[:2] < here[:2])  # to the patient's left, which is +x, is to the right
    page.page.locator("#mask-opacity").scroll_into_view_if_needed()
    box = page.page.locator("#mask-opacity").bounding_box()
    page.page.touchscreen.tap(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    assert float(page.page.input_value("#mask-opacity")) > 0.9

    page.page.locator("#edit").tap()
    page.page.select_option("#pen", "7")
    page.page.locator("#canvas").scroll_into_view_if_needed()
    before = np.asanyarray(mask.dataobj)
    for _ in range(3):  # a busy browser may drop a touch
        x, y = page.centre()
        page.stroke((x - 40, y), (x - 20, y), (x, y), (x + 20, y))
        save(page)
        after = saved(page_studies)
        if (after != before).any():
            break
    assert set(after[after != before]) == {7}
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
