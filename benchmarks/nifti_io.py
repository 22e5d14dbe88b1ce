"""Saving and loading `.nii.gz`: a CT of 512 x 512 x 300 and a mask, with attunet, nibabel and SimpleITK by default.

python benchmarks/nifti_io.py [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from harness import Goal, Row, Table, interleave, ratios
from results import argument_parser, publish
from scans import synthetic_ct

from attunet.data.formats import read_volume, write_volume
from attunet.data.volume import Volume

NIBABEL, ITK, OURS = "nibabel", "SimpleITK", "attunet"

Run = Callable[[], None]


def synthetic_mask(scan: Volume) -> Volume:
    """A mask of three labels in large connected regions."""
    coarse = np.digitize(scan.array[:, ::8, ::8, ::8], (-200, 40, 150)).astype(np.uint8)
    whole = coarse.repeat(8, axis=1).repeat(8, axis=2).repeat(8, axis=3)
    i, j, k = scan.spatial_shape
    return scan.with_array(whole[:, :i, :j, :k])


def savers(volume: Volume, folder: Path) -> dict[str, Run]:
    """Functions that write the volume, by program."""
    array = volume.array[0]
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    return {
        NIBABEL: lambda: nibabel.save(nibabel.Nifti1Image(array, volume.affine), folder / "nibabel.nii.gz"),
        ITK: lambda: SimpleITK.WriteImage(image, str(folder / "itk.nii.gz")),
        OURS: lambda: write_volume(volume, folder / "attunet.nii.gz"),
    }


def loaders(path: Path) -> dict[str, Run]:
    """Functions that read all voxels of the file, by program."""

    def with_nibabel() -> None:
        np.asanyarray(nibabel.load(path).dataobj)

    def with_itk() -> None:
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))

    def with_ours() -> None:
        np.asarray(read_volume(path).array)

    return {NIBABEL: with_nibabel, ITK: with_itk, OURS: with_ours}


def saving_table(what: str, volume: Volume, options: argparse.Namespace) -> Table:
    """Times and file sizes of saving."""
    folder = options.work / "nifti"
    folder.mkdir(parents=True, exist_ok=True)
    seconds = interleave(savers(volume, folder), options.rounds)
    sizes = {NIBABEL: "nibabel", ITK: "itk", OURS: "attunet"}
    rows = tuple(
        Row(name, times, {"file": f"{(folder / f'{sizes[name]}.nii.gz').stat().st_size / 1e6:.3g} MB"})
        for name, times in seconds.items()
    )
    goal = Goal(f"saving the {what}, compared with nibabel", ratios(seconds[NIBABEL], seconds[OURS])[0], 4.0)
    shape = " × ".join(map(str, volume.spatial_shape))
    return Table(f"save_{what}", f"Saving a {what} as .nii.gz, {shape}, {volume.array.dtype}", rows, (goal,))


def loading_table(what: str, options: argparse.Namespace) -> Table:
    """Times of loading the file that nibabel wrote."""
    seconds = interleave(loaders(options.work / "nifti" / "nibabel.nii.gz"), options.rounds)
    rows = tuple(Row(name, times) for name, times in seconds.items())
    return Table(f"load_{what}", f"Loading the {what} written by nibabel", rows)


def main() -> None:
    options = argument_parser(__doc__, rounds=5).parse_args()
    scan = read_volume(synthetic_ct(options.work, quick=options.quick))
    for what, volume in (("CT", scan), ("mask", synthetic_mask(scan))):
        publish([saving_table(what, volume, options)], options)
        publish([loading_table(what, options)], options)


if __name__ == "__main__":
    main()
