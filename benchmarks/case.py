"""A CT from file to file: attunet, MONAI's sliding window and nnU-Net with the same patch, step and network width.

    python benchmarks/case.py --env ENV [--cases public 300 1000] [--step 1.0] [--rounds 5] [--quick]

Measures whole programs, start-up included, and the peak memory over all of their processes. nnU-Net is installed into
ENV on the first call; without --env it is not measured. Only attunet predicts the largest scan.
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
from models import case_model, quantized_model
from monai_model import monai_model
from monai_network import load_monai
from processes import PeakMemory
from programs import Command, NNUNet, attunet_command, monai_command
from results import argument_parser, publish
from scans import public_ct, synthetic_ct

from attunet.bundle import load_bundle
from attunet.config import Plan
from attunet.data.formats import read_volume
from attunet.planning.layers import count_flops

EAGER, BEST = "MONAI sliding window, eager fp32", "MONAI sliding window, bf16, channels_last"
NNUNET, OURS, INT8 = "nnU-Net, fp32", "attunet", "attunet, 8-bit integers"
MONAI_EAGER, MONAI_BEST = "MONAI's AttentionUnet in MONAI, eager fp32", "— bf16, channels_last"
MONAI_IN_ATTUNET = "the same weights in attunet"
LIMIT = "4GB"
ATTUNET_ONLY = 1000
"""Number of slices from which only attunet is measured: the other programs would take hours."""

Programs = dict[str, tuple[Path, Command]]
"""The folder of masks and the command of each program."""


def commands(scan: Path, model: Path, small: Path | None, peer: NNUNet | None, folder: Path, step: float) -> Programs:
    """The commands of all programs."""
    outputs = {name: folder / str(index) for index, name in enumerate((EAGER, BEST, NNUNET, OURS, INT8))}
    programs = {
        EAGER: (outputs[EAGER], monai_command(model, scan, outputs[EAGER], step)),
        BEST: (outputs[BEST], monai_command(model, scan, outputs[BEST], step, "--best")),
        OURS: (outputs[OURS], attunet_command(model, scan, outputs[OURS], step)),
    }
    if small is not None:
        programs[INT8] = (outputs[INT8], attunet_command(small, scan, outputs[INT8], step))
    if peer is not None:
        programs[NNUNET] = (outputs[NNUNET], peer.predict_command(scan, outputs[NNUNET], step))
    return programs


def mean_dice(reference: Path, other: Path) -> str:
    """Mean Dice over the labels of two masks; of one network, it shows the effect of precision and resampling."""
    first, second = (read_volume(path).array for path in (reference, other))
    labels = [label for label in np.union1d(first, second) if label]
    if not labels:
        return "both empty"
    dice = [
        2 * np.sum((first == label) & (second == label)) / (np.sum(first == label) + np.sum(second == label))
        for label in labels
    ]
    return f"{np.mean(dice):.4f}"


def measure_programs(
    programs: Programs, reference: str, same_weights: Collection[str], options: argparse.Namespace, **peer: str
) -> tuple[tuple[Row, ...], PeakMemory]:
    """Measure all programs in turn.

    Args:
        programs: the command of each program.
        reference: the program whose mask the others are compared with.
        same_weights: the programs whose masks are compared.
        options: the command-line options.
        peer: the environment variables that nnU-Net needs.
    Returns: the rows, and the peak memory of each program.
    """
    peak_memory = PeakMemory()
    runs = {
        who: partial(peak_memory.run, who, line, options.work / "case.log", **(peer if who == NNUNET else {}))
        for who, (_output, line) in programs.items()
    }
    seconds = interleave(runs, options.rounds, warm_up=0)
    masks = {who: next(output.glob("*.nii.gz")) for who, (output, _line) in programs.items()}
    rows = []
    for who, times in seconds.items():
        facts = {"peak memory": f"{peak_memory[who]:.2f} GB"}
        facts["Dice with attunet's mask"] = mean_dice(masks[reference], masks[who]) if who in same_weights else ""
        rows.append(Row(who, times, facts))
    return tuple(rows), peak_memory


def comparison_table(
    scan: Path, title: str, name: str, model: Path, peer: NNUNet | None, options: argparse.Namespace
) -> Table:
    """All programs on one scan."""
    folder, plan = options.work / f"masks_{name}", load_bundle(model).plan
    shutil.rmtree(folder, ignore_errors=True)
    small, dice = (None, "") if options.quick else quantized_model(model, options.work / "model_int8")
    programs = commands(scan, model, small, peer, folder, options.step)
    rows, peak_memory = measure_programs(
        programs, OURS, (EAGER, BEST, INT8), options, **(peer.variables if peer else {})
    )
    notes = (_settings(plan, peer, options.step), *([dice] if dice else []))
    return Table(f"case_{name}", title, rows, _goals(rows, peak_memory, name), notes)


def monai_network_table(scan: Path, title: str, teacher: Path, options: argparse.Namespace) -> Table:
    """MONAI's own network, in MONAI and in attunet."""
    folder, root = (
        options.work / "masks_monai",
        options.work / ("quick_model_monai" if options.quick else "model_monai"),
    )
    shutil.rmtree(folder, ignore_errors=True)
    model = monai_model(teacher, scan, root, quick=options.quick)
    programs: Programs = {
        MONAI_EAGER: (folder / "0", monai_command(model, scan, folder / "0", options.step, "--own")),
        MONAI_BEST: (folder / "1", monai_command(model, scan, folder / "1", options.step, "--own", "--best")),
        MONAI_IN_ATTUNET: (folder / "2", attunet_command(model, scan, folder / "2", options.step)),
    }
    rows, _peaks = measure_programs(programs, MONAI_IN_ATTUNET, (MONAI_EAGER, MONAI_BEST), options)
    plan = load_bundle(model).plan
    work = gflop(load_monai(model, plan), (1, *plan.patch_size))
    notes = (
        f"Same patch, spacing and step; channels {plan.network.channels}, {work:.3g} GFLOP per window.",
        "No windows are skipped, because this model has no threshold for air.",
    )
    return Table(
        "case_monai",
        f"{title}, MONAI's network in both programs",
        rows,
        (_faster(rows, MONAI_EAGER, MONAI_IN_ATTUNET),),
        notes,
    )


def _settings(plan: Plan, peer: NNUNet | None, step: float) -> str:
    patch, spacing = (
        "×".join(f"{value:g}" for value in triple) for triple in (plan.patch_size, plan.preprocessing.spacing)
    )
    work = f"{count_flops(plan.network, plan.patch_size) / 1e9:.3g} GFLOP per window"
    nnunet = (
        f"; nnU-Net uses its own network with the same channels ({peer.gflop:.3g} GFLOP per window) and random weights"
        if peer
        else ""
    )
    return (
        f"Patch {patch} at {spacing} mm, step {step:g}, channels {plan.network.channels}, "
        f"{len(plan.labels) - 1} labels, no mirroring; attunet and MONAI use the same weights ({work}){nnunet}."
    )


def _goals(rows: Sequence[Row], peak_memory: PeakMemory, name: str) -> tuple[Goal, ...]:
    """The targets for the scan of 300 slices."""
    if name != "300":
        return ()
    present = {row.name: row.seconds for row in rows}
    goals = [_faster(rows, EAGER, OURS)]
    if INT8 in present:
        goals.append(_faster(rows, EAGER, INT8, " in 8-bit integers"))
    if NNUNET in present:
        goals.append(Goal("speed-up over nnU-Net", ratios(present[NNUNET], present[OURS])[0], 6.0))
        goals.append(Goal("nnU-Net's peak memory relative to attunet's", peak_memory[NNUNET] / peak_memory[OURS], 4.0))
    return tuple(goals)


def _faster(rows: Sequence[Row], theirs: str, ours: str, suffix: str = "") -> Goal:
    seconds = {row.name: row.seconds for row in rows}
    return Goal(f"speed-up{suffix} over MONAI's sliding window, eager", ratios(seconds[theirs], seconds[ours])[0], 5.0)


def attunet_table(scan: Path, title: str, model: Path, options: argparse.Namespace) -> Table:
    """attunet with and without a memory limit."""
    peak_memory, log = PeakMemory(), options.work / "case.log"
    lines = {
        OURS: attunet_command(model, scan, options.work / "masks_large", options.step),
        f"{OURS} --max-memory {LIMIT}": attunet_command(
            model, scan, options.work / "masks_bound", options.step, "--max-memory", LIMIT
        ),
    }
    seconds = interleave(
        {who: partial(peak_memory.run, who, line, log) for who, line in lines.items()}, options.rounds, warm_up=0
    )
    rows = tuple(Row(who, times, {"peak memory": f"{peak_memory[who]:.2f} GB"}) for who, times in seconds.items())
    return Table("case_1000", title, rows, notes=("The same model. The other programs were not measured.",))


def main() -> None:
    parser = argument_parser(__doc__, rounds=5)
    parser.add_argument("--env", type=Path, help="virtual environment of nnU-Net, created if missing")
    parser.add_argument(
        "--cases", nargs="+", default=["public", "300", "1000"], help="public, or a number of slices of 512 x 512"
    )
    parser.add_argument("--step", type=float, default=1.0, help="distance between windows, as a fraction of the patch")
    options = parser.parse_args()
    model = case_model(options.work, options.quick)
    folder = options.work / ("quick_nnunet" if options.quick else "nnunet")
    peer = NNUNet.create(load_bundle(model).plan, options.env, folder) if options.env else None
    for case in options.cases:
        scan = public_ct() if case == "public" else synthetic_ct(options.work, int(case), quick=options.quick)
        if scan is None:
            print("the public CT is not available: skipped")
            continue
        shape = " × ".join(map(str, read_volume(scan).spatial_shape))
        title = f"CT of {shape}, file to file"
        large = case != "public" and int(case) >= ATTUNET_ONLY
        publish(
            [
                attunet_table(scan, title, model, options)
                if large
                else comparison_table(scan, title, case, model, peer, options)
            ],
            options,
        )
        if case == "300":
            publish([monai_network_table(scan, title, model, options)], options)


if __name__ == "__main__":
    main()
