"""Every transfer syntax gives the same values as the uncompressed series; lossy ones those that SimpleITK decodes."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_series import SYNTAXES, encode, make_enhanced, make_picture, make_series, sample, save_series
from pydicom.encaps import encapsulate

from attunet.data.formats.dicom import find_series, read_series
from attunet.errors import FormatError

LOSSLESS = sorted(set(SYNTAXES) - {"JPEG-LS near-lossless", "JPEG baseline", "JPEG 12-bit"})


def only(path):
    (series,) = find_series(path).series
    return read_series(series)


@pytest.mark.parametrize("kind", ["i2", "u2", "12 of 16", "u1"])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_syntaxes_keep_every_value(syntax, kind, tmp_path):
    array = {
        "i2": sample(low=-32768, high=32767),
        "u2": sample().astype(np.uint16),
        "12 of 16": sample(low=0, high=4096).astype(np.uint16),
        "u1": sample(low=0, high=256).astype(np.uint8),
    }[kind]
    tags = {"BitsStored": 12, "HighBit": 11} if kind == "12 of 16" else {}
    series = make_series(array, slope=2, intercept=-1024, **tags)
    save_series([encode(ds, syntax) for ds in series], tmp_path)
    np.testing.assert_array_equal(only(tmp_path).array[0], array.astype(np.int64) * 2 - 1024)


def test_bytes_in_words_of_big_endian_are_in_their_order(tmp_path):
    array = sample((7, 5, 3), low=0, high=256).astype(np.uint8)  # an odd number of bytes
    series = make_series(array)
    made = []
    for ds in series:
        ds["PixelData"].VR = "OW"
        made.append(encode(ds, "big endian"))
    save_series(made, tmp_path)
    np.testing.assert_array_equal(only(tmp_path).array[0], array)


@pytest.mark.parametrize(
    ("syntax", "bits", "most"), [("JPEG-LS near-lossless", 16, 2), ("JPEG baseline", 8, 40), ("JPEG 12-bit", 12, 3)]
)
def test_lossy_syntaxes_are_decoded_as_simpleitk_does(syntax, bits, most, tmp_path):
    array = sample((16, 16, 3), low=0, high=1 << min(bits, 12)).astype(np.uint8 if bits == 8 else np.uint16)
    series = [encode(ds, syntax) for ds in make_series(array, intercept=-100, BitsStored=bits, HighBit=bits - 1)]
    volume = only(save_series(series, tmp_path))
    for index, ds in enumerate(series):
        ds.save_as(tmp_path / "one.dcm", enforce_file_format=True)
        decoded = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "one.dcm")))[0]
        np.testing.assert_array_equal(volume.array[0, :, :, index].T, decoded)
    assert np.abs(volume.array[0] - array + 100).max() <= most


def test_a_series_of_mixed_syntaxes(tmp_path):
    array = sample((12, 10, len(LOSSLESS)))
    series = make_series(array)
    save_series([encode(ds, syntax) for ds, syntax in zip(series, LOSSLESS, strict=True)], tmp_path)
    np.testing.assert_array_equal(only(tmp_path).array[0], array)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_frames_of_enhanced_objects_in_every_syntax(syntax, tmp_path):
    array, order = sample(), [3, 0, 5, 1, 4, 2]
    encode(make_enhanced(array, order=order), syntax).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(only(tmp_path / "a.dcm").array[0], array)


@pytest.mark.parametrize("syntax", ["explicit", "RLE", "JPEG-LS", "JPEG 2000"])
def test_colours(syntax, tmp_path):
    frames = sample((2, 12, 10, 3), low=0, high=256).astype(np.uint8)
    encode(make_picture(frames, modality="US"), syntax).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(only(tmp_path / "a.dcm").array, np.transpose(frames, (3, 2, 1, 0)))


@pytest.mark.parametrize("syntax", ["JPEG lossless", "JPEG 2000", "JPEG-LS"])
def test_an_image_that_declares_another_size_than_its_header_is_refused(syntax, tmp_path):
    (ds,) = make_series(sample((12, 10, 1)))
    made = encode(ds, syntax)
    made.Rows, made.Columns = 5, 24
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(FormatError, match="but its header says 24 x 5"):
        only(tmp_path)


@pytest.mark.parametrize("syntax", ["RLE", "JPEG lossless", "JPEG 2000", "JPEG-LS", "HTJ2K"])
def test_damaged_pixels_are_one_error(syntax, tmp_path):
    (ds,) = make_series(sample((12, 10, 1)))
    made = encode(ds, syntax)
    made.PixelData = encapsulate([b"\xff\xd8" + bytes(30)])
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(FormatError, match=r"damaged|cannot be decoded"):
        only(tmp_path)


def test_decoders_write_nothing(tmp_path, capfd):
    array = sample((12, 10, 3), low=0, high=4096).astype(np.uint16)
    series = make_series(array, BitsStored=12, HighBit=11)
    only(save_series([encode(ds, "JPEG lossless") for ds in series], tmp_path))
    assert capfd.readouterr() == ("", "")
