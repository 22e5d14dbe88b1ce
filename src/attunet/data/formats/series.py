"""Series in time: choosing a frame of the fourth axis, and telling times from channels by the header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attunet.data.volume import Volume
from attunet.errors import FormatError

__all__ = ["WHOLE", "Series", "WhatToRead", "header_series", "pick_frame", "require_frame"]

SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
"""Seconds of the units of time of NIfTI, by the code in xyzt_units."""
TIME_BITS = 0x38
MOST_CHANNELS = 16
"""More volumes than this are hardly the channels of one image."""
NO_STEP = (0.0, 1.0)
"""Steps in time that software writes for an axis that is none."""


@dataclass(frozen=True)
class WhatToRead:
    """What is read of a file.

    Args:
        key: name of the array in a file that holds several; None for its only one. Other formats need none.
        frame: index in time, from 0, of a series; None: all times are channels, where the format has no other axis.
        optional: whether a single image has every frame, as a mask of a series may.
    """

    key: str | None = None
    frame: int | None = None
    optional: bool = False


WHOLE = WhatToRead()
"""The only array of a file, with all its frames."""


@dataclass(frozen=True)
class Series:
    """The fourth axis of an image, where the header or the number of volumes speaks for times.

    Args:
        frames: number of volumes.
        step: seconds from one to the next; None when the header does not say.
    """

    frames: int
    step: float | None = None

    def __str__(self) -> str:
        """Such as "4-D, 200 frames, one every 2 s"."""
        return f"4-D, {self.frames} frames" + (f", one every {self.step:g} s" if self.step else "")


def header_series(header: Any) -> Series | None:
    """The series that a header of nibabel describes; None for an image whose fourth axis may well be its channels.

    The header speaks for times when it has a unit of time and a step other than 1, which is what software writes for
    channels too; otherwise a large number of volumes does.
    """
    shape = header.get_data_shape()
    frames = int(np.prod(shape[3:])) if len(shape) > 3 else 1
    step = float(header["pixdim"][4])
    unit = SECONDS.get(int(header["xyzt_units"]) & TIME_BITS) if "xyzt_units" in header else None
    timed = unit is not None and np.isfinite(step) and step > 0 and step not in NO_STEP
    if frames < 2 or not (timed or frames > MOST_CHANNELS):
        return None
    return Series(frames, step * unit if timed and unit is not None else None)


def pick_frame(volume: Volume, part: WhatToRead, path: Path) -> Volume:
    """One of the channels of a series, which are its frames, or all of them.

    Args:
        volume: the whole series.
        part: the frame to pick.
        path: the file, for the message.
    Returns: the volume of that time.
    Raises: FormatError when there is no such frame.
    """
    frame = part.frame
    if frame is None or (part.optional and volume.channels == 1):
        return volume
    require_frame(frame, volume.channels, path)
    return volume.with_array(np.ascontiguousarray(volume.array[frame : frame + 1]))


def require_frame(frame: int, frames: int, path: Path) -> None:
    """Make sure that an image has a frame.

    Args:
        frame: its index, from 0.
        frames: the number of frames of the image.
        path: its file, for the message.
    Raises: FormatError when there is no such frame.
    """
    if frames == 1 or not 0 <= frame < frames:
        count = "one image" if frames == 1 else f"{frames} frames, numbered from 0"
        raise FormatError(f"{path} has no frame {frame}: it contains {count}", hint="correct --frame, or leave it out")
