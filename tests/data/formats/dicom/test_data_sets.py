"""Reading data sets: their values in every encoding, and files that are damaged on purpose."""

import struct
import zlib

import pytest
from dicom_series import ID, NAME, encode, make_series, sample
from pydicom import Dataset, dcmread

from attunet.data.formats.dicom.data_sets import read_elements, read_tags
from attunet.data.formats.dicom.elements import text_of, texts_of, vector_of, whole_of
from attunet.errors import AttunetError, ConfigError, FormatError


def save(ds, path, syntax="explicit"):
    encode(ds, syntax).save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def one():
    (ds,) = make_series(sample((12, 10, 1)))
    return ds


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian", "deflated"])
def test_values_are_those_of_pydicom_in_every_encoding(syntax, one, tmp_path):
    one.DiffusionBValue, one.SeriesDescription = 12.5, "Leber quer ä"
    one.SpecificCharacterSet = "ISO_IR 192"
    names = ("ImageType", "ImagePositionPatient", "Rows", "DiffusionBValue", "SeriesDescription", "SOPClassUID")
    elements = read_elements(save(one, tmp_path / "a.dcm", syntax), names)
    assert texts_of(elements.dataset, "ImageType") == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert vector_of(elements.dataset, "ImagePositionPatient", 3) == tuple(map(float, one.ImagePositionPatient))
    assert whole_of(elements.dataset, "Rows") == 10
    assert text_of(elements.dataset, "SOPClassUID") == one.SOPClassUID
    assert texts_of(elements.dataset, "DiffusionBValue") == ("12.5",)
    assert text_of(elements.dataset, "SeriesDescription") == "Leber quer ä"
    assert texts_of(elements.dataset, "EchoTime") == ()
    assert elements.syntax == encode(one, syntax).file_meta.TransferSyntaxUID


def test_nothing_else_is_kept(one, tmp_path):
    dataset = read_elements(save(one, tmp_path / "a.dcm"), ("Rows",)).dataset
    assert len(dataset) == 1
    assert NAME not in str(dataset)
    assert read_tags(tmp_path / "a.dcm", ("PatientID", "ImageType")) == (ID, "ORIGINAL_PRIMARY_AXIAL")
    with pytest.raises(ConfigError, match="Patients is no element"):
        read_tags(tmp_path / "a.dcm", ("Patients",))


def test_endless_nesting_is_one_error(tmp_path, one):
    depth = 5000
    nested = struct.pack("<HHLHHL", 0x0008, 0x1115, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) * depth
    save(one, tmp_path / "a.dcm", "implicit")
    content = (tmp_path / "a.dcm").read_bytes()
    at = content.index(struct.pack("<HHL", 0x0008, 0x1030, 0)[:4]) if b"\x08\x00\x30\x10" in content else 0
    at = at or content.index(b"\x10\x00\x10\x00")
    (tmp_path / "b.dcm").write_bytes(content[:at] + nested + content[at:])
    with pytest.raises(FormatError, match=r"b\.dcm"):
        read_elements(tmp_path / "b.dcm", ("Rows", "ReferencedSeriesSequence"))


def test_a_deflated_file_that_would_fill_the_memory_is_refused(tmp_path, one):
    save(one, tmp_path / "a.dcm", "deflated")
    content = (tmp_path / "a.dcm").read_bytes()
    start = 144 + struct.unpack("<L", content[140:144])[0]
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = b"".join([*(packer.compress(bytes(2**20)) for _ in range(140)), packer.flush()])
    (tmp_path / "b.dcm").write_bytes(content[:start] + packed)
    with pytest.raises(FormatError, match="when it is inflated"):
        read_elements(tmp_path / "b.dcm", ("Rows",))


def test_any_cut_or_changed_byte_is_read_or_one_error(tmp_path, one):
    save(one, tmp_path / "a.dcm")
    content, path, errors = (tmp_path / "a.dcm").read_bytes(), tmp_path / "b.dcm", []
    for at in range(128, 900, 7):
        for damaged in (content[:at], content[:at] + bytes([255 - content[at]]) + content[at + 1 :]):
            path.write_bytes(damaged)
            try:
                read_elements(path, ("Rows", "ImageType", "PerFrameFunctionalGroupsSequence"))
            except AttunetError as error:
                errors.append(str(error))
    assert errors
    assert not [error for error in errors if NAME in error]


def test_the_test_files_hold_what_must_not_be_found(one, tmp_path):
    held = dcmread(save(one, tmp_path / "a.dcm"))
    assert isinstance(held, Dataset)
    assert (held.PatientName, held.PatientID) == (NAME, ID)


def test_values_that_break_the_rules_are_neither_logged_nor_warned_about(one, tmp_path, caplog, recwarn):
    one.StudyDescription = "Secret^Name" * 10
    save(one, tmp_path / "slice.dcm")
    caplog.clear()
    recwarn.clear()
    dataset = read_elements(tmp_path / "slice.dcm", ["StudyDescription"]).dataset
    assert "Secret" in text_of(dataset, "StudyDescription")
    assert caplog.records == []
    assert not recwarn.list
