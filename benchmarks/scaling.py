"""How attunet's time and memory scale with the voxels of a scan and with the labels and folds of a model.

    python benchmarks/scaling.py [--rounds 3] [--quick]

Measures whole programs, file to file. All models predict the same masks: added labels are never predicted, and all
folds have the same weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from harness import Row, Table, interleave
from models import case_model, with_folds, with_labels
from processes import PeakMemory
from programs import attunet_command
from results import argument_parser, publish
from scans import cropped, synthetic_ct

SLICES = (75, 150, 300, 600)
LABELS = (2, 10, 30, 100)
FOLDS = (1, 2, 3, 5)
FEW_SLICES = 40
"""Slices of the scan for varying labels and folds."""


NOTES = {
    "voxels": "Start-up time is constant, and so is the distance by which windows extend beyond the scan, so time "
    "grows more slowly than the number of voxels. Memory grows by about six bytes per voxel: the image as read, the "
    "image at the model's spacing, and the mask.",
    "labels": "Only the last layer of the network, the accumulated sums and the current slab depend on the number of "
    "labels.",
    "folds": "Everything but start-up and reading runs once per fold; each engine holds its own activations and sums.",
}
"""Explanation of the scaling, by table."""


def scaling_table(
    name: str, title: str, cases: Mapping[str, tuple[Path, Path, float]], options: argparse.Namespace
) -> Table:
    """The table of one factor. Cases: (model, scan, scale factor over the first case) by name."""
    peak_memory, rows = PeakMemory(), []
    runs = {
        case: partial(
            peak_memory.run,
            case,
            attunet_command(model, scan, options.work / "masks_scaling", 1.0),
            options.work / "scaling.log",
        )
        for case, (model, scan, _factor) in cases.items()
    }
    for case, seconds in interleave(runs, options.rounds, warm_up=0).items():
        facts = {"scale factor": f"{cases[case][2]:.1f}×", "peak memory": f"{peak_memory[case]:.2f} GB"}
        rows.append(Row(case, seconds, facts))
    return Table(f"scaling_{name}", title, tuple(rows), notes=(NOTES[name],), ratio="longer")


def voxels_table(model: Path, options: argparse.Namespace) -> Table:
    """Scans with more and more slices."""
    shrink = 4 if options.quick else 1
    scans = [
        synthetic_ct(options.work, slices, quick=options.quick) for slices in SLICES[: 3 if options.quick else None]
    ]
    cases = {}
    for slices, scan in zip(SLICES, scans, strict=False):
        megavoxels = (512 // shrink) ** 2 * (slices // shrink) / 1e6
        cases[f"{megavoxels:.3g} million voxels"] = (model, scan, slices / SLICES[0])
    return scaling_table("voxels", "Scaling with voxels", cases, options)


def labels_table(model: Path, scan: Path, options: argparse.Namespace) -> Table:
    """More and more labels in one network."""
    models = {count: with_labels(model, options.work / f"{model.name}_{count}_labels", count) for count in LABELS}
    cases = {f"{count} labels": (changed, scan, count / LABELS[0]) for count, changed in models.items()}
    return scaling_table("labels", "Scaling with labels", cases, options)


def folds_table(model: Path, scan: Path, options: argparse.Namespace) -> Table:
    """More and more folds, whose probabilities are averaged."""
    models = {count: with_folds(model, options.work / f"{model.name}_{count}_folds", count) for count in FOLDS}
    cases = {
        f"{count} fold{'' if count == 1 else 's'}": (changed, scan, count / FOLDS[0])
        for count, changed in models.items()
    }
    return scaling_table("folds", "Scaling with folds", cases, options)


def main() -> None:
    options = argument_parser(__doc__, rounds=3).parse_args()
    model = case_model(options.work, options.quick)
    whole = synthetic_ct(options.work, quick=options.quick)
    scan = cropped(whole, FEW_SLICES // (4 if options.quick else 1), options.work)
    publish([voxels_table(model, options)], options)
    publish([labels_table(model, scan, options)], options)
    publish([folds_table(model, scan, options)], options)


if __name__ == "__main__":
    main()
