"""OME-Zarr: axes, spacing and units, levels, times, labels inside, and what is refused."""

import json
import os
import sys

import numpy as np
import pytest
import zarr

from attunet.data.cases import Case, DatasetOptions, find_cases, read_case
from attunet.data.checks import inspect
from attunet.data.dataset import Dataset
from attunet.data.file_states import with_data_files
from attunet.data.formats import check_header, ome_zarr, read_volume, series_of, stem_of
from attunet.errors import FormatError

SHAPE = (3, 4, 5)  # z, y, x
IMAGE = np.arange(60, dtype=np.uint16).reshape(SHAPE)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """The readers themselves: `test_isolation.py` tests the process that they usually run in, which takes its time."""
    monkeypatch.setattr(sys, "executable", "")


def write(path, array, axes="zyx", *, scale=(2.0, 0.5, 0.4), unit="micrometer", three=False, name="0"):
    """An image with a coarser level, whose metadata a group of Zarr 2 or 3 holds."""
    group = zarr.open_group(store=str(path), mode="a", zarr_format=3 if three else 2)
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for axis in described:
        if axis["type"] == "space" and unit:
            axis["unit"] = unit
    full = (1.0,) * (len(axes) - len(scale)) + tuple(scale)
    datasets = []
    for level, factor in enumerate((1, 2)):
        coarse = np.ascontiguousarray(array[..., ::factor, ::factor])
        stored = group.create_array(f"{name}{level}" if level else name, shape=coarse.shape, dtype=coarse.dtype)
        stored[:] = coarse
        step = {
            "type": "scale",
            "scale": [size * (factor if axis in "yx" else 1) for size, axis in zip(full, axes, strict=True)],
        }
        datasets.append({"path": stored.path.split("/")[-1], "coordinateTransformations": [step]})
    entry = {"multiscales": [{"axes": described, "datasets": datasets, "version": "0.4"}]}
    group.attrs.update({"ome": {"version": "0.5", **entry}} if three else entry)
    return path


@pytest.mark.parametrize("three", [False, True])
@pytest.mark.parametrize("name", ["a.zarr", "a.ome.zarr"])
def test_the_finest_level_has_the_spacing_of_its_axes(name, three, tmp_path):
    path = write(tmp_path / name, IMAGE, three=three)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[0], IMAGE.transpose(1, 2, 0))  # rows, columns, slices
    assert volume.spacing == pytest.approx((0.5e-3, 0.4e-3, 2e-3))
    assert volume.unit == "µm"
    assert stem_of(path) == "a"
    (problem,) = check_header(path)
    assert "µm" in problem.message


def test_a_unit_that_is_missing_is_said(tmp_path):
    path = write(tmp_path / "a.zarr", IMAGE, unit=None)
    assert read_volume(path).spacing == pytest.approx((0.5, 0.4, 2))
    (problem,) = check_header(path)
    assert "without a unit" in problem.message


def test_channels_pictures_and_single_times(tmp_path):
    channels = np.stack([IMAGE, IMAGE + 100])[None]
    volume = read_volume(write(tmp_path / "a.zarr", channels, "tczyx"))
    np.testing.assert_array_equal(volume.array[1], (IMAGE + 100).transpose(1, 2, 0))
    picture = read_volume(write(tmp_path / "b.zarr", IMAGE[0], "yx", scale=(0.5, 0.4)))
    np.testing.assert_array_equal(picture.array[0, ..., 0], IMAGE[0])
    assert picture.spacing == pytest.approx((0.5e-3, 0.4e-3, 1.0))


def test_a_time_of_a_series_is_chosen(tmp_path):
    path = write(tmp_path / "a.zarr", np.stack([IMAGE, IMAGE + 1, IMAGE + 2]), "tzyx")
    assert series_of(path).frames == 3
    assert read_volume(path).channels == 3
    np.testing.assert_array_equal(read_volume(path, frame=2).array[0], (IMAGE + 2).transpose(1, 2, 0))
    with pytest.raises(FormatError, match="no frame 3"):
        read_volume(path, frame=3)
    both = write(tmp_path / "b.zarr", np.stack([np.stack([IMAGE, IMAGE])] * 3), "tczyx")
    with pytest.raises(FormatError, match="3 times of 2 channels") as raised:
        read_volume(both)
    assert "--frame, 0 to 2" in raised.value.hint
    assert read_volume(both, frame=0).channels == 2


def test_images_and_labels_inside_have_keys(tmp_path):
    path = write(tmp_path / "a.zarr", IMAGE)
    write(path / "labels" / "nuclei", (IMAGE % 2).astype(np.uint8))
    image, label = read_case(Case("a", (path,), path, label_key="labels/nuclei"))
    assert label.array.max() == 1
    assert label.spatial_shape == image.spatial_shape
    series = tmp_path / "b.zarr"
    write(series / "0", IMAGE)
    write(series / "1", IMAGE + 1)
    with pytest.raises(FormatError, match="2 images: 0, 1") as raised:
        read_volume(series)
    assert "--key" in raised.value.hint
    assert read_volume(series, key="1").array.min() == 1
    with pytest.raises(FormatError, match="outside"):
        read_volume(series, key="../a.zarr")


def test_an_array_without_metadata_is_read_as_a_numpy_array(tmp_path):
    array = zarr.open_array(store=str(tmp_path / "a.zarr"), mode="w", shape=SHAPE, dtype="f4")
    array[:] = IMAGE
    volume = read_volume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(volume.array[0], IMAGE)
    assert not volume.calibrated


def test_a_folder_is_an_image_everywhere(tmp_path):
    write(tmp_path / "in" / "a.zarr", IMAGE)
    write(tmp_path / "in" / "b.zarr", IMAGE + 1)
    cases = find_cases([tmp_path / "in"], 1)
    assert [case.id for case in cases] == ["a", "b"]
    assert [case.id for case in find_cases([tmp_path / "in" / "a.zarr"], 1)] == ["a"]
    dataset = Dataset(root=tmp_path, layout="plain", cases=cases)
    assert {problem.kind for problem in inspect(dataset).problems} == {"label missing", "unit"}
    assert tmp_path / "in" / "a.zarr" / ".zattrs" in with_data_files([tmp_path / "in" / "a.zarr"])


def test_code_in_filters_is_never_run(tmp_path):
    path = write(tmp_path / "a.zarr", IMAGE)
    metadata = json.loads((path / "0" / ".zarray").read_text())
    metadata["filters"] = [{"id": "pickle"}]
    (path / "0" / ".zarray").write_text(json.dumps(metadata))
    with pytest.raises(FormatError, match="'pickle', which is not read"):
        read_volume(path)
    three = write(tmp_path / "b.zarr", IMAGE, three=True)
    metadata = json.loads((three / "0" / "zarr.json").read_text())
    metadata["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})
    (three / "0" / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(FormatError, match="pickle"):
        read_volume(three)


def test_nothing_outside_the_folder_is_read(tmp_path):
    path = write(tmp_path / "a.zarr", IMAGE)
    write(tmp_path / "other.zarr", IMAGE + 1)
    attributes = json.loads((path / ".zattrs").read_text())
    attributes["multiscales"][0]["datasets"][0]["path"] = "../other.zarr/0"
    (path / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(FormatError, match="outside"):
        read_volume(path)
    linked = write(tmp_path / "c.zarr", IMAGE)
    chunk = next(file for file in (linked / "0").iterdir() if file.name.startswith("0"))
    target = tmp_path / "elsewhere"
    chunk.rename(target)
    chunk.symlink_to(target)
    with pytest.raises(FormatError, match="link that leaves it"):
        read_volume(linked)
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(FormatError, match="not a regular file"):
        read_volume(linked)


def test_a_folder_without_an_image_and_damaged_metadata(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(FormatError, match="no OME image"):
        read_volume(tmp_path / "a.zarr")
    path = write(tmp_path / "b.zarr", IMAGE)
    (path / ".zattrs").write_text("{")
    with pytest.raises(FormatError):
        read_volume(path)


def test_without_zarr_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "a.zarr", IMAGE)
    monkeypatch.setattr("attunet.data.formats.arrays.find_spec", lambda _: None)
    with pytest.raises(FormatError, match="needs the package zarr") as raised:
        ome_zarr.read_ome_zarr(path)
    assert "attunet[zarr]" in raised.value.hint
    assert ome_zarr.CODECS.isdisjoint({"pickle", "json2", "msgpack2", "vlen-array", "categorize"})


def test_a_frame_and_a_key_may_be_chosen_for_a_folder(tmp_path):
    write(tmp_path / "a.zarr" / "0", np.stack([IMAGE, IMAGE + 1]), "tzyx")
    (case,) = find_cases([tmp_path / "a.zarr"], 1, DatasetOptions(frame=1, key="0"))
    assert read_case(case)[0].array.min() == 1
