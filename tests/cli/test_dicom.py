"""`attunet dicom`: the node in a process of its own, its state, and a retry."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
import yaml
from dicom_peers import SECRETS, free_port, is_ready, send_to, wait_until, write_study

from attunet.cli.dicom import retry, status
from attunet.dicom.network import Identity
from attunet.dicom.node import load_node_settings, read_state
from attunet.dicom.node.database import StudyDatabase
from attunet.dicom.node.queue import SeriesResult, StudyQueue
from attunet.dicom.node.storage import Storage
from attunet.errors import ConfigError

WRONG = {"PatientID": SECRETS[0] * 20, "PatientBirthDate": "4711"}
"""Values of which pydicom warns, with the value."""


@pytest.fixture
def config(tmp_path, tiny_run):
    """A file with the settings of a node."""
    file = tmp_path / "node.yaml"
    settings = {
        "state": "state",
        "settle": 0.3,
        "receive": {"port": free_port()},
        "rules": [{"name": "organs", "model": str(tiny_run), "modality": ["MR"]}],
        "destinations": [{"name": "share", "address": "share"}],
        "least_free_mb": 0,
        "page": None,
    }
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.fixture
def with_failures(config):
    """The same, after a study has failed, and another has a late instance."""
    settings = load_node_settings(config)
    database = StudyDatabase(Storage(settings.state).database)
    queue = StudyQueue(database)
    for study, reason in (("1.2.3", "two slices are missing"), ("1.2.4", "")):
        queue.add([Identity(study, f"{study}.1", f"{study}.1.1", "1.2", "1.2")])
        queue.settle(study)
        queue.take()
        files = () if reason else ((f"{study}.dcm", ("share",)),)
        queue.finish(study, 1, [SeriesResult(f"{study}.1", "organs", files, reason)])
        queue.add([Identity(study, f"{study}.1", f"{study}.1.2", "1.2", "1.2")] if not reason else [])
    return config


def test_status_prints_what_failed_and_exits_with_1(with_failures, invoke):
    done = invoke(status, with_failures)
    assert done.exit_code == 1
    assert "1.2.3" in done.stdout
    assert "series 1.2.3.1, organs: two slices are missing" in done.stdout
    assert "1 results wait for share" in done.stdout
    state = json.loads(invoke(status, with_failures, "--json").stdout)
    assert state["counts"]["failed"] == 1
    assert state["failed"][0]["uid"] == "1.2.3"


def test_retry_says_what_happens_now(with_failures, invoke):
    done = invoke(retry, with_failures, "1.2.3")
    assert done.exit_code == 0
    assert "study 1.2.3: it is predicted again as soon as it has settled" in done.stdout
    done = invoke(status, with_failures)
    assert done.exit_code == 0
    done = invoke(retry, with_failures, "9")
    assert isinstance(done.exception, ConfigError)
    assert "knows no study 9" in str(done.exception)


def test_status_before_the_first_start(config, invoke):
    done = invoke(status, config)
    assert isinstance(done.exception, ConfigError)
    assert "start the node once" in str(done.exception)


@contextlib.contextmanager
def process(config):
    """A node as people start it; what it wrote to stderr."""
    words = [sys.executable, "-m", "attunet", "dicom", "node", str(config)]
    log = config.with_name("log.txt")
    with log.open("ab") as stream:
        node = subprocess.Popen(words, stderr=stream, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        wait_until(lambda: node.poll() is not None or is_ready(load_node_settings(config)))
        yield node, log
    finally:
        if node.poll() is None:
            node.kill()
        node.wait()


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
def test_the_node_logs_uids_only_and_stops_in_order(config, tmp_path):
    settings = load_node_settings(config)
    uid, files = write_study(tmp_path / "sources", **WRONG)
    with process(config) as (node, log):
        send_to(settings, files)
        wait_until(lambda: read_state(settings.state).counts["ignored"] == 1)
        node.send_signal(signal.SIGTERM)
        assert node.wait(60) == 0
    text = log.read_text()
    assert f"study {uid}: complete, 3 instances" in text
    assert "stopped; what is unfinished goes on at the next start" in text
    assert "Traceback" not in text
    assert not any(secret in text.replace(uid, "") for secret in SECRETS)


def test_a_model_that_does_not_exist_is_told_at_the_start(config):
    settings = yaml.safe_load(config.read_text())
    settings["rules"][0]["model"] = "nowhere"
    config.write_text(yaml.safe_dump(settings))
    with process(config) as (node, log):
        assert node.wait(60) == 2
    assert "nowhere" in log.read_text()
