"""How often a scan is said to be unlike the training: scans like it, and altered ones or those of another kind.

    python benchmarks/familiarity.py DATA_SET [DATA_SET ...] [--few 5] [--cases 20]

Each data set is divided into five folds; a case is compared with the plan of the other folds. A row for each kind of
scan: the share with a notice, by the ranges of the training and by the medians that plans of earlier versions keep.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attunet.config import Plan
from attunet.data.cases import read_case_image, read_dataset, read_own_label
from attunet.data.preprocess import begin_preparation
from attunet.data.volume import Volume
from attunet.errors import AttunetError
from attunet.inference.familiarity import unfamiliar
from attunet.planning.fingerprint import Fingerprint, fingerprint
from attunet.planning.options import PlanOptions
from attunet.planning.planner import make_plan

FOLDS, DRAWS = 5, 20
SHOWN = 8
ONE_VALUE = 40
FACTOR, TILT = 3, np.radians(45)


@dataclass(frozen=True)
class Scans:
    """A data set in memory.

    Args:
        name: of its folder.
        facts: its fingerprint.
        images, labels: of each case.
    """

    name: str
    facts: Fingerprint
    images: list[Volume]
    labels: list[Volume]

    def plan(self, cases: Sequence[int]) -> Plan:
        """The plan of a training on these cases."""
        return make_plan(
            replace(self.facts, cases=tuple(self.facts.cases[i] for i in cases)), PlanOptions(size="small")
        )


def read_scans(folder: Path) -> Scans:
    """Read a data set and its fingerprint."""
    dataset = read_dataset(folder)
    cases = [case for case in dataset.cases if case.label is not None and case.split != "test"]
    images, labels = [read_case_image(case) for case in cases], [read_own_label(case) for case in cases]
    return Scans(folder.name, fingerprint(dataset), images, labels)


def _like(volume: Volume, array: np.ndarray | None = None, affine: np.ndarray | None = None) -> Volume:
    return replace(
        volume,
        array=volume.array if array is None else array,
        affine=volume.affine if affine is None else affine,
    )


def _coarse(volume: Volume) -> Volume:
    """Every third voxel along each axis, with the spacing that this has."""
    return _like(volume, volume.array[:, ::FACTOR, ::FACTOR, ::FACTOR], volume.affine @ np.diag([FACTOR] * 3 + [1]))


def _cropped(volume: Volume) -> Volume:
    """The middle third along each axis."""
    parts = (slice(size // 3, max(2 * size // 3, size // 3 + 1)) for size in volume.spatial_shape)
    return _like(volume, volume.array[:, *parts])


def _turned(volume: Volume) -> Volume:
    """A header that takes the axes of the patient for each other: axial slices become sagittal."""
    return _like(volume, affine=np.eye(4)[[2, 0, 1, 3]] @ volume.affine)


def _tilted(volume: Volume) -> Volume:
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(TILT), -np.sin(TILT)], [np.sin(TILT), np.cos(TILT)]]
    return _like(volume, affine=rotation @ volume.affine)


def _mapped(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Volume], Volume]:
    return lambda volume: _like(volume, change(volume.array.astype(np.float32)))


SCANS, CT = ("mr", "ct"), ("ct",)
ANY = (*SCANS, "image", "other", "pet")
ALTERED: dict[str, tuple[tuple[str, ...], Callable[[Volume], Volume]]] = {
    "spacing × 3, every third voxel": (SCANS, _coarse),
    "spacing lost, 1 mm": (SCANS, lambda volume: _like(volume, affine=np.eye(4))),
    "cropped to a third along each axis": (ANY, _cropped),
    "axes exchanged, sagittal for axial": (SCANS, _turned),
    "tilted by 45°": (SCANS, _tilted),
    "divided by 1000 (harmless where each image is normalized by itself)": (ANY, _mapped(lambda array: array / 1000)),
    "divided by 1000, whole numbers": (ANY, _mapped(lambda array: np.rint(array / 1000))),
    "bright and dark exchanged": (ANY, _mapped(lambda array: array.max() + array.min() - array)),
    "no rescale intercept (+1024)": (CT, _mapped(lambda array: array + 1024)),
    "a window of -160 to 240, as 0 to 255": (
        CT,
        _mapped(lambda array: np.rint((np.clip(array, -160, 240) + 160) * 255 / 400)),
    ),
    "one value": (ANY, _mapped(lambda array: np.full_like(array, ONE_VALUE))),
}


def notices(volume: Volume, plan: Plan, *, medians: bool = False) -> tuple[str, ...]:
    """What a prediction would tell; by medians alone if `medians`."""
    if medians:
        known = plan.fingerprint.model_copy(update={"ranges": None})
        plan = plan.model_copy(update={"fingerprint": known})
    try:
        content = begin_preparation(volume, plan.preprocessing).record.content
    except AttunetError as error:  # it is refused, which is told as well
        return (error.message,)
    return unfamiliar(volume, content, plan)


def folds(scans: Scans) -> Iterator[tuple[Plan, list[int]]]:
    """The plan of all other folds, and the cases of each fold."""
    order = np.random.default_rng(0).permutation(len(scans.images)).tolist()
    for fold in range(FOLDS):
        yield scans.plan(sorted(set(order) - set(order[fold::FOLDS]))), order[fold::FOLDS]


def rows(scans: Scans, others: Sequence[Scans], few: Sequence[int], most: int) -> Iterator[tuple[str, list, list]]:
    """Name, and the notices of each scan: now, and by medians."""
    plans = list(folds(scans))

    def both(pairs: Sequence[tuple[Volume, Plan]]) -> tuple[list, list]:
        now, before = ([notices(volume, plan, medians=old) for volume, plan in pairs] for old in (False, True))
        return now, before

    yield "its own cases", *both([(scans.images[i], plan) for plan, held in plans for i in held])
    generator = np.random.default_rng(1)
    for count in few:
        pairs = []
        for _ in range(DRAWS):
            order = generator.permutation(len(scans.images))
            plan = scans.plan(order[:count].tolist())
            pairs += [(scans.images[i], plan) for i in order[count : count + most]]
        yield f"its own cases, trained on {count}", *both(pairs)
    kind = scans.facts.modality
    chosen = [(i, plan) for plan, held in plans for i in held[: max(1, most // FOLDS)]]
    for name, (kinds, alter) in ALTERED.items():
        if kind in kinds:
            yield name, *both([(alter(scans.images[i]), plan) for i, plan in chosen])
    yield "a mask instead of an image", *both([(_channels(scans.labels[i], scans), plan) for i, plan in chosen])
    for other in others:
        if other.images[0].spatial_shape[2] > 1 or scans.images[0].spatial_shape[2] == 1:
            yield f"cases of {other.name}", *both([(_channels(v, scans), plans[0][0]) for v in other.images[:most]])


def _channels(volume: Volume, scans: Scans) -> Volume:
    """As many channels as the data set has."""
    return _like(volume, np.repeat(volume.array[:1].astype(np.float32), len(scans.facts.channel_names), axis=0))


def main() -> None:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--few", type=int, nargs="*", default=[5], help="further trainings, on this many cases")
    parser.add_argument("--cases", type=int, default=20, help="at most this many scans of each kind")
    parser.add_argument("--show", action="store_true", help=f"print up to {SHOWN} notices of each kind")
    options = parser.parse_args()
    everything = [read_scans(folder) for folder in options.data]
    for scans in everything:
        print(f"\n{scans.name}, {scans.facts.modality}, {len(scans.images)} cases\n")
        print("| scans | by ranges | by medians | compared |\n|---|---|---|---|")
        others = [other for other in everything if other is not scans]
        for name, now, before in rows(scans, others, options.few, options.cases):
            shares = (f"{np.mean([bool(told) for told in each]):.1%}" for each in (now, before))
            print(f"| {name} | {' | '.join(shares)} | {len(now)} |", flush=True)
            if options.show:
                print(*sorted({f"    {text}" for told in now for text in told})[:SHOWN], sep="\n")


if __name__ == "__main__":
    main()
