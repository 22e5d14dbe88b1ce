"""Parametric maps: the coefficients of a gate as floats, on the grid of the source images.

Source: PS3.3, A.75 (Parametric Map), C.8.32; C.7.6.16.2.11 (Real World Value Mapping).
"""

from __future__ import annotations

from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as DicomCode

from attunet.dicom.objects.codes import LOCAL_SCHEME
from attunet.dicom.objects.identity import Algorithm, ObjectIdentity
from attunet.dicom.objects.segmentation_object import finish_multi_frame, plane_arguments
from attunet.dicom.objects.source import SourceImages

__all__ = ["make_parametric_map", "map_frames"]

UNIT = DicomCode("1", "UCUM", "no units")
ATTENTION = DicomCode("attention", LOCAL_SCHEME, "Attention coefficient")
"""There is no standard code for the coefficients of a gate."""


def map_frames(attention: npt.NDArray[Any], source: SourceImages) -> npt.NDArray[np.float32]:
    """The frames of a gate's coefficients, as they are written.

    Args:
        attention: (maps, I, J, K) in [0, 1] on the source's grid.
        source: the images.
    Returns: (slices, rows, columns, maps).
    """
    return np.stack([source.grid.frames(each) for each in attention], axis=-1).astype(np.float32)


def make_parametric_map(
    source: SourceImages, frames: npt.NDArray[np.float32], gate: str, identity: ObjectIdentity, algorithm: Algorithm
) -> Dataset:
    """A parametric map without patient and study.

    Args:
        source: the images that it was made from.
        frames: as of `map_frames`.
        gate: name of the gate.
        identity: UIDs and numbers.
        algorithm: what made it.
    Returns: the object.
    """
    mappings = [
        [
            RealWorldValueMapping(
                lut_label=f"map {number}",
                lut_explanation=f"attention of {gate}"[:64],
                unit=UNIT,
                value_range=(0.0, 1.0),
                slope=1.0,
                intercept=0.0,
                quantity_definition=ATTENTION,
            )
        ]
        for number in range(1, frames.shape[-1] + 1)
    ]
    dataset = ParametricMap(
        source_images=source.references,
        pixel_array=frames,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=mappings,
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label="ATTENTION",
        content_description=f"attention of {gate}"[:64],
        specific_character_set="ISO_IR 192",
        **identity.arguments(algorithm),
        **plane_arguments(source, len(frames)),
    )
    dataset.Laterality = ""  # of type 2C, which highdicom leaves out
    finish_multi_frame(dataset, source, identity)
    return dataset
