"""Cross-validates nnU-Net v2 on our folds, with a fixed time per fold, and scores it with our own evaluation.

    python benchmarks/nnunet_sarcoma.py --env ENV --work WORK --minutes 15 [--ours RUN_MR RUN_CT]

nnU-Net is installed into a virtual environment at ENV on the first call; all that it makes lies in WORK, and a fold
that is done there is not done again. Stock 3d_fullres, mirroring included; only the schedule is ours (nnunet/trainer).
Prints its scores beside those of our model folders. Other data sets: --dataset hippocampus.
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
Sides = tuple[tuple[str, ...], tuple[str, ...]]


def folds_of(dataset: Dataset, run: Path | None, count: int, seed: int) -> dict[int, Sides]:
    """Cases to train and to validate on: as our model folder was trained, or as it would be."""
    if run is None:
        return {fold.index: (fold.train, fold.validation) for fold in make_folds(dataset, count, seed)}
    splits = {int(folder.name.removeprefix("fold_")): Split.read(folder) for folder in run.glob("fold_*")}
    return {index: (split.train, split.validation) for index, split in sorted(splits.items())}


def ours(run: Path) -> Summary:
    """Scores of our out-of-fold masks: of the cross-validation, or of the folds one by one."""
    whole = run / "cross_validation" / "summary.json"
    if whole.exists():
        return Summary.read(whole)
    parts = [Summary.read(file) for file in sorted(run.glob("fold_*/metrics.json"))]
    if not parts:
        raise SystemExit(f"{run} holds neither cross_validation/summary.json nor fold_*/metrics.json")
    return summarize([case for part in parts for case in part.cases], parts[0].labels)


def dice_of(summary: Summary) -> dict[str, float]:
    """Mean Dice of the labels, case by case."""
    found = [(case, dice) for label in summary.labels for case, dice in summary.values(label).items()]
    cases = dict.fromkeys(case for case, _dice in found)
    return {case: statistics.fmean(dice for other, dice in found if other == case) for case in cases}


def row(name: str, summary: Summary) -> str:
    low, high = summary.foreground_interval()
    dice, hd95 = summary.foreground_mean(), summary.foreground_mean("HD95")
    return f"{name:8s} {dice:6.3f} ({low:.3f} to {high:.3f}) {hd95:9.2f} mm {len(summary.cases):5d}"


def against(theirs: Summary, mine: Summary) -> str:
    """The difference, case by case; the ratio of the means."""
    first, second = dice_of(theirs), dice_of(mine)
    gains = [second[case] - dice for case, dice in first.items() if case in second]
    low, high = interval(gains)
    ratio = mine.foreground_mean() / theirs.foreground_mean() if theirs.foreground_mean() else float("inf")
    won = sum(gain > 0 for gain in gains)
    mean = f"{statistics.fmean(gains):+.3f} ({low:+.3f} to {high:+.3f})"
    return f"attunet - nnU-Net: {mean}, ratio {ratio:.3f}, attunet better in {won} of {len(gains)} cases"


def cross_validate(peer: Peer, dataset: Dataset, run: Path | None, given: argparse.Namespace) -> None:
    folds = folds_of(dataset, run, given.folds, given.seed)
    chosen = sorted(folds) if given.only is None else given.only
    if unknown := set(chosen) - set(folds):
        raise SystemExit(f"there is no fold {unknown}, only {sorted(folds)}")
    peer.prepare(dataset, [folds.get(index, ((), ())) for index in range(max(folds) + 1)])
    validated = [case for fold in chosen for case in folds[fold][1]]
    trained = [peer.train(fold) for fold in chosen]
    seconds = sum(peer.predict(fold, folds[fold][1]) for fold in chosen)
    steps = sum(entry["steps"] for entry in trained)
    pace = sum(entry["seconds"] for entry in trained) / steps
    print(f"{peer.name}, folds {', '.join(map(str, chosen))}, {peer.seconds / 60:.3g} minutes of training each")
    print(f"nnU-Net {VERSION} {CONFIGURATION}: {steps / len(chosen):.0f} steps a fold, {pace:.2f} s a step, ", end="")
    print(f"{seconds / len(validated):.1f} s to predict a case{'' if peer.mirror else ' without mirroring'}")
    compare(score(peer, dataset, validated), run)


def score(peer: Peer, dataset: Dataset, validated: list[str]) -> Summary:
    """nnU-Net's masks against those of the data set, of these cases alone."""
    with tempfile.TemporaryDirectory() as folder:
        for case in dataset.labelled:
            if case.id in validated:
                link(Path(folder) / case.label.name, case.label)
        return evaluate(Path(folder), peer.predictions, labels=dataset.label_names)


def compare(theirs: Summary, run: Path | None) -> None:
    print("           Dice (95% interval)           HD95    cases")
    print(row("nnU-Net", theirs))
    if run is not None:
        mine, scored = ours(run), {case.case for case in theirs.cases}
        mine = replace(mine, cases=tuple(case for case in mine.cases if case.case in scored))
        print(row("attunet", mine))
        print(against(theirs, mine))
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", type=Path, required=True, help="virtual environment to install nnU-Net into")
    parser.add_argument("--work", type=Path, required=True, help="folder for all that nnU-Net writes")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--dataset", nargs="+", default=SARCOMA, help="names of the data sets in it")
    parser.add_argument("--minutes", type=float, default=15, help="training per fold")
    parser.add_argument("--folds", type=int, default=5, help="folds to make where there is no model of ours")
    parser.add_argument("--seed", type=int, default=0, help="seed of those folds")
    parser.add_argument("--only", type=int, nargs="+", help="these folds alone")
    parser.add_argument("--ours", type=Path, nargs="+", default=[], help="our model folders, in the order of --dataset")
    parser.add_argument("--disable-tta", action="store_true", help="predict without mirroring: eight times faster")
    given = parser.parse_args()
    for folder in (given.env, given.work):
        folder.mkdir(parents=True, exist_ok=True)
    install(given.env.resolve())
    for position, name in enumerate(given.dataset):
        numbered = name if re.match(r"Dataset\d{3}_", name) else f"Dataset{500 + position}_{name}"
        peer = Peer(given.env.resolve(), given.work.resolve(), numbered, given.minutes * 60, not given.disable_tta)
        run = given.ours[position] if position < len(given.ours) else None
        cross_validate(peer, read_dataset(given.data / name), run, given)


if __name__ == "__main__":
    main()
