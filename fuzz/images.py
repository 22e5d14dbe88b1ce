"""Small valid images of every format to begin with."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from series import dicom_images

from attunet.data.formats import WRITABLE_SUFFIXES, write_volume
from attunet.data.formats.dicom import DICOM_SUFFIXES
from attunet.data.volume import Volume
from attunet.errors import AttunetError

__all__ = ["image_seeds"]


def _volumes() -> Iterator[Volume]:
    """Small images of several kinds; a format writes those that it holds."""
    generator = np.random.default_rng(0)
    turned = np.array([[0, -0.7, 0, 10], [0.7, 0, 0, -5], [0, 0, 2.5, 3], [0, 0, 0, 1.0]])
    yield Volume(generator.integers(-1000, 1000, (1, 6, 5, 4)).astype(np.int16), turned)
    yield Volume(generator.normal(0, 1, (2, 5, 4, 3)).astype(np.float32), np.eye(4))
    yield Volume.from_array(generator.integers(0, 3, (8, 9)).astype(np.uint8))
    yield Volume(generator.integers(0, 255, (3, 8, 9, 1)).astype(np.uint8), np.eye(4))
    yield Volume.from_array(generator.integers(0, 60000, (8, 9)).astype(np.uint16))


def image_seeds(suffix: str) -> Callable[[Path], Iterator[None]]:
    """Makes valid images of a suffix in a folder, one after the other."""

    def seeds(folder: Path) -> Iterator[None]:
        for volume in _volumes() if suffix in WRITABLE_SUFFIXES else ():
            try:
                write_volume(volume, folder / f"x{suffix}")
            except AttunetError:  # the format does not hold such images
                continue
            yield
        made = dicom_images(suffix) if suffix in DICOM_SUFFIXES else MORE_SEEDS.get(suffix, ())
        for more in made:
            more(folder / f"x{suffix}")
            yield

    return seeds


def _raw_header(text: str, values: bytes = b"", **beside: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(text.encode() + values)
        for name, content in beside.items():
            (path.parent / name).write_bytes(content)

    return make


def _extended_nifti(path: Path) -> None:
    import nibabel

    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a comment"))
    image.header.set_slope_inter(2.0, -1000.0)
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def _nifti2(path: Path) -> None:
    import nibabel

    content = nibabel.Nifti2Image(np.arange(24, dtype=np.float64).reshape(2, 3, 4), np.diag([2, 2, 3, 1])).to_bytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def _pillow(mode: str, **how: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        from PIL import Image

        pixels = np.random.default_rng(0).integers(0, 255, (8, 9, 4)).astype(np.uint8)
        Image.fromarray(pixels, "RGBA").convert(mode).save(path, **how)

    return make


def _tiff(**how: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import tifffile

        tifffile.imwrite(path, np.arange(3 * 16 * 16, dtype=np.uint16).reshape(3, 16, 16), **how)

    return make


def _npy(array: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path, array)


def _pair(kind: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import nibabel

        image = getattr(nibabel, kind)(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([-2, 2, 3, 1]))
        nibabel.save(image, path)

    return make


def _npz(path: Path) -> None:
    np.savez_compressed(path, image=np.arange(24, dtype=np.int16).reshape(2, 3, 4))


def _matlab(**how: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        from scipy import io

        io.savemat(path, {"image": np.arange(24.0).reshape(2, 3, 4)[0] if how else np.ones((2, 3, 4))}, **how)

    return make


def _hdf5(path: Path, **how: Any) -> None:
    import h5py

    with h5py.File(path, "w", **how) as file:
        array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
        file.create_dataset("scan/image", data=array, compression="gzip", chunks=(1, 3, 4), fletcher32=True)


def _hdf5_plain(path: Path) -> None:
    import h5py

    with h5py.File(path, "w", libver="latest") as file:
        file["image"] = np.arange(24.0).reshape(4, 6)
        file["image"].attrs["MATLAB_class"] = np.bytes_("double")


def _zarr(version: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import zarr

        group = zarr.open_group(store=str(path), mode="w", zarr_format=version)
        array = group.create_array("0", shape=(2, 4, 6), chunks=(1, 4, 6), dtype="uint16")
        array[:] = np.arange(48, dtype=np.uint16).reshape(2, 4, 6)
        axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
        step = {"type": "scale", "scale": [2.0, 0.5, 0.5]}
        entry = {"multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [step]}]}]}
        group.attrs.update({"ome": {"version": "0.5", **entry}} if version == 3 else entry)

    return make


_META = "ObjectType = Image\nNDims = 3\nBinaryData = {}\nDimSize = 4 3 2\nElementSpacing = 1 2 3\nOffset = 1 2 3\n"
_META += "TransformMatrix = 0 1 0 -1 0 0 0 0 1\nElementType = MET_UCHAR\nElementDataFile = {}\n"
_NRRD = "NRRD0005\n# a comment\ntype: uchar\ndimension: 4\nsizes: 2 4 3 1\nkinds: vector domain domain domain\n"
_NRRD += (
    'space: RAS\nspace directions: none (2,0,0) (0,3,0) (0,0,4)\nspace origin: (1,2,3)\nspace units: "um" "um" "um"\n'
)
_24 = bytes(range(24))
_TEXT = " ".join(map(str, range(24))).encode()
MORE_SEEDS: dict[str, tuple[Callable[[Path], None], ...]] = {
    ".nii": (_extended_nifti, _nifti2),
    ".nii.gz": (_extended_nifti, _nifti2),
    ".mha": (_raw_header(_META.format("True", "LOCAL"), _24), _raw_header(_META.format("False", "LOCAL"), _TEXT)),
    ".mhd": (
        _raw_header(_META.format("True", "s_%02d.raw 1 2 1"), **{"s_01.raw": _24[:12], "s_02.raw": _24[12:]}),
        _raw_header(_META.format("True", "LIST\na.raw\nb.raw"), **{"a.raw": _24[:12], "b.raw": _24[12:]}),
    ),
    ".nrrd": (
        _raw_header(_NRRD + "encoding: raw\nbyte skip: -1\n\n", _24),
        _raw_header(_NRRD + "encoding: text\n\n", _TEXT),
        _raw_header("NRRD0001\ntype: float\ndimension: 2\nsizes: 2 3\nendian: big\nencoding: raw\n\n", _24),
    ),
    ".nhdr": (_raw_header(_NRRD + "encoding: raw\ndata file: LIST\na.raw\n", **{"a.raw": _24}),),
    ".png": (_pillow("P"), _pillow("1"), _pillow("LA"), _pillow("RGBA")),
    ".jpg": (_pillow("CMYK"),),
    ".jpeg": (_pillow("CMYK"),),
    ".bmp": (_pillow("P"), _pillow("1")),
    ".gif": (_pillow("P"),),
    ".webp": (_pillow("RGB", lossless=True), _pillow("RGBA")),
    ".ppm": (_pillow("RGB"),),
    ".pgm": (_pillow("L"), _pillow("I;16")),
    ".jp2": (_pillow("RGB"), _pillow("L")),
    ".j2k": (_pillow("RGB"),),
    ".jpx": (_pillow("RGB", format="JPEG2000"),),
    ".tif": (
        _tiff(),
        _tiff(tile=(16, 16), compression="zlib", predictor=2),
        _pillow("P"),
        _pillow("1"),
        _tiff(bigtiff=True),
    ),
    ".tiff": (_tiff(imagej=True), _tiff(ome=True, metadata={"axes": "ZYX"}), _tiff(compression="zlib", rowsperstrip=2)),
    ".ome.tif": (_tiff(ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}),),
    ".ome.tiff": (_tiff(ome=True, compression="zlib", metadata={"axes": "CYX"}),),
    **dict.fromkeys((".img", ".hdr", ".img.gz", ".hdr.gz"), (_pair("Nifti1Pair"), _pair("Spm99AnalyzeImage"))),
    ".npz": (_npz,),
    ".mat": (_matlab(), _matlab(do_compression=True), _matlab(format="4")),
    **dict.fromkeys((".h5", ".hdf5"), (_hdf5, _hdf5_plain)),
    **dict.fromkeys((".ome.zarr", ".zarr"), (_zarr(2), _zarr(3))),
    ".npy": (_npy(np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))), _npy(np.arange(24, dtype=">i2").reshape(4, 6))),
}
"""Valid files that the writers of ours do not make."""
