"""A prediction on its way into objects: it must be on the grid of its series, and nothing of it is lost silently."""

import numpy as np
import pytest
from dicom_series import DATE, ID, NAME
from pydicom import dcmread

from attunet.data.volume import Volume
from attunet.dicom.objects.result import ObjectResult
from attunet.errors import GeometryError


def test_a_mask_of_another_grid_is_refused(scene, tmp_path):
    made = scene()
    right = made.result(tmp_path)
    moved = right.prediction.segmentation.affine.copy()
    moved[0, 3] += 5
    for other in (
        Volume(right.prediction.segmentation.array, moved),
        Volume(right.prediction.segmentation.array[:, :-1], right.prediction.segmentation.affine),
    ):
        prediction = type(right.prediction)(**{**vars(right.prediction), "segmentation": other})
        with pytest.raises(GeometryError, match="not on the grid"):
            ObjectResult(prediction, made.source, right.algorithm, right.codes, tmp_path)


def test_objects_belong_to_the_patient_and_study_of_the_source(scene, tmp_path):
    made = scene()
    result = made.result(tmp_path)
    for path in (*result.write_segmentation(), *result.write_structure_set(), *result.write_report()):
        dataset = dcmread(path)
        assert dataset.PatientName == NAME
        assert (dataset.PatientID, dataset.PatientBirthDate, dataset.StudyDate) == (ID, DATE, DATE)
        assert dataset.StudyInstanceUID == made.series.study_uid
        assert dataset.SeriesNumber in (301, 303, 304)
        assert NAME not in path.name


def test_writing_twice_gives_the_same_uids_and_another_result_another_object(scene, tmp_path):
    made = scene()
    mask = np.zeros((20, 16, 9), np.uint8)
    mask[4, 4, 4] = 1
    written = []
    for number, given in enumerate((None, None, mask)):
        result = made.result(tmp_path / str(number), given)
        paths = (*result.write_segmentation(), *result.write_structure_set(), *result.write_report())
        written.append([(d.SeriesInstanceUID, d.SOPInstanceUID) for d in map(dcmread, paths)])
    assert written[0] == written[1]
    for (series, instance), (other_series, other) in zip(written[0], written[2], strict=True):
        assert series == other_series
        assert instance != other


def test_no_value_of_an_internal_uid_is_random(scene, tmp_path):
    made = scene()
    first, second = (dcmread(made.result(tmp_path / name).write_segmentation()[0]) for name in ("a", "b"))
    for dataset in (first, second):
        for name in ("InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime"):
            del dataset[name]
        del dataset.ContributingEquipmentSequence
    assert first == second
