"""Choosing a format by its suffix, arrays, labels, and writing whole files only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attunet.data.formats import (
    FORMATS,
    SUFFIXES,
    WRITABLE_SUFFIXES,
    float_suffix,
    format_of,
    mask_suffix,
    read_label,
    read_volume,
    stem_of,
    suffix_of,
    write_volume,
)
from attunet.data.volume import Volume
from attunet.errors import FormatError, LabelError
from attunet.files import staged


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.nii.gz", ".nii.gz"), ("A.NII.GZ", ".nii.gz"), ("a.b.nii", ".nii"), ("a.txt", None), (".png", None)],
)
def test_suffixes(name, suffix):
    assert suffix_of(Path(name)) == suffix


def test_masks_of_lossy_images_are_png():
    assert mask_suffix(".jpg") == mask_suffix(".jpeg") == ".png"
    assert mask_suffix(".nii") == ".nii"
    for suffix in map(mask_suffix, SUFFIXES):
        assert suffix in WRITABLE_SUFFIXES
        assert format_of(suffix).lossless


def test_a_mask_made_from_an_ome_file_has_its_name():
    assert stem_of(Path("a.ome.tif")) == stem_of(Path("a.OME.TIFF")) == stem_of(Path("a.ome.png")) == "a"
    assert stem_of(Path("a.home.tif")) == "a.home"
    assert suffix_of(Path("a.ome.tif")) == ".ome.tif"


def test_maps_keep_a_suffix_that_holds_floats():
    assert [suffix for suffix in SUFFIXES if float_suffix(suffix) == suffix] == [
        ".nii.gz",
        ".nii",
        ".nrrd",
        ".mha",
        ".npy",
    ]
    assert float_suffix(".png") == float_suffix(".mhd") == ".nii.gz"


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_the_table_says_what_a_format_keeps(suffix, tmp_path):
    entry, array = format_of(suffix), np.arange(42, dtype=np.uint8).reshape(6, 7)
    volume = Volume.from_array(array, (2.0, 3.0))
    write_volume(volume, tmp_path / f"x{suffix}")
    back = read_volume(tmp_path / f"x{suffix}")
    assert (back.spacing[:2] == pytest.approx((2, 3))) == entry.geometry
    assert np.array_equal(back.array, volume.array) == entry.lossless


def test_no_two_formats_share_a_suffix():
    assert len(set(SUFFIXES)) == len(SUFFIXES)
    assert len({entry.name for entry in FORMATS}) == len(FORMATS)
    with pytest.raises(FormatError, match="not a known suffix"):
        format_of(".xyz")


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_every_format_writes_what_it_reads_and_leaves_nothing_beside(suffix, tmp_path):
    volume = Volume.from_array(np.full((6, 7), 42, np.uint8))
    write_volume(volume, tmp_path / f"x{suffix}")
    back = read_volume(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(back.array, volume.array)
    assert all(file.name.startswith("x.") for file in tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_empty_and_folder_paths_say_so(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    (tmp_path / "file").touch()
    with pytest.raises(FormatError, match="no file"):
        read_volume(path)
    path.touch()
    with pytest.raises(FormatError, match="empty"):
        read_volume(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(FormatError, match="folder"):
        read_volume(path)
    with pytest.raises(FormatError, match="cannot write"):
        write_volume(Volume.from_array(np.ones((2, 2), np.uint8)), path.parent / "file" / f"x{suffix}")


def test_unknown_suffixes_and_damaged_dicom_have_their_own_messages(tmp_path):
    (tmp_path / "x.txt").write_text("text")
    with pytest.raises(FormatError, match="unknown format"):
        read_volume(tmp_path / "x.txt")
    (tmp_path / "x.dcm").write_bytes(bytes(128) + b"DICM" + bytes(20))
    with pytest.raises(FormatError, match=r"x\.dcm contains no series"):
        read_volume(tmp_path / "x.dcm")
    with pytest.raises(FormatError, match="unknown suffix"):
        write_volume(Volume.from_array(np.ones((2, 2))), tmp_path / "x.txt")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 5), (1, 4, 5, 1)), ((4, 5, 6), (1, 4, 5, 6)), ((2, 4, 5, 6), (2, 4, 5, 6))],
)
def test_arrays_of_two_to_four_axes(shape, expected, tmp_path):
    np.save(tmp_path / "x.npy", np.ones(shape))
    volume = read_volume(tmp_path / "x.npy")
    assert volume.array.shape == expected
    assert volume.array.dtype == np.float32


def test_pickles_archives_and_lines_are_refused(tmp_path):
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}]), allow_pickle=True)
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    (tmp_path / "x.npz").rename(tmp_path / "archive.npy")
    np.save(tmp_path / "line.npy", np.ones(3))
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    for name in ("pickle", "archive", "line", "text"):
        with pytest.raises(FormatError):
            read_volume(tmp_path / f"{name}.npy")


def label(array: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "label.npy", array)
    return read_label(folder / "label.npy").array[0, ..., 0]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float32, np.float64, np.int64, np.uint64])
def test_whole_labels_of_any_type_become_small_integers(dtype, tmp_path):
    read = label(np.array([[0, 1], [1, 0]]).astype(dtype), tmp_path)
    assert read.dtype.kind in "iu"
    assert read.dtype.itemsize <= 4
    np.testing.assert_array_equal(read, [[0, 1], [1, 0]])


@pytest.mark.parametrize("values", [[-1.0, 255.0], [0.0, 70000.0], [0, 2**31 - 1]])
def test_label_values_survive(values, tmp_path):
    np.testing.assert_array_equal(label(np.array([values], np.float64).astype(np.int64), tmp_path), [values])


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e30])
def test_labels_that_are_no_whole_numbers_are_refused(value, tmp_path):
    with pytest.raises(LabelError) as caught:
        label(np.array([[0.0, value]]), tmp_path)
    assert caught.value.hint


def test_a_failing_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.nii"
    path.write_text("old")

    def write_and_fail() -> None:
        with staged(path) as target:
            target.write_text("half")
            raise OSError("disk full")

    with pytest.raises(FormatError, match="disk full"):
        write_and_fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
