"""Errors as answers."""

import json

import pytest

from attunet.errors import (
    AttunetError,
    BundleError,
    BusyError,
    ConfigError,
    DatasetError,
    FormatError,
    GeometryError,
    NetworkError,
    RefusedError,
)
from attunet.serve.access import DeniedError, TooManyFailuresError
from attunet.serve.multipart import TooLargeError
from attunet.serve.problems import ForeignRequestError, problem


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (DeniedError, 401),
        (ForeignRequestError, 403),
        (DatasetError, 404),
        (TooLargeError, 413),
        (ConfigError, 422),
        (FormatError, 422),
        (GeometryError, 422),
        (BusyError, 429),
        (TooManyFailuresError, 429),
        (BundleError, 500),
        (AttunetError, 500),
        (NetworkError, 502),
        (RefusedError, 502),
    ],
)
def test_each_kind_has_a_status(kind, status):
    answer = problem(kind("what happened", hint="what to do"))
    told = json.loads(answer.body)
    assert (answer.status_code, told["status"]) == (status, status)
    assert (told["detail"], told["hint"]) == ("what happened", "what to do")
    assert answer.media_type == "application/problem+json"
    assert ("retry-after" in answer.headers) == (status == 429)


def test_a_mistake_of_ours_tells_nothing_but_a_reference(caplog):
    told = json.loads(problem(KeyError("PATIENT^MARIA")).body)
    assert told["status"] == 500
    assert "PATIENT" not in str(told) + caplog.text
    assert caplog.records[0].getMessage().split()[1].rstrip(":") in told["detail"]
