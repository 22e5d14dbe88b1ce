"""The types of objects, and the writer of a batch, with a model."""

import json

import numpy as np
import pytest
from dicom_series import DATE, ID, NAME, make_series, save_series
from pydicom import dcmread

from attunet.data.cases import Case, find_cases, read_case_label
from attunet.data.dataset import LabelFiles, LabelPart
from attunet.data.formats import write_volume
from attunet.data.formats.dicom import read_series
from attunet.data.volume import Volume
from attunet.dicom.objects.outputs import DICOM_TYPES, DicomWriter
from attunet.errors import ConfigError, GeometryError
from attunet.inference.batch import predict_cases
from attunet.inference.destination import Destination
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter


@pytest.fixture(scope="module")
def segmenter(tiny_run):
    return Segmenter.load(tiny_run, folds=[0], device="cpu")


@pytest.fixture
def series(tmp_path):
    """A folder with a series that shows a bright ball."""
    random = np.random.default_rng(3)
    image = random.normal(0, 30, (24, 24, 16))
    inside = sum((axis - 12) ** 2 for axis in np.indices(image.shape)) < 20
    image[inside] += 300
    return save_series(make_series(image.astype(np.int16), np.eye(4), slope=0.01), tmp_path / "series")


def test_a_batch_writes_every_type_at_once(segmenter, series, tmp_path):
    writer = DicomWriter.of(list(DICOM_TYPES), segmenter)
    destination = Destination(images="nifti", writer=writer)
    cases = find_cases([series], 1)
    options = PredictOptions(probabilities=True)
    (result,) = predict_cases(segmenter, cases, tmp_path / "out", options, destination=destination)
    assert result.error is None
    assert set(result.files) == {*DICOM_TYPES, "nifti"}
    for files in result.files.values():
        assert files
    assert {path.rsplit("/", 1)[1].split("_", 2)[2] for path in result.files["dicom-seg"]} == {
        "probabilities.dcm",
        "seg.dcm",
    }
    assert destination.done(cases[0], tmp_path / "out")
    again = predict_cases(segmenter, cases, tmp_path / "out", options, destination=destination, skip_existing=True)
    assert again == []


def test_objects_name_the_model_by_its_manifest(segmenter, series, tmp_path):
    destination = Destination(images=None, writer=DicomWriter.of(["dicom-seg"], segmenter))
    (result,) = predict_cases(segmenter, find_cases([series], 1), tmp_path, destination=destination)
    (path,) = result.files["dicom-seg"]
    assert result.mask == path
    dataset = dcmread(path)
    assert dataset.DeviceSerialNumber == segmenter.manifest
    assert len(segmenter.manifest) == 64
    assert not list(tmp_path.glob("*.nii.gz"))


def test_the_patient_is_in_objects_only(segmenter, series, tmp_path):
    destination = Destination(writer=DicomWriter.of(list(DICOM_TYPES), segmenter))
    (result,) = predict_cases(segmenter, find_cases([series], 1), tmp_path / "out", destination=destination)
    told = json.dumps([result.case, *result.warnings, *result.files.values()])
    for secret in (NAME, ID, DATE):
        assert secret not in told


def test_a_picture_without_a_place_has_no_object_that_needs_one(segmenter, unplaced, tmp_path):
    writer = DicomWriter.of(["dicom-seg", "dicom-sr"], segmenter)
    (case,) = find_cases([unplaced.folder], 1)
    mask = np.ones((20, 16, 1), np.uint8)
    prediction = unplaced.prediction(mask, labels={"background": 0, "body": 1, "lesion": 7})
    with pytest.raises(GeometryError, match="where it is in the patient, which dicom-sr must"):
        writer.write(prediction, case, tmp_path)
    assert list(tmp_path.glob("*.dcm")) == []
    written, _ = DicomWriter.of(["dicom-seg", "dicom-overlay"], segmenter).write(prediction, case, tmp_path)
    assert set(written) == {"dicom-seg", "dicom-overlay"}


def test_what_is_no_dicom_is_refused_before_any_work(segmenter, tmp_path):
    write_volume(Volume(np.zeros((1, 24, 24, 16), np.int16), np.eye(4)), tmp_path / "scan.nii.gz")
    destination = Destination(writer=DicomWriter.of(["dicom-seg"], segmenter))
    with pytest.raises(ConfigError, match="need DICOM images, which scan is not"):
        predict_cases(segmenter, find_cases([tmp_path / "scan.nii.gz"], 1), tmp_path / "out", destination=destination)
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_images_that_no_object_can_refer_to_are_refused_before_they_are_predicted(segmenter, series, tmp_path):
    for file in series.iterdir():
        dataset = dcmread(file)
        dataset.StudyInstanceUID = ""
        dataset.save_as(file)
    predicted = []
    destination = Destination(images="nifti", writer=DicomWriter.of(["dicom-seg"], segmenter))
    cases = find_cases([series], 1)
    (result,) = predict_cases(
        segmenter, cases, tmp_path / "out", destination=destination, on_prediction=predicted.append
    )
    assert "has no StudyInstanceUID" in result.error
    assert predicted == []


def test_a_model_whose_labels_no_label_map_holds_is_refused_before_any_work(make_model):
    labels = {"background": 0, "liver": 1, "tumor": 2}
    run = make_model(3, labels=labels, regions={"liver": (1, 2), "tumor": (2,)})
    with pytest.raises(ConfigError, match="no overlapping regions"):
        DicomWriter.of(["dicom-seg", "dicom-labelmap"], Segmenter.load(run, device="cpu"))


def test_the_tiles_of_a_mosaic_get_every_object(mosaic, tmp_path):
    result = mosaic.result(tmp_path, attention={"level1": np.random.default_rng(0).random((1, 20, 16, 9), np.float32)})
    mask = result.prediction.segmentation.array[0]
    for kind in DICOM_TYPES.values():
        assert kind.write(result)
    part = LabelFiles("label", (LabelPart("liver", 1, tmp_path / "case_seg.dcm", "liver"),))
    read = read_case_label(Case("case", (mosaic.folder,), part), read_series(mosaic.series))
    assert np.array_equal(read.array[0], mask == 5)


def test_a_report_brings_the_segmentation_that_it_refers_to(segmenter):
    assert DicomWriter.of(["dicom-sr"], segmenter).types == ("dicom-seg", "dicom-sr")
    assert not DicomWriter.of(["dicom-sr"], segmenter).attention
    assert DicomWriter.of(["dicom-attention"], segmenter).attention


def test_an_unknown_type_and_a_model_in_memory_are_refused(segmenter):
    with pytest.raises(ConfigError, match="dicom-pdf is no type"):
        DicomWriter.of(["dicom-pdf"], segmenter)
    with pytest.raises(ConfigError, match="not loaded from a folder"):
        DicomWriter.of(["dicom-seg"], Segmenter(segmenter.members))


def test_labels_without_a_code_are_mentioned_once(segmenter):
    (notice,) = DicomWriter.of(["dicom-seg"], segmenter).notices
    assert "no standard code for body" in notice


@pytest.mark.parametrize("kind", ["dicom-seg", "dicom-labelmap", "dicom-rtstruct"])
def test_our_own_readers_get_the_mask_back(kind, scene, straight_affine, tmp_path):
    made = scene(straight_affine)
    result = made.result(tmp_path)
    file = DICOM_TYPES[kind].write(result)[-1]
    image = read_series(made.series)
    mask = result.prediction.segmentation.array[0]
    for label, value in (("liver", 5), ("kidney_left", 1)):
        part = LabelFiles("label", (LabelPart(label, 1, file, label),))
        case = Case("case", (made.folder,), part)
        assert np.array_equal(read_case_label(case, image).array[0], mask == value)
