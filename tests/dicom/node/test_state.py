"""What people see of a node, and the retry of a study."""

import pytest

from attunet.dicom.network import Identity
from attunet.dicom.node.queue import SeriesResult
from attunet.dicom.node.state import STUDY_STATES, read_state, retry_study
from attunet.errors import ConfigError


def instance(number, study="1"):
    return Identity(study, f"{study}.1", f"{study}.1.{number}", "1.2", "1.2")


@pytest.fixture
def predicted(queue):
    """`predicted(reason="", files=...)`: study 1 with one instance, after its prediction."""

    def run(reason="", files=(("9.dcm", ("pacs",)),)):
        queue.add([instance(1)])
        queue.settle("1")
        queue.take()
        queue.finish("1", 1, [SeriesResult("1.1", "organs", () if reason else files, reason)])

    return run


def test_every_state_is_counted(queue, storage, predicted):
    assert read_state(storage.folder).counts == dict.fromkeys(STUDY_STATES, 0)
    predicted()
    state = read_state(storage.folder)
    assert state.counts == {**dict.fromkeys(STUDY_STATES, 0), "sending": 1}
    assert state.waiting == {"pacs": {"results": 1, "reason": ""}}
    (study,) = state.active
    assert (study.uid, study.state, study.instances, study.late, study.unsent) == ("1", "sending", 1, 0, 1)
    assert study.since.startswith("1970-01-01")


def test_lists_are_short(queue, storage):
    queue.add([instance(1, str(study)) for study in range(10)])
    assert len(read_state(storage.folder, shown=4).active) == 4


def test_a_failed_prediction_is_repeated(queue, storage, predicted):
    predicted(reason="two slices are missing")
    assert read_state(storage.folder).failed[0].reason == "series 1.1, organs: two slices are missing"
    assert "predicted again" in retry_study(storage.folder, "1")
    assert queue.studies("receiving") == ["1"]
    assert read_state(storage.folder).failed == []


def test_late_instances_count_after_a_retry(queue, storage, predicted):
    predicted()
    queue.add([instance(2)])
    with pytest.raises(ConfigError, match="study 1 is sending, and has nothing to repeat"):
        retry_study(storage.folder, "1")
    queue.delivered(queue.due("pacs")[0])
    assert [(one.uid, one.late) for one in read_state(storage.folder).late] == [("1", 1)]
    retry_study(storage.folder, "1")
    assert read_state(storage.folder).late == []
    assert queue.instances("1") == 2
    assert queue.predicted("1.1") == set()


def test_what_cannot_be_repeated(queue, storage, predicted, tmp_path):
    with pytest.raises(ConfigError, match="knows no study 1"):
        retry_study(storage.folder, "1")
    predicted()
    queue.delivered(queue.due("pacs")[0])
    with pytest.raises(ConfigError, match="study 1 is answered, and has nothing to repeat"):
        retry_study(storage.folder, "1")
    with pytest.raises(ConfigError, match="holds no queue"):
        retry_study(tmp_path / "elsewhere", "1")
    with pytest.raises(ConfigError, match="does not exist"):
        read_state(tmp_path / "elsewhere")
