"""Sending: by C-STORE, by STOW-RS and into a folder; each file is answered for."""

import pydicom
import pytest
from dicom_peers import make_instance
from pydicom.uid import ImplicitVRLittleEndian, RLELossless
from pynetdicom import AllStoragePresentationContexts

from attunet.dicom.network import parse_address, send_files
from attunet.dicom.network.send import MOST_CONTEXTS
from attunet.errors import NetworkError, RefusedError


def data_set(content):
    return content[144 + int.from_bytes(content[140:144], "little") :]


@pytest.fixture
def mixed(tmp_path):
    """Three slices, each in another transfer syntax."""
    files = []
    for number, syntax in enumerate((None, RLELossless, ImplicitVRLittleEndian), start=1):
        dataset = make_instance("1.2", "1.2.3", number)
        if syntax == RLELossless:
            dataset.compress(syntax, generate_instance_uid=False)
        elif syntax is not None:
            dataset.file_meta.TransferSyntaxUID = syntax
        files.append(tmp_path / f"{number}.dcm")
        implicit = syntax == ImplicitVRLittleEndian
        dataset.save_as(files[-1], enforce_file_format=True, implicit_vr=implicit, little_endian=True)
    return files


def test_files_arrive_as_they_are(pacs, mixed):
    sent = list(send_files(parse_address(pacs.address), mixed, calling="ME"))
    assert [(one.file, one.error) for one in sent] == [(file, None) for file in mixed]
    assert pacs.callers == {"ME"}
    for file in mixed:
        dataset = pydicom.dcmread(file)
        arrived = pacs.stored[dataset.SOPInstanceUID]
        assert data_set(arrived) == data_set(file.read_bytes())
        assert pacs.read(dataset.SOPInstanceUID).file_meta.TransferSyntaxUID == dataset.file_meta.TransferSyntaxUID


@pytest.mark.integration
def test_more_kinds_than_an_association_takes_go_in_several(make_pacs, tmp_path):
    kinds = [context.abstract_syntax for context in AllStoragePresentationContexts[: MOST_CONTEXTS + 2]]
    files = []
    for number, kind in enumerate(kinds):
        dataset = make_instance("1.2", "1.2.3", number + 1, SOPClassUID=kind)
        dataset.file_meta.MediaStorageSOPClassUID = kind
        files.append(tmp_path / f"{number}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    pacs = make_pacs(classes=kinds)
    assert [one.error for one in send_files(parse_address(pacs.address), files)] == [None] * len(files)


def test_a_class_that_a_peer_does_not_take_is_refused_and_the_rest_is_sent(pacs, mixed, tmp_path):
    dataset, file = make_instance("1.2", "1.2.3", 9), tmp_path / "other.dcm"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    dataset.save_as(file, enforce_file_format=True)
    refused, *others = send_files(parse_address(pacs.address), [file, *mixed])
    assert isinstance(refused.error, RefusedError)
    assert "accepts no RT Structure Set Storage in Explicit VR Little Endian" in str(refused.error)
    assert [one.error for one in others] == [None] * 3


def test_a_damaged_file_is_refused_and_the_rest_is_sent(pacs, mixed, tmp_path):
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(b"no object")
    sent = {one.file: one.error for one in send_files(parse_address(pacs.address), [damaged, *mixed])}
    assert isinstance(sent.pop(damaged), RefusedError)
    assert sent == dict.fromkeys(mixed)


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (0xA700, NetworkError, "could not store an object (status 0xA700)"),
        (0x0124, RefusedError, "does not allow us to store"),
        (0xB000, None, ""),
    ],
)
def test_the_status_of_a_peer_counts(status, kind, said, pacs, mixed):
    pacs.status = status
    (sent,) = send_files(parse_address(pacs.address), mixed[:1])
    assert (type(sent.error) if sent.error else None) == kind
    assert said in str(sent.error)


def test_a_peer_that_is_not_there_or_has_another_title(pacs, mixed):
    with pytest.raises(NetworkError, match="rejects the association of ATTUNET"):
        list(send_files(parse_address(pacs.address.replace("PACS", "OTHER")), mixed))
    pacs.stop()
    with pytest.raises(NetworkError, match="cannot be reached"):
        list(send_files(parse_address(pacs.address), mixed))


def test_a_folder_takes_everything(tmp_path, mixed):
    other = tmp_path / "mask.nii.gz"
    other.write_bytes(b"mask")
    assert all(one.error is None for one in send_files(parse_address(str(tmp_path / "new" / "share")), [*mixed, other]))
    assert (tmp_path / "new" / "share" / "mask.nii.gz").read_bytes() == b"mask"
    assert len(list((tmp_path / "new" / "share").iterdir())) == 4
