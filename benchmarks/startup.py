"""The time a user waits apart from the network: start-up of the command line, the first window, preprocessing.

python benchmarks/startup.py [--env ENV] [--rounds 9] [--quick]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from harness import Goal, Row, Table, interleave
from models import case_model
from monai_case import preprocessing_transforms
from processes import PeakMemory, measure
from programs import Command, NNUNet, attunet_command
from results import argument_parser, publish
from scans import synthetic_ct

from attunet.bundle import load_bundle
from attunet.config import Plan
from attunet.data.formats import read_volume, write_volume
from attunet.data.preprocess import prepare
from attunet.data.volume import Volume

HELP, ONE_WINDOW = "attunet --help", "attunet predict, one-window image, file to file"
FIRST_WINDOW_SECONDS = 2.0
PREPARED = "attunet"
MONAI_IMPORTS = (
    "import torch; from monai.inferers import sliding_window_inference; from monai.transforms import Compose"
)


def one_window_image(plan: Plan, path: Path) -> Path:
    """Write an image of the size of one patch."""
    noise = np.random.default_rng(0).normal(0, 300, plan.patch_size).astype(np.int16)
    write_volume(Volume.from_array(noise, plan.preprocessing.spacing), path)
    return path


def startup_table(model: Path, peer: NNUNet | None, options: argparse.Namespace) -> Table:
    """Whole programs, from start to their first output."""
    image = one_window_image(load_bundle(model).plan, options.work / "one_window.nii.gz")
    lines: dict[str, Command] = {
        "Python importing torch and MONAI": [sys.executable, "-c", MONAI_IMPORTS],
        HELP: [sys.executable, "-m", "attunet", "--help"],
        ONE_WINDOW: attunet_command(model, image, options.work / "one_window", 1.0),
    }
    if peer is not None:
        lines["nnUNetv2_predict_from_modelfolder -h"] = peer.help_command()
    peak_memory, variables = PeakMemory(), peer.variables if peer else {}
    log = options.work / "startup.log"
    runs = {
        name: partial(peak_memory.run, name, line, log, **({} if "attunet" in name else variables))
        for name, line in lines.items()
    }
    seconds = interleave(runs, options.rounds)
    rows = tuple(Row(name, times, {"peak memory": f"{peak_memory[name]:.2f} GB"}) for name, times in seconds.items())
    median = next(row for row in rows if row.name == ONE_WINDOW).median
    goal = Goal(
        f"limit of {FIRST_WINDOW_SECONDS:g} s for the first window, relative to the measured time",
        FIRST_WINDOW_SECONDS / median,
        1.0,
    )
    return Table(
        "startup", "Start-up", rows, (goal,), ("Files are in the file-system cache: one warm-up round does not count.",)
    )


def preprocessing_table(scan: Path, model: Path, peer: NNUNet | None, options: argparse.Namespace) -> Table:
    """From file to network input, without start-up."""
    plan = load_bundle(model).plan
    monai = preprocessing_transforms(plan)
    runs: dict[str, Callable[[], float | None]] = {
        "MONAI: LoadImage, Orientation, Spacing, ScaleIntensityRange, CropForeground": lambda: _discard(
            monai({"image": scan})
        ),
        PREPARED: lambda: _discard(prepare(read_volume(scan), plan.preprocessing)),
    }
    if peer is not None:
        runs["nnU-Net, cubic"] = partial(_nnunet_seconds, peer, scan, options.work / "preparing.log")
    seconds = interleave(runs, options.rounds)
    rows = tuple(Row(name, times) for name, times in seconds.items())
    shape, spacing = read_volume(scan).spatial_shape, plan.preprocessing.spacing
    grid = "×".join(map(str, shape))
    note = f"CT of {grid} to {'×'.join(f'{size:g}' for size in spacing)} mm, from file to network input."
    return Table("preprocessing", "Preprocessing a case", rows, (), (note,))


def _nnunet_seconds(peer: NNUNet, scan: Path, log: Path) -> float:
    """Seconds as measured by nnU-Net's own process, without imports."""
    measure(peer.preprocess_command(scan), log, **peer.variables)
    return float(json.loads(log.read_text().splitlines()[-1])["seconds"])


def _discard(_result: object) -> None:
    """Drop the result of a run, so that it does not occupy memory during the next one."""


def main() -> None:
    parser = argument_parser(__doc__, rounds=9)
    parser.add_argument("--env", type=Path, help="virtual environment of nnU-Net, created if missing")
    options = parser.parse_args()
    model = case_model(options.work, options.quick)
    folder = options.work / ("quick_nnunet" if options.quick else "nnunet")
    peer = NNUNet.create(load_bundle(model).plan, options.env, folder) if options.env else None
    scan = synthetic_ct(options.work, quick=options.quick)
    publish([startup_table(model, peer, options)], options)
    publish([preprocessing_table(scan, model, peer, options)], options)


if __name__ == "__main__":
    main()
