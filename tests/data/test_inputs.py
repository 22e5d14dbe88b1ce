"""Inputs of a prediction: tables, URLs, and images that are fetched to be read."""

from __future__ import annotations

import zipfile

import fsspec
import numpy as np
import pytest
from dicom_series import make_series, save_series

from attunet import storage
from attunet.data.cases import read_case_image
from attunet.data.formats import read_volume, write_volume
from attunet.data.inputs import fetched, find_inputs, input_bytes
from attunet.data.volume import Volume
from attunet.errors import DatasetError, EngineError, FormatError


def write_scan(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(np.full((1, 4, 5, 6), value, np.int16), np.eye(4)), path)
    return path


@pytest.fixture
def bucket(tmp_path):
    """`bucket(**files)`: files in the storage of memory, by name and what they are copied from."""
    files = fsspec.filesystem("memory")
    files.store.clear()

    def put(**named):
        for name, source in named.items():
            files.pipe_file(f"/bucket/{name}", source if isinstance(source, bytes) else source.read_bytes())

    return put


def ids(cases):
    return [case.id for case in cases]


def write_parquet(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_a_table_names_cases_and_its_paths_are_relative_to_it(tmp_path):
    first, second = write_scan(tmp_path / "in" / "a.nii.gz"), write_scan(tmp_path / "in" / "deep" / "b.nrrd", 7)
    table = tmp_path / "in" / "list.csv"
    table.write_text("id,image,split\n,a.nii.gz,test\nsecond,deep/b.nrrd,\n")
    cases = find_inputs([table], 1)
    assert [(case.id, case.images) for case in cases] == [("a", (first,)), ("second", (second,))]
    assert read_case_image(cases[1]).array.max() == 7
    assert input_bytes(cases[0]) == first.stat().st_size


def test_numbers_of_channels_are_no_part_of_names(tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("image,id\np1_0000.nii,\ns3://bucket/p2_0000.nii,\np3_0000.nii,other\n")
    assert ids(find_inputs([table], 1)) == ["p1", "p2", "other"]
    table.write_text("image\np1_0000.nii\np1_0001.nii\n")
    assert ids(find_inputs([table], 1)) == ["p1_0000", "p1_0001"]
    table.write_text("image\np1_0000.nii\np2.nii\n")
    assert ids(find_inputs([table], 1)) == ["p1_0000", "p2"]


def test_parquet_is_a_table_too(tmp_path):
    image = write_scan(tmp_path / "a.nii")
    table = write_parquet(tmp_path / "list.parquet", id=[1.0, 2.0, None], image=[str(image), "b.nii", "c.nii"])
    assert ids(find_inputs([table], 1)) == ["1", "2", "c"]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DatasetError, match="as Parquet"):
        find_inputs([tmp_path / "bad.parquet"], 1)


def test_parquet_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "list.parquet").write_bytes(b"")
    monkeypatch.setattr("attunet.data.layouts.table_rows.find_spec", lambda _name: None)
    with pytest.raises(EngineError, match="pyarrow") as caught:
        find_inputs([tmp_path / "list.parquet"], 1)
    assert 'pip install "attunet[cluster]"' in caught.value.hint


def test_columns_of_channels_follow_the_model(tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("image_flair,image_T1\nf.nii,t.nii\n")
    (case,) = find_inputs([table], 2, names=("t1", "flair"))
    assert [image.name for image in case.images] == ["t.nii", "f.nii"]
    with pytest.raises(DatasetError, match="channels of the model are t1, t2"):
        find_inputs([table], 2, names=("t1", "t2"))
    table.write_text("image_1,image_0\nf.nii,t.nii\n")
    (case,) = find_inputs([table], 2, names=("t1", "flair"))
    assert [image.name for image in case.images] == ["t.nii", "f.nii"]


def test_two_inputs_cannot_have_one_case(tmp_path):
    image, table = write_scan(tmp_path / "a.nii"), tmp_path / "list.csv"
    table.write_text("image\nother/a.nrrd\n")
    with pytest.raises(DatasetError, match="would both be written as a"):
        find_inputs([image, table], 1)


def test_a_prefix_is_read_like_a_folder(bucket, tmp_path):
    scan = write_scan(tmp_path / "a.nii")
    bucket(**{"in/p_0000.nii": scan, "in/p_0001.nii": scan, "in/.hidden.nii": scan, "in/notes.txt": b"x"})
    (case,) = find_inputs(["memory://bucket/in"], 2)
    assert case.id == "p"
    assert [file.url for file in case.remote] == ["memory://bucket/in/p_0000.nii", "memory://bucket/in/p_0001.nii"]
    assert input_bytes(case) == 2 * scan.stat().st_size
    assert ids(find_inputs(["memory://bucket/in/"], 1)) == ["p_0000", "p_0001"]
    assert ids(find_inputs(["memory://bucket/in/p_0000.nii", str(scan)], 1)) == ["a", "p_0000"]
    bucket(**{"text/a.txt": b"x"})
    with pytest.raises(DatasetError, match="contains no image"):
        find_inputs(["memory://bucket/text"], 1)


def test_images_are_fetched_privately_and_removed(bucket, tmp_path):
    bucket(**{"in/a.nii": write_scan(tmp_path / "a.nii", 3)})
    (case,) = find_inputs(["memory://bucket/in"], 1)
    scratch = tmp_path / "scratch"
    with fetched(case, scratch) as local:
        assert local.images[0].parents[1].stat().st_mode & 0o077 == 0
        assert read_case_image(local).array.max() == 3
        assert local.images[0].name == "a.nii"
    assert list(scratch.iterdir()) == []
    fsspec.filesystem("memory").store.clear()
    with pytest.raises(FormatError, match=r"there is no file at memory://bucket/in/a\.nii"), fetched(case, scratch):
        pass
    assert list(scratch.iterdir()) == []


def test_errors_of_fetched_images_name_their_url(bucket, tmp_path):
    bucket(**{"in/a.nii": b"no image"})
    (case,) = find_inputs(["memory://bucket/in"], 1)
    with pytest.raises(FormatError) as caught, fetched(case, tmp_path) as local:
        read_case_image(local)
    assert "memory://bucket/in/a.nii" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_series_of_dicom_at_urls_are_folders_and_archives(bucket, tmp_path):
    folder = tmp_path / "series"
    save_series(make_series(np.arange(120, dtype=np.int16).reshape(5, 6, 4)), folder)
    files = sorted(folder.iterdir())
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in files:
            archive.write(file, file.name)
    bucket(**{f"in/ct/{file.stem}.dcm": file for file in files}, **{"in/study.zip": tmp_path / "study.zip"})
    cases = find_inputs(["memory://bucket/in"], 1)
    assert ids(cases) == ["ct", "study"]
    expected = read_volume(folder)
    for case in cases:
        with fetched(case, tmp_path / "scratch") as local:
            np.testing.assert_array_equal(read_case_image(local).array, expected.array)


def test_a_table_at_a_url_lists_images_beside_it(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "PAUSES", ())
    bucket(**{"in/list.csv": b"image,id\na.nii,first\nmemory://bucket/in/a.nii,second\n", "in/a.nii": b"x"})
    cases = find_inputs(["memory://bucket/in/list.csv"], 1)
    assert ids(cases) == ["first", "second"]
    assert {case.remote[0].url for case in cases} == {"memory://bucket/in/a.nii"}


def test_a_url_of_a_file_is_a_path(tmp_path):
    image = write_scan(tmp_path / "a.nii")
    (case,) = find_inputs([image.as_uri()], 1)
    assert case.images == (image,)
    assert not case.remote
