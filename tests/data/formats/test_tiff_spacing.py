"""Spacing of TIFF files: OME and ImageJ are used, printer's resolutions are not, and nothing is guessed unsaid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from attunet.data.alignment import align_label, same_grid
from attunet.data.formats import check_header, read_label, read_volume
from attunet.data.volume import Volume

STACK = np.random.default_rng(0).integers(0, 200, (3, 7, 9)).astype(np.uint8)  # pages, rows, columns


def told(path: Path) -> list[str]:
    return [problem.message for problem in check_header(path)]


def ome(path: Path, array: np.ndarray = STACK, **sizes: object) -> Path:
    tifffile.imwrite(path, array, ome=True, metadata={"axes": "ZYX"[-array.ndim :], **sizes})
    return path


def imagej(
    path: Path, array: np.ndarray = STACK, *, per_unit: tuple[float, float] = (4, 2), **metadata: object
) -> Path:
    metadata = {"axes": "ZYX"[-array.ndim :], **metadata}
    tifffile.imwrite(path, array, imagej=True, resolution=per_unit, metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("unit", "millimetres"), [(None, 1e-3), ("µm", 1e-3), ("nm", 1e-6), ("mm", 1), ("cm", 10), ("m", 1000), ("Å", 1e-7)]
)
def test_ome_sizes_become_millimetres_rows_first(unit, millimetres, tmp_path):
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    units = {f"{name}Unit": unit for name in sizes} if unit else {}
    path = ome(tmp_path / "x.ome.tif", **sizes, **units)
    image = read_volume(path)
    np.testing.assert_allclose(image.affine, np.diag([0.5, 0.25, 2.0, 1 / millimetres]) * millimetres, rtol=1e-6)
    assert image.calibrated
    assert told(path) == []


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m", "µm"])
def test_imagej_calibration_becomes_millimetres(unit, tmp_path):
    path = tmp_path / "x.tif"
    description = f"ImageJ=1.53t\nimages=3\nslices=3\nunit={unit}\nspacing=2.0\n".encode("latin-1")
    tifffile.imwrite(path, STACK, description=description, metadata=None, resolution=(4, 2), photometric="minisblack")
    np.testing.assert_allclose(read_volume(path).spacing, (0.5e-3, 0.25e-3, 2e-3))
    assert told(path) == []


@pytest.mark.parametrize("write", [ome, imagej])
def test_a_missing_distance_of_slices_is_that_of_columns_and_said(write, tmp_path):
    how = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5} if write is ome else {"unit": "um"}
    path = write(tmp_path / "stack.tif", **how)
    np.testing.assert_allclose(read_volume(path).spacing, (0.5e-3, 0.25e-3, 0.25e-3))
    assert "no distance of slices" in told(path)[0]
    flat = write(tmp_path / "flat.tif", STACK[0], **how)
    np.testing.assert_allclose(read_volume(flat).spacing, (0.5e-3, 0.25e-3, 1))
    assert told(flat) == []


@pytest.mark.parametrize("unit", ["pixel", "reference frame"])
def test_sizes_in_pixels_are_no_spacing(unit, tmp_path):
    path = ome(tmp_path / "x.ome.tif", PhysicalSizeX=0.25, PhysicalSizeXUnit=unit, PhysicalSizeY=0.5)
    image = read_volume(path)
    assert image.spacing == (1, 1, 1)
    assert not image.calibrated
    assert "1 mm" in told(path)[0]


@pytest.mark.parametrize("size", ["0", "-1", "NaN", "INF", "wide"])
def test_sizes_that_are_no_lengths_are_no_spacing(size, tmp_path):
    path = ome(tmp_path / "x.ome.tif", PhysicalSizeX=0.25, PhysicalSizeY=0.5)
    xml = tifffile.tiffcomment(path).replace('PhysicalSizeX="0.25"', f'PhysicalSizeX="{size}"')
    tifffile.imwrite(path, STACK, description=xml, metadata=None, photometric="minisblack")
    assert not read_volume(path).calibrated
    assert "1 mm" in told(path)[0]


def test_without_sizes_nothing_is_said_and_nothing_known(tmp_path):
    for path in (ome(tmp_path / "ome.tif"), imagej(tmp_path / "imagej.tif")):
        image = read_volume(path)
        assert (image.spacing, image.calibrated, told(path)) == ((1, 1, 1), False, [])


@pytest.mark.parametrize(("per_cm", "reported"), [(10000, True), (72 / 2.54, False), (300 / 2.54, False)])
def test_resolution_tags_are_reported_unless_they_are_a_printers(per_cm, reported, tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, STACK[0], resolution=(per_cm, per_cm), resolutionunit="CENTIMETER")
    assert read_volume(path).spacing == (1, 1, 1)
    assert bool(told(path)) == reported
    assert not reported or "0.001 x 0.001 mm" in told(path)[0]


def test_a_turned_image_has_a_turned_spacing(tmp_path):
    sizes = 'PhysicalSizeX="0.25" PhysicalSizeY="0.5"'
    path = ome(tmp_path / "x.ome.tif", STACK[0], PhysicalSizeX=0.25, PhysicalSizeY=0.5)
    xml = tifffile.tiffcomment(path)
    assert sizes.split()[0] in xml
    tifffile.imwrite(path, STACK[0], description=xml, metadata=None, extratags=[(274, 3, 1, 6, True)])
    image = read_volume(path)
    assert image.spatial_shape == (9, 7, 1)
    np.testing.assert_allclose(image.spacing[:2], (0.25e-3, 0.5e-3))


def test_a_mask_without_a_spacing_lies_on_the_grid_of_its_image(tmp_path):
    image = read_volume(ome(tmp_path / "x.ome.tif", PhysicalSizeX=0.25, PhysicalSizeY=0.5, PhysicalSizeZ=2.0))
    tifffile.imwrite(tmp_path / "mask.tif", STACK // 100, photometric="minisblack")
    label = read_label(tmp_path / "mask.tif")
    assert same_grid(label, image)
    assert same_grid(image, label)
    np.testing.assert_array_equal(align_label(label, image, "x").affine, image.affine)
    turned = Volume(image.array, np.diag([-1.0, 1, 1, 1]))
    assert not same_grid(label, turned)
    assert not same_grid(Volume(label.array, label.affine), image)
