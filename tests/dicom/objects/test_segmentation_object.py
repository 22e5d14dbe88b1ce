"""Segmentation objects, read by highdicom: voxels, places, names and references."""

import highdicom as hd
import numpy as np
import pytest

from attunet.dicom.objects.segmentation_object import as_segments, segment_frames
from attunet.errors import ConfigError

REGIONS = {"liver": (1, 2), "tumor": (2,)}


def nested(shape):
    mask = np.zeros(shape, np.uint8)
    mask[3:12, 3:12, 2:7] = 1
    mask[5:8, 5:9, 3:5] = 2
    return mask


def volume_of(path, scene):
    """The segments of an object in a volume of the source's shape, (segments, I, J, K), placed by highdicom."""
    seg = hd.seg.segread(path)
    images = [str(reference.SOPInstanceUID) for reference in scene.source.references]
    pixels = seg.get_pixels_by_source_instance(images, combine_segments=False, ignore_spatial_locations=True)
    return pixels.transpose(3, 2, 1, 0)


def test_every_segment_has_its_voxels_and_its_slices(scene, straight_affine, tmp_path):
    made = scene(straight_affine)
    result = made.result(tmp_path)
    (path,) = result.write_segmentation()
    mask = result.prediction.segmentation.array[0]
    stored = volume_of(path, made)
    assert np.array_equal(stored, [mask == value for value in (5, 1, 7)])
    geometry = hd.seg.segread(path).get_volume_geometry()
    lps = np.diag([-1, -1, 1, 1]) @ made.series.affine
    assert np.allclose(np.abs(geometry.affine[:3, :3]), np.abs(lps[:3, 2::-1]), atol=1e-5)


def test_segments_refer_to_the_frames_of_an_enhanced_image(enhanced, straight_affine, tmp_path):
    made = enhanced(straight_affine)
    result = made.result(tmp_path)
    (path,) = result.write_segmentation()
    seg = hd.seg.segread(path)
    frames = list(made.source.frames)
    uid = str(made.source.references[0].SOPInstanceUID)
    pixels = seg.get_pixels_by_source_frame(uid, frames, combine_segments=False, assert_missing_frames_are_empty=True)
    mask = result.prediction.segmentation.array[0]
    assert np.array_equal(pixels.transpose(3, 2, 1, 0), [mask == value for value in (5, 1, 7)])


def test_segments_say_what_they_are_and_what_made_them(scene, tmp_path):
    (path,) = scene().result(tmp_path).write_segmentation()
    seg = hd.seg.segread(path)
    first, second, third = seg.SegmentSequence
    assert first.SegmentLabel == "liver"
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert "RecommendedDisplayCIELabValue" in first
    side = second.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert side.CodeMeaning == "Left"
    assert third.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99TEST"
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("phantom", "0.1")
    assert "0123456789abcdef" * 4 in algorithm.AlgorithmParameters
    assert seg.SegmentationType == "BINARY"


def test_a_lesion_names_its_organ_and_the_side_of_it(scene, tmp_path):
    mask = np.zeros((20, 16, 9), np.uint8)
    mask[3, 4, 5] = 1
    labels = {"background": 0, "kidney_cyst_left": 1}
    (path,) = scene().result(tmp_path, mask, labels=labels).write_segmentation()
    region = hd.seg.segread(path).SegmentSequence[0].AnatomicRegionSequence[0]
    assert (region.CodeMeaning, region.AnatomicRegionModifierSequence[0].CodeMeaning) == ("Kidney", "Left")


def test_overlapping_regions_stay_whole(scene, tmp_path):
    made = scene()
    mask = nested((20, 16, 9))
    result = made.result(tmp_path, mask, labels={"background": 0, "liver": 1, "tumor": 2}, regions=REGIONS)
    (path,) = result.write_segmentation()
    assert np.array_equal(volume_of(path, made), [mask > 0, mask == 2])
    assert hd.seg.segread(path).SegmentsOverlap == "YES"
    with pytest.raises(ConfigError, match="no overlapping regions"):
        result.write_segmentation("LABELMAP")


def test_a_label_map_keeps_the_values_of_the_labels(scene, tmp_path):
    result = scene().result(tmp_path)
    (path,) = result.write_segmentation("LABELMAP")
    seg = hd.seg.segread(path)
    assert [item.SegmentNumber for item in seg.SegmentSequence] == [0, 1, 5, 7]
    assert np.array_equal(np.unique(seg.pixel_array), [0, 1, 5, 7])


@pytest.mark.parametrize("value", [-1, 70000])
def test_a_value_that_a_label_map_cannot_hold_is_refused(value):
    with pytest.raises(ConfigError, match="1 to 65535"):
        as_segments({"background": 0, "liver": value}, {}, {"liver": None}, "LABELMAP")


def test_probabilities_are_a_fractional_segmentation_beside_the_binary_one(scene, tmp_path):
    made = scene()
    mask = (np.indices((20, 16, 9))[0] > 9).astype(np.uint8)
    foreground = np.random.default_rng(0).random((20, 16, 9)).astype(np.float32)
    both = np.stack([1 - foreground, foreground])
    result = made.result(tmp_path, mask, labels={"background": 0, "liver": 1}, probabilities=both)
    fractional, binary = result.write_segmentation()
    assert (fractional.name, binary.name) == ("case_probabilities.dcm", "case_seg.dcm")
    seg = hd.seg.segread(fractional)
    assert (seg.SegmentationType, seg.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    stored = volume_of(fractional, made)[0]
    assert np.abs(stored - foreground).max() <= 0.5 / 255 + 1e-6


def test_an_empty_result_is_said_and_written_as_one_empty_frame_of_each_segment(scene, tmp_path):
    result = scene().result(tmp_path, np.zeros((20, 16, 9), np.uint8))
    (path,) = result.write_segmentation()
    seg = hd.seg.segread(path)
    assert seg.NumberOfFrames == 3
    assert not seg.pixel_array.any()
    assert any("no label was found" in notice for notice in result.notices)
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices == 2.0


def test_the_distance_of_slices_is_the_true_one_whatever_the_tags_say(scene, tmp_path):
    (path,) = scene(SpacingBetweenSlices=4.0).result(tmp_path).write_segmentation()
    measures = hd.seg.segread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.SpacingBetweenSlices, measures.SliceThickness) == (2.0, 2.0)


def test_a_sheared_source_gives_a_straight_object_in_place(scene, tilted_affine, tmp_path):
    made = scene(tilted_affine)
    result = made.result(tmp_path)
    (path,) = result.write_segmentation()
    volume = hd.seg.segread(path).get_volume(combine_segments=True, skip_overlap_checks=True)
    mask = result.prediction.segmentation.array[0]
    assert np.count_nonzero(volume.array) == np.count_nonzero(mask)
    k, j, i = np.nonzero(volume.array == 2)
    there = (volume.affine @ np.stack([k, j, i, np.ones_like(k)]))[:3].mean(axis=1)
    i, j, k = np.nonzero(mask == 1)
    here = (np.diag([-1, -1, 1, 1]) @ made.series.affine @ np.stack([i, j, k, np.ones_like(i)]))[:3].mean(axis=1)
    assert np.abs(there - here).max() < 0.36  # half a pixel


def test_a_picture_without_a_place_has_a_segmentation_of_its_pixels(unplaced, tmp_path):
    mask = np.zeros((20, 16, 1), np.uint8)
    mask[4:9, 3:12] = 5
    (path,) = unplaced.result(tmp_path, mask).write_segmentation()
    seg = hd.seg.segread(path)
    assert "FrameOfReferenceUID" not in seg
    assert np.array_equal(volume_of(path, unplaced)[0], mask == 5)


def test_masks_are_numbered_by_segment():
    segments = as_segments({"background": 0, "liver": 5, "spleen": 2}, {}, {"liver": None, "spleen": None}, "BINARY")
    assert [(one.number, one.label, one.values) for one in segments] == [(1, "liver", (5,)), (2, "spleen", (2,))]


@pytest.mark.parametrize("values", [(5, 2), (0, 2), (-1, 70000)])
def test_values_of_any_size_get_the_number_of_their_segment(values, scene, tilted_affine):
    background = next(value for value in range(9) if value not in values)
    mask = np.full((20, 16, 9), background, np.int32)
    mask[2:5, 3:6, 1:8], mask[7:9] = values
    labels = {"background": background, "liver": values[0], "spleen": values[1]}
    segments = as_segments(labels, {}, {"liver": None, "spleen": None}, "BINARY")
    numbers = segment_frames(mask, segments, scene(tilted_affine).source.grid)
    assert numbers.shape[0] == 9
    assert numbers.shape[1] > 16
    assert [np.count_nonzero(numbers == at) for at in (1, 2)] == [np.count_nonzero(mask == value) for value in values]
