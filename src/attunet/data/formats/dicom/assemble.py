"""Assembling the files of a series into volumes: copies dropped, mixed slices separated, the rest made into stacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from filecmp import cmp
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from attunet.data.formats.dicom.acquisitions import alternations, divide
from attunet.data.formats.dicom.compressed import quiet_decoders
from attunet.data.formats.dicom.decoding import decode, image_dtype
from attunet.data.formats.dicom.headers import DicomHeader
from attunet.data.formats.dicom.series import DicomSeries, SetAside, series_key
from attunet.data.formats.dicom.slices import StoredSlice
from attunet.data.formats.dicom.stacks import Stack, build_stack, parallel, picture_stack
from attunet.data.formats.dicom.values import check_rescale
from attunet.errors import DataError, FormatError, GeometryError
from attunet.names import listed

__all__ = ["assemble"]

PLACED = ("CT", "MR", "PT")
"""Modalities whose images are slices: several without a position are no pictures, but damaged."""
KIND = "one orientation, size and spacing"
"""What tells slices from others of their series that cannot be in one volume with them."""
STACK = 3
"""From so many slices on, a single one of another kind in the series is a stray."""


class _Made(NamedTuple):
    """Slices of one kind, what tells them from the others, and the stack that they make, or why they make none."""

    slices: Sequence[StoredSlice]
    told: str
    result: Stack | DataError


@dataclass
class _Aside:
    """What was left out of a series, and what is said about it."""

    left_out: list[SetAside] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def assemble(
    headers: Sequence[DicomHeader], damaged: Mapping[Path, str]
) -> tuple[list[DicomSeries], list[SetAside], list[SetAside]]:
    """Make volumes of the files of one series.

    Args:
        headers: those of its files with an image, in any order.
        damaged: files without one that are a part of it, and why: the series lacks their slices.
    Returns: the volumes, what was left out of them, and what cannot be one, with the reasons.
    """
    first, aside = headers[0], _Aside()
    name = f"series {first.series_uid if first.number is None else first.number}"
    try:
        _refuse_damaged(damaged)
        made = list(_stacks(_without_copies(headers, aside), first.modality, name, aside))
    except DataError as error:
        made = [_Made([one for header in headers for one in header.slices], "", error)]
    shared = tuple(dict.fromkeys((*(text for header in headers for text in header.notices), *aside.notices)))
    volumes, refused = [], []
    for number, (slices, told, result) in enumerate(made, start=1):
        part = number if len(made) > 1 else 0
        if isinstance(result, Stack):
            odd = (*alternations(result.slices), *_unscaled(result, first.modality))
            notices = (*_telling(told, len(made)), *shared, *result.notices, *odd)
            volumes.append(_series_of(first, result, notices, part=part))
        else:
            key = series_key(first.series_uid, part)
            paths = tuple(dict.fromkeys((*(one.path for one in slices), *damaged)))
            refused.append(SetAside(f"{name}, {told}" if told else name, result.message, paths, key, first.number))
    return volumes, aside.left_out, refused


def _stacks(headers: Sequence[DicomHeader], modality: str, name: str, aside: _Aside) -> Iterator[_Made]:
    """The stacks of a series, and what is none. Raises: DataError for faults of the whole series."""
    slices = [one for header in headers for one in header.slices]
    placed = [one for one in slices if one.position is not None and one.orientation is not None]
    unplaced = [one for one in slices if one.position is None or one.orientation is None]
    _refuse_unplaced(unplaced, modality, len(slices))
    for layout in {one.layout for one in slices}:
        image_dtype(layout)
    groups = _alike(placed, name, aside)
    for group in groups:
        for part in divide(group):
            told = ", ".join(filter(None, (part.told, KIND if len(groups) > 1 else "")))
            yield _Made(part.slices, told, _stack_or_error(build_stack, part.slices))
    for group in _by_file(unplaced):
        yield _Made(group, "", _stack_or_error(picture_stack, group))


def _refuse_damaged(damaged: Mapping[Path, str]) -> None:
    if damaged:
        raise FormatError(listed(list(damaged.values()), 3), hint="copy the files again, or remove what is no slice")


def _stack_or_error(
    build: Callable[[Sequence[StoredSlice]], Stack], slices: Sequence[StoredSlice]
) -> Stack | DataError:
    try:
        check_rescale(slices)
        return build(slices)
    except DataError as error:
        return error


def _series_of(first: DicomHeader, stack: Stack, notices: tuple[str, ...], *, part: int) -> DicomSeries:
    slices = stack.slices
    return DicomSeries(
        uid=first.series_uid,
        study_uid=first.study_uid,
        modality=first.modality,
        description=first.description,
        number=first.number,
        files=tuple(dict.fromkeys(one.path for one in slices)),
        shape=(slices[0].columns, slices[0].rows, len(slices)),
        affine=stack.affine,
        notices=notices,
        part=part,
        spaced=stack.spaced,
        slices=slices,
    )


def _telling(told: str, parts: int) -> Iterable[str]:
    if told:
        yield f"it is {told} of a series that makes {parts} volumes"


def _unscaled(stack: Stack, modality: str) -> Iterable[str]:
    if modality == "CT" and not stack.slices[0].rescale:
        yield "it is a CT without a rescale slope and intercept: its values are taken to be Hounsfield units"


def _without_copies(headers: Sequence[DicomHeader], aside: _Aside) -> list[DicomHeader]:
    """The headers without files of the same SOPInstanceUID. Raises: GeometryError when such files differ."""
    seen: dict[str, DicomHeader] = {}
    copies: list[Path] = []
    for header in sorted(headers, key=lambda header: str(header.path)):
        known = seen.setdefault(header.instance_uid or str(header.path), header)
        if known is header:
            continue
        if differing := _difference(known, header):
            raise GeometryError(
                f"{known.path.name} and {header.path.name} have one SOPInstanceUID and different {differing}",
                hint="remove the wrong one",
            )
        copies.append(header.path)
    if copies:
        names = listed([path.name for path in copies], 4)
        aside.notices.append(f"files with the SOPInstanceUID of another are left out: {names}")
        aside.left_out.append(SetAside("copy", "has the SOPInstanceUID of another file", tuple(copies)))
    return list(seen.values())


def _difference(known: DicomHeader, header: DicomHeader) -> str:
    """What differs between two files that should be one; empty when nothing does. Raises: FormatError as `decode`."""
    if [_place(one) for one in known.slices] != [_place(one) for one in header.slices]:
        return "positions or sizes"
    if [_scale(one) for one in known.slices] != [_scale(one) for one in header.slices]:
        return "rescales"
    if cmp(known.path, header.path, shallow=False):
        return ""
    with TemporaryDirectory(prefix="attunet-dicom-") as folder, quiet_decoders():
        scratch = Path(folder, "image.dcm")
        pairs = zip(known.slices, header.slices, strict=True)
        same = all(np.array_equal(decode(one, scratch), decode(other, scratch)) for one, other in pairs)
    return "" if same else "pixels"


def _place(one: StoredSlice) -> tuple[object, ...]:
    return one.position, one.orientation, one.rows, one.columns, one.layout.frames


def _scale(one: StoredSlice) -> tuple[object, ...]:
    return one.slope, one.intercept, one.inverted, one.table is None


def _refuse_unplaced(unplaced: Sequence[StoredSlice], modality: str, count: int) -> None:
    """Raises: GeometryError where slices without a position are no pictures, but slices of an unknown place."""
    if unplaced and count > 1 and modality in PLACED:
        names = listed([one.name for one in unplaced], 4)
        raise GeometryError(f"slices without a position in the patient: {names}", hint="export it again")


def _by_file(slices: Sequence[StoredSlice]) -> list[list[StoredSlice]]:
    """Images without a position: a file is a picture or a cine of its own."""
    files: dict[Path, list[StoredSlice]] = {}
    for one in slices:
        files.setdefault(one.path, []).append(one)
    return list(files.values())


def _alike(slices: Sequence[StoredSlice], name: str, aside: _Aside) -> list[list[StoredSlice]]:
    """The slices of one orientation and size together; single ones beside a stack are left out."""
    groups: list[list[StoredSlice]] = []
    for one in slices:
        same = next((group for group in groups if _same_kind(group[0], one)), None)
        if same is None:
            groups.append([one])
        else:
            same.append(one)
    if max(map(len, groups), default=0) < STACK or len(groups) == 1:
        return groups
    strays = [group[0] for group in groups if len(group) == 1]
    if strays:
        names = listed([one.name for one in strays], 4)
        why = f"of another orientation or size than the other slices of {name}: {names}"
        aside.notices.append(f"images are left out, {why}")
        aside.left_out.append(SetAside("image", why, tuple(one.path for one in strays)))
    return [group for group in groups if len(group) > 1]


def _same_kind(first: StoredSlice, one: StoredSlice) -> bool:
    """Whether two images may be slices of one volume."""
    same = first.spacing == one.spacing or (
        first.spacing is not None
        and one.spacing is not None
        and all(abs(a - b) <= 1e-3 * a for a, b in zip(first.spacing, one.spacing, strict=True))
    )
    kind = (first.rows, first.columns, first.channels) == (one.rows, one.columns, one.channels)
    return kind and same and parallel(first.orientation, one.orientation)
