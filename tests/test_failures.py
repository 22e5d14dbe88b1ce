"""Whatever fails in one case stays that case's failure, told as an error of attunet."""

from __future__ import annotations

import errno

import pytest

from attunet.errors import CancelledError, DataError, FormatError, GeometryError
from attunet.failures import Failures, as_attunet_error, one_case


def fail_with(error):
    with one_case("c1"):
        raise error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (KeyError("PixelData"), DataError, "unforeseen KeyError"),
        (MemoryError(), DataError, "not enough memory"),
        (RecursionError("maximum depth"), DataError, "nested too deeply"),
        (OSError(errno.EIO, "Input/output error", "scan.nii"), FormatError, "Input/output error: scan.nii"),
        (ZeroDivisionError(), DataError, "ZeroDivisionError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_exception_of_a_library_becomes_an_error_that_names_the_case(error, kind, words):
    with pytest.raises(kind, match=words) as told:
        fail_with(error)
    assert told.value.message.startswith("case c1: ")
    assert told.value.hint


def test_errors_of_attunet_stay_as_they_are():
    error = GeometryError("case c1 is askew")
    with pytest.raises(GeometryError) as told:
        fail_with(error)
    assert told.value is error
    assert as_attunet_error(error) is error


def test_the_other_cases_go_on():
    done, told, failures = [], [], Failures(lambda case, error: told.append((case, error.message)))
    for case in "abc":
        with failures.of(case):
            done.append({"a": 1, "c": 3}[case])
    assert done == [1, 3]
    assert failures.messages.keys() == {"b"}
    assert told == [("b", "unforeseen KeyError: 'b'")]
    failures.raise_if_all(len(done))


def test_a_failure_of_all_cases_is_the_programs():
    failures = Failures()
    with failures.of("a"):
        raise FormatError("no model")
    with pytest.raises(FormatError, match="no model"):
        failures.raise_if_all(0)


def test_a_failure_keeps_nothing_of_its_case_in_memory():
    failures = Failures()
    with failures.of("a"):
        raise MemoryError
    error = failures.errors["a"]
    assert error.__traceback__ is error.__cause__ is error.__context__ is None


@pytest.mark.parametrize("stop", [CancelledError("cancelled"), KeyboardInterrupt()])
def test_a_stop_is_not_a_failure(stop):
    failures = Failures()
    with pytest.raises(type(stop)), failures.of("a"):
        raise stop
    assert not failures.errors
