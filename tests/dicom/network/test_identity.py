"""UIDs are checked before they become part of a path; nothing else of a header is looked at."""

import pytest
from dicom_peers import SECRETS, make_instance
from hypothesis import given
from hypothesis import strategies as st

from attunet.dicom.network import check_uid, is_uid, read_identity
from attunet.errors import FormatError


@pytest.mark.parametrize("uid", ["1", "1.2.840.10008.1.1", "2.25.0012", "9" * 64])
def test_uids_are_accepted(uid):
    assert check_uid(uid, "SOPInstanceUID") == uid


@pytest.mark.parametrize(
    "uid", ["", ".", "..", "1.", ".1", "1..2", "1/2", "1.2\n", "1 2", "a", "١.٢", "9" * 65, "../1"]
)
def test_what_is_no_uid_is_refused(uid):
    assert not is_uid(uid)
    with pytest.raises(FormatError, match=r"the SOPInstanceUID is .* which is no UID"):
        check_uid(uid, "SOPInstanceUID")


@given(st.text())
def test_whatever_is_accepted_stays_within_its_folder(text):
    if is_uid(text):
        assert set(text) <= set("0123456789.")
        assert text.strip(".") == text
        assert 0 < len(text) <= 64


def test_the_identity_of_a_file_and_of_its_content(tmp_path):
    file = tmp_path / "slice.dcm"
    make_instance("1.2", "1.2.3", 4).save_as(file, enforce_file_format=True)
    identity = read_identity(file)
    assert (identity.study, identity.series, identity.uid) == ("1.2", "1.2.3", "1.2.3.4")
    assert (identity.sop_class, identity.transfer_syntax) == ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    assert read_identity(file.read_bytes()) == identity


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("tag", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_an_instance_without_a_uid_or_with_another_text_is_refused(tag, tmp_path):
    for value in (None, "../../etc/passwd", "1.2.x"):
        dataset, file = make_instance("1.2", "1.2.3"), tmp_path / "slice.dcm"
        setattr(dataset, tag, value)
        dataset.save_as(file, enforce_file_format=True)
        with pytest.raises(FormatError, match=f"the {tag} is .*no UID") as refused:
            read_identity(file)
        assert not any(secret in str(refused.value) for secret in SECRETS)


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "scan.nii"
    file.write_bytes(bytes(1000))
    with pytest.raises(FormatError, match="it has no DICOM header"):
        read_identity(file)
    with pytest.raises(FormatError, match="it has no DICOM header"):
        read_identity(b"")
    with pytest.raises(FormatError, match="cannot read"):
        read_identity(tmp_path / "missing")
