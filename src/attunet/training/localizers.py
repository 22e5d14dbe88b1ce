"""Train the localizers of a cascade before its fine network: their cases (cross-fitting) and the divided budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from attunet.config import Localizer, TrainingConfig
from attunet.data.cases import Dataset
from attunet.data.folds import make_folds
from attunet.training.contexts import Contexts, find_contexts, make_contexts
from attunet.training.processes import barrier, is_rank_zero
from attunet.training.run_folder import FoldTraining
from attunet.training.store import StoredCase
from attunet.training.trainer import TrainerOptions, train_network

__all__ = ["LocalizerStage", "localizer_config", "member_cases", "remaining_config", "train_localizers"]


@dataclass(frozen=True, kw_only=True)
class LocalizerStage:
    """The inputs for training the localizers of a fold.

    Args:
        stored: the training and validation cases on the coarse grid, by id.
        seen: the ids of the cases that each localizer trains on.
        on_network: called with the name of each network before it is trained.
        advance: called after the context of each case was computed.
    """

    stored: Mapping[str, StoredCase]
    seen: tuple[tuple[str, ...], ...]
    on_network: Callable[[str], None] = lambda _name: None
    advance: Callable[[], None] = lambda: None


def member_cases(
    dataset: Dataset, train: Sequence[str], stored: Mapping[str, StoredCase], members: int, seed: int
) -> tuple[tuple[str, ...], ...]:
    """The training cases of each localizer: all but an equal part of them, by patient, the same for the same seed.

    Args:
        dataset: the data set, with the groups of its cases.
        train: ids of the fold's training cases.
        stored: the preprocessed cases by id, for the labels in each.
        members: number of localizers.
        seed: seed of the random order.
    Returns: ids by localizer. A single one has all cases, and so has one for which no patient is left to leave out.
    """
    everything = tuple(sorted(train))
    if members == 1:
        return (everything,)
    cases = tuple(replace(case, split=None) for case in dataset.labelled if case.id in set(train))
    present = {case.id: stored[case.id].contents().classes for case in cases}
    folds = make_folds(replace(dataset, cases=cases), members, seed, present)
    parts = [fold.train for fold in folds]
    return tuple(parts[member] if member < len(parts) else everything for member in range(members))


def localizer_config(config: TrainingConfig, localizer: Localizer, member: int) -> TrainingConfig:
    """The recipe of one localizer: its part of the budget, its own seed, no pictures.

    Args:
        config: the recipe of the fold.
        localizer: the plan's localizer.
        member: index of the localizer.
    Returns: the recipe.
    """
    share = localizer.share / localizer.members
    changes = {
        "epochs": max(1, round(config.epochs * share)),
        "max_time": config.max_time and config.max_time * share,
        "seed": (config.seed + 1 + member) % 2**32,
        "case_images": False,
        "freeze_encoder": 0,
        "init_weights": None,
    }
    return config.model_copy(update=changes)


def remaining_config(config: TrainingConfig, made: Contexts) -> TrainingConfig:
    """The recipe of the fine network: the budget that the localizers have left."""
    changes = {
        "epochs": max(1, config.epochs - made.epochs),
        "max_time": config.max_time and max(1.0, config.max_time - made.seconds),
    }
    return config.model_copy(update=changes)


def train_localizers(fold: FoldTraining, stage: LocalizerStage, options: TrainerOptions) -> FoldTraining:
    """Train the localizers, or continue them, then give each case of the fold its context.

    They are final once the fine network has been trained with their contexts: a larger budget goes to it, and contexts
    that are lost are made again by the same localizers.

    Args:
        fold: the fold, whose plan has a localizer.
        stage: cases and reports of this stage.
        options: the options of the trainer.
    Returns: the fold with the context of each case and the rest of the budget.
    Raises: as `train_network`.
    """
    made = find_contexts(fold, stage.stored, stage.seen)
    if made is None:
        if not _final(fold, options):
            _train_members(fold, stage, options)
        barrier()
        if is_rank_zero():
            make_contexts(fold, stage.stored, stage.seen, accelerator=options.accelerator, advance=stage.advance)
        barrier()
        made = find_contexts(fold, stage.stored, stage.seen)
        assert made is not None
    stage.on_network("segmentation network")
    train, validation = (
        [replace(case, context=made.files.get(case.id)) for case in cases] for cases in (fold.train, fold.validation)
    )
    return replace(fold, train=train, validation=validation, config=remaining_config(fold.config, made))


def _final(fold: FoldTraining, options: TrainerOptions) -> bool:
    """Whether the fine network has been trained with the contexts of these localizers."""
    localizer = fold.plan.localizer
    members = range(localizer.members if localizer else 0)
    trained = all(fold.paths.localizer(member).best.exists() for member in members)
    return options.resume and fold.paths.last.exists() and trained


def _train_members(fold: FoldTraining, stage: LocalizerStage, options: TrainerOptions) -> None:
    """Train each localizer, or continue it."""
    localizer = fold.plan.localizer
    assert localizer is not None
    for member, names in enumerate(stage.seen):
        stage.on_network("localizer" if localizer.members == 1 else f"localizer {member + 1} of {localizer.members}")
        training = FoldTraining(
            train=[stage.stored[name] for name in names],
            validation=[stage.stored[case.id] for case in fold.validation],
            plan=fold.plan.coarse,
            config=localizer_config(fold.config, localizer, member),
            paths=fold.paths.localizer(member),
        )
        train_network(training, options)
