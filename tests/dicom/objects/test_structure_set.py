"""Structure sets: contours that give the mask back, in the frame of reference of the source."""

import numpy as np
from pydicom import dcmread
from scipy.ndimage import label


def test_contours_give_the_mask_back_with_holes_and_islands(scene, straight_affine, tmp_path):
    made = scene(straight_affine)
    result = made.result(tmp_path)
    (path,) = result.write_structure_set()
    assert np.array_equal(filled(dcmread(path), made, 1), result.prediction.segmentation.array[0] == 5)


def filled(dataset, made, number):
    """The mask of a structure by another rule than ours: the winding of each contour around every centre."""
    shape = made.series.shape
    mask = np.zeros(shape, bool)
    inverse = np.linalg.inv(np.diag([-1, -1, 1, 1]) @ made.series.affine)
    (drawn,) = (item for item in dataset.ROIContourSequence if item.ReferencedROINumber == number)
    centres = np.stack(np.meshgrid(*map(np.arange, shape[:2]), indexing="ij"), -1)[:, :, None]
    for item in drawn.ContourSequence:
        points = np.reshape(item.ContourData, (-1, 3)).astype(float) @ inverse[:3, :3].T + inverse[:3, 3]
        around = points[None, None, :, :2] - centres
        angles = np.arctan2(around[..., 1], around[..., 0])
        turns = (np.diff(angles, axis=-1, append=angles[..., :1]) + np.pi) % (2 * np.pi) - np.pi
        mask[..., round(points[0, 2])] ^= np.abs(turns.sum(axis=-1)) > np.pi
    return mask


def test_everything_refers_to_the_frame_of_reference_and_the_images_of_the_source(scene, tmp_path):
    made = scene()
    (path,) = made.result(tmp_path).write_structure_set()
    dataset = dcmread(path)
    world = made.source.references[0].FrameOfReferenceUID
    assert dataset.FrameOfReferenceUID == world
    assert dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID == world
    assert {item.ReferencedFrameOfReferenceUID for item in dataset.StructureSetROISequence} == {world}
    images = {reference.SOPInstanceUID for reference in made.source.references}
    study = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    listed = study.RTReferencedSeriesSequence[0].ContourImageSequence
    assert {item.ReferencedSOPInstanceUID for item in listed} == images
    assert [item.ROIName for item in dataset.StructureSetROISequence] == ["liver", "kidney_left", "blob"]
    assert dataset.ROIContourSequence[1].ROIDisplayColor == [210, 60, 20]


def test_a_structure_without_voxels_has_no_contours(scene, tmp_path):
    mask = np.zeros((20, 16, 9), np.uint8)
    mask[4:8, 4:8, 3] = 1
    (path,) = scene().result(tmp_path, mask).write_structure_set()
    assert ["ContourSequence" in item for item in dcmread(path).ROIContourSequence] == [False, True, False]


def test_overlapping_regions_stay_whole(scene, tmp_path):
    made = scene()
    mask = np.zeros((20, 16, 9), np.uint8)
    mask[3:12, 3:12, 2:7] = 1
    mask[5:8, 5:9, 3:5] = 2
    labels, regions = {"background": 0, "liver": 1, "tumor": 2}, {"liver": (1, 2), "tumor": (2,)}
    (path,) = made.result(tmp_path, mask, labels=labels, regions=regions).write_structure_set()
    assert np.array_equal(filled(dcmread(path), made, 1), mask > 0)


def test_the_contours_of_a_sheared_source_lie_in_its_own_slices(scene, tilted_affine, tmp_path):
    made = scene(tilted_affine)
    result = made.result(tmp_path)
    (path,) = result.write_structure_set()
    assert np.array_equal(filled(dcmread(path), made, 2), result.prediction.segmentation.array[0] == 1)


def test_contours_with_many_points_are_written_whole(scene, tmp_path):
    made = scene(shape=(300, 200, 1))
    random = np.random.default_rng(0).random((300, 200, 1)) > 0.45
    largest, _ = label(random)
    mask = (largest == np.bincount(largest.ravel())[1:].argmax() + 1).astype(np.uint8)
    (path,) = made.result(tmp_path, mask, labels={"background": 0, "liver": 1}).write_structure_set()
    longest = max(len(item.ContourData) for item in dcmread(path).ROIContourSequence[0].ContourSequence)
    assert longest > 10_000
