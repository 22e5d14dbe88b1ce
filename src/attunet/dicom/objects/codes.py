"""Coded names of segments: from the name of a label to SNOMED CT and DICOM codes.

The table `structures.csv` holds only codes that are in the context groups of DICOM PS3.16; a test compares it with
pydicom's dictionary of them. A label without a row keeps its own name, under a code of our own scheme, and that is
said: nothing is guessed.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files

from attunet.config import Code, Plan, SegmentCode
from attunet.report.theme import color_of

__all__ = ["LOCAL_SCHEME", "Structure", "code_of", "segment_codes", "structures"]

LOCAL_SCHEME = "99ATTUNET"
"""Coding scheme of labels that have no standard code; PS3.16 leaves names that begin with 99 to everybody."""

CATEGORIES: dict[str, Code] = {
    "anatomy": ("123037004", "SCT", "Anatomical Structure"),
    "tissue": ("85756007", "SCT", "Tissue"),
    "lesion": ("49755003", "SCT", "Morphologically Abnormal Structure"),
    "object": ("260787004", "SCT", "Physical object"),
    "substance": ("91720002", "SCT", "Body Substance"),
    "concept": ("309825002", "SCT", "Spatial and Relational Concept"),
}
"""PS3.16, CID 7150."""

SIDES: dict[str, Code] = {"left": ("7771000", "SCT", "Left"), "right": ("24028007", "SCT", "Right")}
"""PS3.16, CID 244."""

_SIDE_WORDS = {"left": "left", "l": "left", "lt": "left", "right": "right", "r": "right", "rt": "right"}
_LONGEST_CODE = 16


@dataclass(frozen=True)
class Structure:
    """A row of the table.

    Args:
        names: what labels call it, the usual name first.
        code: its type.
        category: a key of `CATEGORIES`.
        paired: whether there is a left and a right one.
    """

    names: tuple[str, ...]
    code: Code
    category: str
    paired: bool


@lru_cache(maxsize=1)
def structures() -> dict[str, Structure]:
    """Every structure with a code, by each of its names."""
    text = files("attunet.dicom.objects").joinpath("structures.csv").read_text(encoding="utf-8")
    found: dict[str, Structure] = {}
    for row in csv.DictReader(text.splitlines()):
        names = tuple(row["names"].split("|"))
        code = (row["value"], row["scheme"], row["meaning"])
        found |= dict.fromkeys(names, Structure(names, code, row["category"], bool(row["paired"])))
    return found


def segment_codes(plan: Plan) -> tuple[dict[str, SegmentCode], tuple[str, ...]]:
    """The codes of a model's labels: those of its plan, else those of the table, else local ones.

    Returns: label to codes, in the order of the plan; and a sentence about the labels without a standard code.
    """
    found: dict[str, SegmentCode] = {}
    unknown = []
    for position, label in enumerate(plan.foreground):
        code = plan.codes.get(label) or code_of(label)
        if code is None:
            unknown.append(label)
            code = SegmentCode(type=_local(label), category=CATEGORIES["concept"])
        if code.color is None:
            code = code.model_copy(update={"color": _rgb(color_of(position))})
        found[label] = code
    if not unknown:
        return found, ()
    text = f"there is no standard code for {', '.join(unknown)}: DICOM objects name it with a code of our own"
    return found, (f"{text}; state codes in the data set's description to change that",)


def code_of(label: str) -> SegmentCode | None:
    """The codes of a label by its name: an organ with its side, a lesion with its organ; None for an unknown name.

    "kidney_left" is a kidney, left; "liver tumour" a tumour in the liver; "Left Kidney Cyst" a cyst in the left kidney.
    """
    words = re.sub(r"[\W_]+", " ", label).strip().lower().split()
    if (whole := _placed(words)) is not None:
        structure, side = whole
        return SegmentCode(type=structure.code, category=CATEGORIES[structure.category], modifier=side)
    known = structures()
    for cut in range(1, len(words)):  # an organ, then a lesion; or with the side at the end: kidney cyst left
        last = [word for word in words[-1:] if word in _SIDE_WORDS]
        rest = words[: len(words) - len(last)]
        lesion, organ = known.get(" ".join(rest[cut:])), _placed([*rest[:cut], *last])
        if lesion is not None and lesion.category == "lesion" and organ is not None and organ[0].category == "anatomy":
            structure, side_code = organ
            return SegmentCode(
                type=lesion.code,
                category=CATEGORIES["lesion"],
                region=structure.code,
                region_modifier=side_code,
            )
    return None


def _placed(words: list[str]) -> tuple[Structure, Code | None] | None:
    """The structure that words name, and its side, which is one of the first or last words; None if unknown."""
    known = structures()
    if (structure := known.get(" ".join(words))) is not None:
        return structure, None
    sides = [index for index, word in enumerate(words) if word in _SIDE_WORDS]
    if len(sides) != 1:
        return None
    structure = known.get(" ".join(words[: sides[0]] + words[sides[0] + 1 :]))
    if structure is None or not structure.paired:
        return None
    return structure, SIDES[_SIDE_WORDS[words[sides[0]]]]


def _local(label: str) -> Code:
    """A code of our own scheme: the label itself where it fits, else a hash of it."""
    fits = len(label) <= _LONGEST_CODE and label.isascii() and label.strip() == label and "\\" not in label
    value = label if fits else blake2b(label.encode(), digest_size=_LONGEST_CODE // 2).hexdigest()
    return value, LOCAL_SCHEME, _meaning(label)


def _meaning(label: str) -> str:
    return label.replace("\\", "/")[:64].strip() or "label"


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return red, green, blue
