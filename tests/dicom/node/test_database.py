"""The file behind the queue: whole steps or none, versions, and damage."""

import threading

import pytest

from attunet.dicom.node.database import StudyDatabase
from attunet.errors import ConfigError, FormatError


@pytest.fixture
def database(tmp_path):
    opened = StudyDatabase(tmp_path / "queue.sqlite")
    yield opened
    opened.close()


def count(database):
    return database.rows("SELECT COUNT(*) FROM study")[0][0]


def add(step, uid):
    step.execute("INSERT INTO study (uid, state, since) VALUES (?, 'receiving', 0)", (uid,))


def test_a_step_that_fails_leaves_nothing(database):
    def fails():
        with database.step() as step:
            add(step, "1")
            with database.step() as inner:
                add(inner, "2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert count(database) == 0
    with database.step() as step:
        add(step, "1")
    assert count(database) == 1


def test_threads_wait_for_each_other(database):
    def work(first):
        for number in range(20):
            with database.step() as step:
                add(step, f"{first}.{number}")

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(database) == 80


def test_another_program_may_read_and_write_at_the_same_time(database):
    other = StudyDatabase(database.path)
    with other.step() as step:
        add(step, "1")
    assert count(database) == 1
    other.close()
    reader = StudyDatabase(database.path, writable=False)
    assert count(reader) == 1
    with pytest.raises(FormatError, match="readonly"), reader.step() as step:
        add(step, "2")
    reader.close()


def test_it_can_be_read_after_its_node_has_ended(tmp_path):
    database = StudyDatabase(tmp_path / "queue.sqlite")
    with database.step() as step:
        add(step, "1")
    database.close()
    reader = StudyDatabase(tmp_path / "queue.sqlite", writable=False)
    assert count(reader) == 1
    reader.close()


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        StudyDatabase(tmp_path / "queue.sqlite", writable=False)
    (tmp_path / "text").write_text("no database, but a text that is long enough to be one" * 10)
    with pytest.raises(FormatError, match="cannot be used: file is not a database"):
        StudyDatabase(tmp_path / "text")
    with pytest.raises(FormatError, match="cannot be used"):
        StudyDatabase(tmp_path / "missing" / "queue.sqlite")


def test_the_file_of_another_version_is_refused(database):
    with database.step() as step:
        step.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="has version 99, expected 1"):
        StudyDatabase(database.path)
