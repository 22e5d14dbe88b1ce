"""The files of a node: private, whole, and within their folder."""

import pytest

from attunet.dicom.network import Identity
from attunet.dicom.node.storage import Storage
from attunet.errors import FormatError


def identity(study="1", series="1.1", uid="1.1.1"):
    return Identity(study, series, uid, "1.2", "1.2")


def test_an_instance_is_written_whole_and_privately(storage):
    file = storage.write(identity(), b"content")
    assert file == storage.folder / "inbox" / "1" / "1.1" / "1.1.1.dcm"
    assert file.read_bytes() == b"content"
    assert not list(storage.incoming.iterdir())
    for path in (file, *file.parents):
        assert path.stat().st_mode & 0o077 == 0
        if path == storage.folder:
            break
    assert list(storage.instances()) == [file]
    assert storage.studies() == ["1"]
    assert storage.remove_instances("1")
    assert not storage.remove_instances("1")
    assert list(storage.instances()) == []


@pytest.mark.parametrize("uid", ["../../etc", "1/2", "", ".."])
def test_no_uid_leads_out_of_the_folder(uid, storage):
    for wrong in (identity(study=uid), identity(series=uid), identity(uid=uid)):
        with pytest.raises(FormatError, match="which is no UID"):
            storage.write(wrong, b"content")
    for method in (storage.work, storage.remove_instances, storage.remove_results):
        with pytest.raises(FormatError, match="which is no UID"):
            method(uid)
    with pytest.raises(FormatError, match="which is no UID"):
        storage.result(uid, "file")


def test_a_full_disk_leaves_no_part(storage, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FormatError, match="No space left on device"):
        storage.write(identity(), b"content")
    assert not list(storage.incoming.iterdir())
    assert not list(storage.instances())


def test_a_result_moves_into_the_outbox(storage):
    made = storage.work("1") / "9.dcm"
    made.write_bytes(b"result")
    assert storage.publish(made, "1") == storage.result("1", "9.dcm")
    assert storage.result("1", "9.dcm").read_bytes() == b"result"
    assert not made.exists()
    assert storage.results() == ["1"]
    assert storage.remove_results("1")


def test_what_a_kill_left_is_cleared(storage):
    (storage.incoming / "part").write_bytes(b"half")
    (storage.work("1") / "half.dcm").write_bytes(b"half")
    kept = storage.write(identity(), b"content")
    storage.clear_unfinished()
    assert not list(storage.incoming.iterdir())
    assert not list((storage.folder / "work").iterdir())
    assert kept.exists()


def test_a_prediction_begins_in_an_empty_folder(storage):
    (storage.work("1") / "old.dcm").write_bytes(b"half")
    assert not list(storage.work("1").iterdir())


def test_room_is_kept_free(tmp_path):
    assert Storage(tmp_path / "state").has_room(10)
    assert not Storage(tmp_path / "state", least_free_mb=1e12).has_room(10)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="cannot write into"):
        Storage(tmp_path / "file" / "state")
