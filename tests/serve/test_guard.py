"""What every request passes."""

import asyncio
import logging

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from attunet.serve.access import Access
from attunet.serve.guard import COOKIE, Guard
from attunet.serve.problems import answer_problems
from attunet.serve.settings import ServeSettings

TOKEN = "a token of sufficient length"


def guarded(token=None, *, base="http://127.0.0.1:8000", **settings):
    app = FastAPI()
    answer_problems(app)
    seen = []

    @app.get("/healthz")
    def healthz():
        return "ok"

    @app.get("/api/v1/things/{name}")
    def thing(name: str):
        return name

    @app.post("/api/v1/things")
    async def post(request: Request):
        return len(await request.body())

    @app.get("/fault")
    def fault():
        raise RuntimeError("PATIENT^MARIA")

    settings = ServeSettings(models={}, data="data", token=token, **settings)
    access = Access(token)
    client = TestClient(
        Guard(app, settings, access, lambda *answer: seen.append(answer)), base_url=base, raise_server_exceptions=False
    )
    client.access, client.seen = access, seen
    return client


def test_an_open_server_answers_this_machine():
    client = guarded()
    assert client.get("/api/v1/things/x").json() == "x"
    assert client.post("/api/v1/things", content=b"abc").json() == 3
    assert client.seen == [("GET", "/api/v1/things/{name}", 200), ("POST", "/api/v1/things", 200)]


@pytest.mark.parametrize(
    "host", ["attacker.example", "127.0.0.1.attacker.example", "", "localhost@attacker.example:8000"]
)
def test_a_server_that_is_called_by_another_name_does_not_answer(host):
    """A page of a stranger, whose name leads to 127.0.0.1, is of our origin for the browser (DNS rebinding)."""
    answer = guarded().get("/healthz", headers={"Host": host})
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "seg.hospital.example", "SEG.hospital.example:8000"]
)
def test_its_own_names_are_known(host):
    client = guarded(hosts=("seg.hospital.example",))
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:9000"},
    ],
)
def test_pages_of_others_do_not_act_for_a_user(headers):
    assert guarded().post("/api/v1/things", headers=headers).status_code == 403


def test_our_own_page_and_named_origins_may_act():
    client = guarded(origins=("https://viewer.example",))
    own = {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/v1/things", headers=own).status_code == 200
    named = {"Origin": "https://viewer.example", "Sec-Fetch-Site": "cross-site"}
    answer = client.post("/api/v1/things", headers=named)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://viewer.example"
    assert "access-control-allow-origin" not in client.get("/healthz").headers
    assert client.get("/api/v1/things/x", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_a_password_opens_everything_but_the_state(caplog):
    client = guarded(TOKEN)
    assert client.get("/healthz").status_code == 200
    refused = client.get("/api/v1/things/x")
    assert refused.status_code == 401
    assert "Bearer" in refused.headers["www-authenticate"]
    assert client.get("/api/v1/things/x", headers={"Authorization": f"bearer {TOKEN}"}).json() == "x"
    client.cookies.set(COOKIE, client.access.login("", TOKEN, "here"))
    assert client.get("/api/v1/things/x").json() == "x"


def test_guessing_ends_with_a_wait():
    client = guarded(TOKEN)
    statuses = [client.get("/api/v1/things/x", headers={"Authorization": "Bearer no"}).status_code for _ in range(12)]
    assert statuses[:10] == [401] * 10
    assert statuses[10:] == [429] * 2
    answer = client.get("/api/v1/things/x", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0


def test_behind_a_proxy_the_last_address_counts():
    """Who writes a list of addresses does not get new tries."""
    client = guarded(TOKEN, behind_proxy=True)
    wrong = {"Authorization": "Bearer no"}
    for number in range(10):
        client.get("/api/v1/things/x", headers={**wrong, "X-Forwarded-For": f"10.0.0.{number}, 203.0.113.7"})
    right = {"Authorization": f"Bearer {TOKEN}"}
    for forwarded, status in (("10.9.9.9, 203.0.113.7", 429), ("203.0.113.8", 200)):
        headers = {**right, "X-Forwarded-For": forwarded}
        assert client.get("/api/v1/things/x", headers=headers).status_code == status


def test_only_forms_are_large():
    client = guarded()
    assert client.post("/api/v1/things", content=b"x" * (2**20 + 1)).status_code == 413
    assert client.post("/api/v1/things", content=iter([b"x"])).status_code == 413


@pytest.mark.parametrize("end", ["silence", "disconnect"])
def test_a_request_that_breaks_off_is_no_fault(caplog, end):
    client, sent = guarded(body_seconds=0.05), []

    async def receive():
        if end == "silence":
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"10")]
    scope = {"type": "http", "method": "POST", "path": "/api/v1/things", "headers": headers, "query_string": b""}
    asyncio.run(client.app(scope, receive, send))
    assert sent[0]["status"] == 408
    assert "error" not in caplog.text


def test_faults_and_logs_tell_nothing_of_patients(caplog):
    client = guarded()
    with caplog.at_level(logging.INFO, "attunet"):
        answer = client.get("/fault")
        client.get("/api/v1/things/PATIENT^MARIA")
        client.get("/api/v1/things/0123456789abcdef0123456789abcdef")
    assert answer.status_code == 500
    assert "PATIENT" not in answer.text + caplog.text
    audit = [record.getMessage() for record in caplog.records if record.name == "attunet.audit"]
    assert len(audit) == 3
    assert "GET /api/v1/things/{name} 0123456789abcdef0123456789abcdef 200" in audit[2]


def test_every_answer_has_headers_that_confine_a_page():
    answer = guarded(certificate="x").get("/nowhere")
    assert answer.status_code == 404
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "max-age" in answer.headers["strict-transport-security"]
    assert "strict-transport-security" not in guarded().get("/healthz").headers
