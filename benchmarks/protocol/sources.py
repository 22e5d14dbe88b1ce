"""The data sets of the comparison, converted once into a form that all programs read: nnU-Net's raw layout in NIfTI.

One file per channel, label values 0, 1, 2, ..., and what the case's patient is where cases belong together. NIfTI files
with such values are linked; everything else is read as attunet reads it and written anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from nnunet.peer import link

from attunet.data.cases import read_case_image, read_dataset, read_own_label
from attunet.data.dataset import Case, Dataset
from attunet.data.formats import write_volume
from attunet.data.phantom import write_phantom_dataset
from attunet.data.volume import Volume
from attunet.files import write_text

__all__ = ["SOURCES", "Source", "canonical"]

SUFFIX = ".nii.gz"
GROUPS = "groups.json"
SECTIONS = 6
"""Consecutive sections in a block of the membranes: neighbours are nearly the same picture."""
PHANTOMS = 20


@dataclass(frozen=True)
class Source:
    """A data set.

    Args:
        folder: its folder below the folder of the data sets.
        labels: names and file values of its labels, where it does not declare them; everything else is background.
        group: from the position of a case by name to its group; None: as the data set says.
        read: makes the data set, where no layout of attunet fits: takes the folder and a folder to write to.
    """

    folder: str
    labels: Mapping[str, int] = field(default_factory=dict)
    group: Callable[[int], str] | None = None
    read: Callable[[Path, Path], Dataset] | None = None


def _phantoms(_folder: Path, work: Path) -> Dataset:
    write_phantom_dataset(work, PHANTOMS, 0)
    return read_dataset(work)


def _livers(folder: Path, work: Path) -> Dataset:
    """The three patients with a CT of the abdomen and a mask of the liver; other CTs there are crops of the first."""
    import SimpleITK as sitk  # noqa: N813  reads the DICOM series, which attunet leaves to dcm2niix

    examples, chaos = folder / "totalsegmentator_examples", folder / "chaos_ct_dicom"
    scan, series = work / f"chaos{SUFFIX}", sorted({file.parent for file in (chaos / "images").rglob("*.dcm")})
    slices = sorted((chaos / "labels").rglob("*.png"))[::-1]  # from head to feet
    _write_series(series[0], scan)
    image = sitk.ReadImage(str(scan))
    masks = [sitk.GetArrayFromImage(sitk.ReadImage(str(file))) > 0 for file in slices]
    mask = sitk.GetImageFromArray(np.stack(masks).astype(np.uint8))
    mask.CopyInformation(image)
    sitk.WriteImage(mask, str(work / f"chaos_label{SUFFIX}"))
    _write_series(examples / "images" / "example_ct_dicom", work / f"second{SUFFIX}")
    liver = 5
    for name, label, reference in (
        ("first", "example_ct", examples / "images" / f"example_ct{SUFFIX}"),
        ("second", "example_ct_dicom", work / f"second{SUFFIX}"),
    ):
        organs = sitk.ReadImage(str(examples / "labels" / f"{label}{SUFFIX}"))
        grid = sitk.ReadImage(str(reference))
        on_grid = sitk.Resample(organs, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0, organs.GetPixelID())
        sitk.WriteImage(on_grid == liver, str(work / f"{name}_label{SUFFIX}"))
    link(work / f"first{SUFFIX}", examples / "images" / f"example_ct{SUFFIX}")
    cases = [
        Case(name, (work / f"{name}{SUFFIX}",), work / f"{name}_label{SUFFIX}") for name in ("chaos", "first", "second")
    ]
    labels = {"background": 0, "liver": 1}
    return Dataset(root=work, layout="nnunet", cases=tuple(cases), label_names=labels, channel_names=("CT",))


def _write_series(folder: Path, file: Path) -> None:
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    sitk.WriteImage(reader.Execute(), str(file))


SOURCES: Mapping[str, Source] = {
    "hippocampus": Source("hippocampus"),
    "sarcoma_mr": Source("Dataset101_SarcomaMR"),
    "sarcoma_ct": Source("Dataset102_SarcomaCT"),
    "nuclei": Source("nuclei", {"nucleus": 255}),
    "membranes": Source("em_membranes", {"membrane": 0}, lambda position: f"block{position // SECTIONS}"),
    "organs": Source("", read=_livers),
    "phantom": Source("", read=_phantoms),
}
"""The known data sets. Any other folder that attunet reads, and that names its labels, can be compared on, too."""


def canonical(name: str, data: Path, work: Path) -> Dataset:
    """The data set in nnU-Net's raw layout, converted on the first call.

    Args:
        name: a key of `SOURCES`, or the path of a data set.
        data: the folder of the known data sets.
        work: the folder to write to.
    Returns: its labelled cases, with their groups.
    """
    folder = work / "data"
    if not (folder / "dataset.json").exists():
        source = SOURCES.get(name, Source(name))
        place = data / source.folder if name in SOURCES else Path(name)
        (work / "raw").mkdir(parents=True, exist_ok=True)
        dataset = source.read(place, work / "raw") if source.read else read_dataset(place)
        _convert(dataset, source, folder)
    groups = json.loads((folder / GROUPS).read_text(encoding="utf-8"))
    dataset = read_dataset(folder)
    return replace(dataset, cases=tuple(replace(case, group=groups[case.id]) for case in dataset.labelled))


def _convert(dataset: Dataset, source: Source, folder: Path) -> None:
    names = source.labels or {name: value for name, value in (dataset.label_names or {}).items() if value != 0}
    if not names or dataset.regions:
        raise SystemExit(f"{dataset.root} must have named labels and no regions, got {dataset.label_names}")
    values = tuple(sorted(names.values()))
    channels = 0
    print(f"converting {len(dataset.labelled)} cases", flush=True)
    for case in dataset.labelled:
        files = [folder / "imagesTr" / f"{case.id}_{channel:04d}{SUFFIX}" for channel in range(len(case.images))]
        if all(file.name.endswith(SUFFIX) for file in case.images) and _single(case):
            for file, image in zip(files, case.images, strict=True):
                link(file, image)
            channels = len(files)
        else:
            channels = _write_channels(read_case_image(case), folder / "imagesTr", case.id)
        _write_label(case, values, folder / "labelsTr" / f"{case.id}{SUFFIX}")
    declared = len(dataset.channel_names or ()) == channels
    channel_names = dataset.channel_names if declared else [f"channel{index}" for index in range(channels)]
    group = source.group
    groups = {case.id: group(position) if group else case.group for position, case in enumerate(dataset.labelled)}
    write_text(folder / GROUPS, json.dumps(groups, indent=1))
    content = {
        "channel_names": {str(index): channel for index, channel in enumerate(channel_names)},
        "labels": {"background": 0, **{name: values.index(value) + 1 for name, value in names.items()}},
        "numTraining": len(dataset.labelled),
        "file_ending": SUFFIX,
    }
    write_text(folder / "dataset.json", json.dumps(content, indent=1))


def _single(case: Case) -> bool:
    """Whether each file holds one channel."""
    return len(read_case_image(case).array) == len(case.images)


def _write_channels(image: Volume, folder: Path, case: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for index, channel in enumerate(image.array):
        write_volume(image.with_array(channel[np.newaxis]), folder / f"{case}_{index:04d}{SUFFIX}")
    return len(image.array)


def _write_label(case: Case, values: tuple[int, ...], file: Path) -> None:
    """Link the mask, or write it with consecutive values where its own are others."""
    label = read_own_label(case)
    present = set(np.unique(label.array).tolist())
    if isinstance(case.label, Path) and case.label.name.endswith(SUFFIX) and values == tuple(range(1, len(values) + 1)):
        if not present <= {0, *values}:
            raise SystemExit(f"{case.id} has the undeclared label values {sorted(present - {0, *values})}")
        link(file, case.label)
        return
    array = np.zeros(label.array.shape, np.uint8)
    for index, value in enumerate(values, start=1):
        array[label.array == value] = index
    file.parent.mkdir(parents=True, exist_ok=True)
    write_volume(label.with_array(array), file)
