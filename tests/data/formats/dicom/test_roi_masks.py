"""Masks of ROIs: holes, islands, oblique and anisotropic slices, and contours that lie elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_labels import add_contour, affine_of, make_structure_set
from dicom_series import make_series, sample

from attunet.data.formats import read_label
from attunet.data.formats.dicom.contours import contours_of
from attunet.data.formats.dicom.roi_masks import roi_mask
from attunet.data.formats.dicom.structure_set import RegionOfInterest, parse_structure_set
from attunet.data.volume import Volume
from attunet.errors import GeometryError

SHAPE = (14, 12, 5)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def rotation(*degrees):
    """A rotation (3, 3) about x, y and z."""
    whole = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[one, one, other, other], [one, other, one, other]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        whole = turn @ whole
    return whole


def placed(*degrees, spacing=(0.5, 0.75, 2.0), origin=(-80.0, 33.0, 412.5)):
    """The affine of an image that lies obliquely in the patient."""
    affine = np.eye(4)
    affine[:3] = np.column_stack([rotation(*degrees) * spacing, origin])
    return affine


def blobs(seed=0, share=0.5, shape=SHAPE):
    return np.random.default_rng(seed).random(shape) < share


def grid(affine, shape=SHAPE):
    return Volume(np.zeros((1, *shape), np.uint8), affine)


def region(voxels, affine, *, exclusive=False):
    """An ROI of contours that are given in voxels."""
    return RegionOfInterest(
        "tumour", tuple(np.asarray(one, float) @ affine[:3, :3].T + affine[:3, 3] for one in voxels), exclusive
    )


def square(low, high, k=2.0):
    """A contour around the pixels from low to high."""
    one, other = low - 0.5, high + 0.5
    return [(one, one, k), (other, one, k), (other, other, k), (one, other, k)]


@pytest.mark.parametrize("degrees", [(0, 0, 0), (20, 0, 0), (-13, 31, 47), (90, 0, 0), (0, 0, 180), (0, 90, 90)])
def test_a_mask_comes_back_from_its_contours(degrees):
    mask, affine = blobs(), placed(*degrees)
    structures = parse_structure_set(
        make_structure_set(make_series(sample(SHAPE), affine), [("tumour", mask)]), "rs.dcm"
    )
    found = roi_mask(structures.regions[0], grid(affine))
    assert (found.mask == mask).all()
    assert found.notices == ()


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("flipped", [(), (0,), (1, 2)])
def test_the_storage_order_of_the_image_does_not_matter(axes, flipped):
    contour = [(2, 2, 2), (9, 2, 2), (9, 7, 2), (5.5, 9.25, 2), (2, 7, 2)]  # vertices on centres of pixels
    affine = placed(0, 0, 0)
    expected = roi_mask(region([contour], affine), grid(affine)).mask
    stored, turned = expected.transpose(axes), affine[:, [*axes, 3]]
    for axis in flipped:
        turned = turned.copy()
        stored = np.flip(stored, axis)
        turned[:, 3] += turned[:, axis] * (stored.shape[axis] - 1)
        turned[:, axis] *= -1
    assert (roi_mask(region([contour], affine), grid(turned, stored.shape)).mask == stored).all()
    assert expected.sum() > 30


def test_nested_contours_are_holes_and_islands():
    affine = placed(0, 0, 0)
    rings = [square(5, 5), square(1, 9), square(3, 7)]
    mask = roi_mask(region(rings, affine), grid(affine)).mask
    assert mask[1:10, 1:10, 2].sum() == 81 - 25 + 1
    assert mask.sum() == 57
    assert (roi_mask(region(rings, affine, exclusive=True), grid(affine)).mask == mask).all()


def test_contours_that_cross_are_united_and_reported():
    affine = placed(0, 0, 0)
    crossing = [square(1, 6), square(5, 9)]
    found = roi_mask(region(crossing, affine), grid(affine))
    assert found.mask.sum() == 36 + 25 - 4
    assert "cross each other on 1 slices; they are united" in found.notices[0]
    exclusive = roi_mask(region(crossing, affine, exclusive=True), grid(affine))
    assert exclusive.mask.sum() == 36 + 25 - 8
    assert exclusive.notices == ()


def test_a_contour_that_is_there_twice_counts_once():
    affine = placed(0, 0, 0)
    found = roi_mask(region([square(1, 6), square(1, 6)[::-1]], affine), grid(affine))
    assert found.mask.sum() == 36
    assert "1 of 2 contours of the ROI tumour repeat another one" in found.notices[0]


def test_what_lies_outside_the_image_is_left_out_and_reported():
    affine = placed(10, 0, 0)
    found = roi_mask(region([square(-3, 4), square(2, 4, k=7)], affine), grid(affine))
    assert found.mask.sum() == 25
    assert "1 of 2 contours of the ROI tumour lie outside the image" in found.notices[0]
    assert "1 of 2 contours of the ROI tumour leave the image" in found.notices[1]
    with pytest.raises(GeometryError, match="the ROI tumour lies outside the image"):
        roi_mask(region([square(2, 4, k=-2)], affine), grid(affine))


def test_slices_without_a_contour_are_reported():
    affine = placed(0, 0, 0)
    found = roi_mask(region([square(2, 4, k=0), square(2, 4, k=3)], affine), grid(affine))
    assert found.notices == ("the ROI tumour has no contour on 2 of the 4 slices that it spans",)


def test_contours_too_small_for_a_voxel_are_reported():
    affine = placed(0, 0, 0)
    tiny = [(3.1, 3.1, 2), (3.4, 3.1, 2), (3.4, 3.4, 2)]
    found = roi_mask(region([tiny, square(6, 8)], affine), grid(affine))
    assert found.mask.sum() == 9
    assert found.notices == ("1 of 2 contours of the ROI tumour hold no centre of a voxel",)


def test_contours_between_slices_are_refused():
    affine = placed(0, 5, 0)
    assert roi_mask(region([square(2, 4, k=2.11)], affine), grid(affine)).mask[:, :, 2].sum() == 9
    with pytest.raises(GeometryError, match=r"1 of 2 contours .* up to 0.80 mm from the nearest"):
        roi_mask(region([square(2, 4), square(2, 4, k=3.4)], affine), grid(affine))


def test_contours_across_slices_are_refused():
    affine = placed(0, 0, 0)
    tilted = [(1, 1, 0), (9, 1, 3), (9, 9, 3), (1, 9, 0.5)]
    with pytest.raises(GeometryError, match="1 of 1 contours of the ROI tumour are not parallel to slices"):
        roi_mask(region([tilted], affine), grid(affine))


def test_a_real_roi_is_the_label_of_its_nifti_twin(shared_data):
    from attunet.data.formats.dicom.label_objects import read_named_masks

    twin = read_label(shared_data / "Dataset102_SarcomaCT/labelsTr/STS_002.nii.gz")
    path = shared_data / "sts_dicom_rtstruct/labels/STS_002_CT_RS.dcm"
    (mask,) = read_named_masks(path, ["GTV_Mass_CT"], twin)
    assert (mask.array == (twin.array > 0)).all()


def test_xor_type_and_other_types_come_from_the_file():
    series = make_series(sample(SHAPE), placed(0, 0, 0))
    structures = make_structure_set(series, [("ring", np.zeros(SHAPE, bool))])
    for ring in (square(1, 9), square(3, 7)):
        add_contour(structures, 1, ring, affine_of(series), "CLOSEDPLANAR_XOR")
    (ring,) = parse_structure_set(structures, "rs.dcm").regions
    assert ring.exclusive
    assert roi_mask(ring, grid(placed(0, 0, 0))).mask.sum() == 81 - 25


def test_slices_that_are_slightly_off_their_places_have_their_contours():
    affine = np.diag([0.5, 0.75, 2.0, 1.0])
    series = make_series(sample(SHAPE), affine)
    mask = blobs()
    structures = make_structure_set(series, [("tumour", mask)])
    moved = affine_of(series)
    structures.ROIContourSequence[0].ContourSequence = []
    for k in range(5):
        for contour in contours_of(mask[:, :, k]):
            points = np.column_stack([contour, np.full(len(contour), 2.095 if k == 2 else k)])
            add_contour(structures, 1, points, moved)
    (found,) = parse_structure_set(structures, "rs.dcm").regions
    assert (roi_mask(found, grid(affine)).mask == mask).all()
