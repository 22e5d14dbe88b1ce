"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attunet.errors import FormatError
from attunet.files import publish, remove_abandoned, staged, staging, write_text


def write_half(path, error):
    with staged(path) as stage:
        stage.write_text("half")
        raise error


def test_text_is_written_with_its_folders(tmp_path):
    path = tmp_path / "new" / "deep" / "note.txt"
    write_text(path, "µ\n")
    assert path.read_bytes() == "µ\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["note.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "note.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError):
        write_half(path, RuntimeError())
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["note.txt"]


def test_both_files_of_a_format_arrive_the_named_one_last(tmp_path):
    path = tmp_path / "scan.mhd"
    with staged(path) as stage:
        stage.write_text("header")
        stage.with_suffix(".raw").write_text("data")
        assert not list(tmp_path.glob("scan*"))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["scan.mhd", "scan.raw"]


def test_a_folder_can_be_staged_too(tmp_path):
    with staged(tmp_path / "model") as stage:
        write_text(stage / "inner" / "note.txt", "whole")
    assert (tmp_path / "model" / "inner" / "note.txt").read_text() == "whole"


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path):
    with pytest.raises(FormatError, match="No space left on device") as refused:
        write_half(tmp_path / "note.txt", OSError(errno.ENOSPC, "No space left on device"))
    assert "free disk space" in refused.value.hint
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FormatError, match="cannot write into"):
        write_text(tmp_path / "file" / "note.txt", "text")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos: No space left on device"),
        ValueError("I/O error: File too large (os error 27)"),
    ],
    ids=["torch", "safetensors"],
)
def test_a_full_disk_is_known_by_what_libraries_say(tmp_path, error):
    with pytest.raises(FormatError, match=r"cannot write .*note\.txt"):
        write_half(tmp_path / "note.txt", error)


def test_a_disk_that_takes_no_more_is_known_whatever_is_said(tmp_path):
    code = (
        "import resource, sys; from pathlib import Path; from attunet.errors import FormatError;"
        "from attunet.files import staged; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "try:\n"
        "    with staged(Path(sys.argv[1])) as stage:\n"
        "        stage.write_bytes(bytes(9000)); raise RuntimeError('unexpected pos 64 vs 0')\n"
        "except FormatError as error: print(error.message)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "big"], capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert not list(tmp_path.iterdir())


def test_what_a_killed_program_left_is_removed_by_the_next(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from attunet.files import staged\n"
        "with staged(Path(sys.argv[1])) as stage:\n"
        "    stage.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "mask.nii"], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    write_text(tmp_path / "note.txt", "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["note.txt"]


def test_the_stage_of_a_running_program_stays(tmp_path):
    with staged(tmp_path / "slow.txt") as stage:
        stage.write_text("slow")
        remove_abandoned(tmp_path)
    assert (tmp_path / "slow.txt").read_text() == "slow"


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_follow_the_umask_whatever_writes_them(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        with staged(tmp_path / "model") as stage:
            stage.mkdir()
            for name, private in (("weights", 0o600), ("graph", 0o666)):
                os.close(os.open(stage / name, os.O_CREAT, private))
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == {
        "weights": mode,
        "graph": mode,
    }


def write_two_on_a_full_disk(path):
    with staged(path) as stage:
        write_half(stage / "graph", OSError(errno.ENOSPC, "No space left on device"))


def test_an_error_names_the_target_rather_than_the_hidden_folder(tmp_path):
    with pytest.raises(FormatError) as refused:
        write_two_on_a_full_disk(tmp_path / "model")
    assert refused.value.message == f"cannot write {tmp_path / 'model' / 'graph'}: No space left on device"


def test_a_stage_that_a_signal_left_is_removed_at_the_end(tmp_path):
    code = """
import sys
from pathlib import Path
from pathlib import Path
from attunet import files
files.write_text(Path(sys.argv[1]) / "a.txt", "a")
files._make_stage(Path(sys.argv[1]))
raise KeyboardInterrupt
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_the_first_to_publish_wins_and_the_mark_comes_last(tmp_path):
    for text in ("first", "second"):
        with staging(tmp_path / "scan") as stage:
            write_text(stage / "maps" / "scan.json", text)
            write_text(stage / "scan.txt", text)
            assert publish(stage, tmp_path, Path("scan.txt")) is (text == "first")
    assert (tmp_path / "scan.txt").read_text() == "first"
    assert (tmp_path / "maps" / "scan.json").read_text() == "first"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["maps", "scan.txt"]


def test_what_a_dead_program_published_without_its_mark_is_replaced(tmp_path):
    write_text(tmp_path / "maps" / "scan.json", "old")
    with staging(tmp_path / "scan") as stage:
        write_text(stage / "maps" / "scan.json", "new")
        write_text(stage / "scan.txt", "new")
        assert publish(stage, tmp_path, Path("scan.txt"))
    assert (tmp_path / "maps" / "scan.json").read_text() == "new"


def test_files_are_published_where_they_cannot_have_two_names(tmp_path, monkeypatch):
    def refuse(*_paths):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for text in ("first", "second"):
        with staging(tmp_path / "scan") as stage:
            write_text(stage / "scan.txt", text)
            publish(stage, tmp_path, Path("scan.txt"))
    assert (tmp_path / "scan.txt").read_text() == "first"
