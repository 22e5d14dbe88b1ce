"""`CoarsePass`: what the localizers of a cascade find in a case, once, before the fine networks run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod

import numpy as np
import numpy.typing as npt

from attunet.bundle.skipping import all_skipping
from attunet.config import Plan
from attunet.data.coarse_map import CoarseMap, context_channels, foreground_probability
from attunet.data.preprocess import Preparation, Prepared, begin_preparation
from attunet.data.restore import PreprocessingRecord
from attunet.data.volume import Volume
from attunet.errors import ConfigError
from attunet.inference.engines.protocol import Engine
from attunet.inference.localizer import locate, skipping_region
from attunet.inference.member import Member
from attunet.inference.windows.region import Region

__all__ = ["CoarsePass", "coarse_map", "coarse_passes"]

Floats = npt.NDArray[np.float32]

_NOTHING_FOUND = "a localizer found nothing, so all windows were run"


@dataclass(frozen=True, eq=False, kw_only=True)
class CoarsePass:
    """What the localizers of a member found; nothing for a model of one stage.

    Args:
        contexts: the map that each engine sees as further channels; empty without context.
        found: the probability of any label, (1, i, j, k), as the mean of the folds; None without localizers.
        region: where windows must be run; None for everywhere.
        warning: why all windows must be run although the model allows to skip some.
    """

    contexts: tuple[CoarseMap | None, ...] = ()
    found: CoarseMap | None = None
    region: Region | None = None
    warning: str | None = None


def coarse_passes(
    members: Sequence[Member],
    preparations: Sequence[Preparation],
    *,
    all_windows: bool = False,
    allow: Callable[[int], None] = lambda _bytes: None,
) -> list[CoarsePass]:
    """Run the localizers of each member on a case.

    Args:
        members: members of the model.
        preparations: the image for the fine grid of each member.
        all_windows: whether every window is run anyway.
        allow: as for `prepare`; also called with the memory that the localizers need.
    Returns: the result for each member.
    Raises: ConfigError when a member lacks the localizers that its networks need.
    """
    coarse: list[tuple[Plan, Prepared]] = []
    passes = []
    for member, fine in zip(members, preparations, strict=True):
        plan = member.plan
        if len(member.localizers) not in ((0, len(member.engines)) if not plan.context else (len(member.engines),)):
            raise ConfigError(
                f"{member.name} has {len(member.engines)} networks with context from localizers, and the localizers of "
                f"{len(member.localizers)}",
                hint="load the model with Segmenter.load",
            )
        if not member.localizers:
            passes.append(CoarsePass())
            continue
        same = (image for other, image in coarse if other.coarse.preprocessing == plan.coarse.preprocessing)
        image = next(same, None) or _prepare(fine, plan, allow)
        coarse.append((plan, image))
        allow(8 * len(plan.outputs) * prod(image.record.model_shape))
        maps = [locate(engines, plan, image.array) for engines in member.localizers]
        passes.append(_pass(member, maps, fine.record, all_windows))
    return passes


def coarse_map(engines: Sequence[Engine], plan: Plan, volume: Volume) -> CoarseMap | None:
    """The context of the network of one fold in a case.

    Args:
        engines: of the localizers of the fold.
        plan: the plan of the fine network.
        volume: the image.
    Returns: the map; None when the network sees none.
    """
    if not plan.context:
        return None
    fine = begin_preparation(volume, plan.preprocessing)
    return _context(plan, locate(engines, plan, _prepare(fine, plan).array), fine.record)


def _prepare(fine: Preparation, plan: Plan, allow: Callable[[int], None] = lambda _bytes: None) -> Prepared:
    """The image on the coarse grid, which covers the same extent."""
    return fine.at_spacing(plan.coarse.preprocessing.spacing).finish(allow=allow)


def _context(plan: Plan, probabilities: Floats, fine: PreprocessingRecord) -> CoarseMap:
    return CoarseMap(context_channels(plan, probabilities), fine.model_shape)


def _pass(member: Member, maps: Sequence[Floats], fine: PreprocessingRecord, all_windows: bool) -> CoarsePass:
    """Windows are skipped only where every fold allows it: the region is the union of the folds' regions.

    A fold that finds nothing asks for all windows: so its audit counted such cases, and so it is for several folds.
    """
    plan = member.plan
    contexts = tuple(member.revise(_context(plan, each, fine)) for each in maps) if plan.context else ()
    probability = np.stack([foreground_probability(plan, each) for each in maps]).mean(axis=0, keepdims=True)
    found = CoarseMap(np.asarray(probability, np.float32), fine.model_shape)
    allowed = () if all_windows else all_skipping(member.skipping)
    if not allowed:
        return CoarsePass(contexts=contexts, found=found)
    pairs = zip(maps, allowed, strict=True)
    regions = [skipping_region(plan, each, skipping, fine.model_shape) for each, skipping in pairs]
    if any(region.empty for region in regions):
        return CoarsePass(contexts=contexts, found=found, warning=_NOTHING_FOUND)
    union = Region(reduce(np.logical_or, (region.mask for region in regions)), fine.model_shape)
    return CoarsePass(contexts=contexts, found=found, region=union)
