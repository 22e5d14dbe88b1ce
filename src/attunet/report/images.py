"""The figures of a report: as files next to it, and as images inside it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
from matplotlib.figure import Figure

from attunet.files import staged
from attunet.report.theme import is_dark, png, svg

__all__ = ["FigureFolder", "Image"]

FRAME_QUALITY = 88
"""WebP quality: the frames of an animation are a tenth as large as in PNG, with no visible loss."""


@dataclass(frozen=True)
class Image:
    """An image of a page.

    Args:
        source: data URL.
        label: text that describes it.
        inches: width in inches.
        dark: whether its background is dark.
    """

    source: str
    label: str
    inches: float
    dark: bool


class FigureFolder:
    """The folder for the figures of one report, each saved as PNG and SVG under a safe and unique name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: set[str] = set()

    def add(self, name: str, figure: Figure, label: str) -> Image:
        """Save a figure.

        Args:
            name: name of its files; made safe and unique.
            figure: the figure.
            label: text that describes it.
        Returns: the same figure as a lossless image for the page.
        Raises: FormatError when the folder cannot be written to.
        """
        return _image(figure, label, self._save(self._claim(name), figure), "png")

    def add_frames(self, name: str, frames: Sequence[tuple[str, Figure]]) -> list[Image]:
        """Save the frames of an animation as NAME_000 and so on, and remove leftover frames of a longer one.

        Raises: FormatError when the folder cannot be written to.
        """
        stem = self._claim(name)
        images = []
        for number, (label, figure) in enumerate(frames):
            content = self._save(f"{stem}_{number:03d}", figure)
            images.append(_image(figure, label, _webp(content), "webp"))
        self._remove_from(stem, len(frames))
        return images

    def _save(self, stem: str, figure: Figure) -> bytes:
        content = png(figure)
        for suffix, data in ((".svg", svg(figure)), (".png", content)):
            with staged(self.folder / f"{stem}{suffix}") as temporary:
                temporary.write_bytes(data)
        return content

    def _claim(self, name: str) -> str:
        stem = plain = re.sub(r"[^\w.-]+", "_", name).strip("._") or "figure"
        number = 1
        while stem in self._taken:
            number += 1
            stem = f"{plain}_{number}"
        self._taken.add(stem)
        return stem

    def _remove_from(self, stem: str, count: int) -> None:
        for path in self.folder.glob(f"{stem}_*"):
            frame = re.fullmatch(re.escape(stem) + r"_(\d{3,})\.(png|svg)", path.name)
            if frame and int(frame[1]) >= count:
                path.unlink()


def _webp(content: bytes) -> bytes:
    stream = io.BytesIO()
    with PIL.Image.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").save(stream, format="WEBP", quality=FRAME_QUALITY, method=2)
    return stream.getvalue()


def _image(figure: Figure, label: str, content: bytes, kind: str) -> Image:
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return Image(source, label, float(figure.get_figwidth()), is_dark(figure))
