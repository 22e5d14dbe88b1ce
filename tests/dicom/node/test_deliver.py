"""Couriers: what is due is sent, failures wait longer each time, and some are given up."""

import pytest

from attunet.dicom.network import Identity
from attunet.dicom.network.send import Sent
from attunet.dicom.node.deliver import HOUR, IDLE, Courier
from attunet.dicom.node.queue import SeriesResult
from attunet.dicom.node.state import read_state
from attunet.errors import NetworkError, RefusedError


@pytest.fixture
def courier(make_settings, queue, storage, clock, monkeypatch):
    """A courier with two results of study 1 to deliver; `answers` says what becomes of each file."""
    names = ("9.1.dcm", "9.2.dcm")
    queue.add([Identity("1", "1.1", "1.1.1", "1.2", "1.2")])
    queue.settle("1")
    queue.take()
    for name in names:
        made = storage.work("1") / name
        made.write_bytes(b"result")
        storage.publish(made, "1")
    queue.finish("1", 1, [SeriesResult("1.1", "organs", tuple((name, ("share",)) for name in names))])
    settings = make_settings(retry={"first": 10, "longest": 40, "give_up_hours": 1})
    made = Courier(settings.destinations[0], settings, queue, storage, clock)
    made.answers, made.sent = {}, []

    def send(_address, files, **how):
        for file in files:
            made.sent.append(file.name)
            error = made.answers.get(file.name)
            if type(error) is NetworkError and error.message == "away":
                raise error
            yield Sent(file, error)

    monkeypatch.setattr("attunet.dicom.node.deliver.send_files", send)
    return made


def state(storage):
    return {name: number for name, number in read_state(storage.folder).counts.items() if number}


def test_results_are_sent_once_and_then_deleted(courier, storage):
    courier.run()
    assert courier.sent == ["9.1.dcm", "9.2.dcm"]
    assert state(storage) == {"answered": 1}
    assert storage.results() == []
    assert courier.run() == IDLE
    assert len(courier.sent) == 2


def test_a_destination_that_is_away_gets_everything_later(courier, storage, clock):
    courier.answers["9.2.dcm"] = NetworkError("away")
    for wait in (10, 20, 40, 40):
        assert courier.run() == wait
        assert courier.run() == IDLE
        clock.now += wait
    waiting = read_state(storage.folder).waiting["share"]
    assert waiting == {"results": 1, "reason": "away"}
    courier.answers.clear()
    courier.run()
    assert state(storage) == {"answered": 1}
    assert courier.sent.count("9.1.dcm") == 1


def test_an_object_at_which_a_destination_breaks_off_holds_up_no_other_study(courier, queue, storage, clock):
    courier.answers |= {"9.1.dcm": NetworkError("away")}
    assert courier.run() == 10
    queue.add([Identity("2", "2.1", "2.1.1", "1.2", "1.2")])
    queue.settle("2")
    queue.take()
    made = storage.work("2") / "9.3.dcm"
    made.write_bytes(b"result")
    storage.publish(made, "2")
    queue.finish("2", 1, [SeriesResult("2.1", "organs", (("9.3.dcm", ("share",)),))])
    clock.now += 11
    courier.run()
    assert courier.sent == ["9.1.dcm", "9.3.dcm"]
    assert state(storage) == {"sending": 1, "answered": 1}


def test_an_object_that_is_not_taken_now_waits_alone(courier, storage, clock):
    courier.answers["9.1.dcm"] = NetworkError("busy")
    courier.run()
    courier.run()
    assert courier.sent == ["9.1.dcm", "9.2.dcm"]
    clock.now += 11
    courier.run()
    clock.now += 11
    courier.run()
    assert courier.sent[2:] == ["9.1.dcm"]
    clock.now += 10
    courier.answers.clear()
    courier.run()
    assert state(storage) == {"answered": 1}


def test_an_object_that_is_refused_is_given_up_and_kept(courier, storage):
    courier.answers["9.1.dcm"] = RefusedError("it stores no SEG", hint="allow it")
    courier.run()
    assert state(storage) == {"failed": 1}
    assert read_state(storage.folder).failed[0].reason == "share: it stores no SEG; allow it"
    assert storage.result("1", "9.1.dcm").exists()


@pytest.mark.parametrize("answer", [NetworkError("busy"), NetworkError("away")])
def test_a_result_is_given_up_after_hours(answer, courier, storage, clock):
    courier.answers |= {"9.1.dcm": answer, "9.2.dcm": answer}
    courier.run()
    clock.now += HOUR + 1
    courier.run()
    assert state(storage) == {"failed": 1}


def test_a_result_whose_file_is_gone_fails(courier, storage):
    storage.result("1", "9.1.dcm").unlink()
    courier.run()
    assert courier.sent == ["9.2.dcm"]
    assert "its file is gone" in read_state(storage.folder).failed[0].reason
