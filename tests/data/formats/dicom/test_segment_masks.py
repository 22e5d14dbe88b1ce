"""Masks of segments: frames lie where their positions say, on the image's grid or on their own."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_labels import make_segmentation
from dicom_series import make_series, sample
from pydicom.uid import RLELossless

from attunet.data.formats import read_label
from attunet.data.formats.dicom.label_objects import read_label_object, read_named_masks
from attunet.data.volume import Volume
from attunet.errors import FormatError, GeometryError

SHAPE = (9, 7, 6)  # 63 pixels: frames do not begin at a whole byte
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
OBLIQUE = np.array([[0.48, -0.1, 0.3, -7], [0.1, 0.7, 0.4, 40], [-0.1, -0.2, 1.9, 3.0], [0, 0, 0, 1]])


def rotated(affine):
    """The affine with right angles."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    directions, _ = np.linalg.qr(affine[:3, :3])
    whole = affine.copy()
    whole[:3, :3] = directions * np.sign(np.diag(directions.T @ affine[:3, :3])) * lengths
    return whole


@pytest.fixture
def affine():
    return rotated(OBLIQUE)


@pytest.fixture
def masks():
    """Two overlapping masks, each without voxels on some slices."""
    random = np.random.default_rng(0)
    liver, tumour = random.random(SHAPE) < 0.5, random.random(SHAPE) < 0.3
    liver[:, :, 4:], tumour[:, :, [0, 1, 3]] = False, False
    return {"liver": liver, "tumour": tumour}


def grid(affine, shape=SHAPE):
    return Volume(np.zeros((1, *shape), np.uint8), affine)


def saved(dataset, path):
    dataset.save_as(path, enforce_file_format=True)
    return path


def written(folder, affine, masks, kind="BINARY", name="seg.dcm", **tags):
    return saved(
        make_segmentation(make_series(sample(SHAPE), affine), list(masks.items()), kind, **tags), folder / name
    )


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_frames_in_any_order_give_the_masks(tmp_path, affine, masks, kind):
    path = written(tmp_path, affine, masks, kind, order=3)
    found = dict(zip(masks, read_named_masks(path, list(masks), grid(affine)), strict=True))
    for name, mask in masks.items():
        assert (found[name].array[0] == mask).all()
        np.testing.assert_array_equal(found[name].affine, affine)


def test_a_label_map_gives_its_masks(tmp_path, affine, masks):
    path = written(tmp_path, affine, masks, "LABELMAP", keep_empty=True)
    liver, tumour = read_named_masks(path, ["liver", "tumour"], grid(affine))
    assert (tumour.array[0] == masks["tumour"]).all()
    assert (liver.array[0] == (masks["liver"] & ~masks["tumour"])).all()


def test_a_label_map_with_a_value_that_no_segment_names_is_refused(tmp_path, affine, masks):
    dataset = make_segmentation(make_series(sample(SHAPE), affine), list(masks.items()), "LABELMAP")
    del dataset.SegmentSequence[1]
    with pytest.raises(FormatError, match="pixels of a segment 2, which it does not name"):
        next(read_named_masks(saved(dataset, tmp_path / "seg.dcm"), ["liver"], grid(affine)))


def test_half_of_the_largest_fraction_is_inside(tmp_path, affine):
    fractions = np.zeros(SHAPE)
    fractions[:, :, 2] = np.linspace(0, 1, 63).reshape(9, 7)
    path = written(tmp_path, affine, {"liver": fractions}, "FRACTIONAL")
    (mask,) = read_named_masks(path, ["liver"], grid(affine))
    assert (mask.array[0] == (np.rint(fractions * 200) >= 100)).all()


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize("flipped", [(), (1,), (0, 2)])
def test_the_storage_order_of_the_image_does_not_matter(tmp_path, affine, masks, axes, flipped):
    path = written(tmp_path, affine, masks)
    expected, turned = masks["liver"].transpose(axes), affine[:, [*axes, 3]]
    for axis in flipped:
        expected, turned = np.flip(expected, axis), turned.copy()
        turned[:, 3] += turned[:, axis] * (expected.shape[axis] - 1)
        turned[:, axis] *= -1
    (mask,) = read_named_masks(path, ["liver"], grid(turned, expected.shape))
    assert (mask.array[0] == expected).all()


def test_without_an_image_frames_have_their_own_grid(tmp_path, affine, masks):
    path = written(tmp_path, affine, masks)
    mask = next(read_named_masks(path, ["tumour"]))
    assert mask.spatial_shape == SHAPE
    assert (mask.array[0] == masks["tumour"]).all()
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)


def test_an_image_that_does_not_hold_all_frames_leaves_them_on_their_own_grid(tmp_path, affine, masks):
    path = written(tmp_path, affine, masks)
    for image in (grid(affine, (9, 7, 5)), grid(affine @ np.diag([2, 1, 1, 1]))):
        mask = next(read_named_masks(path, ["liver"], image))
        assert mask.spatial_shape == SHAPE
        assert (mask.array[0] == masks["liver"]).all()


def test_a_larger_image_holds_all_frames(tmp_path, affine, masks):
    path = written(tmp_path, affine, masks)
    shift = np.eye(4)
    shift[:3, 3] = -2, -3, -1
    (mask,) = read_named_masks(path, ["liver"], grid(affine @ shift, (14, 12, 9)))
    assert (mask.array[0, 2:11, 3:10, 1:7] == masks["liver"]).all()
    assert mask.array.sum() == masks["liver"].sum()


def test_a_missing_slice_between_frames_is_background(tmp_path, affine, masks):
    masks = {"liver": masks["liver"].copy()}
    masks["liver"][:, :, 1] = False
    mask = next(read_named_masks(written(tmp_path, affine, masks), ["liver"]))
    assert (mask.array[0] == masks["liver"][:, :, :4]).all()


def test_a_single_frame_has_the_thickness_of_its_slice(tmp_path, affine, masks):
    liver = np.where(np.arange(6) == 2, masks["liver"], False)
    mask = next(read_named_masks(written(tmp_path, affine, {"liver": liver}), ["liver"]))
    assert mask.spatial_shape == (9, 7, 1)
    assert mask.spacing[2] == pytest.approx(7.0)


@pytest.mark.parametrize("moved", [(0, 0, 0.9), (1.0, 0, 0)])
def test_frames_on_no_even_grid_are_refused(tmp_path, masks, moved):
    dataset = make_segmentation(make_series(sample(SHAPE), np.diag([0.5, 0.75, 2.0, 1.0])), list(masks.items()))
    position = dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
    position.ImagePositionPatient = [a + b for a, b in zip(position.ImagePositionPatient, moved, strict=True)]
    with pytest.raises(GeometryError, match="lie on no even grid"):
        next(read_named_masks(saved(dataset, tmp_path / "seg.dcm"), ["liver"]))


def test_segments_of_one_name_are_united_and_one_without_frames_is_empty(tmp_path, affine, masks):
    segments = [("lesion", masks["liver"]), ("lesion", masks["tumour"]), ("none", np.zeros(SHAPE, bool))]
    path = saved(make_segmentation(make_series(sample(SHAPE), affine), segments), tmp_path / "seg.dcm")
    assert read_label_object(path).names == ("lesion", "none")
    lesion, none = read_named_masks(path, ["lesion", "none"], grid(affine))
    assert (lesion.array[0] == (masks["liver"] | masks["tumour"])).all()
    assert not none.array.any()


def test_a_picture_without_a_place_takes_that_of_its_image(tmp_path, masks):
    liver = masks["liver"][:, :, :1]
    dataset = make_segmentation(make_series(sample((9, 7, 1))), [("liver", liver)])
    del dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    path = saved(dataset, tmp_path / "seg.dcm")
    (mask,) = read_named_masks(path, ["liver"], grid(np.eye(4), (9, 7, 1)))
    assert (mask.array[0] == liver).all()
    with pytest.raises(GeometryError, match="does not say where its frames lie"):
        next(read_named_masks(path, ["liver"]))


def test_compressed_frames_are_decoded(tmp_path, affine, masks):
    dataset = make_segmentation(make_series(sample(SHAPE), affine), list(masks.items()), "FRACTIONAL")
    dataset.compress(RLELossless)
    liver, tumour = read_named_masks(saved(dataset, tmp_path / "seg.dcm"), list(masks), grid(affine))
    assert (liver.array[0] == masks["liver"]).all()
    assert (tumour.array[0] == masks["tumour"]).all()


def test_missing_pixels_are_refused(tmp_path, affine, masks):
    dataset = make_segmentation(make_series(sample(SHAPE), affine), list(masks.items()))
    dataset.PixelData = dataset.PixelData[:20]
    with pytest.raises(FormatError, match="pixels are missing"):
        list(read_named_masks(saved(dataset, tmp_path / "seg.dcm"), ["tumour"], grid(affine)))


def test_real_segments_equal_their_nrrd_twins(shared_data):
    folder = shared_data / "dcmqi_ct_3slice_seg/labels"
    twin = read_label(folder / "liver_seg.nrrd")
    (mask,) = read_named_masks(folder / "liver.dcm", ["Liver"], twin)
    assert (mask.array == (twin.array > 0)).all()


def test_real_overlapping_segments_are_those_that_highdicom_reads(shared_data):
    from highdicom.seg import segread

    path = shared_data / "dcmqi_ct_3slice_seg/labels/partial_overlaps.dcm"
    expected = segread(path).get_volume(combine_segments=False).array
    names = read_label_object(path).names
    assert names == ("GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE")
    for index, mask in enumerate(read_named_masks(path, names)):
        assert (mask.array[0].T[::-1] == expected[..., index]).all()
