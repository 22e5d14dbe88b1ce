"""Pictures of results: grey where nothing is, colours where something is, each at the place of its slice."""

import numpy as np
import SimpleITK
from pydicom import dcmread

from attunet.dicom.objects.overlay import OPACITY, attention_pictures, mask_pictures
from attunet.dicom.objects.segmentation_object import as_segments


def test_pictures_are_a_series_of_colour_slices_in_place(scene, straight_affine, tmp_path):
    made = scene(straight_affine)
    files = made.result(tmp_path).write_overlay()
    assert [file.parent.name for file in files] == ["case_overlay"] * 9
    assert files[-1].name == "0001.dcm"
    headers = {file: dcmread(file) for file in files}
    assert len({header.SeriesInstanceUID for header in headers.values()}) == 1
    assert len({header.SOPInstanceUID for header in headers.values()}) == 9
    for file, header in headers.items():
        place = header.InstanceNumber - 1
        assert np.allclose(SimpleITK.ReadImage(str(file)).GetOrigin(), made.source.grid.position(place), atol=1e-4)
        assert header.SourceImageSequence[0].ReferencedSOPInstanceUID == made.source.references[place].SOPInstanceUID


def test_attention_has_a_series_for_each_gate(scene, tmp_path):
    alpha = np.random.default_rng(0).random((1, 20, 16, 9)).astype(np.float32)
    files = scene().result(tmp_path, attention={"level2": alpha}).write_overlay()
    assert {file.parent.name for file in files} == {"case_overlay", "case_overlay_level2"}
    assert len({dcmread(file).SeriesInstanceUID for file in files}) == 2


def test_labels_are_painted_over_the_grey_image(label_codes):
    image = np.full((1, 4, 3, 2), 40.0)
    mask = np.zeros((4, 3, 2), np.uint8)
    mask[1, 2, 1] = 1
    pictures = mask_pictures(image, mask, as_segments({"background": 0, "liver": 1}, {}, label_codes, "BINARY"), "ct")
    assert pictures.shape == (2, 3, 4, 3)
    grey = pictures[0, 0, 0]
    assert len(set(grey.tolist())) == 1
    assert np.array_equal(
        pictures[1, 2, 1], ((1 - OPACITY) * grey + OPACITY * np.array([200, 100, 0])).astype(np.uint8)
    )
    pictures[1, 2, 1] = grey
    assert (pictures == grey).all()


def test_the_higher_a_coefficient_the_more_of_its_colour():
    image = np.full((1, 3, 1, 1), 40.0)
    low, middle, high = attention_pictures(image, np.array([[[0.0]], [[0.5]], [[1.0]]]), "ct")[0, 0].astype(int)
    assert len(set(low.tolist())) == 1
    assert np.ptp(low) < np.ptp(middle)
    assert np.abs(high - low).sum() > np.abs(middle - low).sum()
