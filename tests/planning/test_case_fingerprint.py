"""Where labels lie in a case, whatever way its file is stored."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from attunet.data.cases import Case
from attunet.planning.case_fingerprint import locate_labels, read_case_fingerprint


@settings(max_examples=60, deadline=None)
@given(
    label=hnp.arrays(np.int16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.integers(-2, 4)),
    order=st.sampled_from(["C", "F"]),
    background=st.sampled_from([0, 3]),
)
def test_counts_and_centroids_are_those_of_scipy(label, order, background):
    found = locate_labels(np.asarray(label, order=order), background)
    assert set(found) == set(np.unique(label).tolist()) - {background}
    for value, place in found.items():
        assert place.voxels == (label == value).sum()
        np.testing.assert_allclose(place.centroid, ndimage.center_of_mass(label == value), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    label=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=40), elements=st.integers(0, 3)),
    order=st.sampled_from(["C", "F"]),
)
def test_the_parts_that_hold_a_label_are_counted(label, order):
    for value, place in locate_labels(np.asarray(label, order=order)).items():
        indices = np.argwhere(label == value)
        sizes = np.array(label.shape)
        parts = np.where(sizes > 16, indices * 16 // sizes, indices)
        assert place.parts.bit_count() == len(np.unique(parts, axis=0))


@pytest.mark.parametrize("codes", [("R", "A", "S"), ("L", "P", "S"), ("S", "L", "A"), ("P", "I", "R")])
def test_a_place_is_in_mm_right_front_and_up_whatever_the_storage(codes, tmp_path):
    image, label = np.zeros((24, 20, 16), np.float32), np.zeros((24, 20, 16), np.uint8)
    image[2:22, 2:18, 2:14] = 5.0  # the middle of the content is at (11.5, 9.5, 7.5)
    label[16:18, 5, 12] = 7
    for name, array in (("image", image), ("label", label)):
        upright = nibabel.Nifti1Image(array, np.diag([2.0, 1.0, 3.0, 1.0]))
        turned = nibabel.orientations.ornt_transform(
            nibabel.io_orientation(upright.affine), nibabel.orientations.axcodes2ornt(codes)
        )
        nibabel.save(upright.as_reoriented(turned), tmp_path / f"{name}.nii")
    facts = read_case_fingerprint(Case("a", (tmp_path / "image.nii",), tmp_path / "label.nii"), "fail")
    assert facts.shape == (20, 16, 12)
    np.testing.assert_allclose(facts.spacing, (2.0, 1.0, 3.0))
    np.testing.assert_allclose(facts.positions[7].centroid, (10.0, -4.5, 13.5))
    assert facts.label_voxels == {0: label.size - 2, 7: 2}


def test_another_background_is_not_a_place(tmp_path):
    label = np.full((8, 8, 4), 9, np.uint8)
    label[2, 2, 2] = 0
    for name, array in (("image", np.arange(256, dtype=np.float32).reshape(label.shape)), ("label", label)):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii")
    facts = read_case_fingerprint(Case("a", (tmp_path / "image.nii",), tmp_path / "label.nii"), "fail", background=9)
    assert list(facts.positions) == [0]
    assert facts.label_voxels == {9: 255, 0: 1}
    assert facts.intensities.shape == (1, 1)


def test_noise_in_the_air_of_a_ct_is_no_size(tmp_path):
    image = np.random.default_rng(0).normal(-1000, 20, (20, 18, 16)).astype(np.int16)
    image[4:14, 5:12, 3:15] = 40
    label = np.zeros(image.shape, np.uint8)
    label[6:9, 6:9, 6:9] = 1
    for name, array in (("image", image), ("label", label)):
        upright = nibabel.Nifti1Image(array, np.diag([2.0, 1.0, 3.0, 1.0]))
        turned = nibabel.orientations.axcodes2ornt(("S", "L", "P"))
        nibabel.save(upright.as_reoriented(turned), tmp_path / f"{name}.nii")
    facts = read_case_fingerprint(Case("a", (tmp_path / "image.nii",), tmp_path / "label.nii"), "fail")
    assert facts.shape == (20, 18, 16)
    assert facts.clipped_shape == (20, 18, 16)  # of one value, nothing lies above it
    image[6, 6, 6] = 39
    nibabel.save(
        nibabel.Nifti1Image(image, np.diag([2.0, 1.0, 3.0, 1.0])).as_reoriented(turned), tmp_path / "image.nii"
    )
    facts = read_case_fingerprint(Case("a", (tmp_path / "image.nii",), tmp_path / "label.nii"), "fail")
    assert facts.shape == (20, 18, 16)
    assert facts.clipped_shape == (10, 7, 12)
