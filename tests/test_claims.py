"""Claims: one program at a time makes a thing, and what a killed one claimed is free."""

from __future__ import annotations

import threading
import time

import pytest

from attunet.claims import claimed, claimed_in_turn
from attunet.errors import BusyError, CancelledError
from attunet.locks import LOCK


def test_what_is_made_is_made_by_one_program(tmp_path):
    output = tmp_path / "new" / "model"
    with claimed(output, "attunet export"):
        told = []

        def make():
            try:
                claimed(output, "attunet select").__enter__()
            except BusyError as error:
                told.append(error.message)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        assert told[0].startswith(f"{output} is in use by attunet export")
        output.mkdir()
    assert list(output.parent.iterdir()) == [output]
    with pytest.raises(CancelledError), claimed(tmp_path / "other" / "model"):
        raise CancelledError("stopped")
    assert not (tmp_path / "other").exists()


def test_what_was_claimed_by_a_killed_program_is_free(tmp_path):
    (tmp_path / ".model.attunet-claim").mkdir()
    (tmp_path / ".model.attunet-claim" / LOCK).write_text("{}")
    with claimed(tmp_path / "model"):
        pass
    assert not list(tmp_path.iterdir())


def test_what_another_program_makes_is_waited_for(tmp_path):
    events, begun = [], threading.Event()

    def make():
        with claimed(tmp_path / "case"):
            begun.set()
            time.sleep(0.3)
            events.append("first")

    thread = threading.Thread(target=make)
    thread.start()
    begun.wait(10)
    with claimed_in_turn(tmp_path / "case", patience=30.0):
        events.append("second")
    thread.join()
    assert events == ["first", "second"]
    assert not list(tmp_path.iterdir())


def test_a_program_that_never_ends_is_not_waited_for_for_ever(tmp_path):
    begun, end = threading.Event(), threading.Event()

    def make():
        with claimed(tmp_path / "case"):
            begun.set()
            end.wait(30)

    thread = threading.Thread(target=make)
    thread.start()
    begun.wait(10)
    with claimed_in_turn(tmp_path / "case", patience=0.2):
        end.set()
    thread.join()


def test_programs_that_come_and_go_do_not_trip_over_what_the_others_remove(tmp_path):
    """Each removes the folder of its lock, and an empty parent that it made, while the next one creates them."""
    failures = []

    def make():
        try:
            for _ in range(100):
                with claimed_in_turn(tmp_path / "new" / "case", patience=30.0):
                    pass
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert not list(tmp_path.rglob(".case*"))
