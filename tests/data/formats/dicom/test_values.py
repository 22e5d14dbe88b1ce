"""What stored values mean: rescale, tables, padding, inversion and unused bits."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_series import make_picture, make_series, sample, save_series
from pydicom import Dataset

from attunet.data.formats.dicom import find_series, read_series
from attunet.errors import FormatError


def only(datasets, folder):
    (series,) = find_series(save_series(datasets, folder)).series
    return series, read_series(series).array[0]


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_rescale_is_applied_once_whatever_the_modality(modality, tmp_path):
    array = sample()
    _, values = only(make_series(array, modality=modality, slope=3, intercept=-7), tmp_path)
    np.testing.assert_array_equal(values, array.astype(int) * 3 - 7)


def test_each_slice_of_pet_has_its_own_slope(tmp_path):
    array, slopes = sample(low=0, high=32000), np.linspace(0.1, 2.7, 6)
    series = make_series(array, modality="PT")
    for ds, slope in zip(series, slopes, strict=True):
        ds.RescaleSlope = float(f"{slope:.6g}")
    _, values = only(series, tmp_path / "all")
    expected = array * np.array([float(ds.RescaleSlope) for ds in series])
    np.testing.assert_array_equal(values, expected.astype(np.float32))
    series[0].save_as(tmp_path / "one.dcm", enforce_file_format=True)
    decoded = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "one.dcm")))[0].T
    np.testing.assert_array_equal(values[:, :, 0], decoded.astype(np.float32))


def test_a_16_bit_ct_stays_in_16_bits_unless_a_value_needs_more(tmp_path):
    array = sample(low=0, high=3000)
    _, values = only(make_series(array, intercept=-1024), tmp_path / "small")
    assert values.dtype == np.int16
    array[0, 0, 3] = -32000
    _, values = only(make_series(array, intercept=-1024), tmp_path / "large")
    assert values.dtype == np.int32
    np.testing.assert_array_equal(values, array.astype(int) - 1024)


@pytest.mark.parametrize("slope", [0, "nan", "inf"])
def test_an_impossible_slope_is_refused(slope, tmp_path):
    (refused,) = find_series(save_series(make_series(sample(), slope=slope), tmp_path)).refused
    assert "rescale slope" in str(refused)


def test_slices_without_the_rescale_of_the_others_are_refused(tmp_path):
    series = make_series(sample(), intercept=-1024)
    del series[3].RescaleSlope, series[3].RescaleIntercept
    (refused,) = find_series(save_series(series, tmp_path)).refused
    assert "slices without a rescale slope and intercept" in str(refused)


def test_a_ct_without_any_rescale_is_told(tmp_path):
    series = make_series(sample())
    for ds in series:
        del ds.RescaleSlope, ds.RescaleIntercept
    found, values = only(series, tmp_path)
    np.testing.assert_array_equal(values, sample())
    assert any("taken to be Hounsfield units" in notice for notice in found.notices)


def test_padding_brighter_than_the_image_becomes_its_lowest_value(tmp_path):
    array = sample(low=0, high=4000).astype(np.uint16)
    array[:3] = 63536
    series, values = only(make_series(array, intercept=-1024, PixelPaddingValue=63536), tmp_path)
    image = array[3:].astype(int) - 1024
    np.testing.assert_array_equal(values[3:], image)
    assert (values[:3] == image.min()).all()
    assert any("63536 are padding" in notice for notice in series.notices)


def test_padding_written_with_the_wrong_sign_is_found(tmp_path):
    array = sample(low=0, high=4000).astype(np.uint16)
    array[:3] = 63536
    series = make_series(array)
    for ds in series:
        ds.add_new(0x00280120, "SS", -2000)
    _, values = only(series, tmp_path)
    assert (values[:3] == array[3:].min()).all()


def test_padding_below_the_image_is_kept(tmp_path):
    array = sample(low=0, high=3000)
    array[:3] = -2000
    _, values = only(make_series(array, intercept=-1024, PixelPaddingValue=-2000), tmp_path)
    np.testing.assert_array_equal(values, array.astype(int) - 1024)


def test_low_values_shown_bright_are_inverted_only_where_they_are_no_measurements(tmp_path):
    frames = sample((1, 20, 16), low=0, high=4096).astype(np.uint16)
    tags = {"BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": "MONOCHROME1"}
    series, values = only([make_picture(frames, **tags)], tmp_path / "dx")
    np.testing.assert_array_equal(values[:, :, 0].T, 4095 - frames[0].astype(int))
    assert any("MONOCHROME1" in notice and "inverted" in notice for notice in series.notices)
    array = sample()
    series, values = only(make_series(array, PhotometricInterpretation="MONOCHROME1"), tmp_path / "ct")
    np.testing.assert_array_equal(values, array)
    assert any("MONOCHROME1" in notice and "kept" in notice for notice in series.notices)


def test_a_table_of_values_is_applied(tmp_path):
    frames = sample((1, 20, 16), low=0, high=256).astype(np.uint8)
    table = (np.arange(256) ** 2 // 4).astype(np.uint16)
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [256, 0, 16], "OD"
    item.add_new(0x00283006, "OW", table.tobytes())
    _, values = only([make_picture(frames, ModalityLUTSequence=[item])], tmp_path)
    np.testing.assert_array_equal(values[:, :, 0].T, table[frames[0]])


def test_overlays_in_unused_bits_are_not_values(tmp_path):
    array = sample(low=0, high=4096).astype(np.uint16)
    series = make_series(array | (1 << 13), BitsStored=12, HighBit=11)
    with pytest.raises(FormatError, match="need more than the 12 bits"):
        only(series, tmp_path / "undeclared")
    for ds in series:
        ds.add_new(0x60000102, "US", 13)
    _, values = only(series, tmp_path / "declared")
    np.testing.assert_array_equal(values, array)


def test_signed_values_whose_sign_is_not_repeated(tmp_path):
    array = sample(low=-2048, high=2048)
    series = make_series(array & 0x0FFF, BitsStored=12, HighBit=11)
    _, values = only(series, tmp_path)
    np.testing.assert_array_equal(values, array)


def test_values_in_the_upper_bits(tmp_path):
    array = sample(low=0, high=4096).astype(np.uint16)
    _, values = only(make_series(array << 4, BitsStored=12, HighBit=15), tmp_path)
    np.testing.assert_array_equal(values, array)


def test_kinds_of_values_that_are_not_known_are_refused(tmp_path):
    packed = make_series(sample(), BitsAllocated=12, BitsStored=12, HighBit=11)
    (refused,) = find_series(save_series(packed, tmp_path / "packed")).refused
    assert "12 of 12 bits are not read" in str(refused)
    kind = make_picture(sample((1, 8, 8)), PhotometricInterpretation="ARGB")
    (refused,) = find_series(save_series([kind], tmp_path / "kind")).refused
    assert "ARGB" in str(refused)


def test_indexes_into_colours_become_colours(tmp_path):
    frames = sample((2, 12, 10), low=0, high=256).astype(np.uint8)
    picture = make_picture(frames, modality="US", PhotometricInterpretation="PALETTE COLOR")
    tables = np.random.default_rng(0).integers(0, 2**16, (3, 256)).astype(np.uint16)
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(picture, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(picture, f"{colour}PaletteColorLookupTableData", table.tobytes())
    (series,) = find_series(save_series([picture], tmp_path / "tables")).series
    expected = (tables[:, frames] >> 8).transpose(0, 3, 2, 1)
    np.testing.assert_array_equal(read_series(series).array, expected)
    del picture.BluePaletteColorLookupTableData
    (series,) = find_series(save_series([picture], tmp_path / "none")).series
    with pytest.raises(FormatError, match="no tables of its colours"):
        read_series(series)
