"""Arrays without geometry: NPY, and files of several: NPZ, MATLAB, HDF5."""

import pickle
import sys
import zipfile

import h5py
import numpy as np
import pytest
from scipy import io

from attunet.data.cases import Case, DatasetOptions, find_cases, read_case
from attunet.data.formats import arrays, read_label, read_volume, write_volume
from attunet.data.volume import Volume
from attunet.errors import FormatError

IMAGE = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
LABEL = (IMAGE % 3).astype(np.uint8)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """The readers themselves: `test_isolation.py` tests the process that they usually run in, which takes its time."""
    monkeypatch.setattr(sys, "executable", "")


def write(path, **content):
    """Write arrays into a file of the suffix of `path`; MATLAB 7.3 stores axes in reverse order."""
    if path.suffix == ".npz":
        np.savez_compressed(path, **content)
    elif path.suffix == ".mat":
        io.savemat(path, content, do_compression=True)
    else:
        with h5py.File(path, "w") as file:
            for name, array in content.items():
                file.create_dataset(f"scan/{name}", data=array, compression="gzip", chunks=array.shape)
    return path


def write_matlab73(path, **content):
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in content.items():
            file.create_dataset(name, data=array.T).attrs["MATLAB_class"] = np.bytes_(array.dtype.name)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512, b" "))
    return path


FILES = {"a.npz": "image", "a.mat": "image", "a.h5": "scan/image", "a.hdf5": "scan/image"}


@pytest.mark.parametrize("name", FILES)
def test_the_only_array_needs_no_key(name, tmp_path):
    volume = read_volume(write(tmp_path / name, image=IMAGE))
    np.testing.assert_array_equal(volume.array[0], IMAGE)
    assert not volume.calibrated


@pytest.mark.parametrize("name", FILES)
def test_one_of_several_arrays_is_chosen_by_its_key(name, tmp_path):
    path, key = write(tmp_path / name, image=IMAGE, label=LABEL), FILES[name]
    with pytest.raises(FormatError, match=r"2 arrays: .*label \(5, 6, 7\)") as raised:
        read_volume(path)
    assert "--key" in raised.value.hint
    with pytest.raises(FormatError, match="contains no array mask, but"):
        read_volume(path, key="mask")
    np.testing.assert_array_equal(read_volume(path, key=key).array[0], IMAGE)
    np.testing.assert_array_equal(read_label(path, key=key.replace("image", "label")).array[0], LABEL)


@pytest.mark.parametrize("name", FILES)
def test_image_and_label_may_be_in_one_file(name, tmp_path):
    path, key = write(tmp_path / name, image=IMAGE, label=LABEL), FILES[name]
    case = Case("a", (path,), path, key=key, label_key=key.replace("image", "label"))
    image, label = read_case(case)
    np.testing.assert_array_equal(image.array[0], IMAGE)
    np.testing.assert_array_equal(label.array[0], LABEL)
    (found,) = find_cases([tmp_path], 1, DatasetOptions(key=key))
    assert found.reading == {"key": key}


def test_the_fourth_axis_is_first_in_numpy_and_last_in_matlab(tmp_path):
    series = np.stack([IMAGE, IMAGE + 1])
    for path in (write(tmp_path / "a.npz", x=series), write(tmp_path / "a.h5", x=series)):
        assert read_volume(path).array.shape == (2, 5, 6, 7)
        np.testing.assert_array_equal(read_volume(path, frame=1).array[0], IMAGE + 1)
    last = np.moveaxis(series, 0, -1)
    for path in (write(tmp_path / "a.mat", x=last), write_matlab73(tmp_path / "b.mat", x=last)):
        np.testing.assert_array_equal(read_volume(path).array, series)
        np.testing.assert_array_equal(read_volume(path, frame=1).array[0], IMAGE + 1)


def test_matlab_73_keeps_rows_first(tmp_path):
    volume = read_volume(write_matlab73(tmp_path / "a.mat", image=IMAGE))
    np.testing.assert_array_equal(volume.array[0], IMAGE)


def test_pickles_are_never_loaded(tmp_path):
    class Harm:
        def __reduce__(self):
            return exit, (7,)

    path = tmp_path / "a.npz"
    np.savez(path, harm=np.array([[Harm()]], dtype=object), image=IMAGE)
    np.testing.assert_array_equal(read_volume(path).array[0], IMAGE)  # the only array of numbers
    with pytest.raises(FormatError, match="no array harm"):
        read_volume(path, key="harm")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", pickle.dumps(IMAGE))
    with pytest.raises(FormatError):
        read_volume(path)


@pytest.mark.parametrize("name", FILES)
def test_numbers_and_vectors_beside_the_image_are_no_images(name, tmp_path):
    path = write(tmp_path / name, image=IMAGE, spacing=np.array([[1.0, 1.0, 2.0]]), scale=np.ones((1, 1)))
    np.testing.assert_array_equal(read_volume(path).array[0], IMAGE)


def test_cells_structures_and_text_are_no_images(tmp_path):
    path = tmp_path / "a.mat"
    cells = np.empty((2, 2), object)
    cells[:] = "x"
    io.savemat(path, {"info": {"a": 1}, "cells": cells, "name": "liver", "image": IMAGE})
    np.testing.assert_array_equal(read_volume(path).array[0], IMAGE)
    io.savemat(path, {"name": "liver"})
    with pytest.raises(FormatError, match="no array of numbers"):
        read_volume(path)


def test_a_header_that_promises_too_much_takes_no_memory(tmp_path):
    path = tmp_path / "a.npz"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000, 100000, 100), }".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(1000))
    with pytest.raises(FormatError, match="truncated"):
        read_volume(path)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", shape=(2**20, 2**12, 2**10), dtype="f8", chunks=(64, 64, 64))
    with pytest.raises(FormatError, match="limit for compressed"):
        read_volume(tmp_path / "a.h5")


def test_hdf5_reads_no_other_file(tmp_path):
    write(tmp_path / "other.h5", image=IMAGE)
    (tmp_path / "secret.raw").write_bytes(IMAGE.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("other.h5", "/scan/image")
        file.create_dataset("raw", shape=IMAGE.shape, dtype="i2", external=[(str(tmp_path / "secret.raw"), 0, 420)])
    with pytest.raises(FormatError, match="in other files"):
        read_volume(tmp_path / "a.h5")


@pytest.mark.parametrize("name", ["a.npz", "a.mat", "a.h5"])
def test_damaged_files_are_one_error(name, tmp_path):
    path = write(tmp_path / name, image=np.random.default_rng(0).normal(size=(20, 20, 20)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError):
        read_volume(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(FormatError):
        read_volume(path)


def test_without_h5py_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5", image=IMAGE)
    monkeypatch.setattr(arrays, "find_spec", lambda _: None)
    with pytest.raises(FormatError, match="needs the package h5py") as raised:
        arrays.read_hdf5(path)
    assert raised.value.hint == 'install it with: pip install "attunet[hdf5]"'


def test_containers_are_only_read(tmp_path):
    with pytest.raises(FormatError, match=r"\.npz files are only read"):
        write_volume(Volume(IMAGE[None], np.eye(4)), tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6), (2, 4, 5, 6)])
def test_every_shape_of_npy_survives(shape, tmp_path):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    np.save(tmp_path / "x.npy", array)
    volume = read_volume(tmp_path / "x.npy")
    np.testing.assert_array_equal(volume.affine, np.eye(4))
    write_volume(volume, tmp_path / "y.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), array)


@pytest.mark.parametrize("shape", [(4,), (1, 2, 3, 4, 5)])
def test_other_shapes_of_npy_are_no_images(shape, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(shape))
    with pytest.raises(FormatError, match="expected an array"):
        read_volume(tmp_path / "x.npy")


def test_objects_in_npy_are_never_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="never unpickled"):
        read_volume(tmp_path / "x.npy")


@pytest.mark.parametrize(("old", "new"), [(b"}", b"("), (b"(4", b"(x"), (b"'shape'", b"'shope'"), (b"<i2", b"<z9")])
def test_a_damaged_header_of_npy_is_reported(old, new, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 5), np.int16))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes().replace(old, new, 1))
    with pytest.raises(FormatError, match="cannot read"):
        read_volume(tmp_path / "x.npy")


def test_a_truncated_npy_is_reported(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((40, 50), np.int16))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:200])
    with pytest.raises(FormatError, match="is truncated"):
        read_volume(tmp_path / "x.npy")
