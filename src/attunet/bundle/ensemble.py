"""A model for prediction: one run, or an ensemble of complete copies of several.

ENSEMBLE/
  ensemble.json  postprocessing.json  manifest.json
  members/NAME/  plan.json  manifest.json  fold_0/ ...
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attunet.bundle.manifest import FORMAT, MANIFEST, check_sums, manifest_sum, read_checked, read_sums, seal
from attunet.bundle.run import (
    ENSEMBLE,
    POSTPROCESSING,
    Bundle,
    load_bundle,
    load_postprocessing,
    write_postprocessing,
)
from attunet.bundle.sharing import copy_run
from attunet.config import Plan, Postprocessing
from attunet.errors import BundleError, ConfigError
from attunet.files import staged, write_text
from attunet.names import name_fault

__all__ = ["Model", "check_agreement", "load_model", "save_ensemble"]

_MEMBERS = "members"


@dataclass(frozen=True)
class Model:
    """A model for prediction, as given by `-m`.

    Args:
        root: the folder.
        members: runs by name; a single run is its own member.
        postprocessing: applied to their averaged prediction.
    """

    root: Path
    members: Mapping[str, Bundle]
    postprocessing: Postprocessing = field(default_factory=Postprocessing)

    @property
    def manifest(self) -> str:
        """sha256 of its manifest, see `manifest_sum`."""
        return manifest_sum(self.root)


def load_model(root: Path, folds: Sequence[int] | None = None) -> Model:
    """Open a run's folder or an ensemble's, and check it against its manifests.

    Args: the folder; which folds of every member (all finished ones by default).
    Raises: BundleError as `load_bundle`, and for an ensemble that is not valid; ConfigError when its members were
        trained on different tasks.
    """
    if not (root / ENSEMBLE).is_file():
        bundle = load_bundle(root, folds)
        return Model(root, {root.resolve().name: bundle}, bundle.postprocessing)
    sums = read_sums(root)
    names = _member_names(root / ENSEMBLE, read_checked(root, ENSEMBLE, sums))
    manifests = {name: f"{_MEMBERS}/{name}/{MANIFEST}" for name in names}
    check_sums(root, sums, [ENSEMBLE, *manifests.values()])
    members = {
        name: load_bundle(root / _MEMBERS / name, folds, manifest=sums[manifest])
        for name, manifest in manifests.items()
    }
    check_agreement({name: bundle.plan for name, bundle in members.items()})
    return Model(root, members, load_postprocessing(root, sums))


def save_ensemble(
    members: Mapping[str, Path],
    postprocessing: Postprocessing,
    root: Path,
    *,
    put: Callable[[Path, Path], object] = copy_run,
) -> None:
    """Write an ensemble's folder; it appears whole or not at all.

    Args:
        members: names (usable as folder names) and folders of the runs.
        postprocessing: applied to their averaged prediction.
        root: the folder to create; it must not exist.
        put: writes a member's folder from a run's.
    Raises: BundleError when a run is unfinished or altered, FormatError when the folder cannot be written.
    """
    with staged(root) as stage:
        for name, run in members.items():
            put(run, stage / _MEMBERS / name)
        write_text(stage / ENSEMBLE, json.dumps({"format": FORMAT, "members": list(members)}, indent=2) + "\n")
        write_postprocessing(postprocessing, stage)
        manifests = (stage / _MEMBERS / name / MANIFEST for name in members)
        seal(stage, [stage / ENSEMBLE, stage / POSTPROCESSING, *manifests])


def check_agreement(plans: Mapping[str, Plan]) -> None:
    """Raises: ConfigError unless all plans, given by name, have the same channels and labels."""
    first, *others = plans
    for name in others:
        for what, mine, theirs in (
            ("labels", plans[first].labels, plans[name].labels),
            ("regions", plans[first].regions, plans[name].regions),
            ("channels", plans[first].channel_names, plans[name].channel_names),
        ):
            if mine != theirs or list(mine) != list(theirs):
                raise ConfigError(
                    f"{first} and {name} differ in their {what}: {_listed(mine)} and {_listed(theirs)}",
                    hint="only models that were trained on the same task can be compared or combined",
                )


def _member_names(path: Path, written: bytes) -> list[str]:
    try:
        content = json.loads(written.decode("utf-8"))
        names = [str(name) for name in content["members"]]
        if content["format"] != FORMAT or not names or any(name_fault(name) for name in names):
            raise KeyError("members")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path} is not valid: {error}", hint="copy the model folder again") from error
    return names


def _listed(values: Mapping[str, object] | Sequence[str]) -> str:
    entries = [f"{k}={v}" for k, v in values.items()] if isinstance(values, Mapping) else list(values)
    return ", ".join(entries) or "none"
