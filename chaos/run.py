"""Kill train, predict, select and export at random moments, run the next plain command, and compare with no kill.

Each program is a forked child, so that the libraries are imported once, and is killed with its whole process group
(kill -9). Then the command that a user would type next must work, its result must equal that of an uninterrupted run,
bit for bit, and no hidden file may be left. The moments depend only on the seed and the machine's speed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import yaml

from attunet.cli import app, register
from attunet.config import FingerprintSummary, Normalization, Plan, Preprocessing
from attunet.errors import AttunetError
from attunet.networks import default_network

SHAPE = (16, 16, 12)
RECIPE = {"epochs": 3, "steps_per_epoch": 2, "warmup_steps": 1, "folds": 2, "workers": 0, "precision": "fp32"}
SHOWN = 400


@dataclass(frozen=True)
class Act:
    """A command that is killed, and what it leaves.

    Args:
        words: its words, for a folder of results.
        again: words that are added after a kill.
        facts: the results in that folder, to compare.
        whole: whether the folder appears complete or not at all, so that a second run is refused when it exists.
    """

    words: Callable[[Path], list[str]]
    again: tuple[str, ...]
    facts: Callable[[Path], dict[str, bytes]]
    whole: bool = False


def main() -> int:
    """Run, print a table of counts, and return 1 when a kill did harm."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--seconds", type=float, default=float("inf"), help="start no further kill after this time")
    given = options.parse_args()
    register()
    preload()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        return run(Path(folder), given.kills, random.Random(given.seed), given.seconds)


def run(folder: Path, kills: int, moments: random.Random, seconds: float) -> int:
    """Make the models, kill in turn, and report.

    Args:
        folder: an empty folder.
        kills: how many.
        moments: draws the moments.
        seconds: start no further kill after this time.
    Returns: 1 when a kill did harm.
    """
    began = time.monotonic()
    acts = dict(prepared(folder))
    expected, duration = {}, {}
    for name, act in acts.items():
        started = time.monotonic()
        finish(act.words(folder / name), folder)
        duration[name] = time.monotonic() - started
        expected[name] = act.facts(folder / name)
    counts, harm = Counter[tuple[str, str]](), []
    for number in range(kills):
        if time.monotonic() - began > seconds:
            break
        name = list(acts)[number % len(acts)]
        target = folder / f"{name}_{number}"
        counts[name, "kills"] += 1
        after = moments.uniform(0, duration[name])
        while not kill_after(after, acts[name].words(target), folder):  # it had ended: once more, with another moment
            counts[name, "ended before"] += 1
            remove(target)
            duration[name] = min(duration[name], after)
            after = moments.uniform(0, duration[name])
        failure = recovered(acts[name], target, expected[name], folder)
        if failure:
            counts[name, "harm"] += 1
            harm.append(f"{name}, kill {number} after {after:.2f} s: {failure}")
        remove(target)
    print(f"{'program':10}{'kills':>8}{'repeated':>10}{'harm':>8}   (repeated: it had ended before the kill)")
    for name in acts:
        row = [counts[name, what] for what in ("kills", "ended before", "harm")]
        print(f"{name:10}{row[0]:8}{row[1]:10}{row[2]:8}")
    print("\n".join(harm) or f"no harm by {sum(counts[name, 'kills'] for name in acts)} kills")
    return bool(harm)


def remove(target: Path) -> None:
    """Remove a folder of results, and the store beside it."""
    for made in target.parent.glob(f"{target.name}*"):
        shutil.rmtree(made, ignore_errors=True)


def recovered(act: Act, target: Path, expected: dict[str, bytes], folder: Path) -> str:
    """Run the next plain command, and say what is wrong afterwards; empty when nothing is.

    Args:
        act: what was killed.
        target: its folder of results.
        expected: the results without a kill.
        folder: of everything, to look for hidden files.
    Returns: the difference.
    """
    if not (act.whole and target.exists()):
        try:
            finish([*act.words(target), *act.again], folder)
        except RuntimeError as error:
            return f"the next command fails: {error}"
    found = act.facts(target)
    if found.keys() != expected.keys():
        return f"other files: {sorted(found.keys() ^ expected.keys())}"
    if different := [name for name, content in expected.items() if found[name] != content]:
        return f"other content: {different}"
    hidden = [path for path in folder.rglob(".attunet*") if path.parent != folder]
    return f"left behind: {hidden}" if hidden else ""


def prepared(folder: Path) -> Iterator[tuple[str, Act]]:
    """Write data, a plan, a recipe and two models; the acts by name."""
    data, plan, recipe = folder / "data", folder / "plan.json", folder / "recipe.yaml"
    write_data(data)
    plan.write_text(tiny_plan().model_dump_json())
    recipe.write_text(yaml.safe_dump(RECIPE))

    def train(run: Path, *more: str) -> list[str]:
        settings = ["--plan", plan, "--recipe", recipe, "--store", run.parent / "store", "--device", "cpu"]
        return [str(word) for word in ("train", data, "-o", run, *settings, *more)]

    yield "train", Act(lambda run: train(run, "--store", str(run) + "_store"), ("--resume",), trained)
    for seed in ("0", "1"):
        finish(train(folder / f"model{seed}", "--seed", seed), folder)
    models = [str(folder / "model0"), str(folder / "model0")]
    images = str(data / "images")
    yield (
        "predict",
        Act(
            lambda out: ["predict", "-m", models[0], "-i", images, "-o", str(out), "--statistics"],
            ("--continue-prediction",),
            predicted,
        ),
    )
    shutil.copytree(folder / "model0", folder / "second")
    runs = [models[0], str(folder / "second")]
    yield "select", Act(lambda out: ["select", *runs, "-o", str(out)], (), sealed, whole=True)
    yield (
        "export",
        Act(lambda out: ["export", "-m", models[0], "-o", str(out), "--format", "openvino"], (), sealed, True),
    )


def trained(run: Path) -> dict[str, bytes]:
    """Weights, scores and history of a run, without times and absolute paths."""
    fold = run / "fold_0"
    rows = [line.split(",") for line in (fold / "log.csv").read_text().splitlines()]
    minutes = rows[0].index("minutes")
    history = "\n".join(",".join(row[:minutes] + row[minutes + 1 :]) for row in rows)
    files = ("weights.safetensors", "metrics.json", "graph.bin", "air.json")
    return {"history": history.encode()} | {name: (fold / name).read_bytes() for name in files}


def predicted(out: Path) -> dict[str, bytes]:
    """Masks and statistics, without times."""
    masks = {path.name: np.asarray(nibabel.load(path).dataobj).tobytes() for path in sorted(out.glob("*.nii*"))}
    return masks | {"statistics": json.dumps(timeless(json.loads((out / "statistics.json").read_text()))).encode()}


def timeless(value: object) -> object:
    """A JSON value without durations, which differ from run to run, and without the folder of the results."""
    if isinstance(value, dict):
        return {key: timeless(entry) for key, entry in value.items() if not key.endswith(("seconds", "file", "files"))}
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


def sealed(folder: Path) -> dict[str, bytes]:
    """Every weight, graph and setting that a manifest in a folder lists."""
    names = ("weights.safetensors", "graph.bin", "plan.json", "ensemble.json", "postprocessing.json")
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.name in names
    }


def write_data(folder: Path) -> None:
    """Three noisy volumes with a bright ball."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for case in range(3):
        noise, grid = np.random.default_rng(case), np.indices(SHAPE)
        ball = sum((axis - 5 - case) ** 2 for axis in grid) < 20
        image = (noise.normal(0, 0.3, SHAPE) + 3 * ball).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / "images" / f"case{case}.nii")
        nibabel.save(nibabel.Nifti1Image(ball.astype(np.uint8), np.eye(4)), folder / "labels" / f"case{case}.nii")


def tiny_plan() -> Plan:
    """A plan that trains in a second."""
    network = default_network(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=(4, 6),
        strides=((2,) * 3,),
        kernel_sizes=((3,) * 3,) * 2,
    )
    return Plan(
        name="chaos",
        labels={"background": 0, "ball": 1},
        channel_names=("light",),
        preprocessing=Preprocessing(spacing=(1.0, 1.0, 1.0), normalization=(Normalization(kind="zscore"),)),
        patch_size=(8, 8, 8),
        batch_size=2,
        network=network,
        fingerprint=FingerprintSummary(
            cases=3, channels=1, median_shape=SHAPE, median_spacing=(1.0, 1.0, 1.0), label_voxels={"ball": 80}
        ),
        reasons={},
    )


def preload() -> None:
    """Import what the commands import, once."""
    import lightning.pytorch
    import openvino

    import attunet.export.package
    import attunet.inference.segmenter
    import attunet.selection.ensemble
    import attunet.training.train

    assert all((lightning.pytorch, openvino, attunet.export, attunet.inference, attunet.selection, attunet.training))


def start(words: Sequence[str], log: Path) -> int:
    """Start a command in a process group of its own; its number."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    code = 1
    try:
        app(list(words), standalone_mode=False)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except AttunetError as error:
        print(error, file=sys.stderr)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(words: Sequence[str], folder: Path) -> None:
    """Run a command to its end. Raises: RuntimeError with the last of its output when it fails."""
    log = folder / "output.txt"
    if os.waitstatus_to_exitcode(os.waitpid(start(words, log), 0)[1]):
        raise RuntimeError(" ".join(log.read_text(errors="replace").split())[-SHOWN:])


def kill_after(seconds: float, words: Sequence[str], folder: Path) -> bool:
    """Start a command and kill it after some time; False when it had ended before."""
    process = start(words, folder / "output.txt")
    time.sleep(seconds)
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:  # it has not become the leader of its group yet
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


if __name__ == "__main__":
    sys.exit(main())
