"""Whatever changes in the files of a case changes their states, and only content changes the digest."""

from __future__ import annotations

import os

import pytest

from attunet.data.file_states import content_digest, file_states, with_data_files


def test_an_edit_in_place_with_the_old_time_and_size_is_seen(tmp_path):
    path = tmp_path / "label.npy"
    path.write_bytes(b"first")
    before, content = file_states([path]), content_digest([path])
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(b"other")
    os.utime(path, ns=times)
    assert file_states([path])[0][:3] == before[0][:3]
    assert file_states([path]) != before
    assert content_digest([path]) != content


def test_a_copy_has_the_same_content(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.nii").write_bytes(b"voxels")
    assert content_digest([tmp_path / "a/x.nii"]) == content_digest([tmp_path / "b/x.nii"])


@pytest.mark.parametrize(
    ("name", "text", "data"),
    [
        ("a.mhd", "ElementDataFile = other.raw\n", ["other.raw"]),
        ("a.mhd", "ElementDataFile = LOCAL\n", []),
        ("a.nhdr", "NRRD0004\ndata file: LIST\none.gz\ntwo.gz\n", ["one.gz", "two.gz"]),
        ("a.nhdr", "NRRD0004\ndata file: slice%03d.bz2 1 2 1\n", ["one.gz", "other.raw", "slice001.bz2", "two.gz"]),
        ("a.hdr", "\0one.gz", ["a.img"]),
        ("a.nii", "other.raw", []),
    ],
)
def test_data_files_of_headers(name, text, data, tmp_path):
    for other in ("other.raw", "one.gz", "two.gz", *data):
        (tmp_path / other).write_bytes(b"x")
    (tmp_path / name).write_text(text)
    assert with_data_files([tmp_path / name]) == [tmp_path / name, *(tmp_path / file for file in data)]


def test_a_folder_stands_for_its_files(tmp_path):
    (tmp_path / "a.zarr/0").mkdir(parents=True)
    (tmp_path / "a.zarr/0/chunk").write_bytes(b"x")
    before = file_states([tmp_path / "a.zarr"])
    assert [state[0] for state in before] == ["chunk"]
    (tmp_path / "a.zarr/0/chunk").write_bytes(b"y")
    assert file_states([tmp_path / "a.zarr"]) != before
