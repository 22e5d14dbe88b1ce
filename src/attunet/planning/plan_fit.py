"""Whether a given plan fits a data set: its labels, channels, dimensions, modality and spacing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from attunet.config import Plan
from attunet.data.cases import Case, Dataset, read_case_image, read_own_label
from attunet.data.labels import describe_values, values_by_label
from attunet.data.modality import CaseChannels, case_channels, find_modalities
from attunet.data.orientation import canonical
from attunet.errors import ConfigError, LabelError

__all__ = ["check_plan_fits"]

WORKERS = 2
IMAGES = 5
FAR = 2.0
OTHER_DATA = "make a new plan (leave out --plan), or give the data set that it was made for"


def check_plan_fits(plan: Plan, dataset: Dataset, *, on_case: Callable[[], None] = lambda: None) -> tuple[str, ...]:
    """Compare a plan that was made earlier, or by hand, with the data set that it is to be trained on.

    Every label is read, and a few images.

    Args:
        plan: the plan.
        dataset: the labelled cases.
        on_case: called after each label.
    Returns: warnings, about what trains but may not be meant.
    Raises: LabelError when no case holds a label of the plan or a name has another value in the data set, ConfigError
        when channels, dimensions or modality differ.
    """
    cases = [case for case in dataset.labelled if case.split != "test"]
    chosen = cases[:: max(1, -(-len(cases) // IMAGES))]
    _require_names(plan, dataset)
    warnings = [*_images(plan, dataset, chosen)]
    held: Counter[int] = Counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        for values in pool.map(_values, cases):
            held.update(values)
            on_case()
    return (*warnings, *_labels(plan, dataset, held, len(cases)))


def _values(case: Case) -> list[int]:
    return [int(value) for value in np.unique(read_own_label(case).array)]


def _require_names(plan: Plan, dataset: Dataset) -> None:
    declared = values_by_label(dataset)
    for name in plan.foreground:
        values = plan.regions.get(name, (plan.labels[name],))
        if name in declared and set(declared[name]) != set(values):
            raise LabelError(
                f"the plan has {name} as {describe_values(values)}, the data set as {describe_values(declared[name])}",
                hint=OTHER_DATA,
            )


def _labels(plan: Plan, dataset: Dataset, held: Counter[int], cases: int) -> Iterator[str]:
    """Raises: LabelError when no case holds a label of the plan."""
    united = {name: plan.regions.get(name, (plan.labels[name],)) for name in plan.foreground}
    absent = [name for name, values in united.items() if not any(held[value] for value in values)]
    background = plan.labels[next(iter(plan.labels))]
    known = {background, plan.ignore_label, *(value for values in united.values() for value in values)}
    unknown = sorted(value for value in held if value not in known)
    if cases and len(absent) == len(united):
        listed = ", ".join(f"{name} ({describe_values(values)})" for name, values in list(united.items())[:8])
        raise LabelError(
            f"no case holds a label of the plan: it knows {listed}, the label files hold {describe_values(held)}",
            hint=OTHER_DATA,
        )
    if absent:
        yield f"no case holds {', '.join(absent)} of the plan: it will never be learnt"
    if unknown:
        yield (
            f"the label files hold {describe_values(unknown)}, which the plan does not know: these voxels are learnt "
            "as background"
        )
    named = {} if plan.regions or dataset.regions else dataset.label_names or {}
    names = {value: name for name, value in named.items()}
    for name in plan.foreground:
        if (declared := names.get(plan.labels[name], name)) != name:
            yield f"the plan calls {name} what the data set calls {declared} ({plan.labels[name]})"


def _images(plan: Plan, dataset: Dataset, cases: Sequence[Case]) -> Iterator[str]:
    """Raises: ConfigError when the images cannot be those of the plan."""
    evidence, spacings, flat = [], [], []
    for case in cases:
        image = read_case_image(case)
        if image.channels != len(plan.channel_names):
            raise ConfigError(
                f"the plan has {len(plan.channel_names)} channels ({', '.join(plan.channel_names)}), the image of case "
                f"{case.id} has {image.channels}",
                hint=OTHER_DATA,
            )
        evidence.append(case_channels(case, image))
        spacings.append(canonical(image)[0].spacing)
        flat.append(image.spatial_shape[2] == 1)
    if flat and all(flat) and plan.network.spatial_dims == 3:
        raise ConfigError("the plan has a 3-D network, but the images are 2-D", hint=OTHER_DATA)
    yield from _channels(plan, dataset, evidence)
    planned = plan.fingerprint.median_spacing
    if spacings and plan.modality != "image":
        found = np.median(spacings, axis=0)
        ratio = np.divide(found, planned)
        if ratio.max() > FAR or ratio.min() < 1 / FAR:
            shown = (" x ".join(f"{size:.3g}" for size in sizes) for sizes in (planned, found))
            yield "the plan was made for images of {} mm, these have {} mm".format(*shown)


def _channels(plan: Plan, dataset: Dataset, evidence: Sequence[CaseChannels]) -> Iterator[str]:
    """Raises: ConfigError for channels in another order, and for those that are normalized as CT but are not."""
    declared = dataset.channel_names
    if declared and declared != plan.channel_names and sorted(declared) == sorted(plan.channel_names):
        raise ConfigError(
            f"the plan has the channels {', '.join(plan.channel_names)}, the data set {', '.join(declared)}",
            hint="give the channels in the order of the plan",
        )
    if len(declared) == len(plan.channel_names) and declared != plan.channel_names:
        yield f"the plan has the channels {', '.join(plan.channel_names)}, the data set {', '.join(declared)}"
    found = find_modalities(declared, evidence) if evidence else ()
    if found and len({plan.modality, found[0].kind} - {"other"}) > 1:
        yield f"the plan was made for {plan.modality}, the images are {found[0].kind}: {found[0].reason}"
    for index, entry in enumerate(found):
        name, normalization = plan.channel_names[index], plan.preprocessing.normalization[index]
        if normalization.kind == "ct" and entry.kind not in ("ct", "other"):
            raise ConfigError(
                f"the plan normalizes the channel {name} as CT, but it is {entry.kind}: {entry.reason}",
                hint=f"{OTHER_DATA}; or correct normalization in the plan",
            )
        values = [case.values[index] for case in evidence]
        if normalization.kind == "ct" and entry.kind == "other" and plan.modality == "ct":
            yield f"the plan normalizes the channel {name} as CT, but the images do not look like it: {entry.reason}"
        inside = any(each.highest > normalization.lower and each.lowest < normalization.upper for each in values)
        if normalization.kind == "ct" and not inside:
            raise ConfigError(
                f"the plan clips the channel {name} to {normalization.lower:g} to {normalization.upper:g}, and every "
                "value lies outside",
                hint=f"{OTHER_DATA}; or correct normalization in the plan",
            )
