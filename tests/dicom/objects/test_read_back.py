"""Files are compared with the result before they get their names: each kind of difference is found."""

import numpy as np
import pytest
from pydicom import dcmread

from attunet.dicom.objects.read_back import (
    CheckedObject,
    check_parametric_map,
    check_segmentation,
    check_structure_set,
    write_checked,
)
from attunet.dicom.objects.segmentation_object import segment_frames
from attunet.errors import FormatError


@pytest.fixture
def segmentation(scene, tmp_path):
    """A written segmentation, and a function that checks it after a change."""
    made = scene()
    result = made.result(tmp_path)
    (path,) = result.write_segmentation()
    segments = result.segments("BINARY")
    pixels = segment_frames(result.prediction.segmentation.array[0], segments, made.source.grid)

    def check(change=lambda dataset: None, pixels=pixels, segments=segments):
        dataset = dcmread(path)
        change(dataset)
        dataset.save_as(path)
        check_segmentation(path, pixels, segments, "BINARY", made.source)

    return check


def flip(dataset):
    pixels = bytearray(dataset.PixelData)
    pixels[5] ^= 1
    dataset.PixelData = bytes(pixels)


def move(dataset):
    place = dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
    place.ImagePositionPatient = [0, 0, 999]


def between(dataset):
    place = dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
    x, y, z = place.ImagePositionPatient
    place.ImagePositionPatient = [x, y, z + 0.5]


def repeat(dataset):
    groups = dataset.PerFrameFunctionalGroupsSequence
    groups[1].PlanePositionSequence = groups[0].PlanePositionSequence
    groups[1].DerivationImageSequence = groups[0].DerivationImageSequence


def refer(dataset):
    groups = dataset.PerFrameFunctionalGroupsSequence
    groups[0].DerivationImageSequence = groups[1].DerivationImageSequence


def stretch(dataset):
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 2.1


def rename(dataset):
    dataset.SegmentSequence[0].SegmentLabel = "spleen"


def turn(dataset):
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def test_a_sound_file_passes(segmentation):
    segmentation()


@pytest.mark.parametrize("change", [flip, move, between, repeat, refer, stretch, rename, turn])
def test_a_difference_in_a_segmentation_is_found(change, segmentation):
    with pytest.raises(FormatError, match="read back and differs"):
        segmentation(change)


def test_a_missing_slice_is_found(segmentation, scene):
    made = scene()
    mask = np.zeros((20, 16, 9), np.int16)
    mask[1:3, 1:3, 8] = 1
    result = made.result(made.folder, mask)
    with pytest.raises(FormatError, match="read back and differs"):
        segmentation(pixels=segment_frames(mask, result.segments("BINARY"), made.source.grid))


def test_a_difference_in_a_structure_set_is_found(scene, tmp_path):
    made = scene()
    result = made.result(tmp_path)
    (path,) = result.write_structure_set()
    mask = result.prediction.segmentation.array[0]
    check_structure_set(path, mask, result.segments("BINARY"), made.source)
    other = mask.copy()
    other[4, 4, 3] = 0
    with pytest.raises(FormatError, match="other voxels in slice 3"):
        check_structure_set(path, other, result.segments("BINARY"), made.source)
    dataset = dcmread(path)
    dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"
    dataset.save_as(path)
    with pytest.raises(FormatError, match="frame of reference"):
        check_structure_set(path, mask, result.segments("BINARY"), made.source)


def test_a_difference_in_a_map_is_found(scene, tmp_path):
    made = scene()
    alpha = np.random.default_rng(0).random((1, 20, 16, 9)).astype(np.float32)
    (path,) = made.result(tmp_path, attention={"level2": alpha}).write_attention()
    frames = alpha.transpose(3, 2, 1, 0).copy()
    check_parametric_map(path, frames, made.source)
    frames[3, 4, 5, 0] = np.nextafter(frames[3, 4, 5, 0], 2)
    with pytest.raises(FormatError, match="values of slice 3"):
        check_parametric_map(path, frames, made.source)


def test_a_file_that_differs_is_never_there(scene, tmp_path):
    made = scene()
    (path,) = made.result(tmp_path).write_segmentation()
    dataset, checked = dcmread(path), []

    def refuse(file):
        checked.append(file.name)
        if len(checked) == 2:
            raise FormatError("differs")

    folder = tmp_path / "out"
    objects = [CheckedObject(name, dataset, refuse) for name in ("a.dcm", "b.dcm")]
    with pytest.raises(FormatError, match="differs"):
        write_checked(objects, folder / "a.dcm")
    assert checked == ["a.dcm", "b.dcm"]
    assert list(folder.iterdir()) == []
    assert [file.name for file in write_checked(objects, folder / "a.dcm")] == ["b.dcm", "a.dcm"]
