"""Data set layouts: the table of layouts, and reading a data set in any of them.

A new layout is a function that recognises it, a function that reads it, a row in `LAYOUTS`, and tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attunet.data.composition import with_choices
from attunet.data.dataset import Dataset, DatasetOptions
from attunet.data.formats.dicom import describe_series, find_series, holds_series
from attunet.data.layouts.dataset_json import is_msd, is_nnunet, read_msd, read_nnunet
from attunet.data.layouts.description import DESCRIPTION
from attunet.data.layouts.find import check_source
from attunet.data.layouts.image_files import image_files
from attunet.data.layouts.matched import is_folder, read_matched
from attunet.data.layouts.named_masks import with_named_masks
from attunet.data.layouts.table import is_table, read_table
from attunet.documents import reading
from attunet.errors import DatasetError
from attunet.names import listed

__all__ = ["LAYOUTS", "Layout", "read_dataset"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A layout of data sets.

    Args:
        name: what `Dataset.layout` and JSON files call it.
        title: its name in tables and the documentation.
        recognised_by: what a folder or file must contain, for messages and the documentation.
        details: what else the documentation says about it.
        detect: whether an existing folder or file has this layout; raises DatasetError when a description in it
            cannot be read.
        read: reads the cases, as the options say; None when there are none after all; raises DatasetError when the
            data set contradicts itself.
    """

    name: str
    title: str
    recognised_by: str
    details: str
    detect: Callable[[Path], bool]
    read: Callable[[Path, DatasetOptions], Dataset | None]


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        name="nnunet",
        title="nnU-Net raw",
        recognised_by="dataset.json with channel_names, next to imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz",
        details="One file per channel. `dataset.json` may name the files of each case under `dataset` instead.",
        detect=is_nnunet,
        read=lambda path, _options: read_nnunet(path),
    ),
    Layout(
        name="msd",
        title="Medical Segmentation Decathlon",
        recognised_by="dataset.json with a training list of image and label",
        details="4-D images are several channels. nnU-Net 1 writes the same list with one file per channel.",
        detect=is_msd,
        read=lambda path, _options: read_msd(path),
    ),
    Layout(
        name="csv",
        title="CSV file",
        recognised_by="a CSV file with the columns image and label, or a folder with one such file",
        details="Also `image_t1`, … for channels, `label_liver`, … for a file per label, `rater_a`, … for a "
        "mask per rater; optional columns `id`, `group`, `split`, `labels`.",
        detect=is_table,
        read=read_table,
    ),
    Layout(
        name="plain",
        title="plain folders",
        recognised_by="images and labels whose names tell which belong together, such as images/CASE.png next to "
        "labels/CASE.png, or CASE/CASE_flair.nii.gz next to CASE/CASE_seg.nii.gz",
        details="Any tree of folders, see [how names are matched](#how-names-are-matched). A `dataset.json` may "
        "declare `labels`.",
        detect=is_folder,
        read=read_matched,
    ),
)
"""Every layout; the first that is detected is read. The last one reads any folder, and what patterns describe."""

_DEFAULTS = DatasetOptions()
MOST_SERIES = 5
EXPECTED = "expected " + "; or ".join(layout.recognised_by for layout in LAYOUTS)


def read_dataset(path: Path, options: DatasetOptions = _DEFAULTS) -> Dataset:
    """Read the cases of a data set, a folder or a CSV file, whose layout is detected; `options` settle what is open.

    Only file names and descriptions are read, and headers of DICOM. Problems that they reveal (labels without an image)
    are in `problems`. Patterns take precedence over a description of the files.
    Raises: DatasetError when the path does not exist, no layout is detected, a description contradicts itself or an
        option fits nothing.
    """
    check_source(path)
    stated = options.pattern is not None or options.label_pattern is not None
    if stated and not path.is_dir():
        raise DatasetError(f"patterns describe the files of a folder, but {path} is a file", hint="leave them out")
    with reading(path, DatasetError, "correct its description, or write a CSV file"):
        for layout in LAYOUTS[-1:] if stated else LAYOUTS:
            if layout.detect(path) and (dataset := layout.read(path, options)) is not None:
                labelled = with_named_masks(_with_rater(dataset, options), options.label_key)
                return with_choices(labelled, options)
    raise _unrecognised(path)


def _with_rater(dataset: Dataset, options: DatasetOptions) -> Dataset:
    """The data set. Raises: DatasetError for a rater where no mask is known to be of any."""
    if options.rater is not None and not any(case.raters for case in dataset.cases):
        raise DatasetError(
            f"--rater {options.rater} has no effect: {dataset.root} does not tell who drew its masks",
            hint="leave it out, or write a CSV file with a column rater_NAME for each",
        )
    return dataset


def _unrecognised(path: Path) -> DatasetError:
    if path.is_file():
        return DatasetError(f"{path} is a single file, not a data set", hint=EXPECTED)
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if not names:
        return DatasetError(f"the folder {path} is empty", hint=EXPECTED)
    if holds_series(path):
        found = find_series(path)
        known = listed([describe_series(one) for one in found.series], MOST_SERIES)
        return DatasetError(
            f"{path} contains {len(found.series)} DICOM series and no labels of them: {known}",
            hint="attunet predict -i segments them; to learn from them, add SEG, RTSTRUCT or masks that are named "
            "like their folders, or write a CSV file with the columns image, key and label",
        )
    tables = len(list(path.glob("*.csv")))
    if tables > 1:
        return DatasetError(f"{path} contains {tables} CSV files, expected one", hint="pass the CSV file itself")
    above = path.resolve().parent
    beside = [above / DESCRIPTION, *(found / names[0] for found in above.iterdir() if not found.samefile(path))]
    if image_files(path) and any(file.is_file() for file in beside):
        hint = f"pass the folder above, {above}, if its folders hold images and labels, or write a CSV file of paths"
        return DatasetError(f"{path} contains images, and no labels that belong to them", hint=hint)
    entries = ", ".join(names[:6]) + (" and more" if len(names) > 6 else "")
    return DatasetError(f"no data set recognised in {path} (found {entries})", hint=EXPECTED)
