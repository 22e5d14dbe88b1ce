"""The page with the state: for this machine, read-only, and nothing in it acts."""

import contextlib
import json
import urllib.error
import urllib.request

import pytest
from dicom_peers import free_port

from attunet.dicom.network import Identity
from attunet.dicom.node.page import serving_page
from attunet.dicom.node.queue import SeriesResult
from attunet.dicom.node.settings import PageSettings
from attunet.errors import ConfigError


@pytest.fixture
def page(storage, queue):
    """Its URL; the state has one failed study, whose reason is markup."""
    queue.add([Identity("1.2.3", "1.2.3.1", "1.2.3.1.1", "1.2", "1.2")])
    queue.settle("1.2.3")
    queue.take()
    queue.finish("1.2.3", 1, [SeriesResult("1.2.3.1", "organs", (), "<script>alert(1)</script>")])
    settings = PageSettings(port=free_port())
    with serving_page(settings, storage.folder):
        yield f"http://127.0.0.1:{settings.port}"


def get(url, host=None, method="GET"):
    request = urllib.request.Request(url, headers={"Host": host} if host else {}, method=method)
    with contextlib.closing(urllib.request.urlopen(request, timeout=10)) as answer:
        return answer.read().decode(), answer.headers


def status(*how, **named):
    with pytest.raises(urllib.error.HTTPError) as error:
        get(*how, **named)
    return error.value.code


def test_people_see_the_state(page):
    text, headers = get(f"{page}/")
    assert "1.2.3" in text
    assert "Dead-letter list" in text
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"


def test_programs_read_json(page):
    state = json.loads(get(f"{page}/state.json")[0])
    assert state["counts"]["failed"] == 1
    assert state["failed"][0]["uid"] == "1.2.3"


def test_there_is_nothing_else(page):
    assert status(f"{page}/queue.sqlite") == 404
    assert status(f"{page}/../queue.sqlite") == 404
    assert status(f"{page}/", method="POST") == 501


def test_names_that_lead_here_from_elsewhere_are_refused(page):
    assert status(f"{page}/state.json", host="evil.example") == 403
    assert status(f"{page}/state.json", host="evil.example:80") == 403
    for host in ("localhost", "localhost:8080", "127.0.0.1", "[::1]:80"):
        assert "counts" in get(f"{page}/state.json", host=host)[0]


def test_a_port_in_use_is_one_clear_error(page, storage):
    settings = PageSettings(port=int(page.rpartition(":")[2]))
    with pytest.raises(ConfigError, match="cannot listen on"), serving_page(settings, storage.folder):
        pass
