"""The types of output of a prediction by their names, without the packages that write them, so that help stays fast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Literal, get_args

from attunet.errors import ConfigError
from attunet.inference.destination import Destination, ImageType, OutputLayout
from attunet.inference.segmenter import Segmenter

__all__ = ["DicomType", "is_output_type", "make_destination", "split_output_types"]

DicomType = Literal["dicom-seg", "dicom-labelmap", "dicom-rtstruct", "dicom-sr", "dicom-attention", "dicom-overlay"]
"""The types of DICOM objects, see `attunet.dicom.objects.outputs.DICOM_TYPES`."""


def is_output_type(word: str) -> bool:
    """Whether a word names a type of output, or several between commas."""
    return all(name in (*get_args(ImageType), *get_args(DicomType)) for name in word.split(","))


def split_output_types(words: Iterable[str]) -> tuple[ImageType | None, tuple[DicomType, ...]]:
    """The types that words name, each word one or several between commas.

    Args: the words, such as ["nifti,dicom-seg", "dicom-sr"].
    Returns: the format of image files, None for no image files; the types of DICOM objects.
    Raises: ConfigError for a word that names none, or both formats of image files.
    """
    names = list(dict.fromkeys(name for word in words for name in word.split(",") if name))
    known = (*get_args(ImageType), *get_args(DicomType))
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise ConfigError(
                f"there is no type of output {name!r}",
                hint=f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}",
            )
    images: list[ImageType] = [image for image in get_args(ImageType) if image in names]
    if len(images) > 1:
        raise ConfigError("--output-type got both auto and nifti", hint="give one of them")
    objects: list[DicomType] = [name for name in get_args(DicomType) if name in names]
    return (images[0] if images else None), tuple(objects)


def make_destination(
    segmenter: Segmenter, images: ImageType | None, types: Sequence[DicomType], *, layout: OutputLayout = "flat"
) -> tuple[Destination, tuple[str, ...]]:
    """What a batch writes.

    Args:
        segmenter: the model.
        images: the format of image files; None for none.
        types: the types of DICOM objects.
        layout: names and folders of image files.
    Returns: the destination, and what to know about all its objects, in sentences.
    Raises: EngineError when the extra for DICOM is not installed, ConfigError as `DicomWriter.of` and `Destination`.
    """
    if not types:
        return Destination(layout=layout, images=images), ()
    from attunet.dicom import require_dicom

    require_dicom(f"--output-type {types[0]}")
    from attunet.dicom.objects.outputs import DicomWriter

    writer = DicomWriter.of(types, segmenter)
    return Destination(layout=layout, images=images, writer=writer), writer.notices
