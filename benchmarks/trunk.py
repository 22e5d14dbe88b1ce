"""A CT of a whole trunk, of which the labelled organs fill about 1%: attunet with a localizer, MONAI and nnU-Net.

    python benchmarks/trunk.py --env ENV [--rounds 3] [--programs attunet all-windows monai nnunet] [--quick]

Whole programs from file to file, with the same patch, step and network width, their peak memory over all processes, and
the Dice of their masks with the truth. Two models are trained on other trunks in the first call: one with a localizer
for attunet; one without, briefly, whose weights MONAI runs in torch and attunet as "one stage". nnU-Net runs its own
network of the same channels with random weights. Their times are those of trained networks, their masks mean nothing.
A program that does not finish, for lack of memory for example, gets a row that says so.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import Goal, Row, Table, ratios
from processes import PeakMemory
from programs import Command, NNUNet, attunet_command, monai_command
from results import argument_parser, publish, update_page
from trunk_models import trunk_model, trunk_scan

from attunet.bundle import load_bundle
from attunet.data.formats import read_label
from attunet.data.phantom import PHANTOM_LABELS
from attunet.evaluation import evaluate

NAMES = {
    "attunet": "attunet, windows chosen by its localizer",
    "all-windows": "attunet --all-windows",
    "one-stage": "attunet, model without a localizer",
    "monai": "MONAI sliding window, eager fp32",
    "monai-best": "MONAI sliding window, bf16, channels_last",
    "nnunet": "nnU-Net, fp32",
}
CASCADE = {"attunet", "all-windows"}
SELECTED = ("attunet", "all-windows", "monai", "nnunet")
TARGETS = {"all-windows": 5.0, "monai": 20.0, "nnunet": 35.0}
"""By which factor the first program should be faster than these."""
MEMORY_TARGET = 5.0
LABELS = ("liver", "kidneys")
"""With all four organs, MONAI's probabilities of 157 million voxels would not fit into 24 GB."""


def commands(scan: Path, one_stage: Path, peer: NNUNet | None, options: argparse.Namespace) -> dict[str, Command]:
    """The command of each selected program, which writes its mask into its folder below `masks(options)`."""
    step, folder = options.step, masks(options)
    cascade = _model(options, cascade=True) if CASCADE & set(options.programs) else one_stage
    lines: dict[str, Command] = {
        "attunet": attunet_command(cascade, scan, folder / "attunet", step),
        "all-windows": attunet_command(cascade, scan, folder / "all-windows", step, "--all-windows"),
        "one-stage": attunet_command(one_stage, scan, folder / "one-stage", step),
        "monai": monai_command(one_stage, scan, folder / "monai", step),
        "monai-best": monai_command(one_stage, scan, folder / "monai-best", step, "--best"),
    }
    if peer is not None:
        lines["nnunet"] = peer.predict_command(scan, folder / "nnunet", step)
    return {key: lines[key] for key in options.programs if key in lines}


def masks(options: argparse.Namespace) -> Path:
    """The folder of all masks."""
    folder: Path = options.work / ("quick_masks_trunk" if options.quick else "masks_trunk")
    return folder


def measure_rounds(
    lines: Mapping[str, Command], peer: NNUNet | None, options: argparse.Namespace
) -> tuple[dict[str, list[float]], PeakMemory, dict[str, str]]:
    """Run all programs in turn, round after round; one that fails is not tried again.

    Args:
        lines: the command of each program.
        peer: nnU-Net, if it is measured.
        options: the command-line options.
    Returns: seconds of each program, peak memory, and why the others failed.
    """
    memory, failed = PeakMemory(), dict[str, str]()
    seconds: dict[str, list[float]] = {key: [] for key in lines}
    for _round in range(options.rounds):
        for key, line in lines.items():
            if key in failed:
                continue
            variables = peer.variables if peer and key == "nnunet" else {}
            try:
                seconds[key].append(memory.run(key, line, options.work / f"trunk_{key}.log", **variables))
            except SystemExit as error:
                said = [line for line in str(error).splitlines() if line.strip()][:-1]  # the last names the log
                failed[key] = said[-1][:120] if len(said) > 1 else "ended without a word, as when memory is short"
                seconds[key] = []
            print(f"{key}: {failed.get(key) or f'{seconds[key][-1]:.1f} s'}", flush=True)
    return seconds, memory, failed


def dice(truth: Path, options: argparse.Namespace, key: str) -> float:
    """Mean Dice of a program's mask with the truth, over the labels."""
    names = {name: value for value, name in enumerate(options.labels, start=1)}
    return evaluate(truth, next((masks(options) / key).glob("*.nii.gz")), labels=names).foreground_mean()


def trunk_table(scan: Path, truth: Path, options: argparse.Namespace) -> Table:
    """Measure the selected programs."""
    one_stage = _model(options, cascade=False)
    plan = load_bundle(one_stage).plan
    folder = options.work / ("quick_nnunet_trunk" if options.quick else "nnunet_trunk")
    peer = NNUNet.create(plan, options.env, folder) if options.env and "nnunet" in options.programs else None
    shutil.rmtree(masks(options), ignore_errors=True)
    lines = commands(scan, one_stage, peer, options)
    seconds, memory, failed = measure_rounds(lines, peer, options)
    accuracy = {key: dice(truth, options, key) for key in lines if key in CASCADE and key not in failed}
    rows = []
    for key in lines:
        facts = {"peak memory": "" if key in failed else f"{memory[key]:.2f} GB"}
        facts["Dice with the truth"] = f"{accuracy[key]:.4f}" if key in accuracy else ""
        facts["did not finish"] = failed.get(key, "")
        rows.append(Row(NAMES[key], tuple(seconds[key]), {name: fact for name, fact in facts.items() if fact}))
    reference = read_label(truth)
    share, shape = float((reference.array > 0).mean()), " × ".join(map(str, reference.spatial_shape))
    patch, spacing = ("×".join(f"{value:g}" for value in row) for row in (plan.patch_size, plan.preprocessing.spacing))
    notes = [
        f"{', '.join(options.labels)} fill {share:.1%} of the scan; patch {patch} at {spacing} mm, "
        f"step {options.step:g}, channels {plan.network.channels}, no mirroring. The model with a localizer was "
        f"trained for {options.seconds:g} s.",
        "MONAI runs the model without a localizer, trained for a tenth of that; nnU-Net runs its own network with "
        "random weights: their times count, their masks mean nothing.",
    ]
    if set(accuracy) >= CASCADE:
        change = accuracy["attunet"] - accuracy["all-windows"]
        notes.append(f"Change in Dice by leaving out windows: {change:+.4f} (at least -0.002 is wanted).")
    name = f"trunk{'_quick' if options.quick else ''}"
    title = f"CT of a whole trunk, {shape}, file to file"
    return Table(name, title, tuple(rows), _goals(seconds, memory, failed), tuple(notes))


def _model(options: argparse.Namespace, *, cascade: bool) -> Path:
    seconds = options.seconds if cascade else options.seconds / 10  # only its time counts
    return trunk_model(options.work, options.labels, cascade=cascade, seconds=seconds, quick=options.quick)


def _goals(seconds: Mapping[str, Sequence[float]], memory: PeakMemory, failed: Mapping[str, str]) -> tuple[Goal, ...]:
    """What the first program should reach against the others."""
    if not seconds.get("attunet"):
        return ()
    goals = []
    for key, target in TARGETS.items():
        if key in failed or not seconds.get(key):
            continue
        goals.append(Goal(f"speed-up over {NAMES[key]}", ratios(seconds[key], seconds["attunet"])[0], target))
        if key != "all-windows":
            ratio = memory[key] / memory["attunet"]
            goals.append(Goal(f"peak memory of {NAMES[key]} relative to attunet's", ratio, MEMORY_TARGET))
    return tuple(goals)


def main() -> None:
    parser = argument_parser(__doc__, rounds=3)
    parser.add_argument("--env", type=Path, help="virtual environment of nnU-Net, created if missing")
    parser.add_argument("--programs", nargs="+", choices=NAMES, default=SELECTED, help=", ".join(NAMES))
    parser.add_argument("--labels", nargs="+", choices=list(PHANTOM_LABELS)[1:], default=LABELS)
    parser.add_argument("--seconds", type=float, default=300, help="training time of the model with a localizer")
    parser.add_argument("--step", type=float, default=1.0, help="distance between windows, as a fraction of the patch")
    parser.add_argument("--page", action="store_true", help="renew the table in docs/benchmarks.md and .json")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    scan, truth = trunk_scan(options.work, options.labels, quick=options.quick)
    complete = publish([trunk_table(scan, truth, options)], options)
    if options.page and not options.quick:
        update_page(complete)


if __name__ == "__main__":
    main()
