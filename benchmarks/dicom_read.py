"""Reading a DICOM series of 512 x 512 x 300, uncompressed, as JPEG-LS and as JPEG 2000, with attunet and SimpleITK.

python benchmarks/dicom_read.py [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import SimpleITK
from harness import Goal, Row, Table, interleave, ratios
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, generate_uid
from results import argument_parser, publish
from scans import synthetic_ct

from attunet.data.formats import read_volume
from attunet.data.formats.dicom import find_series, read_series
from attunet.data.geometry import LPS_TO_RAS
from attunet.data.volume import Volume

ITK, OURS = "SimpleITK's series reader", "attunet"
INTERCEPT = -1024
Encode = Callable[[np.ndarray], bytes]
SYNTAXES: dict[str, tuple[str, Encode | None]] = {
    "uncompressed": (ExplicitVRLittleEndian, None),
    "JPEG-LS": (JPEGLSLossless, lambda image: imagecodecs.jpegls_encode(image)),
    "JPEG 2000": (JPEG2000Lossless, lambda image: imagecodecs.jpeg2k_encode(image, level=0, codecformat="j2k")),
}


def write_series(scan: Volume, folder: Path, syntax: str) -> Path:
    """Write a scan as one file for each slice, unless that was done before."""
    uid, encode = SYNTAXES[syntax]
    if not folder.is_dir():
        making = folder.with_name(f"{folder.name}_part")
        making.mkdir(parents=True, exist_ok=True)
        series = generate_uid()
        lps = LPS_TO_RAS @ scan.affine
        for index in range(scan.spatial_shape[2]):
            image = np.ascontiguousarray((scan.array[0, :, :, index].T - INTERCEPT).astype(np.uint16))
            ds = _slice(image.shape, lps, index)
            ds.file_meta.TransferSyntaxUID, ds.SeriesInstanceUID = uid, series
            ds.PixelData = image.tobytes() if encode is None else encapsulate([encode(image)])
            ds["PixelData"].VR = "OW" if encode is None else "OB"
            ds.save_as(making / f"{index:04d}.dcm", enforce_file_format=True)
        making.rename(folder)
    return folder


def _slice(shape: tuple[int, ...], lps: np.ndarray, index: int) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.StudyInstanceUID, ds.Modality, ds.InstanceNumber = "2.25.1", "CT", index + 1
    ds.ImagePositionPatient = [round(float(value), 4) for value in lps[:3] @ [0, 0, index, 1]]
    ds.ImageOrientationPatient, ds.PixelSpacing = [1, 0, 0, 0, 1, 0], [float(lps[1, 1]), float(lps[0, 0])]
    ds.Rows, ds.Columns = shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.RescaleSlope, ds.RescaleIntercept = 1, INTERCEPT
    return ds


def readers(folder: Path) -> dict[str, Callable[[], None]]:
    """Functions that find and read the series of a folder, by program."""

    def with_itk() -> None:
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        SimpleITK.GetArrayViewFromImage(reader.Execute())

    def with_ours() -> None:
        os.utime(folder / "0000.dcm")  # so that the headers are read again
        (series,) = find_series(folder).series
        read_series(series)

    return {ITK: with_itk, OURS: with_ours}


def reading_table(syntax: str, scan: Volume, options: argparse.Namespace) -> Table:
    """Times of reading one series, which both read alike."""
    folder = write_series(
        scan, options.work / f"dicom_{'quick_' if options.quick else ''}{syntax.replace(' ', '_')}", syntax
    )
    (series,) = find_series(folder).series
    assert np.array_equal(read_series(series).array, scan.array)
    seconds = interleave(readers(folder), options.rounds)
    shape = " × ".join(map(str, scan.spatial_shape))
    goal = Goal(f"reading a series, {syntax}, compared with SimpleITK", ratios(seconds[ITK], seconds[OURS])[0], 2.0)
    rows = tuple(Row(name, times) for name, times in seconds.items())
    return Table(f"dicom_{syntax.replace(' ', '_')}", f"Reading a DICOM series, {syntax}, {shape}", rows, (goal,))


def main() -> None:
    options = argument_parser(__doc__, rounds=5).parse_args()
    scan = read_volume(synthetic_ct(options.work, quick=options.quick))
    for syntax in SYNTAXES:
        publish([reading_table(syntax, scan, options)], options)


if __name__ == "__main__":
    main()
