"""Fixtures for nodes: settings of a fast one, and its state."""

import pytest
from dicom_peers import free_port

from attunet.dicom.node import NodeSettings, read_state
from attunet.dicom.node.database import StudyDatabase
from attunet.dicom.node.intake import Intake
from attunet.dicom.node.queue import StudyQueue
from attunet.dicom.node.storage import Storage


@pytest.fixture
def make_settings(tmp_path):
    """`make_settings(**changes)`: settings of a node that sends to a folder, which is not started."""

    def make(**changes):
        values = {
            "state": tmp_path / "state",
            "settle": 0.3,
            "receive": {"port": free_port()},
            "rules": [{"name": "organs", "model": tmp_path / "model", "modality": ["CT"]}],
            "destinations": [{"name": "share", "address": str(tmp_path / "share")}],
            "retry": {"first": 0.1, "longest": 0.3},
            "least_free_mb": 0,
            "page": None,
        }
        return NodeSettings.model_validate({**values, **changes})

    return make


@pytest.fixture
def node_settings(make_settings, pacs):
    """`node_settings(**changes)`: settings of a node that sends to `pacs`."""

    def make(**changes):
        return make_settings(**{"destinations": [{"name": "pacs", "address": pacs.address}], **changes})

    return make


@pytest.fixture(scope="session")
def counts():
    """`counts(settings)`: the studies in each state that has any."""

    def read(settings):
        return {state: number for state, number in read_state(settings.state).counts.items() if number}

    return read


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "state")


@pytest.fixture
def queue(storage, clock):
    database = StudyDatabase(storage.database)
    yield StudyQueue(database, clock)
    database.close()


@pytest.fixture
def intake(queue, storage, clock):
    return Intake(queue, storage, clock)
