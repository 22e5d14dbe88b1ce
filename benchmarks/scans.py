"""The images of the benchmarks: a public CT, and synthetic CTs of clinical size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from attunet.data.formats import read_volume, write_volume
from attunet.data.phantom import make_phantom
from attunet.data.resample import resize
from attunet.data.volume import Volume

__all__ = ["cropped", "public_ct", "synthetic_ct", "thick_ct"]

DATA = Path("../shared/data")
SPACING, THICK = (0.8, 0.8, 1.5), (0.8, 0.8, 3.0)
SLICES = 300
AIR = -1000
NOISE = 12.0


def public_ct(data: Path = DATA) -> Path | None:
    """A CT of 122 x 101 x 112 voxels of 3 mm; None if the public data sets are not available."""
    path = data / "totalsegmentator_examples" / "images" / "example_ct.nii.gz"
    return path if path.exists() else None


def synthetic_ct(work: Path, slices: int = SLICES, *, quick: bool = False) -> Path:
    """A CT of 512 x 512 voxels of 0.8 x 0.8 x 1.5 mm per slice, int16: a body in noisy air, which fills half the image.

    Beyond 300 slices the same abdomen repeats, every other time upside down. A quick CT has a quarter of the size along
    each axis.
    """
    path = work / f"{'quick_' if quick else ''}ct_{slices}.nii.gz"
    if not path.exists():
        shrink = 4 if quick else 1
        block = _abdomen(512 // shrink, SLICES // shrink, SPACING)
        depth = slices // shrink
        blocks = [block if turn % 2 == 0 else block[..., ::-1] for turn in range(-(-depth // block.shape[2]))]
        step = [size * shrink for size in SPACING]
        affine = np.diag([-step[0], -step[1], step[2], 1.0])
        write_volume(Volume(np.concatenate(blocks, axis=2)[None, ..., :depth], affine), path)
    return path


def thick_ct(work: Path, *, quick: bool = False) -> Path:
    """A CT of 512 x 512 x 100 voxels of 0.8 x 0.8 x 3 mm, int16, with a whole abdomen; a quick one as above."""
    path, shrink = work / f"{'quick_' if quick else ''}thick_ct.nii.gz", 4 if quick else 1
    if not path.exists():
        step = [size * shrink for size in THICK]
        scan = _abdomen(512 // shrink, 100 // shrink, THICK)
        write_volume(Volume(scan[None], np.diag([-step[0], -step[1], step[2], 1.0])), path)
    return path


def cropped(scan: Path, slices: int, work: Path) -> Path:
    """Write the first slices of a scan to a separate file."""
    path = work / f"{scan.name.removesuffix('.nii.gz')}_first_{slices}.nii.gz"
    if not path.exists():
        volume = read_volume(scan)
        write_volume(replace(volume, array=volume.array[..., :slices]), path)
    return path


def _abdomen(width: int, slices: int, spacing: tuple[float, float, float]) -> npt.NDArray[np.int16]:
    """A body in air (width, width, slices), created at half the resolution and upsampled; wider than deep."""
    depth = width * 5 // 6
    coarse, _label = make_phantom(0, shape=(width // 2, depth // 2, slices // 2), spacing=spacing, noise=0)
    random = np.random.default_rng(0)
    smooth = resize(coarse.array.astype(np.float32), (width, depth, slices))[0]
    scan = np.full((width, width, slices), AIR, np.float32)
    front = (width - depth) // 2
    scan[:, front : front + depth] = smooth
    scan += NOISE * random.standard_normal(scan.shape, dtype=np.float32)
    return np.rint(scan).clip(-1024, 3071).astype(np.int16)
