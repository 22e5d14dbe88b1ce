"""Cross-validates nnU-Net v2 on attunet's folds, with a fixed time per fold, and scores it with attunet's evaluation.

    python benchmarks/nnunet_sarcoma.py --env ENV --work WORK --minutes 15 [--ours RUN_MR RUN_CT]

The first call installs nnU-Net into a virtual environment at ENV. nnU-Net writes all its files to WORK, and folds
finished there are not repeated. It runs 3d_fullres as released, mirroring included; only the schedule is ours
(nnunet/trainer). Prints its scores beside those of attunet's model folders. Other data sets: --dataset hippocampus.
"""

import argparse
import re
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from nnunet.peer import CONFIGURATION, VERSION, Peer, install, link

from attunet.data.cases import Dataset, read_dataset
from attunet.data.folds import Split, make_folds
from attunet.evaluation import Summary, evaluate, summarize
from attunet.evaluation.bootstrap import interval

SARCOMA = ("Dataset101_SarcomaMR", "Dataset102_SarcomaCT")
FoldCases = tuple[tuple[str, ...], tuple[str, ...]]


def folds_of(dataset: Dataset, run: Path | None, count: int, seed: int) -> dict[int, FoldCases]:
    """Training and validation cases of each fold: those of attunet's model folder, or those it would use."""
    if run is None:
        return {fold.index: (fold.train, fold.validation) for fold in make_folds(dataset, count, seed)}
    splits = {int(folder.name.removeprefix("fold_")): Split.read(folder) for folder in run.glob("fold_*")}
    return {index: (split.train, split.validation) for index, split in sorted(splits.items())}


def attunet_summary(run: Path) -> Summary:
    """Scores of attunet's held-out cases: of the cross-validation, or of the single folds."""
    summary = run / "cross_validation" / "summary.json"
    if summary.exists():
        return Summary.read(summary)
    folds = [Summary.read(file) for file in sorted(run.glob("fold_*/metrics.json"))]
    if not folds:
        raise SystemExit(f"{run} holds neither cross_validation/summary.json nor fold_*/metrics.json")
    return summarize([case for fold in folds for case in fold.cases], folds[0].labels)


def dice_of(summary: Summary) -> dict[str, float]:
    """Mean Dice over the labels of each case."""
    scores = [(case, dice) for label in summary.labels for case, dice in summary.values(label).items()]
    cases = dict.fromkeys(case for case, _dice in scores)
    return {case: statistics.fmean(dice for other, dice in scores if other == case) for case in cases}


def format_scores(name: str, summary: Summary) -> str:
    low, high = summary.foreground_interval()
    dice, hd95 = summary.foreground_mean(), summary.foreground_mean("HD95")
    return f"{name:8s} {dice:6.3f} ({low:.3f} to {high:.3f}) {hd95:9.2f} mm {len(summary.cases):5d}"


def format_difference(theirs: Summary, mine: Summary) -> str:
    """The mean difference over paired cases, and the ratio of the means."""
    first, second = dice_of(theirs), dice_of(mine)
    gains = [second[case] - dice for case, dice in first.items() if case in second]
    low, high = interval(gains)
    ratio = mine.foreground_mean() / theirs.foreground_mean() if theirs.foreground_mean() else float("inf")
    won = sum(gain > 0 for gain in gains)
    mean = f"{statistics.fmean(gains):+.3f} ({low:+.3f} to {high:+.3f})"
    return f"attunet - nnU-Net: {mean}, ratio {ratio:.3f}, attunet better in {won} of {len(gains)} cases"


def cross_validate(peer: Peer, dataset: Dataset, run: Path | None, options: argparse.Namespace) -> None:
    folds = folds_of(dataset, run, options.folds, options.seed)
    selected = sorted(folds) if options.only is None else options.only
    if unknown := set(selected) - set(folds):
        raise SystemExit(f"unknown folds {sorted(unknown)}; the folds are {sorted(folds)}")
    peer.prepare(dataset, [folds.get(index, ((), ())) for index in range(max(folds) + 1)])
    validated = [case for fold in selected for case in folds[fold][1]]
    training = [peer.train(fold) for fold in selected]
    seconds = sum(peer.predict(fold, folds[fold][1]) for fold in selected)
    steps = sum(entry["steps"] for entry in training)
    seconds_per_step = sum(entry["seconds"] for entry in training) / steps
    print(f"{peer.name}, folds {', '.join(map(str, selected))}, {peer.seconds / 60:.3g} minutes of training each")
    training_speed = f"{steps / len(selected):.0f} steps per fold, {seconds_per_step:.2f} s per step"
    prediction_speed = (
        f"{seconds / len(validated):.1f} s per predicted case{'' if peer.mirror else ' without mirroring'}"
    )
    print(f"nnU-Net {VERSION} {CONFIGURATION}: {training_speed}, {prediction_speed}")
    compare(score(peer, dataset, validated), run)


def score(peer: Peer, dataset: Dataset, validated: list[str]) -> Summary:
    """Evaluate nnU-Net's masks of these cases against the data set's labels."""
    with tempfile.TemporaryDirectory() as folder:
        for case in dataset.labelled:
            if case.id in validated:
                link(Path(folder) / case.label.name, case.label)
        return evaluate(Path(folder), peer.predictions, labels=dataset.label_names)


def compare(theirs: Summary, run: Path | None) -> None:
    print("           Dice (95% interval)           HD95    cases")
    print(format_scores("nnU-Net", theirs))
    if run is not None:
        mine, scored = attunet_summary(run), {case.case for case in theirs.cases}
        mine = replace(mine, cases=tuple(case for case in mine.cases if case.case in scored))
        print(format_scores("attunet", mine))
        print(format_difference(theirs, mine))
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", type=Path, required=True, help="virtual environment to install nnU-Net into")
    parser.add_argument("--work", type=Path, required=True, help="folder for all files of nnU-Net")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder that contains the data sets")
    parser.add_argument("--dataset", nargs="+", default=SARCOMA, help="names of the data sets")
    parser.add_argument("--minutes", type=float, default=15, help="minutes of training per fold")
    parser.add_argument("--folds", type=int, default=5, help="number of folds if there is no attunet model")
    parser.add_argument("--seed", type=int, default=0, help="seed for those folds")
    parser.add_argument("--only", type=int, nargs="+", help="run only these folds")
    parser.add_argument(
        "--ours", type=Path, nargs="+", default=[], help="attunet's model folders, in the order of --dataset"
    )
    parser.add_argument("--disable-tta", action="store_true", help="predict without mirroring: eight times faster")
    options = parser.parse_args()
    for folder in (options.env, options.work):
        folder.mkdir(parents=True, exist_ok=True)
    install(options.env.resolve())
    for position, name in enumerate(options.dataset):
        numbered = name if re.match(r"Dataset\d{3}_", name) else f"Dataset{500 + position}_{name}"
        peer = Peer(
            options.env.resolve(), options.work.resolve(), numbered, options.minutes * 60, not options.disable_tta
        )
        run = options.ours[position] if position < len(options.ours) else None
        cross_validate(peer, read_dataset(options.data / name), run, options)


if __name__ == "__main__":
    main()
