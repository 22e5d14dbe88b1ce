"""The queue: every step a study takes, and what a kill between two steps leaves."""

import pytest

from attunet.dicom.network import Identity
from attunet.dicom.node.queue import SeriesResult
from attunet.dicom.node.state import read_state, retry_study


def instance(number, series="1.1", study="1"):
    return Identity(study, series, f"{series}.{number}", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")


def states(storage):
    return {state: n for state, n in read_state(storage.folder).counts.items() if n}


@pytest.fixture
def sending(queue):
    """A study of three instances, whose two results wait for a destination."""
    queue.add([instance(1), instance(2), instance(1, "1.2")])
    queue.settle("1")
    assert queue.take() == "1"
    assert queue.finish("1", 3, [SeriesResult(f"1.{n}", "organs", ((f"9.{n}.dcm", ("pacs",)),)) for n in (1, 2)])


def test_a_study_goes_its_way(queue, storage):
    assert queue.add([instance(1), instance(2)]) == ["new", "new"]
    assert queue.studies("receiving") == ["1"]
    assert queue.take() is None
    queue.settle("1")
    assert queue.take() == "1"
    assert queue.take() is None
    assert queue.finish("1", 2, [SeriesResult("1.1", "organs", (("9.dcm", ("pacs", "share")),))])
    assert states(storage) == {"sending": 1}
    (first,), (second,) = queue.due("pacs"), queue.due("share")
    assert not queue.delivered(first)
    assert states(storage) == {"sending": 1}
    assert queue.delivered(second)
    assert states(storage) == {"answered": 1}
    assert queue.due("pacs") == []


def test_what_an_instance_is(queue, sending):
    assert queue.classify(instance(1)) == "known"
    assert queue.classify(instance(3)) == "late"
    assert queue.classify(instance(1, "1.3")) == "new"
    other = Identity("2", "1.1", "1.1.1", "1.2", "1.2")
    assert queue.classify(other) == "other"
    assert queue.classify(Identity("1", "9", "9.1", "1.2", "1.2")) == "own"
    assert queue.add([other, instance(1)]) == ["other", "known"]


def test_a_new_instance_lets_a_study_wait_again(queue, storage):
    queue.add([instance(1)])
    queue.settle("1")
    queue.add([instance(2)])
    assert states(storage) == {"receiving": 1}
    assert queue.take() is None


def test_an_instance_during_the_prediction_makes_it_void(queue, storage):
    queue.add([instance(1)])
    queue.settle("1")
    queue.take()
    queue.add([instance(2)])
    assert states(storage) == {"predicting": 1}
    assert not queue.finish("1", 1, [SeriesResult("1.1", "organs", (("9.dcm", ("pacs",)),))])
    assert states(storage) == {"receiving": 1}
    assert queue.due("pacs") == []
    assert queue.predicted("1.1") == set()


def test_a_late_instance_changes_nothing_else(queue, storage, sending):
    assert queue.add([instance(3)]) == ["late"]
    assert states(storage) == {"sending": 1}
    assert queue.instances("1") == 3
    assert queue.instances_of("1.1") == 3


def test_a_new_series_is_predicted_alone_while_results_wait(queue, storage, sending):
    queue.add([instance(1, "1.3")])
    assert states(storage) == {"receiving": 1}
    for delivery in queue.due("pacs"):
        queue.delivered(delivery)
    assert states(storage) == {"receiving": 1}
    queue.settle("1")
    queue.take()
    assert queue.predicted("1.1") == {"organs"}
    assert queue.predicted("1.3") == set()
    assert queue.finish("1", 4, [SeriesResult("1.3", "organs", (("9.3.dcm", ("pacs",)),))])
    assert [one.file for one in queue.due("pacs")] == ["9.3.dcm"]


def test_a_study_without_a_rule_is_ignored(queue, storage):
    queue.add([instance(1)])
    queue.settle("1")
    queue.take()
    queue.finish("1", 1, [])
    assert states(storage) == {"ignored": 1}


def test_kills_during_the_prediction_are_counted(queue, storage):
    queue.add([instance(1)])
    queue.settle("1")
    for kills in (1, 2, 3):
        assert queue.take() == "1"
        assert queue.recover(3) == ["1"]
        assert states(storage) == ({"queued": 1} if kills < 3 else {"failed": 1})
    assert read_state(storage.folder).failed[0].reason == "the node was killed 3 times while it predicted the study"


def test_a_stop_in_order_is_not_counted(queue, storage):
    queue.add([instance(1)])
    queue.settle("1")
    for _ in range(5):
        queue.take()
        queue.put_back("1")
    queue.take()
    queue.recover(2)
    assert states(storage) == {"queued": 1}


def test_a_prediction_that_cannot_be_made_waits(queue, storage, clock):
    queue.add([instance(1)])
    queue.settle("1")
    queue.take()
    for tries in (1, 2, 3, 4):
        queue.postpone("1", "no model", wait=lambda tries: 10.0 * tries, longest=200)
        assert queue.take() is None
        assert read_state(storage.folder).active[0].reason == "no model"
        clock.now += 10 * tries + 1
        assert queue.take() == "1"
    queue.recover(2)  # a try that could not be made is no start
    assert queue.take() == "1"
    clock.now += 200
    queue.postpone("1", "no model", wait=lambda _: 0.0, longest=200)
    assert read_state(storage.folder).failed[0].reason == "no model"


def test_a_result_that_is_not_taken_waits_and_is_given_up(queue, storage, clock, sending):
    first, second = queue.due("pacs")
    queue.not_delivered(first, "busy", wait=5)
    assert [one.file for one in queue.due("pacs")] == [second.file]
    clock.now += 6
    assert [(one.file, one.tries) for one in queue.due("pacs")] == [(first.file, 1), (second.file, 0)]
    queue.not_delivered(first, "refused", wait=None)
    assert queue.due("pacs") == [second]
    queue.delivered(second)
    assert states(storage) == {"failed": 1}
    assert read_state(storage.folder).failed[0].reason == "pacs: refused"
    assert queue.without_results(["1", "2"]) == ["2"]
    assert retry_study(storage.folder, "1") == "its results are sent again"
    assert [one.file for one in queue.due("pacs")] == [first.file]


def test_the_oldest_study_is_sent_first(queue, clock):
    for study in ("1", "2"):
        queue.add([instance(1, f"{study}.1", study)])
        queue.settle(study)
    assert {queue.take(), queue.take()} == {"1", "2"}
    for study in ("2", "1"):
        clock.now += 1
        queue.finish(study, 1, [SeriesResult(f"{study}.1", "organs", ((f"{study}.9.dcm", ("pacs",)),))])
    assert [one.study for one in queue.due("pacs")] == ["2"]


def test_files_expire_and_unused_series_are_forgotten(queue, clock, sending):
    queue.add([instance(1, "1.3")])
    queue.settle("1")
    queue.take()
    queue.finish("1", 4, [])
    for delivery in queue.due("pacs"):
        queue.delivered(delivery)
    assert queue.expire(["1"], 100) == []
    clock.now += 101
    assert queue.expire(["1", "2"], 100) == ["1"]
    assert queue.series("1") == ["1.1", "1.2"]
    assert not queue.knows("1.3.1")
    assert queue.knows("1.1.1")
