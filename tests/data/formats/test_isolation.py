"""Readers in a process of their own: what they read, and how a crash, a loop and an error end."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest

from attunet.data.formats import isolation
from attunet.data.formats.isolation import in_own_process
from attunet.data.formats.series import WhatToRead
from attunet.data.volume import Volume
from attunet.errors import FormatError

READERS = """
import os, time
import numpy as np
from attunet.data.volume import Volume
from attunet.errors import FormatError

def good(path, part):
    print("a library prints")
    array = np.arange(2 * 3 * 4 * 5, dtype=">i2").reshape(2, 3, 4, 5)[:, ::-1]
    return Volume(array + (part.frame or 0), np.diag([2.0, 3, 4, 1]), "um", calibrated=False)

def refusing(path, part):
    raise FormatError(f"{path} has no {part.key}", hint="add it")

def foreign(path, part):
    raise LookupError("lost")

def crash(path, part):
    os.abort()

def loop(path, part):
    while True:
        pass

def sleep(path, part):
    time.sleep(99)

def cut(path, part):
    os.write(3, b"{}")
    os._exit(0)
"""


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A function that makes a reader of this name run apart."""
    (tmp_path / "some_readers.py").write_text(READERS)
    (tmp_path / "x.h5").write_bytes(b"content")
    monkeypatch.syspath_prepend(tmp_path)

    def make(name):
        import some_readers

        read = in_own_process(getattr(some_readers, name))
        return lambda **part: read(tmp_path / "x.h5", WhatToRead(**part))

    return make


def test_a_volume_arrives_as_it_was_read(reader):
    volume = reader("good")(frame=7)
    expected = np.arange(120, dtype=np.int16).reshape(2, 3, 4, 5)[:, ::-1] + 7
    np.testing.assert_array_equal(volume.array, expected)
    assert isinstance(volume, Volume)
    assert (volume.spacing, volume.unit, volume.calibrated) == ((2, 3, 4), "um", False)


def test_errors_of_ours_keep_their_words_and_others_name_the_file(reader):
    with pytest.raises(FormatError, match=r"x\.h5 has no mask") as refused:
        reader("refusing")(key="mask")
    assert refused.value.hint == "add it"
    with pytest.raises(FormatError, match=r"cannot read .*x\.h5: .*lost"):
        reader("foreign")()


@pytest.mark.parametrize("name", ["crash", "loop", "sleep", "cut"])
def test_a_process_that_does_not_answer_costs_one_file(name, reader, monkeypatch):
    monkeypatch.setattr(isolation, "SECONDS", 1)
    monkeypatch.setattr(isolation, "PATIENCE", 2)
    started = time.monotonic()
    with pytest.raises(FormatError, match="ended without an answer") as refused:
        reader(name)()
    assert refused.value.hint
    assert time.monotonic() - started < 20


def test_nothing_is_imported_from_the_folder_of_the_data(reader, tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    (data / "numpy.py").write_text("import os, signal; os.kill(os.getppid(), signal.SIGTERM)")
    monkeypatch.chdir(data)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        assert reader("good")().channels == 2
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
