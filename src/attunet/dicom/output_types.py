"""The types of output of a prediction by their names, without what writes them, so that they are known at once."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal, get_args

from attunet.errors import ConfigError
from attunet.inference.destination import ImageType

__all__ = ["DicomType", "split_output_types"]

DicomType = Literal[
    "dicom-seg", "dicom-labelmap", "dicom-rtstruct", "dicom-sr", "dicom-attention", "dicom-overlay"
]
"""The types of DICOM objects, see `attunet.dicom.objects.outputs.DICOM_TYPES`."""
