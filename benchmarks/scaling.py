"""How our time and memory grow: with the voxels of a scan, with the labels and with the folds of a model.

    python benchmarks/scaling.py [--rounds 3] [--quick]

Whole programs, file to file. All models paint the same organs: added labels never win, folds have equal weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from harness import Row, Table, interleave
from models import case_model, with_folds, with_labels
from processes import Peaks
from programs import attunet
from results import arguments, publish
from scans import cropped, synthetic_ct

SLICES = (75, 150, 300, 600)
LABELS = (2, 10, 30, 100)
FOLDS = (1, 2, 3, 5)
FEW_SLICES = 40
"""Of the scan on which labels and folds are varied."""


NOTES = {
    "voxels": "Starting is the same for all, and so is how far windows reach beyond a scan: time grows slower than "
    "the voxels. Memory grows by some six bytes a voxel: the image as read and at the model's spacing, and the mask.",
    "labels": "Only the last layer of the network, the sums over windows and the slab that is decided know labels.",
    "folds": "All but reading and starting is done by each fold; every engine holds its own activations and sums.",
}
"""What is not linear, and why; measured where the page was made."""


def grown(name: str, title: str, cases: Mapping[str, tuple[Path, Path, float]], given: argparse.Namespace) -> Table:
    """A table of (model, scan, by how much there is more than in the first) for each case."""
    peaks, rows = Peaks(), []
    runs = {
        case: partial(
            peaks.run, case, attunet(model, scan, given.work / "masks_scaling", 1.0), given.work / "scaling.log"
        )
        for case, (model, scan, _more) in cases.items()
    }
    for case, seconds in interleave(runs, given.rounds, warm_up=0).items():
        facts = {"more than the first": f"{cases[case][2]:.1f}×", "peak memory": f"{peaks[case]:.2f} GB"}
        rows.append(Row(case, seconds, facts))
    return Table(f"scaling_{name}", title, tuple(rows), notes=(NOTES[name],), ratio="longer")


def voxels(model: Path, given: argparse.Namespace) -> Table:
    """Deeper and deeper scans."""
    shrink = 4 if given.quick else 1
    scans = [synthetic_ct(given.work, slices, quick=given.quick) for slices in SLICES[: 3 if given.quick else None]]
    cases = {}
    for slices, scan in zip(SLICES, scans, strict=False):
        megavoxels = (512 // shrink) ** 2 * (slices // shrink) / 1e6
        cases[f"{megavoxels:.3g} million voxels"] = (model, scan, slices / SLICES[0])
    return grown("voxels", "Growth with voxels", cases, given)


def labels(model: Path, scan: Path, given: argparse.Namespace) -> Table:
    """More and more labels, one network."""
    models = {count: with_labels(model, given.work / f"{model.name}_{count}_labels", count) for count in LABELS}
    cases = {f"{count} labels": (made, scan, count / LABELS[0]) for count, made in models.items()}
    return grown("labels", "Growth with labels", cases, given)


def folds(model: Path, scan: Path, given: argparse.Namespace) -> Table:
    """More and more networks whose probabilities are averaged."""
    models = {count: with_folds(model, given.work / f"{model.name}_{count}_folds", count) for count in FOLDS}
    cases = {f"{count} folds": (made, scan, count / FOLDS[0]) for count, made in models.items()}
    return grown("folds", "Growth with folds", cases, given)


def main() -> None:
    given = arguments(__doc__, rounds=3).parse_args()
    model = case_model(given.work, given.quick)
    whole = synthetic_ct(given.work, quick=given.quick)
    scan = cropped(whole, FEW_SLICES // (4 if given.quick else 1), given.work)
    publish([voxels(model, given)], given)
    publish([labels(model, scan, given)], given)
    publish([folds(model, scan, given)], given)


if __name__ == "__main__":
    main()
