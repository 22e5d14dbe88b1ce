"""NIfTI: what real headers do, and what damaged files do."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from attunet.data.formats import nifti, read_volume, write_volume
from attunet.data.formats.nifti import check_nifti, read_nifti, write_nifti
from attunet.data.volume import Volume
from attunet.errors import FormatError, GeometryError


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


@settings(max_examples=30, deadline=None)
@given(
    matrix=arrays(np.float64, (3, 3), elements=st.floats(-3, 3)),
    origin=arrays(np.float64, 3, elements=st.floats(-500, 500)),
    channels=st.integers(1, 3),
)
def test_any_invertible_affine_survives(matrix, origin, channels, tmp_path_factory):
    affine = np.eye(4)
    affine[:3, :3] = matrix + 8 * np.eye(3)  # far from singular, with shear and obliquity
    affine[:3, 3] = origin
    volume = Volume(np.arange(channels * 24, dtype=np.int16).reshape(channels, 2, 3, 4), affine)
    path = tmp_path_factory.mktemp("nifti") / "x.nii.gz"
    write_volume(volume, path)
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, affine, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(nib.load(path).affine, affine, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_written_types_stay(dtype, tmp_path):
    write_volume(Volume.from_array(np.ones((2, 3, 4), dtype)), tmp_path / "x.nii")
    assert nib.load(tmp_path / "x.nii").get_data_dtype() == dtype
    assert read_volume(tmp_path / "x.nii").array.dtype == dtype


def test_booleans_are_written_as_uint8_and_wide_numbers_narrowed(tmp_path):
    write_volume(Volume.from_array(np.ones((2, 3, 4), bool)), tmp_path / "mask.nii.gz")
    write_volume(Volume.from_array(np.full((2, 3, 4), 70000, np.int64)), tmp_path / "wide.nii.gz")
    assert read_volume(tmp_path / "mask.nii.gz").array.dtype == np.uint8
    assert nib.load(tmp_path / "wide.nii.gz").get_data_dtype() == np.int32


def test_an_orthogonal_grid_has_both_forms_and_a_sheared_one_only_the_sform(tmp_path):
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("xyz", [0.3, -0.5, 1.0]).as_matrix() * [0.7, 0.8, 2.5]
    write_volume(Volume(np.ones((1, 2, 3, 4), np.uint8), turned), tmp_path / "turned.nii")
    header = nib.load(tmp_path / "turned.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), turned, atol=1e-5)
    sheared = turned.copy()
    sheared[0, 1] += 0.4
    write_volume(Volume(np.ones((1, 2, 3, 4), np.uint8), sheared), tmp_path / "sheared.nii")
    header = nib.load(tmp_path / "sheared.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)


def test_scaled_integers_become_float32_and_plain_integers_stay(tmp_path):
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(2, -1000)
    nib.save(image, tmp_path / "scaled.nii.gz")
    volume = read_volume(tmp_path / "scaled.nii.gz")
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, nib.load(tmp_path / "scaled.nii.gz").get_fdata()[None])
    plain = save(tmp_path / "plain.nii", np.ones((2, 3, 4), ">i2"))
    assert read_volume(plain).array.dtype == np.int16


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 5), (1, 4, 5, 1)),
        ((4, 5, 1), (1, 4, 5, 1)),
        ((4, 5, 6, 1), (1, 4, 5, 6)),
        ((4, 5, 6, 2), (2, 4, 5, 6)),
        ((4, 5, 1, 3), (3, 4, 5, 1)),
        ((4, 5, 6, 1, 3), (3, 4, 5, 6)),
    ],
)
def test_axes_beyond_the_third_are_channels(shape, expected, tmp_path):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    volume = read_volume(save(tmp_path / "x.nii", array))
    assert volume.array.shape == expected
    np.testing.assert_array_equal(volume.array[-1].ravel(), array.reshape(-1, expected[0])[:, -1])


def test_without_sform_and_qform_the_affine_is_nibabels(tmp_path):
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), None)
    image.header.set_zooms((2, 3, 4))
    nib.save(image, tmp_path / "x.nii")
    volume = read_volume(tmp_path / "x.nii")
    assert volume.spacing == (2, 3, 4)
    np.testing.assert_array_equal(volume.affine, nib.load(tmp_path / "x.nii").affine)


def test_a_nifti_that_is_gzipped_or_not_against_its_name_is_read(tmp_path):
    plain = save(tmp_path / "x.nii", np.ones((2, 3, 4), np.uint8))
    (tmp_path / "named_gz.nii.gz").write_bytes(plain.read_bytes())
    (tmp_path / "packed.nii").write_bytes(gzip.compress(plain.read_bytes()))
    assert read_volume(tmp_path / "named_gz.nii.gz").array.sum() == 24
    assert read_volume(tmp_path / "packed.nii").array.sum() == 24


def test_nifti_2_is_read(tmp_path):
    nib.save(nib.Nifti2Image(np.ones((2, 3, 4), np.uint8), np.eye(4)), tmp_path / "x.nii.gz")
    assert read_volume(tmp_path / "x.nii.gz").spatial_shape == (2, 3, 4)


@pytest.mark.parametrize("fraction", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_truncated_files_are_refused(fraction, suffix, tmp_path):
    array = np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16)
    path = save(tmp_path / f"x{suffix}", array)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(FormatError) as caught:
        read_volume(path)
    assert caught.value.hint


def test_a_changed_byte_in_a_gzip_is_an_error(tmp_path):
    array = np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16)
    path = save(tmp_path / "x.nii.gz", array)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(FormatError):
        read_volume(path)


def test_a_file_that_is_no_nifti_is_refused(tmp_path):
    (tmp_path / "x.nii").write_text("not an image " * 100)
    with pytest.raises(FormatError, match="NIfTI"):
        read_volume(tmp_path / "x.nii")


def test_complex_and_colour_voxels_are_refused(tmp_path):
    with pytest.raises(FormatError, match="complex"):
        read_volume(save(tmp_path / "complex.nii", np.ones((2, 2, 2), np.complex64)))
    colour = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(FormatError, match="R/G/B"):
        read_volume(save(tmp_path / "colour.nii", colour))


def test_two_axes_beyond_the_third_are_refused(tmp_path):
    with pytest.raises(FormatError, match="shape"):
        read_volume(save(tmp_path / "x.nii", np.ones((2, 2, 2, 3, 4), np.uint8)))


def test_an_affine_that_cannot_be_inverted_is_refused(tmp_path):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4))
    header = image.header.copy()
    header.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=1)
    path = tmp_path / "x.nii"
    path.write_bytes(header.binaryblock + bytes(4) + bytes(8))
    with pytest.raises(GeometryError):
        read_volume(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_file_is_byte_for_byte_nibabels(dtype, channels, tmp_path):
    array = np.random.default_rng(0).integers(0, 99, (channels, 5, 6, 70)).astype(dtype)
    volume = Volume(array[:, ::-1], np.diag([-2.0, 1.0, 0.5, 1.0]))
    stored = volume.array[0] if channels == 1 else np.moveaxis(volume.array, 0, -1)
    image = nib.Nifti1Image(stored, volume.affine)
    image.set_sform(volume.affine, code=1)
    image.set_qform(volume.affine, code=1)
    image.header.set_xyzt_units("mm")
    write_volume(volume, tmp_path / "x.nii")
    write_volume(volume, tmp_path / "x.nii.gz")
    assert (tmp_path / "x.nii").read_bytes() == image.to_bytes()
    assert gzip.decompress((tmp_path / "x.nii.gz").read_bytes()) == image.to_bytes()


def test_very_long_axes_are_written_as_nifti_2(tmp_path):
    volume = Volume.from_array(np.arange(40000, dtype=np.int32).reshape(40000, 1, 1))
    write_volume(volume, tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").array, volume.array)
    assert isinstance(nib.load(tmp_path / "x.nii.gz"), nib.Nifti2Image)


def test_a_plain_file_is_mapped_and_stays_as_it_is(tmp_path):
    path = save(tmp_path / "x.nii", np.ones((2, 3, 4), np.int16))
    before = path.read_bytes()
    array = read_volume(path).array
    assert not array.flags.owndata
    array[:] = 7
    assert path.read_bytes() == before
    assert (read_volume(path).array == 1).all()
    write_volume(Volume(array, np.eye(4)), path)  # over the file that is mapped
    assert (read_volume(path).array == 7).all()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_scaled_file_has_nibabels_numbers(suffix, tmp_path):
    array = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7, 2)).astype(">i2")
    image = nib.Nifti1Image(array, np.eye(4))
    image.header.set_slope_inter(0.0123, -1024.7)
    nib.save(image, tmp_path / f"x{suffix}")
    expected = np.moveaxis(nib.load(tmp_path / f"x{suffix}").get_fdata(), -1, 0).astype(np.float32)
    np.testing.assert_array_equal(read_volume(tmp_path / f"x{suffix}").array, expected)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_extensions_and_what_follows_the_voxels_are_passed_over(suffix, tmp_path):
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"something that was noted " * 9))
    content = image.to_bytes() + bytes(3)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    np.testing.assert_array_equal(read_volume(path).array[0], image.dataobj)


def test_an_impossible_declared_size_is_refused_before_memory_is_allocated(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header.set_data_dtype(np.float64)
    header.set_data_offset(352)
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(1000)))
    with pytest.raises(FormatError, match="truncated"):
        read_volume(tmp_path / "x.nii.gz")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_is_reported_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def onto_full(stream, *given, **named):
        return opened(Path("/dev/full").open("wb", buffering=0), *given, **named)

    opened = nifti.igzip_threaded.open
    monkeypatch.setattr(nifti.igzip_threaded, "open", onto_full)
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 100)).astype(np.uint8)  # several blocks of each thread
    with pytest.raises(FormatError, match="No space"):
        write_volume(Volume.from_array(noise), tmp_path / "x.nii.gz")
    assert not list(tmp_path.iterdir())


def header_kinds(path):
    return {problem.kind for problem in check_nifti(path)}


@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000.0), ("mm", 1.0), ("micron", 0.001), ("unknown", 1.0)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_units_are_converted_to_mm_and_said(tmp_path, unit, mm, suffix):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([2.0, 2.0, 3.0, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / f"x{suffix}")
    assert read_nifti(tmp_path / f"x{suffix}").spacing == pytest.approx((2 * mm, 2 * mm, 3 * mm))
    assert header_kinds(tmp_path / f"x{suffix}") == (set() if mm == 1 else {"unit"})


def test_an_undefined_unit_is_said(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    image.header["xyzt_units"] = 5
    nib.save(image, tmp_path / "x.nii")
    assert read_nifti(tmp_path / "x.nii").spacing == (1, 1, 1)
    assert header_kinds(tmp_path / "x.nii") == {"unit"}


def test_affines_that_differ_are_said_with_the_one_that_counts(tmp_path):
    image = nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), None)
    image.set_sform(np.diag([1, 1, 0.8, 1]), 1, update_affine=False)
    image.set_qform(np.diag([1, 1, 0.6, 1]), 1, update_affine=False)
    nib.save(image, tmp_path / "x.nii.gz")
    assert read_nifti(tmp_path / "x.nii.gz").spacing == pytest.approx((1, 1, 0.8))
    (found,) = check_nifti(tmp_path / "x.nii.gz")
    assert (found.kind, "sform, which is used" in found.remedy) == ("sform and qform differ", True)


def test_a_pixdim_that_differs_from_the_only_affine_is_said(tmp_path):
    image = nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), None)
    image.set_sform(np.diag([1, 1, 0.8, 1]), 1, update_affine=False)
    image.set_qform(None, 0)
    image.header["pixdim"][3] = 3.0
    nib.save(image, tmp_path / "x.nii")
    assert header_kinds(tmp_path / "x.nii") == {"pixdim differs"}


def test_no_orientation_is_said(tmp_path):
    image = nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), None)
    nib.save(image, tmp_path / "x.nii")
    assert header_kinds(tmp_path / "x.nii") == {"orientation unknown"}


def test_what_we_write_needs_no_warning(tmp_path):
    sheared = np.eye(4)
    sheared[1, 2] = 0.3
    for number, affine in enumerate((np.diag([-0.7, 0.7, 3, 1]), sheared, np.diag([1e-4, 1e-4, 2e-4, 1]))):
        write_nifti(Volume(np.zeros((1, 4, 5, 6), np.int16), affine), tmp_path / f"{number}.nii.gz")
        assert not header_kinds(tmp_path / f"{number}.nii.gz")


@pytest.mark.parametrize("unit", ["meter", "mm", "micron"])
def test_a_mask_of_an_image_is_written_in_the_unit_of_its_file(tmp_path, unit):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([0.002, 0.002, 0.003, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "x.nii.gz")
    read = read_nifti(tmp_path / "x.nii.gz")
    write_nifti(read.with_array(np.ones_like(read.array)), tmp_path / "mask.nii.gz")
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert mask.header.get_xyzt_units()[0] == unit
    np.testing.assert_allclose(mask.affine, image.affine, rtol=1e-6)
    np.testing.assert_allclose(read_nifti(tmp_path / "mask.nii.gz").affine, read.affine, rtol=1e-6)


@pytest.mark.parametrize(("slope", "intercept"), [(np.inf, 0), (-np.inf, 0), (1, np.inf), (0, np.inf), (2, np.nan)])
def test_a_scale_that_is_none_is_refused(slope, intercept, tmp_path):
    path = save(tmp_path / "x.nii", np.ones((2, 3, 4), np.int16))
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()
    path.write_bytes(content)
    with pytest.raises(FormatError):
        read_volume(path)


@pytest.mark.parametrize(
    ("at", "kind", "value"),
    [
        (40, "<i2", -1),  # dim[0]
        (40, "<i2", 8),
        (42, "<i2", -32768),  # dim[1]
        (42, "<i2", 0),
        (44, "<i2", 32767),
        (70, "<i2", 9999),  # datatype
        (108, "<f4", 1e30),  # vox_offset
        (108, "<f4", -352),
        (108, "<f4", np.nan),
        (108, "<f4", np.inf),
        (108, "<f4", 100),
        (280, "<f4", np.nan),  # srow_x
        (344, "<i4", 0),  # magic
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_damaged_field_is_one_error(at, kind, value, suffix, tmp_path):
    content = bytearray(save(tmp_path / "x.nii", np.ones((2, 3, 4), np.int16)).read_bytes())
    content[at : at + np.dtype(kind).itemsize] = np.array([value], kind).tobytes()
    path = tmp_path / f"y{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with pytest.raises((FormatError, GeometryError)) as refused:
        read_volume(path)
    assert refused.value.hint
