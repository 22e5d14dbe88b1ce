"""DICOM objects about predictions, in programs that others wrote: validated, read, and placed as we placed them."""

import json

import dicom_results
import highdicom as hd
import numpy as np
import pytest
import SimpleITK

from attunet.config import IntervalCalibration
from attunet.data.formats.dicom import find_series
from attunet.dicom.objects.outputs import DICOM_TYPES
from attunet.dicom.objects.source import read_source
from attunet.errors import FormatError

pytestmark = pytest.mark.peers

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
AXIAL = np.diag([-0.7, -0.8, 2.5, 1.0])
KINDS = {
    "axial": lambda folder: dicom_results.stack(folder, AXIAL),
    "oblique": lambda folder: dicom_results.stack(folder, dicom_results.STRAIGHT),
    "tilted": lambda folder: dicom_results.stack(folder, dicom_results.TILTED),
    "enhanced": lambda folder: dicom_results.enhanced(folder, dicom_results.STRAIGHT),
    "MR": lambda folder: dicom_results.stack(folder, AXIAL, modality="MR", SpacingBetweenSlices=4.0),
    "nameless": lambda folder: dicom_results.stack(folder, AXIAL, edit=_nameless),
    "mosaic": dicom_results.mosaic,
    "picture": dicom_results.picture,
}
PLACED = [kind for kind in KINDS if kind != "picture"]
"""Those that dcmqi can place."""
REAL = {
    "chaos": "chaos_ct_dicom/images/CT_SET_3",
    "sts": "sts_dicom_rtstruct/images/STS_002_CT",
    "dcmqi": "dcmqi_ct_3slice_seg/images/ct-3slice",
}
WITHOUT_STUDY = "totalsegmentator_examples/images/example_ct_dicom"
placed_only = pytest.mark.parametrize("made", PLACED, indirect=True)


def _nameless(datasets):
    for dataset in datasets:
        for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID"):
            del dataset[name]
    return datasets


@pytest.fixture(params=KINDS)
def made(request, tmp_path):
    return KINDS[request.param](tmp_path / "series")


@pytest.fixture
def result(made, tmp_path):
    """A result with everything that objects may hold."""
    random = np.random.default_rng(0)
    shape = made.series.shape
    both = random.random((4, *shape)).astype(np.float32)
    interval = IntervalCalibration(
        level=0.9, cases=30, power=1, bound=0.1, typical=1.0, width=0.2, coverage=0.9, thirds=(0.9, 0.9, 0.9)
    )
    mask = dicom_results.three_labels(shape) if shape[2] > 1 else np.ones(shape, np.uint8)
    return made.result(
        tmp_path / "out",
        mask,
        probabilities=both / both.sum(axis=0),
        attention={"level2": random.random((1, *shape)).astype(np.float32)},
        volume_calibrations={"liver": interval},
    )


def test_the_validator_finds_no_error_in_any_object(result, dicom_faults):
    for name, kind in DICOM_TYPES.items():
        if name == "dicom-labelmap" or (kind.placed and not result.source.grid.placed):
            continue  # label maps are younger than Debian's validator
        for file in kind.write(result):
            assert dicom_faults(file) == [], file.name


def test_an_empty_result_is_sound(made, tmp_path, dicom_faults):
    empty = made.result(tmp_path / "empty", np.zeros(made.series.shape, np.uint8))
    for file in (*empty.write_segmentation(), *(empty.write_structure_set() if made.source.grid.placed else ())):
        assert dicom_faults(file) == []


def on_grid(files, result):
    """Label images of dcmqi, merged and placed on the grid of the source's objects: (segments, I, J, K)."""
    grid = result.source.grid
    found = np.zeros((3, *grid.shape), bool)
    inverse = np.linalg.inv(LPS @ grid.affine)
    for file in files:
        image = SimpleITK.ReadImage(str(file))
        array = SimpleITK.GetArrayFromImage(image)
        theirs = np.eye(4)
        theirs[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        theirs[:3, 3] = image.GetOrigin()
        for number in (1, 2, 3):
            k, j, i = np.nonzero(array == number)
            voxels = (inverse @ theirs @ np.stack([i, j, k, np.ones_like(i)]))[:3]
            assert np.abs(voxels - np.rint(voxels)).max(initial=0) < 1e-2
            found[number - 1][tuple(np.rint(voxels).astype(int))] = True
    return found


@placed_only
def test_dcmqi_reads_the_same_voxels_in_the_same_places(result, call, tmp_path):
    file = result.write_segmentation()[-1]
    out = tmp_path / "dcmqi"
    out.mkdir()
    call("segimage2itkimage", "--inputDICOM", file, "--outputDirectory", out, "-t", "nrrd", "--mergeSegments")
    frames = result.source.grid.frames(result.prediction.segmentation.array[0]).transpose(2, 1, 0)
    assert np.array_equal(on_grid(out.glob("*.nrrd"), result), [frames == value for value in (5, 1, 7)])


@placed_only
def test_dcmqi_reads_label_maps(result, call, tmp_path):
    (file,) = result.write_segmentation("LABELMAP")
    out = tmp_path / "dcmqi"
    out.mkdir()
    call("segimage2itkimage", "--inputDICOM", file, "--outputDirectory", out, "-t", "nrrd", "--mergeSegments")
    stored = sum(
        np.count_nonzero(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(one)))) for one in out.glob("*.nrrd")
    )
    assert stored == np.count_nonzero(result.prediction.segmentation.array)


def test_dcmqi_reads_the_volumes(result, call, tmp_path):
    (file,) = result.write_report()
    call("tid1500reader", "--inputDICOM", file, "--outputMetadata", tmp_path / "report.json")
    groups = json.loads((tmp_path / "report.json").read_text())["Measurements"]
    for group in groups:
        (item,) = group["measurementItems"]
        expected = result.prediction.volumes_ml[group["TrackingIdentifier"]]
        assert float(item["value"]) == pytest.approx(expected, abs=1e-3)
        assert item["units"]["CodeValue"] == "ml"


@pytest.mark.parametrize("kind", ["axial", "MR", "nameless"])
def test_plastimatch_fills_the_same_voxels(kind, call, tmp_path):
    made = KINDS[kind](tmp_path / "series")
    assert_filled(made.result(tmp_path / "out"), made.folder, call, tmp_path / "plastimatch")


def assert_filled(result, folder, call, out):
    """Plastimatch fills the contours of the large labels as we drew them."""
    (file,) = result.write_structure_set()
    call(
        *("plastimatch", "convert", "--input", file, "--referenced-ct", folder),
        *("--output-prefix", out, "--prefix-format", "nrrd"),
    )
    mask = result.prediction.segmentation.array[0]
    for label, value in (("liver", 5), ("kidney_left", 1)):
        filled = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(out / f"{label}.nrrd"))).transpose(2, 1, 0) > 0
        both = np.count_nonzero(filled & (mask == value))
        dice = 2 * both / (np.count_nonzero(filled) + np.count_nonzero(mask == value))
        assert dice >= 0.99, label


def organs(shape):
    """A mask (I, J, K) of two balls, one of them hollow, and a voxel in the first slice."""
    i, j, k = np.ogrid[tuple(slice(-1, 1, size * 1j) for size in shape)]
    mask = np.zeros(shape, np.int16)
    far = np.sqrt((i + 0.3) ** 2 + (j - 0.1) ** 2 + k**2)
    mask[(far < 0.5) & (far > 0.2)] = 5
    mask[np.sqrt((i - 0.5) ** 2 + (j + 0.2) ** 2 + k**2) < 0.25] = 1
    mask[0, 0, 0] = 7
    return mask


@pytest.mark.parametrize("name", REAL)
def test_objects_of_real_series_are_valid_and_read_by_others(name, shared_data, call, dicom_faults, tmp_path):
    folder = shared_data / REAL[name]
    (series,) = find_series(folder).series
    made = dicom_results.Scene(folder, series, read_source(series))
    mask = organs(series.shape)
    result = made.result(tmp_path / "out", mask)
    (tmp_path / "out").mkdir()
    for kind in ("dicom-rtstruct", "dicom-seg", "dicom-sr"):
        for file in DICOM_TYPES[kind].write(result):
            assert dicom_faults(file) == [], file.name
    for kind in ("dicom-seg", "dicom-labelmap"):
        out = tmp_path / kind
        out.mkdir()
        file = DICOM_TYPES[kind].write(result)[-1]
        call("segimage2itkimage", "--inputDICOM", file, "--outputDirectory", out, "-t", "nrrd", "--mergeSegments")
        expected = [mask == value for value in ((5, 1, 7) if kind == "dicom-seg" else (1,))]
        found = on_grid(out.glob("*.nrrd"), result)[: len(expected)]
        assert np.array_equal(found, expected)
        stored = hd.seg.segread(file).get_volume(combine_segments=True, skip_overlap_checks=True)
        assert np.count_nonzero(stored.array) == np.count_nonzero(mask)
    assert_filled(result, folder, call, tmp_path / "plastimatch")


def test_a_real_series_without_a_study_gets_no_object_and_says_why(shared_data):
    (series,) = find_series(shared_data / WITHOUT_STUDY).series
    with pytest.raises(FormatError, match="has no StudyInstanceUID, so that no object can refer to it"):
        read_source(series)
