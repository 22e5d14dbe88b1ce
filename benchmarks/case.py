"""A CT from file to file: ours against MONAI's sliding window and nnU-Net, equal patch, step and size of network.

    python benchmarks/case.py --env ENV [--cases public 300 1000] [--step 1.0] [--rounds 5] [--quick]

Whole programs, start-up included, with the most memory that all of their processes held at once. nnU-Net is installed
into ENV on the first call; without --env it is left out. The largest scan is given to ours alone.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from forward import gflop
from harness import Goal, Row, Table, interleave, ratios
from models import case_model, in_integers
from monai_model import monai_model
from monai_network import load_monai
from processes import Peaks
from programs import Command, NNUNet, attunet, monai
from results import arguments, publish
from scans import public_ct, synthetic_ct

from attunet.bundle import load_bundle
from attunet.config import Plan
from attunet.data.formats import read_volume
from attunet.planning.layers import count_flops

EAGER, BEST = "MONAI sliding window, eager fp32", "MONAI sliding window, bf16, channels_last"
NNUNET, OURS, INT8 = "nnU-Net, fp32", "attunet", "attunet, 8-bit integers"
OWN_EAGER, OWN_BEST = "MONAI's AttentionUnet in MONAI, eager fp32", "— bf16, channels_last"
OWN_OURS = "its weights in attunet"
LIMIT = "4GB"
ALONE = 1000
"""Slices from which the peers are not asked: hours."""


Typed = dict[str, tuple[Path, Command]]
"""By program, its folder of masks and what is typed."""


def commands(scan: Path, model: Path, small: Path | None, peer: NNUNet | None, folder: Path, step: float) -> Typed:
    """Of every program."""
    outputs = {name: folder / str(index) for index, name in enumerate((EAGER, BEST, NNUNET, OURS, INT8))}
    found = {
        EAGER: (outputs[EAGER], monai(model, scan, outputs[EAGER], step)),
        BEST: (outputs[BEST], monai(model, scan, outputs[BEST], step, "--best")),
        OURS: (outputs[OURS], attunet(model, scan, outputs[OURS], step)),
    }
    if small is not None:
        found[INT8] = (outputs[INT8], attunet(small, scan, outputs[INT8], step))
    if peer is not None:
        found[NNUNET] = (outputs[NNUNET], peer.predict(scan, outputs[NNUNET], step))
    return found


def agreement(mine: Path, theirs: Path) -> str:
    """Mean Dice of the labels between two masks of one network: what is left of precision and resampling."""
    first, second = (read_volume(path).array for path in (mine, theirs))
    labels = [label for label in np.union1d(first, second) if label]
    if not labels:
        return "both empty"
    dice = [
        2 * np.sum((first == one) & (second == one)) / (np.sum(first == one) + np.sum(second == one)) for one in labels
    ]
    return f"{np.mean(dice):.4f}"


def timed(
    typed: Typed, reference: str, alike: Collection[str], given: argparse.Namespace, **peer: str
) -> tuple[tuple[Row, ...], Peaks]:
    """All programs in turn, and how well the masks of those of the same network agree with the reference's.

    Args: the environment variables that nnU-Net needs.
    """
    peaks = Peaks()
    runs = {
        who: partial(peaks.run, who, line, given.work / "case.log", **(peer if who == NNUNET else {}))
        for who, (_output, line) in typed.items()
    }
    seconds = interleave(runs, given.rounds, warm_up=0)
    masks = {who: next(output.glob("*.nii.gz")) for who, (output, _line) in typed.items()}
    rows = []
    for who, found in seconds.items():
        facts = {"peak memory": f"{peaks[who]:.2f} GB"}
        facts["Dice with attunet's mask"] = agreement(masks[reference], masks[who]) if who in alike else ""
        rows.append(Row(who, found, facts))
    return tuple(rows), peaks


def compared(scan: Path, title: str, name: str, model: Path, peer: NNUNet | None, given: argparse.Namespace) -> Table:
    """All programs on one scan."""
    folder, plan = given.work / f"masks_{name}", load_bundle(model).plan
    shutil.rmtree(folder, ignore_errors=True)
    small, cost = (None, "") if given.quick else in_integers(model, given.work / "model_int8")
    typed = commands(scan, model, small, peer, folder, given.step)
    rows, peaks = timed(typed, OURS, (EAGER, BEST, INT8), given, **(peer.variables if peer else {}))
    notes = (_equal(plan, peer, given.step), *([f"Dice of the validation cases: {cost}."] if cost else []))
    return Table(f"case_{name}", title, rows, _goals(rows, peaks, name), notes)


def same_network(scan: Path, title: str, teacher: Path, given: argparse.Namespace) -> Table:
    """MONAI's own network, in MONAI and in ours."""
    folder, root = given.work / "masks_monai", given.work / ("quick_model_monai" if given.quick else "model_monai")
    shutil.rmtree(folder, ignore_errors=True)
    model = monai_model(teacher, scan, root, quick=given.quick)
    typed: Typed = {
        OWN_EAGER: (folder / "0", monai(model, scan, folder / "0", given.step, "--own")),
        OWN_BEST: (folder / "1", monai(model, scan, folder / "1", given.step, "--own", "--best")),
        OWN_OURS: (folder / "2", attunet(model, scan, folder / "2", given.step)),
    }
    rows, _peaks = timed(typed, OWN_OURS, (OWN_EAGER, OWN_BEST), given)
    plan = load_bundle(model).plan
    work = gflop(load_monai(model, plan), (1, *plan.patch_size))
    notes = (
        f"The same patch, spacing and step; channels {plan.network.channels}, {work:.3g} GFLOP a window.",
        "No window is skipped, as no training has shown that air may be.",
    )
    return Table(
        "case_monai", f"{title}, MONAI's own network in both", rows, (_faster(rows, OWN_EAGER, OWN_OURS),), notes
    )


def _equal(plan: Plan, peer: NNUNet | None, step: float) -> str:
    patch, spacing = (
        "×".join(f"{value:g}" for value in triple) for triple in (plan.patch_size, plan.preprocessing.spacing)
    )
    work = f"{count_flops(plan.network, plan.patch_size) / 1e9:.3g} GFLOP a window"
    theirs = f"; nnU-Net's network of the same channels {peer.gflop:.3g}, its weights random" if peer else ""
    return (
        f"Patch {patch} at {spacing} mm, step {step:g}, channels {plan.network.channels}, "
        f"{len(plan.labels) - 1} labels, no mirroring; attunet and MONAI run the same weights, {work}{theirs}."
    )


def _goals(rows: Sequence[Row], peaks: Peaks, name: str) -> tuple[Goal, ...]:
    """Those of the large scan."""
    if name != "300":
        return ()
    present = {row.name: row.seconds for row in rows}
    found = [_faster(rows, EAGER, OURS)]
    if INT8 in present:
        found.append(_faster(rows, EAGER, INT8, "in 8-bit integers "))
    if NNUNET in present:
        found.append(Goal("faster than nnU-Net", ratios(present[NNUNET], present[OURS])[0], 6.0))
        found.append(Goal("nnU-Net's peak memory over attunet's", peaks[NNUNET] / peaks[OURS], 4.0))
    return tuple(found)


def _faster(rows: Sequence[Row], theirs: str, ours: str, how: str = "") -> Goal:
    seconds = {row.name: row.seconds for row in rows}
    return Goal(f"{how}faster than MONAI's sliding window, eager", ratios(seconds[theirs], seconds[ours])[0], 5.0)


def alone(scan: Path, title: str, model: Path, given: argparse.Namespace) -> Table:
    """Ours, with and without a limit on memory."""
    peaks, log = Peaks(), given.work / "case.log"
    lines = {
        OURS: attunet(model, scan, given.work / "masks_large", given.step),
        f"{OURS} --max-memory {LIMIT}": attunet(
            model, scan, given.work / "masks_bound", given.step, "--max-memory", LIMIT
        ),
    }
    seconds = interleave(
        {who: partial(peaks.run, who, line, log) for who, line in lines.items()}, given.rounds, warm_up=0
    )
    rows = tuple(Row(who, found, {"peak memory": f"{peaks[who]:.2f} GB"}) for who, found in seconds.items())
    return Table("case_1000", title, rows, notes=("The same model. No peer was asked.",))


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--env", type=Path, help="virtual environment of nnU-Net, made when it is not there")
    parser.add_argument("--cases", nargs="+", default=["public", "300", "1000"], help="public, or slices of 512 x 512")
    parser.add_argument("--step", type=float, default=1.0, help="distance of the windows, in patches")
    given = parser.parse_args()
    model = case_model(given.work, given.quick)
    folder = given.work / ("quick_nnunet" if given.quick else "nnunet")
    peer = NNUNet.of(load_bundle(model).plan, given.env, folder) if given.env else None
    for case in given.cases:
        scan = public_ct() if case == "public" else synthetic_ct(given.work, int(case), quick=given.quick)
        if scan is None:
            print("the public CT is not at hand: left out")
            continue
        shape = " × ".join(map(str, read_volume(scan).spatial_shape))
        title = f"A CT of {shape}, file to file"
        large = case != "public" and int(case) >= ALONE
        publish([alone(scan, title, model, given) if large else compared(scan, title, case, model, peer, given)], given)
        if case == "300":
            publish([same_network(scan, title, model, given)], given)


if __name__ == "__main__":
    main()
