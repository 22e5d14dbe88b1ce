"""The models of the trunk benchmark: one with a localizer and one without, otherwise the same."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from models import CHANNELS, PATCH, SPACING, TINY_CHANNELS, TINY_PATCH, TINY_SPACING, benchmark_plan, network_config
from processes import measure

from attunet.config import Plan
from attunet.data.cases import read_dataset
from attunet.data.formats import write_volume
from attunet.data.phantom import PHANTOM_LABELS, make_trunk
from attunet.data.volume import Volume
from attunet.files import write_text
from attunet.planning.fingerprint import fingerprint
from attunet.planning.localizer import plan_localizer
from attunet.planning.options import BUDGETS, PlanOptions
from attunet.planning.preprocessing import Grid
from attunet.planning.topology import Topology

__all__ = ["trunk_label", "trunk_model", "trunk_plan", "trunk_scan"]

TRAINING_SHAPE, TRAINING_SPACING = (256, 256, 300), (1.6, 1.6, 3.0)
TRAINED, VALIDATED = 6, 2
SLAB = 14
"""Slices of a validation case of the model of one stage: it would run thousands of windows of whole trunks."""
SEEDS = 100
"""From which training cases are numbered; the scan to predict is patient 0."""


def trunk_scan(work: Path, labels: Sequence[str], *, quick: bool) -> tuple[Path, Path]:
    """A CT of 512 x 512 x 600 voxels and its labels; a quick one has a quarter of the size along each axis."""
    name = f"{'quick_' if quick else ''}trunk_{'_'.join(labels)}"
    scan, truth = work / f"{name}.nii.gz", work / "truth" / f"{name}.nii.gz"
    if not truth.exists():
        shrink = 4 if quick else 1
        shape, spacing = (512 // shrink, 512 // shrink, 600 // shrink), (0.8 * shrink, 0.8 * shrink, 1.5 * shrink)
        image, label = make_trunk(0, shape=shape, spacing=spacing)
        write_volume(image, scan)
        write_volume(trunk_label(label, labels), truth)
    return scan, truth


def trunk_label(label: Volume, labels: Sequence[str]) -> Volume:
    """Only these labels of the phantom, numbered from 1."""
    table = np.zeros(max(PHANTOM_LABELS.values()) + 1, np.uint8)
    for value, name in enumerate(labels, start=1):
        table[PHANTOM_LABELS[name]] = value
    return label.with_array(table[label.array])


def trunk_model(work: Path, labels: Sequence[str], *, cascade: bool, seconds: float, quick: bool) -> Path:
    """A model folder, trained once on other trunks for that time; with `cascade`, the time includes its localizer."""
    kind = "cascade" if cascade else "one_stage"
    root = work / f"{'quick_' if quick else ''}trunk_model_{kind}_{'_'.join(labels)}_{seconds:g}s"
    if not (root / "manifest.json").exists():
        trunks = f"{'quick_' if quick else ''}trunks_{'whole_' if cascade else ''}{'_'.join(labels)}"
        table = _dataset(work / trunks, labels, whole=cascade, quick=quick)
        file = root.with_name(f"{root.name}.plan.json")
        write_text(file, json.dumps(trunk_plan(table, labels, cascade=cascade, quick=quick).model_dump(mode="json")))
        command: list[str | Path] = [sys.executable, "-m", "attunet", "train", table, "-o", root, "--plan", file]
        flags: list[str | Path] = [
            "--cascade",
            "on" if cascade else "off",
            "--seed",
            "0",
            "--max-time",
            f"{seconds:g}s",
            "--store",
            work / "store",
        ]
        resume = ["--resume"] if (root / "fold_0").exists() else []
        measure([*command, *flags, *resume], root.with_name(f"{root.name}.log"))
    return root


def trunk_plan(table: Path, labels: Sequence[str], *, cascade: bool, quick: bool) -> Plan:
    """The benchmark's plan for whole cases and, with `cascade`, the localizer that attunet plans for this grid."""
    channels, patch, spacing = (TINY_CHANNELS, TINY_PATCH, TINY_SPACING) if quick else (CHANNELS, PATCH, SPACING)
    classes = {"background": 0, **{name: value for value, name in enumerate(labels, start=1)}}
    plan = benchmark_plan(network_config(channels, classes=len(classes)), patch, labels=classes, spacing=spacing)
    if not cascade:
        return plan
    found, network = fingerprint(read_dataset(table)), plan.network
    extent = np.median(found.shapes * found.spacings, axis=0)
    grid = Grid(plan.preprocessing.slice_axis, np.array(spacing), extent / spacing)
    topology = Topology(patch, network.strides, network.kernel_sizes)
    localizer, _ = plan_localizer(found, grid, topology, 3, BUDGETS["small"], PlanOptions(cascade="on"))
    assert localizer is not None
    context = {"labels": len(labels), "foreground": 1, "none": 0}[localizer.context]
    network = plan.network.model_copy(update={"in_channels": plan.network.in_channels + context})
    return Plan.model_validate(
        plan.model_dump() | {"network": network.model_dump(), "localizer": localizer.model_dump()}
    )


def _dataset(folder: Path, labels: Sequence[str], *, whole: bool, quick: bool) -> Path:
    """Other trunks at half the resolution, as a CSV file with a split.

    The validation cases are slabs with organs or, for the audit of a localizer, whole trunks.
    """
    table, shrink = folder / "cases.csv", 4 if quick else 1
    if table.exists():
        return table
    rows = []
    for index in range(TRAINED + VALIDATED):
        shape = tuple(size // shrink for size in TRAINING_SHAPE)
        spacing = tuple(size * shrink for size in TRAINING_SPACING)
        image, label = make_trunk(SEEDS + index, shape=shape, spacing=spacing)
        label = trunk_label(label, labels)
        split = "train" if index < TRAINED else "val"
        if split == "val" and not whole:
            middle = int(np.median(np.flatnonzero(label.array[0].any(axis=(0, 1)))))
            part = slice(max(0, middle - SLAB // 2), middle + SLAB // 2)
            image, label = (volume.with_array(volume.array[..., part]) for volume in (image, label))
        write_volume(image, folder / "images" / f"trunk{index}.nii.gz")
        write_volume(label, folder / "labels" / f"trunk{index}.nii.gz")
        rows.append([f"trunk{index}", f"images/trunk{index}.nii.gz", f"labels/trunk{index}.nii.gz", split, ""])
    rows[0][-1] = ";".join(["background=0", *(f"{name}={value}" for value, name in enumerate(labels, start=1))])
    with table.with_suffix(".part").open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "image", "label", "split", "labels"], *rows])
    table.with_suffix(".part").rename(table)
    return table
