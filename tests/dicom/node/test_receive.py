"""The C-STORE provider: what it accepts, what it refuses, and what it answers."""

import socket
import struct

import pydicom
import pytest
from dicom_peers import free_port, make_instance, send_to, wait_until, write_study
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from attunet.dicom.network import parse_address, send_files
from attunet.dicom.node.receive import receiving
from attunet.dicom.node.settings import ReceiveSettings
from attunet.errors import ConfigError, FormatError, NetworkError


@pytest.fixture
def listening(intake):
    """`listening(**settings)`: start to listen; the settings."""
    running = []

    def start(**changes):
        settings = ReceiveSettings.model_validate({"port": free_port(), **changes})
        running.append(receiving(settings, intake))
        running[-1].__enter__()
        return settings

    yield start
    for one in running:
        one.__exit__(None, None, None)


class Node:
    """What `send_to` needs of a node's settings."""

    def __init__(self, receive):
        self.receive = receive


def status_of(settings, dataset, sop_instance=None):
    """What the node answers to an instance, sent under another UID if one is given."""
    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(CTImageStorage, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", settings.port, ae_title=settings.ae_title)
    assert association.is_established
    if sop_instance is not None:
        original, association.dimse.send_msg = association.dimse.send_msg, None

        def send(message, context):
            message.AffectedSOPInstanceUID = sop_instance
            original(message, context)

        association.dimse.send_msg = send
    answer = association.send_c_store(dataset)
    association.release()
    return answer.get("Status")


def test_a_second_version_is_answered_with_a_warning(listening, queue, caplog):
    settings = listening()
    assert status_of(settings, make_instance("1", "1.1")) == 0x0000
    assert status_of(settings, make_instance("1", "1.1")) == 0x0000
    assert status_of(settings, make_instance("1", "1.1", WindowCenter=40)) == 0xB000
    assert "came in again with another content; the first is kept" in caplog.text
    assert queue.instances("1") == 1


def test_a_uid_of_another_study_is_refused(listening, queue):
    settings = listening()
    assert status_of(settings, make_instance("1", "1.1")) == 0x0000
    assert status_of(settings, make_instance("2", "2.1", SOPInstanceUID="1.1.1")) == 0x0111
    assert queue.instances("2") == 0


def test_a_request_that_names_another_instance_is_refused(listening, queue):
    settings = listening()
    assert status_of(settings, make_instance("1", "1.1"), sop_instance="1.1.7") == 0xA900
    assert queue.instances("1") == 0


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("uid", ["../../../../tmp/evil", ""])
def test_an_instance_without_a_proper_uid_is_refused(uid, listening, storage):
    settings = listening()
    assert status_of(settings, make_instance("1", "1.1", StudyInstanceUID=uid)) == 0xC000
    assert list(storage.instances()) == []


def test_a_full_disk_is_answered_as_such(listening, queue, monkeypatch):
    settings = listening()
    monkeypatch.setattr(queue, "add", lambda _: (_ for _ in ()).throw(FormatError("the disk is full")))
    assert status_of(settings, make_instance("1", "1.1")) == 0xA700


def test_a_fault_of_ours_is_no_success(listening, queue, monkeypatch, caplog):
    settings = listening()
    monkeypatch.setattr(queue, "add", lambda _: (_ for _ in ()).throw(RuntimeError("Geheim^Gisela")))
    assert status_of(settings, make_instance("1", "1.1")) == 0xC000
    assert "an instance was not stored: RuntimeError" in caplog.text
    assert "Geheim" not in caplog.text


def test_only_known_peers_may_send(listening, tmp_path, queue):
    files = write_study(tmp_path, slices=1)[1]
    settings = listening(peers=[{"ae_title": "SCANNER"}, {"ae_title": "FAR", "address": "192.0.2.1"}])
    with pytest.raises(NetworkError, match="rejects the association"):
        send_to(Node(settings), files, calling="STRANGER")
    address = parse_address(f"dicom://ATTUNET@127.0.0.1:{settings.port}")
    (sent,) = send_files(address, files, calling="FAR")
    assert "0x0124" in str(sent.error)
    send_to(Node(settings), files, calling="SCANNER")


def test_a_call_for_another_title_is_rejected(listening, tmp_path):
    settings = listening(ae_title="NODE")
    with pytest.raises(NetworkError, match="rejects the association"):
        list(send_files(parse_address(f"dicom://ATTUNET@127.0.0.1:{settings.port}"), write_study(tmp_path)[1]))


def test_an_instance_that_is_too_large_ends_its_association(listening, storage, tmp_path, caplog):
    settings = listening(largest_instance_mb=0.5)
    large = make_instance("1", "1.1", Rows=600, Columns=600)
    large.PixelData = bytes(720_000)
    file = tmp_path / "large.dcm"
    large.save_as(file, enforce_file_format=True)
    with pytest.raises(NetworkError):
        send_to(Node(settings), [file])
    assert "more than largest_instance_mb" in caplog.text
    assert list(storage.instances()) == []
    send_to(Node(settings), write_study(tmp_path, slices=8)[1])  # many small ones are no large one


def test_a_packet_of_four_gigabytes_is_not_waited_for(listening):
    settings = listening()
    with socket.create_connection(("127.0.0.1", settings.port), timeout=10) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 2**32 - 1) + bytes(100))
        connection.settimeout(20)
        assert connection.recv(100) in (b"", b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00")


def test_it_answers_an_echo_and_listens_on_this_machine_only(listening):
    settings = listening()
    entity = AE()
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", settings.port, ae_title="ATTUNET")
    assert association.send_c_echo().Status == 0
    association.release()
    assert ReceiveSettings().address == "127.0.0.1"


def test_a_port_in_use_is_one_clear_error(listening, intake):
    settings = listening()
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{settings.port}"), receiving(settings, intake):
        pass


def test_an_open_port_without_peers_is_warned_of(listening, caplog):
    listening(address="0.0.0.0")
    assert "everyone in the network may send" in caplog.text


def test_what_was_accepted_can_be_read(listening, storage, tmp_path):
    settings = listening()
    send_to(Node(settings), write_study(tmp_path, slices=2)[1])
    files = wait_until(lambda: sorted(storage.instances()))
    assert [pydicom.dcmread(file).InstanceNumber for file in files] == [1, 2]
