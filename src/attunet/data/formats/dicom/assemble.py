"""Assembling the files of a series into volumes: copies dropped, mixed slices separated, the rest made into stacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attunet.data.formats.dicom.acquisitions import divide
from attunet.data.formats.dicom.decoding import image_dtype
from attunet.data.formats.dicom.headers import DicomHeader
from attunet.data.formats.dicom.series import DicomSeries, SetAside
from attunet.data.formats.dicom.slices import StoredSlice
from attunet.data.formats.dicom.stacks import Stack, build_stack, parallel, picture_stack
from attunet.errors import DataError, GeometryError
from attunet.names import listed

__all__ = ["assemble"]

PLACED = ("CT", "MR", "PT")
"""Modalities whose images are slices: several without a position are no pictures, but damaged."""
STACK = 3
"""From so many slices on, a single one of another kind in the series is a stray."""


@dataclass
class _Found:
    """What was made of a series so far."""

    stacks: list[tuple[Stack, str]] = field(default_factory=list)
    refused: list[SetAside] = field(default_factory=list)
    left_out: list[SetAside] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def assemble(headers: Sequence[DicomHeader]) -> tuple[list[DicomSeries], list[SetAside], list[SetAside]]:
    """Make volumes of the files of one series.

    Args: the headers of its files, in any order.
    Returns: the volumes, what was left out of them, and what cannot be one, with the reasons.
    """
    first, found = headers[0], _Found()
    name = f"series {first.series_uid if first.number is None else first.number}"
    try:
        slices = [one for header in _without_copies(headers, found) for one in header.slices]
        placed = [one for one in slices if one.position is not None and one.orientation is not None]
        unplaced = [one for one in slices if one.position is None or one.orientation is None]
        _refuse_unplaced(unplaced, first.modality, len(slices))
        for layout in {one.layout for one in slices}:
            image_dtype(layout)
        for group in _alike(placed, name, found):
            _add_stacks(group, name, found)
        found.stacks += [(picture_stack(group), "") for group in _by_file(unplaced)]
    except DataError as error:
        found.refused.append(SetAside(name, error.message, tuple(header.path for header in headers)))
    several = len(found.stacks) > 1 or bool(found.refused)
    shared = tuple(dict.fromkeys((*(text for header in headers for text in header.notices), *found.notices)))
    volumes = [
        _series_of(first, stack, (*_telling(told, len(found.stacks)), *shared), part=number if several else 0)
        for number, (stack, told) in enumerate(found.stacks, start=1)
    ]
    return volumes, found.left_out, found.refused


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
        notices=(*notices, *stack.notices),
        part=part,
        spaced=stack.spaced,
        slices=slices,
    )


def _telling(told: str, parts: int) -> Iterable[str]:
    if told:
        yield f"it is {told} of a series that makes {parts} volumes"


def _without_copies(headers: Sequence[DicomHeader], found: _Found) -> list[DicomHeader]:
    """The headers without files of the same SOPInstanceUID. Raises: GeometryError when such files differ."""
    seen: dict[str, DicomHeader] = {}
    copies: list[Path] = []
    for header in sorted(headers, key=lambda header: str(header.path)):
        known = seen.setdefault(header.instance_uid or str(header.path), header)
        if known is header:
            continue
        if [_place(one) for one in known.slices] != [_place(one) for one in header.slices]:
            raise GeometryError(
                f"{known.path.name} and {header.path.name} have one SOPInstanceUID and different positions or sizes",
                hint="remove the wrong one",
            )
        copies.append(header.path)
    if copies:
        names = listed([path.name for path in copies], 4)
        found.notices.append(f"{len(copies)} files with the SOPInstanceUID of another are left out: {names}")
        found.left_out.append(SetAside("copy", "has the SOPInstanceUID of another file", tuple(copies)))
    return list(seen.values())


def _place(one: StoredSlice) -> tuple[object, ...]:
    return one.position, one.orientation, one.rows, one.columns, one.layout.frames


def _refuse_unplaced(unplaced: Sequence[StoredSlice], modality: str, count: int) -> None:
    """Raises: GeometryError where slices without a position are no pictures, but slices of an unknown place."""
    if unplaced and count > 1 and modality in PLACED:
        names = listed([one.name for one in unplaced], 4)
        raise GeometryError(f"{len(unplaced)} slices give no position in the patient: {names}", hint="export it again")


def _by_file(slices: Sequence[StoredSlice]) -> list[list[StoredSlice]]:
    """Images without a position: a file is a picture or a cine of its own."""
    files: dict[Path, list[StoredSlice]] = {}
    for one in slices:
        files.setdefault(one.path, []).append(one)
    return list(files.values())


def _alike(slices: Sequence[StoredSlice], name: str, found: _Found) -> list[list[StoredSlice]]:
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
        found.notices.append(f"{len(strays)} images are left out, {why}")
        found.left_out.append(SetAside("image", why, tuple(one.path for one in strays)))
    return [group for group in groups if len(group) > 1]


def _same_kind(first: StoredSlice, one: StoredSlice) -> bool:
    """Whether two images may be slices of one volume."""
    same = first.spacing == one.spacing or (
        first.spacing is not None
        and one.spacing is not None
        and all(abs(a - b) <= 1e-3 * a for a, b in zip(first.spacing, one.spacing, strict=True))
    )
    kind = (first.rows, first.columns, first.layout.samples) == (one.rows, one.columns, one.layout.samples)
    return kind and same and parallel(first.orientation, one.orientation)


def _add_stacks(group: Sequence[StoredSlice], name: str, found: _Found) -> None:
    """Add the stacks of slices of one kind, and what is none."""
    for part in divide(group):
        try:
            stack = build_stack(part.slices)
        except GeometryError as error:
            told = f"{name}, {part.told}" if part.told else name
            found.refused.append(SetAside(told, error.message, tuple(one.path for one in part.slices)))
        else:
            found.stacks.append((stack, part.told))
