"""The one way in: stored before it is recorded, recorded before it is acknowledged."""

import pytest
from dicom_peers import make_instance, write_study

from attunet.dicom.network import read_identity
from attunet.dicom.node.intake import Intake
from attunet.dicom.node.queue import SeriesResult
from attunet.dicom.node.storage import Storage
from attunet.errors import FormatError


@pytest.fixture
def files(tmp_path):
    """Three instances of study 1."""
    return write_study(tmp_path / "sources", slices=3, uid="1")[1]


def take(intake, file):
    content = file.read_bytes()
    return intake.take(read_identity(content), content)


def test_instances_are_stored_and_recorded(intake, queue, storage, files):
    assert [take(intake, file) for file in files] == ["new"] * 3
    assert queue.instances("1") == 3
    assert [file.read_bytes() for file in sorted(storage.instances())] == [file.read_bytes() for file in files]
    assert take(intake, files[0]) == "known"


def test_a_study_settles_when_nothing_new_comes(intake, files, clock):
    take(intake, files[0])
    assert intake.settled(60) == []
    clock.now += 50
    take(intake, files[1])
    clock.now += 20
    take(intake, files[0])  # known: it does not count
    assert intake.settled(60) == []
    clock.now += 41
    assert intake.settled(60) == ["1"]


def test_the_time_that_a_node_was_off_does_not_count(intake, queue, storage, files, clock):
    take(intake, files[0])
    clock.now += 1000
    again = Intake(queue, storage, clock)
    assert again.settled(60) == []
    clock.now += 61
    assert again.settled(60) == ["1"]


def test_files_are_taken_all_at_once(intake, queue, files, monkeypatch):
    monkeypatch.setattr(queue, "add", lambda _identities: (_ for _ in ()).throw(FormatError("killed")))
    with pytest.raises(FormatError, match="killed"):
        intake.take_files(files)
    monkeypatch.undo()
    assert not intake.has_series("1.1", 1)
    assert intake.forget_unrecorded() == 3
    intake.take_files(files)
    assert intake.has_series("1.1", 3)
    assert intake.has_series("1.1", None)
    assert not intake.has_series("1.1", 4)
    assert intake.forget_unrecorded() == 0


def test_a_file_that_expired_is_stored_again(intake, queue, storage, files):
    take(intake, files[0])
    storage.remove_instances("1")
    assert take(intake, files[0]) == "known"
    assert len(list(storage.instances())) == 1


def test_a_second_version_is_noticed(intake, files, tmp_path):
    take(intake, files[0])
    identity, content = read_identity(files[0]), files[0].read_bytes()
    assert intake.holds(identity, content)
    other = make_instance("1", "1.1", 1, WindowCenter=40)
    other.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    assert not intake.holds(identity, (tmp_path / "other.dcm").read_bytes())


def test_a_late_instance_is_told(intake, queue, files, caplog):
    take(intake, files[0])
    queue.settle("1")
    queue.take()
    queue.finish("1", 1, [SeriesResult("1.1", "organs", (("9.dcm", ("pacs",)),))])
    assert take(intake, files[1]) == "late"
    assert "study 1: an instance of series 1.1 came in after its result" in caplog.text
    assert intake.settled(0) == []


def test_nothing_is_taken_when_the_disk_is_nearly_full(queue, tmp_path, files):
    storage = Storage(tmp_path / "state", least_free_mb=1e12)
    intake = Intake(queue, storage)
    with pytest.raises(FormatError, match="less than least_free_mb is free"):
        take(intake, files[0])
    assert list(storage.instances()) == []
