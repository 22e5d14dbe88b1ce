"""A node from end to end: what comes in is predicted once, and answered once."""

import logging
import threading

import pydicom
import pytest
from dicom_peers import SECRETS, answer, answer_uid, running, send_to, wait_until

from attunet.dicom.node import Node, read_state, retry_study
from attunet.errors import BundleError, BusyError, CancelledError, DataError

pytestmark = pytest.mark.integration


@pytest.fixture
def answered(node_settings, study, counts):
    """`answered(**settings)`: settings of a node that has answered a study of one series; its UID and files."""

    def make(**changes):
        uid, files = study(slices=4)
        settings = node_settings(**changes)
        with running(settings):
            send_to(settings, files[:3])
            wait_until(lambda: counts(settings) == {"answered": 1})
        return settings, uid, files

    return make


def test_a_study_is_answered(node_settings, study, pacs, counts):
    uid, files = study(slices=4, series=2)
    settings = node_settings()
    with running(settings):
        send_to(settings, files)
        wait_until(lambda: counts(settings) == {"answered": 1})
    assert sorted(pacs.received) == sorted(answer_uid(f"{uid}.{part}") for part in (1, 2))
    assert pacs.callers == {"ATTUNET"}
    assert pacs.read(answer_uid(f"{uid}.1")).ImageComments == "4 instances, organs"
    assert not list((settings.state / "outbox").iterdir())


def test_a_study_that_is_sent_again_is_not_answered_again(answered, pacs, counts):
    settings, _uid, files = answered()
    with running(settings):
        send_to(settings, files[:3])
        wait_until(lambda: counts(settings) == {"answered": 1})
        threading.Event().wait(3 * settings.settle)
        assert counts(settings) == {"answered": 1}
    assert len(pacs.received) == 1


def test_a_late_instance_is_kept_and_told(answered, pacs, caplog):
    settings, uid, files = answered()
    with running(settings):
        send_to(settings, files)
        (late,) = wait_until(lambda: read_state(settings.state).late)
        assert (late.uid, late.instances, late.late, late.state) == (uid, 4, 1, "answered")
        assert "attunet dicom retry" in caplog.text
        assert len(pacs.received) == 1
        assert "predicted again" in retry_study(settings.state, uid)
        wait_until(lambda: len(pacs.received) == 2)
        wait_until(lambda: not read_state(settings.state).late)
    assert pacs.read(answer_uid(f"{uid}.1")).ImageComments == "4 instances, organs"


def test_a_late_series_is_answered_alone(answered, study, pacs, counts):
    settings, uid, _files = answered()
    with running(settings):
        send_to(settings, study(series=2, slices=3, uid=uid)[1])
        wait_until(lambda: len(pacs.received) == 2)
        wait_until(lambda: counts(settings) == {"answered": 1})
    assert pacs.received == [answer_uid(f"{uid}.1"), answer_uid(f"{uid}.2")]


def test_a_study_without_a_rule_is_ignored(node_settings, study, counts, pacs):
    settings = node_settings()
    with running(settings):
        send_to(settings, study(Modality="MR")[1])
        wait_until(lambda: counts(settings) == {"ignored": 1})
    assert pacs.received == []


def test_results_wait_until_the_pacs_is_back(node_settings, study, pacs, counts):
    pacs.stop()
    settings = node_settings()
    with running(settings):
        send_to(settings, study()[1])
        waiting = wait_until(lambda: [one for one in read_state(settings.state).waiting.values() if one["reason"]])
        assert waiting[0]["results"] == 1
        assert "cannot be reached" in waiting[0]["reason"]
    with running(settings):  # and the wait survives a restart
        assert counts(settings) == {"sending": 1}
        pacs.start()
        wait_until(lambda: counts(settings) == {"answered": 1})
    assert len(pacs.received) == 1


def test_a_series_that_fails_is_listed_and_the_others_are_sent(node_settings, study, pacs, counts):
    uid, files = study(series=2)
    sound = []

    def predict(folder, rule, output, cancelled):
        if folder.name.endswith(".2") and not sound:
            raise DataError("two slices are missing", hint="send them")
        return answer(folder, rule, output, cancelled)

    settings = node_settings()
    with running(settings, predict):
        send_to(settings, files)
        wait_until(lambda: counts(settings) == {"failed": 1})
        (failed,) = read_state(settings.state).failed
        assert failed.reason == f"series {uid}.2, organs: two slices are missing; send them"
        assert pacs.received == [answer_uid(f"{uid}.1")]
        sound.append(True)
        retry_study(settings.state, uid)
        wait_until(lambda: counts(settings) == {"answered": 1})
    assert pacs.received == [answer_uid(f"{uid}.1"), answer_uid(f"{uid}.2")]


def test_an_instance_that_comes_in_during_the_prediction_counts(node_settings, study, pacs, counts):
    uid, files = study(slices=4)
    began, go_on = threading.Event(), threading.Event()

    def predict(folder, rule, output, cancelled):
        made = answer(folder, rule, output, cancelled)
        began.set()
        assert go_on.wait(10)
        return made

    settings = node_settings()
    with running(settings, predict):
        send_to(settings, files[:3])
        assert began.wait(10)
        send_to(settings, files[3:])
        go_on.set()
        wait_until(lambda: counts(settings) == {"answered": 1})
    assert pacs.received == [answer_uid(f"{uid}.1")]
    assert pacs.read(pacs.received[0]).ImageComments == "4 instances, organs"


def test_a_prediction_that_is_stopped_begins_anew(node_settings, study, pacs, counts):
    began = threading.Event()

    def patient_one(folder, rule, output, cancelled):
        began.set()
        cancelled.wait(20)
        raise CancelledError("stopped")

    settings = node_settings()
    with running(settings, patient_one):
        send_to(settings, study()[1])
        assert began.wait(10)
    assert counts(settings) == {"queued": 1}
    with running(settings, answer):
        wait_until(lambda: counts(settings) == {"answered": 1})
    assert len(pacs.received) == 1


def test_a_model_that_cannot_be_used_is_tried_again(node_settings, study, pacs, counts):
    tries = []

    def predict(*how):
        tries.append(how)
        if len(tries) < 3:
            raise BundleError("the folder is unfinished", hint="train it")
        return answer(*how)

    settings = node_settings()
    with running(settings, predict):
        send_to(settings, study()[1])
        wait_until(
            lambda: read_state(settings.state).active[0].reason == "rule organs: the folder is unfinished; train it"
        )
        wait_until(lambda: counts(settings) == {"answered": 1})
    assert len(tries) == 3
    assert len(pacs.received) == 1


def test_a_rule_applies_beside_another(node_settings, study, pacs, counts):
    uid, files = study()
    rules = [{"name": name, "model": "model"} for name in ("organs", "lesions")]
    settings = node_settings(rules=rules)
    with running(settings):
        send_to(settings, files)
        wait_until(lambda: counts(settings) == {"answered": 1})
    assert sorted(pacs.received) == sorted(answer_uid(f"{uid}.1", name) for name in ("organs", "lesions"))


def test_our_own_results_are_no_new_series(answered, pacs, tmp_path, counts):
    settings, _uid, _files = answered()
    echo = tmp_path / "echo.dcm"
    echo.write_bytes(pacs.stored[pacs.received[0]])
    with running(settings):
        send_to(settings, [echo])
        assert counts(settings) == {"answered": 1}
    assert not list((settings.state / "inbox").rglob(f"{pacs.received[0]}.dcm"))


def test_instances_are_kept_for_a_while(answered):
    settings, uid, _files = answered(keep_days=0)
    with running(settings):
        wait_until(lambda: not (settings.state / "inbox" / uid).exists())


def test_nothing_of_the_patient_is_logged_stored_in_the_queue_or_in_names(answered, caplog):
    caplog.set_level(logging.DEBUG, "attunet")
    settings, uid, _files = answered()
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("attunet"))
    assert uid in logged
    names = "\n".join(str(path.relative_to(settings.state)) for path in settings.state.rglob("*"))
    stored = b"".join(path.read_bytes() for path in settings.state.glob("queue.sqlite*")).decode("latin-1")
    for secret in SECRETS:
        assert secret not in logged.replace(uid, "")
        assert secret not in names.replace(uid, "")
        assert secret not in stored.replace(uid, "")
    assert settings.state.stat().st_mode & 0o077 == 0


def test_a_second_node_is_refused_the_same_state(node_settings):
    settings = node_settings()
    with running(settings), pytest.raises(BusyError, match="in use by attunet dicom node"):
        Node(settings.model_copy(update={"receive": None}), lambda *_: {}).run()


def test_a_part_that_fails_ends_the_node(node_settings, monkeypatch):
    def broken(*_):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("attunet.dicom.node.node._settle", broken)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        Node(node_settings(receive=None, watch=[{"folder": "."}]), lambda *_: {}).run()


def test_a_folder_is_a_destination(answered, tmp_path):
    _settings, uid, _files = answered(destinations=[{"name": "share", "address": str(tmp_path / "share")}])
    file = tmp_path / "share" / f"{answer_uid(f'{uid}.1')}.dcm"
    assert pydicom.dcmread(file).Modality == "SEG"
