"""Routing: which rules match a series, by what its first instance says. Nothing of that is kept or logged."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attunet.dicom.node.settings import RuleSettings
from attunet.errors import FormatError

__all__ = ["SeriesFacts", "matching_rules", "may_match", "read_facts"]

DERIVED = frozenset({"SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "SR", "PR", "KO", "DOC", "REG", "FID", "AU", "HC", "PLAN"})
"""Modalities without an image that a network reads: no rule matches them unless it names them."""

_TAGS = {
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
    "image_type": "ImageType",
}


@dataclass(frozen=True)
class SeriesFacts:
    """What rules ask about a series.

    Args:
        modality: such as CT; empty when it says none.
        body_part: BodyPartExamined.
        study_description: StudyDescription.
        series_description: SeriesDescription.
        image_type: ImageType, its values joined by backslashes.
        instances: number of its instances.
    """

    modality: str = ""
    body_part: str = ""
    study_description: str = ""
    series_description: str = ""
    image_type: str = ""
    instances: int = 0


def read_facts(folder: Path) -> SeriesFacts:
    """The facts of a stored series. Raises: FormatError when its first instance cannot be read, or there is none."""
    import pydicom

    files = sorted(folder.glob("*.dcm"))
    if not files:
        raise FormatError(
            "its instances were deleted, keep_days after the study ended", hint="send the study again, then retry it"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values
            dataset = pydicom.dcmread(files[0], stop_before_pixels=True, specific_tags=list(_TAGS.values()))
            texts = {name: _joined(dataset.get(tag)) for name, tag in _TAGS.items()}
    except Exception as error:  # the content may be anything
        raise FormatError(f"its header cannot be read: {type(error).__name__}", hint="send the study again") from error
    return SeriesFacts(**texts, instances=len(files))


def matching_rules(facts: SeriesFacts, rules: Sequence[RuleSettings]) -> list[RuleSettings]:
    """The rules whose every condition a series meets, in their order."""
    return [rule for rule in rules if _matches(rule, facts)]


def may_match(modality: str, rules: Sequence[RuleSettings]) -> bool:
    """Whether a rule could match a series of which only the modality is known; empty when even that is not."""
    return not modality or any(_wants(rule, modality) for rule in rules)


def _wants(rule: RuleSettings, modality: str) -> bool:
    return modality in rule.modality if rule.modality else modality not in DERIVED


def _matches(rule: RuleSettings, facts: SeriesFacts) -> bool:
    wanted = (
        (rule.body_part, facts.body_part),
        (rule.study_description, facts.study_description),
        (rule.series_description, facts.series_description),
        (rule.image_type, facts.image_type),
    )
    unwanted = rule.not_series_description
    return (
        _wants(rule, facts.modality)
        and facts.instances >= rule.least_instances
        and all(pattern is None or _found(pattern, text) for pattern, text in wanted)
        and not (unwanted is not None and _found(unwanted, facts.series_description))
    )


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None


def _joined(value: object) -> str:
    """A value of one or more parts as one text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return "\\".join(map(str, value)) if isinstance(value, Sequence) else str(value)
