"""Watched folders and queries: what is complete is taken once."""

import pytest
from dicom_peers import SECRETS, write_study

from attunet.dicom.network.web import FoundSeries
from attunet.dicom.node.settings import QuerySettings, WatchSettings
from attunet.dicom.node.sources import QuerySource, WatchSource
from attunet.errors import FormatError, NetworkError


@pytest.fixture
def watched(tmp_path, intake):
    """A watched folder, and its source."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in", WatchSource(WatchSettings(folder=tmp_path / "in", every=7), intake)


def test_files_are_taken_once_they_have_stopped_changing(watched, queue):
    folder, source = watched
    _uid, files = write_study(folder / "deep", slices=2, uid="1")
    assert source.run() == 7
    assert queue.instances("1") == 0
    files[1].write_bytes(files[1].read_bytes() + b"\0\0")  # it is still being written
    source.run()
    assert queue.instances("1") == 1
    source.run()
    assert queue.instances("1") == 2
    assert all(file.exists() for file in files)


def test_a_file_that_was_taken_is_not_read_again(watched, queue, monkeypatch):
    folder, source = watched
    write_study(folder, slices=2, uid="1")
    source.run()
    source.run()
    monkeypatch.setattr("attunet.dicom.node.sources.read_identity", lambda _: pytest.fail("read again"))
    source.run()
    assert queue.instances("1") == 2


def test_other_files_are_counted_without_their_names(watched, queue, caplog):
    folder, source = watched
    (folder / "Geheim_Gisela.txt").write_text("no DICOM")
    (folder / ".hidden").write_text("no DICOM")
    (folder / "link.dcm").symlink_to(folder / "Geheim_Gisela.txt")
    for _ in range(3):
        source.run()
    assert caplog.text.count("left out 1 files") == 1
    assert not any(secret in caplog.text for secret in SECRETS)


def test_a_folder_that_vanishes_is_told_once(watched, caplog):
    folder, source = watched
    folder.rmdir()
    for _ in range(3):
        source.run()
    assert caplog.text.count("is not there") == 1
    folder.mkdir()
    source.run()
    assert "is there again" in caplog.text


def test_a_full_disk_is_tried_again(watched, queue, monkeypatch, caplog):
    folder, source = watched
    write_study(folder, slices=2, uid="1")
    source.run()
    with monkeypatch.context() as full:
        full.setattr(queue, "add", lambda _: (_ for _ in ()).throw(FormatError("the disk is full")))
        source.run()
    assert "the disk is full; the watched folder is read again later" in caplog.text
    source.run()
    assert queue.instances("1") == 2


class Service:
    """A DICOMweb service whose content is set by hand."""

    def __init__(self):
        self.counts, self.found, self.contents = {"1": 3}, [FoundSeries("1", "1.1", "CT", 3)], {}
        self.filters, self.fetched = [], []

    def studies(self, filters):
        self.filters.append(dict(filters))
        return self.counts

    def series(self, study):
        return [one for one in self.found if one.study == study]

    def retrieve(self, study, series):
        self.fetched.append(series)
        yield from self.contents[series]


@pytest.fixture
def service(tmp_path):
    made = Service()
    made.contents["1.1"] = [file.read_bytes() for file in write_study(tmp_path / "sources", slices=3, uid="1")[1]]
    return made


@pytest.fixture
def asking(service, make_settings, intake, storage, clock, monkeypatch):
    """A source that asks `service`, and waits 60 s for a series to settle."""
    monkeypatch.setattr("attunet.dicom.node.sources.WebClient", lambda *_: service)
    query = QuerySettings(url="https://pacs.example/rs", every=9, filters={"ModalitiesInStudy": "CT"})
    return QuerySource(query, make_settings(settle=60), intake, storage.incoming, clock)


def test_a_series_is_fetched_when_it_has_stopped_growing(asking, service, queue, clock):
    service.found = [FoundSeries("1", "1.1", "CT", 2)]
    assert asking.run() == 9
    clock.now += 61
    service.found = [FoundSeries("1", "1.1", "CT", 3)]
    asking.run()
    clock.now += 59
    asking.run()
    assert service.fetched == []
    clock.now += 2
    asking.run()
    assert service.fetched == ["1.1"]
    assert queue.instances("1") == 3
    for _ in range(3):
        clock.now += 61
        asking.run()
    assert service.fetched == ["1.1"]
    assert service.filters[0]["ModalitiesInStudy"] == "CT"
    assert service.filters[0]["StudyDate"].endswith("-")


def test_our_result_and_other_modalities_are_not_fetched(asking, service, clock):
    service.found += [FoundSeries("1", "1.2", "SEG", 1), FoundSeries("1", "1.3", "MR", 40)]
    service.counts = {"1": 44}
    for _ in range(3):
        asking.run()
        clock.now += 61
    assert service.fetched == ["1.1"]


def test_a_part_of_a_series_is_not_taken(asking, service, queue, clock, caplog):
    def broken(study, series):
        yield service.contents[series][0]
        raise NetworkError("the service gave 1 of the 3 instances")

    service.retrieve, whole = broken, service.retrieve
    asking.run()
    clock.now += 61
    asking.run()
    assert "gave 1 of the 3 instances; it is asked again in 9 s" in caplog.text
    assert queue.instances("1") == 0
    service.retrieve = whole
    asking.run()
    assert queue.instances("1") == 3


def test_a_service_that_does_not_count_is_asked_every_time(asking, service, queue, clock):
    service.counts, service.found = {"1": None}, [FoundSeries("1", "1.1", "", None)]
    for _ in range(3):
        asking.run()
        clock.now += 61
    assert service.fetched == ["1.1"]
    assert queue.instances("1") == 3
