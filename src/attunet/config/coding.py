"""Codes of labels: what a label is, in a terminology such as SNOMED CT, for formats that ask for it (DICOM)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from attunet.config.settings import Settings

__all__ = ["ANATOMY", "Code", "SegmentCode"]

Text = Annotated[str, Field(min_length=1, max_length=64)]
Code = tuple[
    Annotated[str, Field(min_length=1, max_length=16)], Annotated[str, Field(min_length=1, max_length=16)], Text
]
"""Value, scheme and meaning, in the order of `pydicom.sr.coding.Code`: ("10200004", "SCT", "Liver")."""

Byte = Annotated[int, Field(ge=0, le=255)]

ANATOMY: Code = ("123037004", "SCT", "Anatomical Structure")


class SegmentCode(Settings):
    """What one label is: the codes of a segment in DICOM PS3.3, C.8.20.4."""

    type: Code = Field(description="What it is: value, scheme and meaning, such as 10200004, SCT, Liver.")
    category: Code = Field(ANATOMY, description="The kind of thing: an anatomical structure, a lesion, an object.")
    modifier: Code | None = Field(None, description="Its side, or what else tells it from others of its type.")
    region: Code | None = Field(None, description="Where it is, for what is no anatomical structure itself.")
    region_modifier: Code | None = Field(None, description="The side of the region.")
    color: tuple[Byte, Byte, Byte] | None = Field(
        None, description="Red, green and blue to show it in, 0 to 255; null for that of the label in our reports."
    )
