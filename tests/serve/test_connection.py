"""Slow clients, over raw sockets."""

import asyncio
import time

import pytest
import uvicorn

from attunet.serve.server import make_app, server_config
from attunet.serve.service import Service
from attunet.serve.settings import ServeSettings

HEADERS, BODY = 0.6, 1.2
PATIENCE = 20


@pytest.fixture
def ask(gated, tmp_path):
    """`ask(pieces, pause)`: what the server answers to these pieces, and after how many seconds it hangs up."""

    def run(pieces, pause, app=None):
        settings = ServeSettings(
            models={"organs": gated}, data=tmp_path / "data", header_seconds=HEADERS, body_seconds=BODY, port=0
        )
        service = Service(settings)
        config = server_config(settings, app or make_app(service))
        config.lifespan = "off"  # no worker is needed
        try:
            return asyncio.run(talk(config, pieces, pause))
        finally:
            service._parts.close()

    return run


async def talk(config, pieces, pause):
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.monotonic()

    async def send():
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    sending = asyncio.create_task(send())
    try:
        answer = await asyncio.wait_for(received(reader), PATIENCE)
        return answer, time.monotonic() - started
    finally:
        sending.cancel()
        writer.close()
        server.should_exit = True
        await server.shutdown()


async def received(reader):
    """Everything until the server hangs up; a client that is still sending then may see a reset instead of an end."""
    answer = b""
    try:
        while block := await reader.read(2**16):
            answer += block
    except ConnectionResetError:
        pass
    return answer


def single(text):
    return [bytes([byte]) for byte in text]


def test_headers_that_come_byte_by_byte_end_the_connection(ask):
    answer, seconds = ask(single(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 1000), 0.05)
    assert answer == b""
    assert HEADERS * 0.9 <= seconds < PATIENCE / 2


def test_nothing_at_all_ends_it_too(ask):
    answer, seconds = ask([], 0)
    assert answer == b""
    assert seconds < PATIENCE / 2


def test_a_body_that_does_not_move_is_answered_and_ends_the_connection(ask):
    head = b"POST /api/v1/scans HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"
    answer, seconds = ask([head, b"--x\r\n"], 0)
    assert b" 408 " in answer.splitlines()[0]
    assert BODY * 0.9 <= seconds < PATIENCE / 2


@pytest.mark.integration
def test_a_body_that_moves_may_take_longer(ask):
    head = b"POST /api/v1/scans HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20\r\n\r\n"
    answer, seconds = ask([head, *single(b"--x\r\n" + b"x" * 15)], BODY / 8)
    assert b" 422 " in answer.splitlines()[0]
    assert seconds > 2 * BODY


def test_what_nobody_reads_of_a_body_does_not_keep_the_connection(ask):
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
    answer, seconds = ask([head, *single(b"x" * 1000)], 0.1)
    assert b" 200 " in answer.splitlines()[0]
    assert seconds < PATIENCE / 2


@pytest.mark.integration
def test_a_long_answer_is_not_cut_and_the_next_request_is_answered(ask):
    async def app(scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        for number in range(3):
            await asyncio.sleep(HEADERS)
            await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": number < 2})

    request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    answer, _ = ask([request, request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")], 3.2 * HEADERS, app)
    assert answer.count(b"0\n1\n2\n") == 2
