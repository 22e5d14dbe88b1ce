"""What a run was started with: its settings, plan and data; what may change when it is continued, and what may not.

Imports neither torch nor blosc2, so that a wrong command is refused at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attunet.config import Plan, TrainingConfig, load_settings
from attunet.errors import ConfigError, DatasetError
from attunet.files import write_text
from attunet.planning.memory import estimate_gb
from attunet.planning.options import PlanOptions
from attunet.training.run_folder import FoldPaths, any_started

if TYPE_CHECKING:
    from attunet.training.store import Contents

__all__ = ["MAY_CHANGE", "changed_settings", "check_data", "check_planning", "continued_settings", "record_data"]

MAY_CHANGE = (
    "epochs",
    "max_time",
    "patience",
    "validation_fraction",
    "workers",
    "loggers",
    "devices",
    "nodes",
    "compile",
    "int8",
)
"""Settings that may change when a run is continued: its budget, and how the machine is used."""

_SHOWN = 5


def continued_settings(run: Path, config: TrainingConfig) -> TrainingConfig:
    """The settings to continue a run with; those of a run that was not started are unchanged.

    `precision: auto` is what the run has computed in so far.

    Args:
        run: the model folder.
        config: the settings that were asked for.
    Returns: the settings.
    Raises: ConfigError when a setting other than those in `MAY_CHANGE` differs from the run's.
    """
    written = run / "training.yaml"
    if not any_started(run) or not written.is_file():
        return config
    before = load_settings(TrainingConfig, written)
    if config.precision == "auto":
        config = config.model_copy(update={"precision": before.precision})
    if changed := changed_settings(before, config, may_change=MAY_CHANGE):
        raise ConfigError(
            f"{run} was started with another {changed}",
            hint=f"leave it out to continue, or train into another -o, from these weights with --init-weights {run}",
        )
    return config


def changed_settings(before: TrainingConfig, now: TrainingConfig, *, may_change: tuple[str, ...]) -> str:
    """The settings that differ, in words; empty when none does.

    Args:
        before: the settings that were used.
        now: those that are asked for.
        may_change: names of settings that may differ.
    Returns: name, earlier and present value of each.
    """
    fields = [name for name in type(now).model_fields if name not in may_change]
    differing = [name for name in fields if getattr(before, name) != getattr(now, name)]
    return ", ".join(f"{name} ({_shown(before, name)}, not {_shown(now, name)})" for name in differing)


def check_planning(plan: Plan, options: PlanOptions, where: Path) -> None:
    """Check that planning options that were given are those of a plan that exists already.

    Args:
        plan: the plan.
        options: the options; those left at "auto" or None were not given.
        where: the file of the plan, for the message.
    Raises: ConfigError naming each option that contradicts the plan.
    """
    names = list(plan.labels)[1:]
    labels = dict.fromkeys(names) if plan.regions else {name: plan.labels[name] for name in names}
    asked = options.labels and (dict.fromkeys(options.labels) if plan.regions else options.labels)
    gb = estimate_gb(plan, options.machine, options.trained_in) if options.memory_gb else 0.0
    facts: dict[str, tuple[Any, Any]] = {
        "network": (options.preset, plan.preset),
        "size": (options.size, plan.size),
        "gate": (options.gate, plan.network.gate or "none"),
        "spatial-dims": (options.spatial_dims, plan.network.spatial_dims),
        "resolution": (options.resolution, plan.resolution),
        "cascade": (options.cascade, "on" if plan.localizer else "off"),
        "labels": (asked, labels),
        "memory": (options.memory_gb, f"{gb:.1f} GB" if options.memory_gb and gb > options.memory_gb else None),
    }
    contradicted = [
        f"--{name} ({_listed(given)}, the plan: {_listed(planned)})"
        for name, (given, planned) in facts.items()
        if given not in ("auto", None) and planned is not None and given != planned
    ]
    if contradicted:
        raise ConfigError(
            f"the plan in {where} was made with another {', '.join(contradicted)}",
            hint="leave it out to use that plan, or train into another -o with a new one",
        )


def record_data(paths: FoldPaths, contents: Mapping[str, Contents]) -> None:
    """Record which images and labels a fold is trained on, next to its checkpoint: their hashes by case."""
    rows = {name: [content.digest, content.label_digest] for name, content in sorted(contents.items())}
    text = json.dumps(rows, indent=0) + "\n"
    if not _data_file(paths).is_file() or _data_file(paths).read_text(encoding="utf-8") != text:
        write_text(_data_file(paths), text)


def check_data(run: Path, contents: Mapping[str, Contents]) -> None:
    """Check that the images and labels of a run are those it was started with.

    Args:
        run: the model folder; folds that were not started, and those of earlier versions, are not checked.
        contents: the preprocessed cases of its folds by id.
    Raises: DatasetError naming the cases that have changed.
    """
    for paths in (FoldPaths(folder) for folder in sorted(run.glob("fold_*"))):
        if not paths.started or not _data_file(paths).is_file():
            continue
        try:
            before = dict(json.loads(_data_file(paths).read_text(encoding="utf-8")))
        except ValueError:
            continue  # it is written again
        changed = [
            name
            for name, content in contents.items()
            if name in before and before[name] != [content.digest, content.label_digest]
        ]
        if changed:
            more = ", …" if len(changed) > _SHOWN else ""
            raise DatasetError(
                f"the image or the label of {len(changed)} cases has changed since {paths.folder} was started: "
                f"{', '.join(changed[:_SHOWN])}{more}",
                hint=f"restore them, or train into another -o, from these weights with --init-weights {run}",
            )


def _data_file(paths: FoldPaths) -> Path:
    return paths.last.parent / "data.json"


def _shown(config: TrainingConfig, name: str) -> str:
    value = getattr(config, name)
    return "none" if value is None else _listed(value)


def _listed(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(name if number is None else f"{name}={number}" for name, number in value.items()) or "none"
    return str(value)
