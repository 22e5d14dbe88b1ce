"""The programs of the comparison: each trains on a share's training cases for the given time and predicts its images.

A program gets nothing else, and starts from nothing: its folder is emptied before. Planning, preprocessing, export and
prediction do not count towards the time, for any program; attunet's validation during training does.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nnunet.peer import Peer, call
from protocol.shares import Share

from attunet.config import Plan, load_settings
from attunet.data.cases import read_dataset
from attunet.files import write_text
from attunet.planning.plan_dataset import plan_dataset

__all__ = ["ENTRANTS", "OURS", "Entrant", "Settings"]

HERE = Path(__file__).parent.parent
SHORT_FOLDS = 5
Record = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What is equal for all programs.

    Args:
        minutes: of training.
        threads: of each program.
        cores: to which programs are pinned, such as "0,1"; empty: not pinned.
        seed: of the programs that have one.
        env: nnU-Net's virtual environment; None: nnU-Net cannot run.
        work: folder of everything that shares have in common.
        recipe: a recipe for attunet.
        flags: more flags of `attunet train`.
    """

    minutes: float
    threads: int
    cores: str
    seed: int
    env: Path | None
    work: Path
    recipe: Path | None = None
    flags: tuple[str, ...] = ()

    @property
    def prefix(self) -> tuple[str, ...]:
        """The words before each command."""
        return ("taskset", "-c", self.cores) if self.cores else ()

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return self.minutes * 60


@dataclass(frozen=True)
class Entrant:
    """A program.

    Args:
        title: its name in tables.
        run: trains and predicts; takes the share, a folder, and the settings, and leaves masks in FOLDER/masks.
    """

    title: str
    run: Callable[[Share, Path, Settings], Record]


def _attunet(share: Share, folder: Path, settings: Settings, *, whole: bool = False, short: bool = False) -> Record:
    """`attunet train` and `attunet predict` with their defaults: fold 0 of its own folds of the training cases.

    whole: every case is trained on, none is left for validation. short: all five folds, a fifth of the time each.
    """
    model, log = folder / "model", folder / "log.txt"
    seconds = settings.seconds / (SHORT_FOLDS if short else 1)
    attunet = [*settings.prefix, sys.executable, "-m", "attunet"]
    train: list[str | Path] = [*attunet, "train", share.whole_table if whole else share.table, "-o", model]
    train += ["--fold", "all" if short else "0", "--max-time", f"{seconds:g}s", "--seed", str(settings.seed)]
    train += ["--store", settings.work / "store", *(["--recipe", settings.recipe] if settings.recipe else [])]
    call([*train, *settings.flags], log)
    predicting = call([*attunet, "predict", "-m", model, "-i", share.images, "-o", folder / "masks"], log)
    rows = [list(csv.DictReader(file.open()))[-1] for file in sorted(model.glob("fold_*/log.csv"))]
    plan = load_settings(Plan, model / "plan.json")
    steps = sum(int(float(row["step"])) for row in rows)
    return {"steps": steps, "seconds": settings.seconds, "prediction_seconds": predicting, "patch": plan.patch_size}


def _monai(share: Share, folder: Path, settings: Settings, *, recipe: str) -> Record:
    """MONAI's AttentionUnet; its prediction runs in the process that trained it, so that start-up does not count."""
    log, plan = folder / "log.txt", folder / "plan.json"
    write_text(plan, plan_dataset(read_dataset(share.training)).model_dump_json(indent=1))
    command: list[str | Path] = [*settings.prefix, sys.executable, HERE / "monai_train.py", plan]
    command += [share.training, share.images, folder / "masks", "--seconds", f"{settings.seconds:g}"]
    call([*command, "--recipe", recipe, "--seed", str(settings.seed)], log)
    record: Record = json.loads(log.read_text().splitlines()[-1])
    return record


def _nnunet(share: Share, folder: Path, settings: Settings, *, trainer: str) -> Record:
    """nnU-Net as released, except for its schedule, on all training cases."""
    if settings.env is None:
        raise SystemExit("nnU-Net needs --env ENV, a folder for its virtual environment")
    configuration = "2d" if _is_flat(share) else "3d_fullres"
    peer = Peer(
        settings.env, (share.folder / "nnunet").resolve(), folder.resolve(), trainer, configuration, settings.prefix
    )
    peer.prepare(share.training)
    record = peer.train(settings.seconds, settings.threads)
    return {**record, "prediction_seconds": peer.predict(share.images, folder / "masks")}


def _is_flat(share: Share) -> bool:
    import nibabel as nib

    shape = nib.load(next((share.training / "imagesTr").iterdir())).shape
    return len(shape) < 3 or 1 in shape


OURS = "attunet"
ENTRANTS: Mapping[str, Entrant] = {
    OURS: Entrant("attunet", _attunet),
    "attunet-all-cases": Entrant("attunet, no case left for validation", partial(_attunet, whole=True)),
    "attunet-folds": Entrant("attunet, five folds of a fifth of the time", partial(_attunet, short=True)),
    "monai": Entrant("MONAI AttentionUnet, as in its tutorials", partial(_monai, recipe="tutorial")),
    "monai-best": Entrant(
        "MONAI AttentionUnet, tuned, channels_last, in bf16 where the CPU computes it", partial(_monai, recipe="best")
    ),
    "nnunet": Entrant("nnU-Net", partial(_nnunet, trainer="WallClockTrainer")),
    "nnunet-no-mirroring": Entrant(
        "nnU-Net without mirroring", partial(_nnunet, trainer="WallClockTrainerNoMirroring")
    ),
}
