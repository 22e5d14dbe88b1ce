"""What objects say about themselves: stable UIDs, and the patient of the source, in no message."""

import warnings

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from attunet.dicom.objects.identity import Algorithm, ObjectIdentity, copy_patient_and_study, making, stable_uid
from attunet.errors import DataError, GeometryError

MODEL = Algorithm("model", "ab" * 32, "1.0")


def identity(kind="seg", source=("1.2", "1.2.1"), model=MODEL, content=b"mask", number=3):
    return ObjectIdentity.of(kind, 1, source, model, (content,), number)


def test_a_uid_is_the_same_for_the_same_parts():
    assert stable_uid("a", "b") == stable_uid("a", "b")
    assert stable_uid("a", "b") != stable_uid("a\nb", "") != stable_uid("b", "a")
    assert UID(stable_uid("a")).is_valid
    assert stable_uid("a").startswith("2.25.")


def test_the_same_result_is_the_same_object():
    assert identity() == identity()


def test_another_result_is_another_object_of_the_same_series():
    other = identity(content=np.zeros(3, np.uint8))
    assert other.series_uid == identity().series_uid
    assert other.instance_uid != identity().instance_uid


@pytest.mark.parametrize(
    "changed", [{"kind": "sr"}, {"source": ("1.2", "1.2.2")}, {"model": Algorithm("model", "cd" * 32, "1.0")}]
)
def test_another_kind_source_or_model_is_another_series(changed):
    assert identity(**changed).series_uid != identity().series_uid


@pytest.mark.parametrize(("number", "expected"), [(3, 301), (None, 9001), (0, 9001), (10**9, 9001)])
def test_series_are_numbered_above_their_source(number, expected):
    assert identity(number=number).series_number == expected


def header(**values):
    dataset = Dataset()
    for name, value in {"PatientID": "4711", "PatientSex": "F", "StudyInstanceUID": "1.2.3", **values}.items():
        setattr(dataset, name, value)
    return dataset


def test_absent_attributes_are_empty_and_optional_ones_are_left_out():
    target = Dataset()
    assert copy_patient_and_study(header(), target) == ()
    assert (target.PatientID, target.PatientSex, target.StudyInstanceUID) == ("4711", "F", "1.2.3")
    for name in ("PatientName", "PatientBirthDate", "StudyDate", "AccessionNumber", "StudyID"):
        assert target[name].is_empty
    assert "StudyDescription" not in target


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 144", "Люкceмбypг"),
    ],
)
def test_names_survive_in_utf_8(encoding, name, tmp_path):
    stored = header(SpecificCharacterSet=encoding, PatientName=name, StudyDescription="CT")
    stored.save_as(tmp_path / "source", implicit_vr=False, little_endian=True)
    source, target = dcmread(tmp_path / "source", force=True), Dataset()
    source.decode()
    copy_patient_and_study(source, target)
    target.save_as(tmp_path / "target", implicit_vr=False, little_endian=True)
    assert dcmread(tmp_path / "target", force=True).PatientName == name
    assert target.SpecificCharacterSet == "ISO_IR 192"


def test_values_that_break_the_rules_are_left_empty_and_named_without_their_value():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = header(PatientSex="female", PatientBirthDate="1950-01-02", StudyID="x" * 17)
    target = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (notice,) = copy_patient_and_study(source, target)
    assert "PatientBirthDate, PatientSex, StudyID" in notice
    assert not {"female", "1950"} & set(notice.replace("-", " ").split())
    assert all(target[name].is_empty for name in ("PatientBirthDate", "PatientSex", "StudyID"))


def test_a_patient_is_never_dropped_for_an_odd_id():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = header(PatientID="x" * 70)
    target = Dataset()
    assert copy_patient_and_study(source, target) == ()
    assert target.PatientID == "x" * 70


def test_copying_leaves_the_source_alone():
    source = header(PatientName="Doe^Jane")
    shared = Dataset()
    shared.add(source["PatientName"])
    copy_patient_and_study(header(PatientName="Roe^Richard"), shared)
    assert source.PatientName == "Doe^Jane"


def test_an_error_of_a_library_does_not_quote_the_patient():
    with pytest.raises(DataError) as caught, making("SEG"):
        raise ValueError("Invalid value for VR DA: '1950-01-02' of Doe^Jane")
    assert "Doe" not in str(caught.value)
    assert "1950" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(GeometryError, match="own"), making("SEG"):
        raise GeometryError("our own")
