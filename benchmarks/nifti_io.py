"""Saving and loading `.nii.gz`: a CT of 512 x 512 x 300 and its mask, ours against nibabel and SimpleITK as they come.

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
from results import arguments, publish
from scans import synthetic_ct

from attunet.data.formats import read_volume, write_volume
from attunet.data.volume import Volume

NIBABEL, ITK, OURS = "nibabel", "SimpleITK", "attunet"

Run = Callable[[], None]


def masked(scan: Volume) -> Volume:
    """Three labels in large pieces, as a mask has them."""
    smooth = np.digitize(scan.array[:, ::8, ::8, ::8], (-200, 40, 150)).astype(np.uint8)
    whole = smooth.repeat(8, axis=1).repeat(8, axis=2).repeat(8, axis=3)
    i, j, k = scan.spatial_shape
    return scan.with_array(whole[:, :i, :j, :k])


def savers(volume: Volume, folder: Path) -> dict[str, Run]:
    """By program, what writes the volume."""
    array = volume.array[0]
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    return {
        NIBABEL: lambda: nibabel.save(nibabel.Nifti1Image(array, volume.affine), folder / "nibabel.nii.gz"),
        ITK: lambda: SimpleITK.WriteImage(image, str(folder / "itk.nii.gz")),
        OURS: lambda: write_volume(volume, folder / "attunet.nii.gz"),
    }


def loaders(path: Path) -> dict[str, Run]:
    """By program, what reads the file to the last voxel."""

    def with_nibabel() -> None:
        np.asanyarray(nibabel.load(path).dataobj)

    def with_itk() -> None:
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))

    def with_ours() -> None:
        np.asarray(read_volume(path).array)

    return {NIBABEL: with_nibabel, ITK: with_itk, OURS: with_ours}


def saved(what: str, volume: Volume, given: argparse.Namespace) -> Table:
    """Times, and the size of the files."""
    folder = given.work / "nifti"
    folder.mkdir(parents=True, exist_ok=True)
    seconds = interleave(savers(volume, folder), given.rounds)
    sizes = {NIBABEL: "nibabel", ITK: "itk", OURS: "attunet"}
    rows = tuple(
        Row(name, found, {"file": f"{(folder / f'{sizes[name]}.nii.gz').stat().st_size / 1e6:.3g} MB"})
        for name, found in seconds.items()
    )
    goal = Goal(f"saving the {what}, against nibabel", ratios(seconds[NIBABEL], seconds[OURS])[0], 4.0)
    shape = " × ".join(map(str, volume.spatial_shape))
    return Table(f"save_{what}", f"Saving a {what} as .nii.gz, {shape}, {volume.array.dtype}", rows, (goal,))


def loaded(what: str, given: argparse.Namespace) -> Table:
    """The file that nibabel wrote."""
    seconds = interleave(loaders(given.work / "nifti" / "nibabel.nii.gz"), given.rounds)
    rows = tuple(Row(name, found) for name, found in seconds.items())
    return Table(f"load_{what}", f"Loading that {what}, as nibabel wrote it", rows)


def main() -> None:
    given = arguments(__doc__, rounds=5).parse_args()
    scan = read_volume(synthetic_ct(given.work, quick=given.quick))
    for what, volume in (("CT", scan), ("mask", masked(scan))):
        publish([saved(what, volume, given)], given)
        publish([loaded(what, given)], given)


if __name__ == "__main__":
    main()
