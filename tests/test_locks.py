"""One program at a time in a folder, and no lock survives its program."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from attunet import locks
from attunet.errors import BusyError, FormatError
from attunet.locks import LOCK, Holder, exclusive, exclusive_if_writable, require_held, sharing

HOLD = """
import sys, time
from pathlib import Path
from attunet.locks import exclusive
with exclusive(Path(sys.argv[1]), "attunet train"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_program(tmp_path):
    """A process that holds the folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_program_is_refused_with_the_name_of_the_first(tmp_path, other_program):
    with (
        pytest.raises(BusyError, match=f"attunet train, process {other_program.pid} on ") as refused,
        exclusive(tmp_path),
    ):
        pass
    assert "choose another folder" in refused.value.hint


def test_a_kill_leaves_no_lock(tmp_path, other_program):
    other_program.kill()
    other_program.wait()
    with exclusive(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_the_folder_is_created_and_left_as_it_was(tmp_path):
    with exclusive(tmp_path / "new"):
        assert (tmp_path / "new" / LOCK).is_file()
    assert not list((tmp_path / "new").iterdir())


def test_a_step_of_the_holder_may_enter_again(tmp_path):
    with exclusive(tmp_path):
        with exclusive(tmp_path):
            pass
        assert (tmp_path / LOCK).is_file()
    assert not list(tmp_path.iterdir())


def test_another_thread_is_another_user(tmp_path):
    told = []

    def enter():
        try:
            with exclusive(tmp_path):
                told.append("entered")
        except BusyError as error:
            told.append(error.message)

    with exclusive(tmp_path, "attunet predict"):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert "attunet predict" in told[0]


def test_an_error_releases_the_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt), exclusive(tmp_path):
        raise KeyboardInterrupt
    with exclusive(tmp_path):
        pass


def test_without_locks_of_the_file_system_the_holder_decides(tmp_path, other_program, monkeypatch):
    monkeypatch.setattr(locks, "lock_descriptor", lambda *_words, **_how: None)
    with pytest.raises(BusyError) as refused, exclusive(tmp_path):
        pass
    assert f"delete {tmp_path / LOCK}" in refused.value.hint
    other_program.kill()
    other_program.wait()
    with exclusive(tmp_path):
        pass


def test_a_program_of_another_machine_may_run(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "lock_descriptor", lambda *_words, **_how: None)
    holder = Holder.this("attunet train")
    (tmp_path / LOCK).write_text(
        f'{{"host": "elsewhere", "pid": {2**22}, "since": "{holder.since}", "doing": "{holder.doing}"}}'
    )
    with pytest.raises(BusyError, match="on elsewhere"), exclusive(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FormatError, match="cannot write into"), exclusive(tmp_path / "file"):
        pass


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_reported(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FormatError, match="cannot write into"), exclusive(tmp_path):
        pass


def test_a_folder_in_use_is_refused_and_others_are_not(tmp_path):
    refusals = []

    def use(name):
        try:
            with exclusive_if_writable([tmp_path / name], "attunet train"):
                pass
        except BusyError as error:
            refusals.append(error.message)

    with exclusive_if_writable([tmp_path / "fold_0"], "attunet train"):
        for name in ("fold_0", "fold_2"):
            other = threading.Thread(target=use, args=(name,))
            other.start()
            other.join()
    assert len(refusals) == 1
    assert "fold_0 is in use by attunet train" in refusals[0]
    assert not list(tmp_path.iterdir())


def test_folders_that_a_refused_program_made_are_removed(tmp_path):
    with pytest.raises(ValueError, match="refused"), exclusive_if_writable([tmp_path / "run" / "fold_0"]):
        raise ValueError("refused")
    assert not list(tmp_path.iterdir())


def attempt(enter):
    """What another thread is told that enters a folder: "entered", or why not."""
    told = []

    def run():
        try:
            with enter():
                told.append("entered")
        except BusyError as error:
            told.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return told[0]


@pytest.fixture
def _impatient(monkeypatch):
    monkeypatch.setattr(locks, "_MOMENT", 0.0)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("kernel", [True, False])
def test_parts_share_a_folder_with_each_other_only(tmp_path, monkeypatch, kernel):
    if not kernel:
        monkeypatch.setattr(locks, "lock_descriptor", lambda *_words, **_how: None)
    with sharing(tmp_path, 0, 4, "part 0"):
        with exclusive(tmp_path):  # the same thread
            assert attempt(lambda: sharing(tmp_path, 1, 4)) == "entered"
        assert "in use by part 0" in attempt(lambda: sharing(tmp_path, 0, 4))
        assert "--num-parts 4 as they do" in attempt(lambda: sharing(tmp_path, 0, 5))
        assert "in use by part 0" in attempt(lambda: exclusive(tmp_path, "a whole run"))
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []
    with exclusive(tmp_path, "a whole run"):
        assert "in use by a whole run" in attempt(lambda: sharing(tmp_path, 0, 4))
    assert list(tmp_path.iterdir()) == []


def test_the_folder_stays_held_until_the_last_part_leaves(tmp_path):
    with sharing(tmp_path, 0, 2):
        attempt(lambda: sharing(tmp_path, 1, 2))
        require_held(tmp_path)
        assert "in use" in attempt(lambda: exclusive(tmp_path))
    assert attempt(lambda: exclusive(tmp_path)) == "entered"
