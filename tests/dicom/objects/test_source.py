"""The source of a prediction: what objects refer to, and what they must not refer to."""

import numpy as np
import pytest
from dicom_series import DATE, ID, NAME

from attunet.data.cases import find_cases
from attunet.data.formats import write_volume
from attunet.data.volume import Volume
from attunet.dicom.objects.source import dicom_series_of, read_source
from attunet.errors import FormatError, GeometryError


def test_slices_refer_to_their_images_in_the_order_of_the_volume(scene, straight_affine):
    source = scene(straight_affine).source
    positions = [reference.ImagePositionPatient for reference in source.references]
    assert np.allclose(positions, [source.grid.position(k) for k in range(9)], atol=1e-5)
    assert source.grid.same
    assert source.notices == ()
    assert len(set(source.uids)) == 10


def test_references_hold_nothing_of_the_patient_and_the_true_distance_of_slices(scene):
    for reference in scene().source.references:
        text = str(reference)
        assert not [secret for secret in (NAME, ID, DATE) if secret in text]
        assert reference.SpacingBetweenSlices == reference.SliceThickness == 2.0


def test_a_sheared_stack_gets_a_grid_of_its_own_and_says_so(scene, tilted_affine):
    source = scene(tilted_affine).source
    assert not source.grid.same
    (notice,) = source.notices
    assert "sheared by 15.0 degrees" in notice


def test_a_slightly_uneven_stack_gets_an_even_grid_and_says_so(scene):
    def shift(datasets):
        x, y, z = datasets[4].ImagePositionPatient
        datasets[4].ImagePositionPatient = [x, y, z + 0.1]
        return datasets

    source = scene(edit=shift).source
    assert not source.grid.same
    assert "0.100 mm off an even grid" in source.notices[0]


def test_images_elsewhere_than_the_volume_has_them_are_refused(scene):
    made = scene()
    moved = made.series.affine.copy()
    moved[2, 3] += 1.0
    with pytest.raises(GeometryError, match="not where the volume has them"):
        read_source(type(made.series)(**{**vars(made.series), "affine": moved}))


def test_a_series_without_frame_of_reference_gets_a_stable_one(scene):
    def remove(datasets):
        for dataset in datasets:
            del dataset.FrameOfReferenceUID
        return datasets

    made = scene(edit=remove)
    (notice,) = made.source.notices
    assert "no frame of reference" in notice
    again = read_source(made.series)
    assert again.references[0].FrameOfReferenceUID == made.source.references[3].FrameOfReferenceUID


def test_a_file_without_class_is_known_by_its_file_header(scene):
    def remove(datasets):
        for dataset in datasets:
            del dataset.SOPClassUID
        return datasets

    assert scene(edit=remove).source.references[0].SOPClassUID.name == "CT Image Storage"


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_images_that_no_object_can_refer_to_are_refused(name, scene):
    def remove(datasets):
        for dataset in datasets:
            setattr(dataset, name, "")
        return datasets

    with pytest.raises(FormatError, match=f"has no {name}"):
        scene(edit=remove)


def test_a_damaged_header_is_refused_without_a_word_of_it(scene):
    made = scene()
    made.series.files[0].write_bytes(b"\0" * 128 + b"DICM" + NAME.encode() * 5)
    with pytest.raises(FormatError) as caught:
        read_source(made.series)
    assert NAME not in str(caught.value)


def test_only_dicom_images_have_a_series(scene, tmp_path):
    made = scene()
    (case,) = find_cases([made.folder], 1)
    assert dicom_series_of(case).uid == made.series.uid
    write_volume(Volume(np.zeros((1, 4, 4, 4), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    (other,) = find_cases([tmp_path / "a.nii.gz"], 1)
    assert dicom_series_of(other) is None


def test_frames_of_one_file_are_told_by_their_numbers(enhanced, straight_affine):
    source = enhanced(straight_affine).source
    assert len(source.references) == 1
    assert sorted(source.frames) == list(range(1, 10))
    assert source.frames != tuple(range(1, 10))
    assert source.image_of(3).ReferencedFrameNumber == source.frames[3]
    assert source.grid.same


def test_a_mosaic_is_referred_to_as_a_whole(mosaic):
    source = mosaic.source
    assert (len(source.references), source.frames) == (1, ())
    assert not source.grid.same
    assert source.grid.shape == (20, 16, 9)
    assert {str(source.image_of(plane).ReferencedSOPInstanceUID) for plane in range(9)} == {source.uids[1]}
    assert any("parts of one image" in notice for notice in source.notices)


def test_a_picture_without_a_place_is_one_plane(unplaced):
    assert not unplaced.source.grid.placed
    assert unplaced.source.grid.shape == (20, 16, 1)
    assert "ImagePositionPatient" not in unplaced.source.references[0]
