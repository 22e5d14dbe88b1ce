"""Fixtures for nodes: one that runs in a thread, with a predictor that needs no model."""

import contextlib
import threading
import time
import urllib.request
from uuid import NAMESPACE_OID, uuid5

import pydicom
import pytest
from pydicom.uid import SegmentationStorage

from attunet.dicom.network import parse_address, send_files
from attunet.dicom.node import Node, NodeSettings, read_state


def answer(folder, rule, output, cancelled):
    """A stand-in for a prediction: one object of a stable UID for each series and rule, whatever its pixels."""
    source = pydicom.dcmread(sorted(folder.glob("*.dcm"))[0], stop_before_pixels=True)
    source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    uid = f"2.25.{uuid5(NAMESPACE_OID, f'{folder.name}/{rule.name}').int}"
    source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = uid
    source.SeriesInstanceUID = f"{uid}"
    source.Modality = "SEG"
    source.ImageComments = f"{len(list(folder.glob('*.dcm')))} instances, {rule.name}"
    source.save_as(output / "answer.dcm", enforce_file_format=True)
    return {output / "answer.dcm": "dicom-seg"}


@pytest.fixture(scope="session")
def stand_in():
    """A predictor without a model."""
    return answer


def answer_uid(series, rule="organs"):
    return f"2.25.{uuid5(NAMESPACE_OID, f'{series}/{rule}').int}"


@pytest.fixture(scope="session")
def uid_of_answer():
    """The UID of the stand-in's object for a series."""
    return answer_uid


@pytest.fixture
def node_settings(tmp_path, free_port, pacs):
    """Settings of a fast node that sends to `pacs`; keyword arguments replace them."""

    def make(**changes):
        values = {
            "state": tmp_path / "state",
            "settle": 0.3,
            "receive": {"port": free_port()},
            "rules": [{"name": "organs", "model": tmp_path / "model", "modality": ["CT"]}],
            "destinations": [{"name": "pacs", "address": pacs.address}],
            "retry": {"first": 0.1, "longest": 0.3},
            "least_free_mb": 0,
            "page": None,
            **changes,
        }
        return NodeSettings.model_validate(values)

    return make


@pytest.fixture
def running():
    """`with running(settings, predict) as node:` a node at work in a thread of its own."""

    @contextlib.contextmanager
    def run(settings, predict=answer):
        node, failures = Node(settings, predict), []

        def work():
            try:
                node.run()
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            if settings.receive is not None:
                wait_until(lambda: failures or can_connect(settings.receive.port))
            if failures:
                raise failures[0]
            yield node
        finally:
            node.stop()
            thread.join(30)
            assert not thread.is_alive()
        if failures:
            raise failures[0]

    return run


def can_connect(port):
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="session")
def eventually():
    """`eventually(condition, seconds=20)`: wait until it is true."""
    return wait_until


@pytest.fixture(scope="session")
def send_to():
    """`send_to(settings, files)`: send files to a node; nothing was refused."""

    def send(settings, files, calling="SCANNER"):
        address = parse_address(f"dicom://{settings.receive.ae_title}@127.0.0.1:{settings.receive.port}")
        sent = list(send_files(address, files, calling=calling))
        assert [one.error for one in sent] == [None] * len(files)

    return send


@pytest.fixture(scope="session")
def counts():
    """`counts(settings)`: the studies in each state that has any."""

    def read(settings):
        return {state: number for state, number in read_state(settings.state).counts.items() if number}

    return read


@pytest.fixture(scope="session")
def fetch():
    """`fetch(url, host=None)`: status and body of an answer."""

    def get(url, host=None):
        request = urllib.request.Request(url, headers={"Host": host} if host else {})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return get
