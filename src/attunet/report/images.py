"""The figures of a report: as files beside it, and as images inside it."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as imageio
from matplotlib.figure import Figure

from attunet.files import staged
from attunet.report.theme import is_dark, png, svg

__all__ = ["FigureFolder", "Image"]

FRAME_QUALITY = 88
"""Of WebP, in which the frames of a film are a tenth as large as in PNG, and no worse to the eye."""


@dataclass(frozen=True)
class Image:
    """An image for a page: its data URL, what it shows in words, its width in inches, and whether it is dark."""

    source: str
    label: str
    inches: float
    dark: bool


class FigureFolder:
    """Where the figures of one report are saved, each as PNG and SVG, under names that are safe and not given twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: set[str] = set()

    def add(self, name: str, figure: Figure, label: str) -> Image:
        """Save a figure; the same one as a lossless image for the page. Raises: FormatError as `staged`."""
        return _image(figure, label, self._save(self._claim(name), figure), "png")

    def add_frames(self, name: str, frames: Sequence[tuple[str, Figure]]) -> list[Image]:
        """Save label and figure of a film as NAME_000 and so on, and remove what a longer film left there.

        Raises: FormatError as `staged`.
        """
        stem = self._claim(name)
        images = []
        for number, (label, figure) in enumerate(frames):
            content = self._save(f"{stem}_{number:03d}", figure)
            images.append(_image(figure, label, _webp(content), "webp"))
        self._remove_beyond(stem, len(frames))
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

    def _remove_beyond(self, stem: str, count: int) -> None:
        for path in self.folder.glob(f"{stem}_*"):
            frame = re.fullmatch(re.escape(stem) + r"_(\d{3,})\.(png|svg)", path.name)
            if frame and int(frame[1]) >= count:
                path.unlink()


def _webp(content: bytes) -> bytes:
    pixels = imageio.imread(content, extension=".png")[..., :3]
    return bytes(imageio.imwrite("<bytes>", pixels, extension=".webp", quality=FRAME_QUALITY, method=2))


def _image(figure: Figure, label: str, content: bytes, kind: str) -> Image:
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return Image(source, label, float(figure.get_figwidth()), is_dark(figure))
