"""What a user waits for beside the network: the first answer of the command line, the first window, preprocessing.

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
from monai_case import transforms
from processes import Peaks, measure
from programs import Command, NNUNet, attunet
from results import arguments, publish
from scans import synthetic_ct

from attunet.bundle import load_bundle
from attunet.config import Plan
from attunet.data.formats import read_volume, write_volume
from attunet.data.preprocess import prepare
from attunet.data.volume import Volume

HELP, ONE_WINDOW = "attunet --help", "attunet predict, an image of one window, file to file"
FIRST_WINDOW_SECONDS = 2.0
PREPARED = "attunet"
MONAI_IMPORTS = (
    "import torch; from monai.inferers import sliding_window_inference; from monai.transforms import Compose"
)


def one_window(plan: Plan, path: Path) -> Path:
    """An image of just one patch."""
    noise = np.random.default_rng(0).normal(0, 300, plan.patch_size).astype(np.int16)
    write_volume(Volume.from_array(noise, plan.preprocessing.spacing), path)
    return path


def first_answer(model: Path, peer: NNUNet | None, given: argparse.Namespace) -> Table:
    """Whole programs until they say or write something."""
    image = one_window(load_bundle(model).plan, given.work / "one_window.nii.gz")
    lines: dict[str, Command] = {
        "Python with torch and MONAI imported": [sys.executable, "-c", MONAI_IMPORTS],
        HELP: [sys.executable, "-m", "attunet", "--help"],
        ONE_WINDOW: attunet(model, image, given.work / "one_window", 1.0),
    }
    if peer is not None:
        lines["nnUNetv2_predict_from_modelfolder -h"] = peer.help()
    peaks, variables = Peaks(), peer.variables if peer else {}
    log = given.work / "startup.log"
    runs = {
        name: partial(peaks.run, name, line, log, **({} if "attunet" in name else variables))
        for name, line in lines.items()
    }
    seconds = interleave(runs, given.rounds)
    rows = tuple(Row(name, found, {"peak memory": f"{peaks[name]:.2f} GB"}) for name, found in seconds.items())
    waited = next(row for row in rows if row.name == ONE_WINDOW).median
    goal = Goal(
        f"the {FIRST_WINDOW_SECONDS:g} s allowed to the first window, against its end",
        FIRST_WINDOW_SECONDS / waited,
        1.0,
    )
    return Table(
        "startup", "Start-up", rows, (goal,), ("Files in the cache of the system: one uncounted round first.",)
    )


def preprocessing(scan: Path, model: Path, peer: NNUNet | None, given: argparse.Namespace) -> Table:
    """From file to network input, start-up not counted."""
    plan = load_bundle(model).plan
    monai = transforms(plan)
    runs: dict[str, Callable[[], float | None]] = {
        "MONAI: LoadImage, Orientation, Spacing, ScaleIntensityRange, CropForeground": lambda: _nothing(
            monai({"image": scan})
        ),
        PREPARED: lambda: _nothing(prepare(read_volume(scan), plan.preprocessing)),
    }
    if peer is not None:
        runs["nnU-Net, cubic"] = partial(_told, peer, scan, given.work / "preparing.log")
    seconds = interleave(runs, given.rounds)
    rows = tuple(Row(name, found) for name, found in seconds.items())
    shape, spacing = read_volume(scan).spatial_shape, plan.preprocessing.spacing
    grid = "×".join(map(str, shape))
    note = f"A CT of {grid} to {'×'.join(f'{size:g}' for size in spacing)} mm, from file to network input."
    return Table("preprocessing", "Preprocessing a case", rows, (), (note,))


def _told(peer: NNUNet, scan: Path, log: Path) -> float:
    """Seconds as nnU-Net's own process counts them, its imports left out."""
    measure(peer.prepare(scan), log, **peer.variables)
    return float(json.loads(log.read_text().splitlines()[-1])["seconds"])


def _nothing(_result: object) -> None:
    """Drops what a run made: it must not be held while the next one runs."""


def main() -> None:
    parser = arguments(__doc__, rounds=9)
    parser.add_argument("--env", type=Path, help="virtual environment of nnU-Net, made when it is not there")
    given = parser.parse_args()
    model = case_model(given.work, given.quick)
    folder = given.work / ("quick_nnunet" if given.quick else "nnunet")
    peer = NNUNet.of(load_bundle(model).plan, given.env, folder) if given.env else None
    scan = synthetic_ct(given.work, quick=given.quick)
    publish([first_answer(model, peer, given)], given)
    publish([preprocessing(scan, model, peer, given)], given)


if __name__ == "__main__":
    main()
