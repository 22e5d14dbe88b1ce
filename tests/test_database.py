"""A file of SQLite with steps that are whole."""

import pytest

from attunet.database import Database, Schema
from attunet.errors import ConfigError, FormatError

TABLE = Schema("CREATE TABLE thing (name TEXT PRIMARY KEY);", 3, "make it first")


@pytest.fixture
def database(tmp_path):
    opened = Database(tmp_path / "things.sqlite", TABLE)
    yield opened
    opened.close()


def names(database):
    return [row["name"] for row in database.rows("SELECT name FROM thing ORDER BY name")]


def test_a_step_is_whole(database):
    with database.step() as step:
        step.execute("INSERT INTO thing VALUES ('a')")
        with database.step() as inner:
            inner.execute("INSERT INTO thing VALUES ('b')")
    with pytest.raises(FormatError, match="UNIQUE"), database.step() as step:
        step.executemany("INSERT INTO thing VALUES (?)", [("c",), ("a",)])
    assert names(database) == ["a", "b"]


def test_other_programs_see_what_is_finished(database):
    with database.step() as step:
        step.execute("INSERT INTO thing VALUES ('a')")
        reader = Database(database.path, TABLE, writable=False)
        assert names(reader) == []
    assert names(reader) == ["a"]
    with pytest.raises(FormatError, match="cannot be used"):
        reader.rows("INSERT INTO thing VALUES ('b')")
    reader.close()


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="does not exist; make it first"):
        Database(tmp_path / "none.sqlite", TABLE, writable=False)


def test_other_tables_are_refused(database):
    with pytest.raises(ConfigError, match="has version 3, expected 4"):
        Database(database.path, Schema("", 4, ""))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "text").write_text("no database, and long enough to look at" * 50)
    with pytest.raises(FormatError, match="file is not a database"):
        Database(tmp_path / "text", TABLE)
