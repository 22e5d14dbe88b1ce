"""Labels of DICOM that others read and wrote: the same voxels as ours."""

import json

import numpy as np
import pytest
import SimpleITK

from attunet.data.cases import read_case_image, read_dataset
from attunet.data.formats import read_label
from attunet.data.formats.dicom import read_label_object, read_named_masks

pytestmark = pytest.mark.peers


def on_grid(path, grid):
    """A label image of another program on the grid of an image, by its own position."""
    label = read_label(path)
    corner = np.rint((np.linalg.inv(grid.affine) @ label.affine)[:3, 3]).astype(int)
    steps = np.rint(np.diag(np.linalg.inv(grid.affine) @ label.affine)[:3]).astype(int)
    array = label.array[0][:: steps[0], :: steps[1], :: steps[2]]
    start = np.where(steps < 0, corner - np.array(array.shape) + 1, corner)
    whole = np.zeros(grid.spatial_shape, label.array.dtype)
    whole[tuple(slice(first, first + size) for first, size in zip(start, array.shape, strict=True))] = array
    return whole


@pytest.mark.parametrize("name", ["liver.dcm", "partial_overlaps.dcm"])
def test_segments_are_those_that_dcmqi_reads(shared_data, tmp_path, call, name):
    path = shared_data / "dcmqi_ct_3slice_seg/labels" / name
    image = read_case_image(read_dataset(shared_data / "dcmqi_ct_3slice_seg").cases[0])
    call("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", tmp_path, "-t", "nrrd")
    names = read_label_object(path).names
    files = sorted(tmp_path.glob("*.nrrd"), key=lambda file: int(file.stem))
    assert len(files) == len(names)
    for file, mask in zip(files, read_named_masks(path, names, image), strict=True):
        assert (on_grid(file, image) > 0).any()
        np.testing.assert_array_equal(on_grid(file, image) > 0, mask.array[0] > 0)


@pytest.mark.parametrize("how", [(), ("--segmentationType", "labelmap"), ("--compress", "deflate")])
def test_a_segmentation_by_dcmqi_is_read(shared_data, tmp_path, call, how):
    folder = shared_data / "dcmqi_ct_3slice_seg"
    code = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}
    described = [
        {
            "labelID": value,
            "SegmentLabel": name,
            "SegmentDescription": name,
            "SegmentAlgorithmType": "MANUAL",
            "SegmentedPropertyCategoryCodeSequence": code,
            "SegmentedPropertyTypeCodeSequence": code,
            "recommendedDisplayRGBValue": [255, 0, 0],
        }
        for value, name in ((1, "low"), (4, "high"))
    ]
    meta = {
        "ContentCreatorName": "Nobody",
        "SeriesNumber": "7",
        "SeriesDescription": "x",
        "segmentAttributes": [described],
    }
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    image = read_case_image(read_dataset(folder).cases[0])
    label = np.random.default_rng(0).choice([0, 1, 4], image.spatial_shape).astype(np.uint8)
    label[:, :, 1] = 0
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    written = SimpleITK.GetImageFromArray(label.T)
    written.SetOrigin(lps[:3, 3].tolist())
    written.SetSpacing(image.spacing)
    written.SetDirection((lps[:3, :3] / image.spacing).ravel().tolist())
    SimpleITK.WriteImage(written, str(tmp_path / "label.nrrd"))
    words = ("--inputImageList", tmp_path / "label.nrrd", "--inputMetadata", tmp_path / "meta.json")
    series = ("--inputDICOMDirectory", folder / "images/ct-3slice", "--skip", "1", *how)
    call("itkimage2segimage", *words, *series, "--outputDICOM", tmp_path / "seg.dcm")
    low, high = read_named_masks(tmp_path / "seg.dcm", ["low", "high"], image)
    np.testing.assert_array_equal(low.array[0] == 1, label == 1)
    np.testing.assert_array_equal(high.array[0] == 1, label == 4)


def test_contours_are_filled_as_plastimatch_fills_them(shared_data, tmp_path, call):
    folder = shared_data / "sts_dicom_rtstruct"
    path = folder / "labels/STS_002_CT_RS.dcm"
    image = read_case_image(read_dataset(folder).cases[0])
    call(
        *("plastimatch", "convert", "--input", path, "--referenced-ct", folder / "images/STS_002_CT"),
        *("--output-prefix", tmp_path, "--prefix-format", "nrrd"),
    )
    (file,) = tmp_path.glob("*.nrrd")
    theirs = on_grid(file, image) > 0
    (mask,) = read_named_masks(path, ["GTV_Mass_CT"], image)
    ours = mask.array[0] > 0
    assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.99
