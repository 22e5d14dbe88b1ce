"""The modality of each channel, and how certain it is: from declared names, headers, file names and all values."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from attunet.data.dataset import Case, Dataset, Problem
from attunet.data.formats import is_dicom_image, stem_of, suffix_of
from attunet.data.formats.dicom import choose_series
from attunet.data.intensities import ChannelValues, channel_values
from attunet.data.volume import Volume
from attunet.documents import open_regular, read_document
from attunet.errors import AttunetError
from attunet.names import listed

__all__ = ["CaseChannels", "ChannelModality", "Modality", "case_channels", "check_modalities", "find_modalities"]

Modality = Literal["ct", "mr", "pet", "image", "other"]

WORDS: dict[str, Modality] = {
    **dict.fromkeys(("ct", "cta", "cbct", "cect", "ncct", "ldct", "hu", "hounsfield"), "ct"),
    **dict.fromkeys(("pet", "pt", "suv", "fdg", "psma"), "pet"),
    **dict.fromkeys(("mr", "mri", "pd", "dwi", "swi", "bold", "stir", "dce"), "mr"),
}
TAGS: dict[str, Modality] = {"CT": "ct", "MR": "mr", "PT": "pet", "PET": "pet"}
MR_PARTS = ("mr", "t1", "t2", "flair", "adc")
FILE_WORDS = frozenset(
    {"ct", "cbct", "pet", "suv", "mr", "mri", "t1", "t1w", "t1ce", "t2", "t2w", "flair", "adc", "dwi"}
)
HEADER_BYTES = 8192
NIFTI_HEADER, NIFTI_DESCRIPTION = 348, slice(148, 228)
LARGEST_SIDECAR = 2**20
LISTED = 4


@dataclass(frozen=True)
class CaseChannels:
    """The evidence of one case, by channel.

    Args:
        case: id of the case.
        raster: whether it is a picture without spacing and orientation.
        values: of each channel.
        tags: the modality in each channel's header or sidecar file; None where there is none.
        words: the modality in each channel's file name; None where there is none, or where there is one file for all.
    """

    case: str
    raster: bool
    values: tuple[ChannelValues, ...]
    tags: tuple[Modality | None, ...]
    words: tuple[Modality | None, ...]


@dataclass(frozen=True)
class ChannelModality:
    """The modality of a channel.

    Args:
        kind: the modality.
        reason: what it follows from.
        certainty: declared: by the data set or all headers; recognised: by file names or values; assumed: by default.
    """

    kind: Modality
    reason: str
    certainty: Literal["declared", "recognised", "assumed"]


def case_channels(case: Case, image: Volume) -> CaseChannels:
    """Collect the evidence of a case whose image has been read; its headers are read again."""
    values = tuple(channel_values(channel) for channel in image.array)
    tags = [_header_tag(path, case.key) for path in case.images]
    words = [_word_in(stem_of(path), FILE_WORDS) for path in case.images]
    if len(case.images) != len(values):
        tags = [tags[0] if len(values) == 1 else None] * len(values)
        words = [words[0] if len(values) == 1 else None] * len(values)
    raster = bool(np.array_equal(image.affine, np.eye(4))) and image.spatial_shape[2] == 1
    return CaseChannels(case.id, raster, values, tuple(tags), tuple(words))


def find_modalities(channel_names: Sequence[str], cases: Sequence[CaseChannels]) -> tuple[ChannelModality, ...]:
    """The modality of each channel of a data set.

    Args:
        channel_names: the declared names; empty when undeclared.
        cases: the evidence of all cases, with equally many channels.
    Returns: one entry per channel.
    """
    count = len(cases[0].values) if cases else len(channel_names)
    if cases and all(case.raster and all(values.lowest >= 0 for values in case.values) for case in cases):
        return (ChannelModality("image", "pictures without spacing", "recognised"),) * count
    names = tuple(channel_names) if len(channel_names) == count else ("",) * count
    return tuple(_channel(index, name, cases) for index, name in enumerate(names))


def check_modalities(dataset: Dataset, cases: Sequence[CaseChannels]) -> list[Problem]:
    """Cases that contradict the modality of their channel, and values in other units than the modality has."""
    usual = Counter(len(case.values) for case in cases).most_common(1)
    cases = [case for case in cases if len(case.values) == usual[0][0]]
    found = find_modalities(dataset.channel_names, cases)
    return [problem for index, entry in enumerate(found) for problem in _contradictions(index, entry, dataset, cases)]


def _channel(index: int, name: str, cases: Sequence[CaseChannels]) -> ChannelModality:
    if declared := _word_in(name):
        return ChannelModality(declared, f"the channel is called {name}", "declared")
    tags = {case.tags[index] for case in cases}
    if len(tags) == 1 and (tag := tags.pop()) is not None:
        return ChannelModality(tag, "the headers of all images say so", "declared")
    values = [case.values[index] for case in cases]
    seen = sum(entry.hounsfield for entry in values)
    words = {case.words[index] for case in cases}
    word = words.pop() if len(words) == 1 else None
    if word is not None and word != "ct" and not seen:
        return ChannelModality(word, "all files are named so", "recognised")
    if seen and (2 * seen >= len(cases) or all(entry.whole and entry.lowest < 0 for entry in values)):
        lowest = min(entry.lowest for entry in values)
        reason = f"the values of {seen} of {len(cases)} images look like Hounsfield units, from {lowest:g}"
        return ChannelModality("ct", reason, "recognised")
    doubt = ", although all files are named ct" if word == "ct" else ""
    return ChannelModality("other", f"neither names, headers nor values say which it is{doubt}", "assumed")


def _contradictions(
    index: int, found: ChannelModality, dataset: Dataset, cases: Sequence[CaseChannels]
) -> Iterator[Problem]:
    names = dataset.channel_names
    channel = f"channel {names[index]}" if index < len(names) else f"channel {index}"
    hounsfield = [case.case for case in cases if case.values[index].hounsfield]
    positive = [case.case for case in cases if case.values[index].lowest >= 0]
    shifted = [case.case for case in cases if case.values[index].shifted]
    tagged = [case.case for case in cases if case.tags[index] not in (None, found.kind)]
    if tagged and found.kind != "other":
        message = f"{channel} is {found.kind} ({found.reason}), but not by the header of {listed(tagged, LISTED)}"
        yield Problem("", "contradictory modality", message, "check that the files are in the right channel")
    if hounsfield and positive and found.kind in ("ct", "other"):
        message = (
            f"{channel}: {len(hounsfield)} images look like CT in Hounsfield units, but {listed(positive, LISTED)} "
            f"{'have' if len(positive) > 1 else 'has'} no value below 0{_as_if_shifted(shifted)}"
        )
        remedy = "convert all images to Hounsfield units, or keep modalities in channels or data sets of their own"
        yield Problem("", "contradictory modality", message, remedy)
    elif shifted and found.kind in ("ct", "other") and 2 * len(shifted) > len(cases):
        message = f"{channel}: the values of {listed(shifted, LISTED)} look like Hounsfield units + 1024"
        remedy = "subtract 1024 (apply the rescale intercept), also from the images to predict; all must be alike"
        yield Problem("", "shifted CT", message, remedy, "warning")
    elif positive and found.kind == "ct":
        message = f"{channel} is CT ({found.reason}), but {listed(positive, LISTED)} have no value below 0"
        yield Problem(
            "", "no Hounsfield units", message, "check the units: CT is normalized by fixed bounds", "warning"
        )
    if hounsfield and found.kind in ("mr", "pet"):
        alike = listed(hounsfield, LISTED)
        message = f"{channel} is {found.kind} ({found.reason}), but {alike} look like CT, with air at -1000"
        yield Problem("", "contradictory modality", message, "check that the files are in the right channel")


def _as_if_shifted(shifted: Sequence[str]) -> str:
    return f"; {listed(shifted, LISTED)} look like Hounsfield units + 1024" if shifted else ""


def _word_in(text: str, allowed: frozenset[str] | None = None) -> Modality | None:
    """The only modality that the words of a name say; None without a word, or with words of two modalities."""
    words = re.findall(r"[a-z]+\d*[a-z]*", re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", text).lower())
    kinds = {WORDS.get(word) or _mr_part(word) for word in words if allowed is None or word in allowed} - {None}
    return kinds.pop() if len(kinds) == 1 else None


def _mr_part(word: str) -> Modality | None:
    return "mr" if any(part in word for part in MR_PARTS) else None


def _header_tag(path: Path, key: str | None) -> Modality | None:
    """The modality that a sidecar JSON file or the header of an image says; None when neither does."""
    suffix = suffix_of(path) or ""
    sidecar = path.with_name(f"{stem_of(path)}.json")
    try:
        if sidecar.is_file() and sidecar.stat().st_size < LARGEST_SIDECAR:
            content = read_document(sidecar)
            if isinstance(content, dict) and (tag := _tag(str(content.get("Modality", "")))):
                return tag
        if is_dicom_image(path):
            return _tag(choose_series(path, key).modality)
        read = HEADERS.get(suffix)
        return read(path) if read is not None else None
    except (AttunetError, OSError, EOFError, ValueError, zlib.error, RecursionError):
        return None


def _tag(text: str) -> Modality | None:
    return TAGS.get(text.strip().upper())


def _text_header(path: Path) -> Modality | None:
    """NRRD and MetaImage: a key modality, or the DICOM tag (0008,0060)."""
    with open_regular(path) as file:
        text = file.read(HEADER_BYTES).split(b"\n\n")[0].decode("latin-1")
    found = re.search(r"(?im)^(?:modality|(?:dicom_)?0008[|_]0060)\s*:?=\s*(?:MET_MOD_)?(\w+)", text)
    return _tag(found[1]) if found else None


def _nifti_header(path: Path) -> Modality | None:
    """The description: a modality by name, or the echo time that dcm2niix writes for MR."""
    compressed = path.name.lower().endswith(".gz")
    with open_regular(path) as raw, gzip.open(raw) if compressed else raw as file:
        header = file.read(NIFTI_HEADER)
    if NIFTI_HEADER.to_bytes(4, "little") != header[:4] and NIFTI_HEADER.to_bytes(4, "big") != header[:4]:
        return None
    text = header[NIFTI_DESCRIPTION].split(b"\0")[0].decode("latin-1")
    if re.search(r"(?<!\w)TE=\d", text):
        return "mr"
    kinds = {_tag(word) for word in re.findall(r"\b[A-Z]+\b", text)} - {None}
    return kinds.pop() if len(kinds) == 1 else None


HEADERS: dict[str, Callable[[Path], Modality | None]] = {
    **dict.fromkeys((".nii", ".nii.gz"), _nifti_header),
    **dict.fromkeys((".nrrd", ".nhdr", ".mha", ".mhd"), _text_header),
}
