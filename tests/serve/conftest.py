"""A server that the tests share, and a client of it."""

import pytest


@pytest.fixture(scope="session")
def running(start_server, gated):
    """A server that all tests of a session use."""
    return start_server({"organs": gated})


@pytest.fixture
def client(running):
    with running.client() as client:
        yield client
