"""Predictions as a BIDS derivative: names, sidecars and the description of the data set.

Source: the Brain Imaging Data Structure, version 1.10, "Derivatives: Imaging data types", "Segmentations".
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attunet.data.cases import Case
from attunet.data.formats import stem_of, write_volume
from attunet.documents import read_document, reading
from attunet.errors import ConfigError
from attunet.files import write_text
from attunet.inference.prediction import Prediction
from attunet.names import cell_of

__all__ = ["BidsName", "bids_mask", "bids_name", "describe_derivative", "save_bids"]

BIDS_VERSION = "1.10.0"
DESCRIPTION = "dataset_description.json"
DESC = "attunet"
NAME = re.compile(r"sub-[a-zA-Z0-9]+(?:_[a-zA-Z]+-[a-zA-Z0-9+]+)*_[a-zA-Z0-9]+")
NOT_KEPT = ("desc", "seg", "label")
"""Entities of a source that a segmentation gives a meaning of its own."""
OTHER_FILES = ("attention/", "preview/", "statistics.json", ".attunet*")
"""What `attunet predict` writes besides, which validators are told to ignore."""


@dataclass(frozen=True)
class BidsName:
    """The name of a source image.

    Args:
        root: folder of the BIDS data set.
        entities: key and label, in the order of the name.
        datatype: folder of the image, such as anat.
        source: path of the image below `root`.
    """

    root: Path
    entities: tuple[tuple[str, str], ...]
    datatype: str
    source: str

    @property
    def folder(self) -> str:
        """Such as sub-01/ses-2/anat."""
        parts = [f"{key}-{label}" for key, label in self.entities if key in ("sub", "ses")]
        return "/".join([*parts, self.datatype])

    def file(self, suffix: str) -> str:
        """The name of a derivative with a suffix and an ending, such as dseg.nii.gz."""
        kept = [f"{key}-{label}" for key, label in self.entities if key not in NOT_KEPT]
        return "_".join([*kept, f"desc-{DESC}", suffix])


def bids_name(case: Case) -> BidsName:
    """The BIDS name of a case's first image. Raises: ConfigError when it is not named as BIDS requires."""
    image = case.images[0]
    stem = stem_of(image)
    entities = tuple(part.split("-", 1) for part in stem.split("_")[:-1]) if NAME.fullmatch(stem) else ()
    folders = image.absolute().parent
    labels = dict(entities)
    above = [folders.name, *(f"{key}-{labels[key]}" for key in ("ses", "sub") if key in labels)]
    found = [folder.name for folder in (folders, *folders.parents)][: len(above)]
    if not entities or found != above:
        raise ConfigError(
            f"{image} is not named as in BIDS, expected sub-LABEL/[ses-LABEL/]anat/sub-LABEL_[ses-LABEL_]T1w.nii.gz",
            hint="leave out --output-layout bids, or name the images as BIDS requires",
        )
    root = folders.parents[len(above) - 1]
    source = image.absolute().relative_to(root).as_posix()
    return BidsName(root, tuple((key, label) for key, label in entities), folders.name, source)


def bids_mask(case: Case, output: Path) -> Path:
    """The file of a case's mask in a derivative. Raises: as `bids_name`."""
    name = bids_name(case)
    return output / name.folder / name.file("dseg.nii.gz")


def save_bids(prediction: Prediction, case: Case, output: Path) -> Path:
    """Write the mask of a case with its table of labels and its sidecar, and the probabilities if there are any.

    Args:
        prediction: the prediction, whose attention is written as elsewhere.
        case: its case.
        output: folder of the derivative.
    Returns: the file of the mask, which is written last.
    Raises: FormatError when a file cannot be written; as `bids_name`.
    """
    name, mask = bids_name(case), bids_mask(case, output)
    inside = [path.absolute() for path in case.images if path.absolute().is_relative_to(name.root)]
    sources = [f"bids:raw:{path.relative_to(name.root).as_posix()}" for path in inside]
    sidecar: dict[str, Any] = {"Sources": sources, "SpatialReference": sources[0]}
    for gate, file in prediction.attention_files(output).items():
        write_volume(prediction.attention[gate], file)
    if prediction.probabilities is not None:
        labels = list(prediction.regions or prediction.labels)
        file = mask.with_name(name.file("probseg.nii.gz"))
        write_volume(prediction.probabilities, file)
        _write_json(mask.with_name(name.file("probseg.json")), {**sidecar, "LabelMap": labels})
    rows = [f"{value}\t{cell_of(_cell(label))}" for label, value in prediction.labels.items()]
    write_text(mask.with_name(name.file("dseg.tsv")), "\n".join(["index\tname", *rows]) + "\n")
    _write_json(mask.with_name(name.file("dseg.json")), sidecar)
    write_volume(prediction.segmentation, mask)
    return mask


def describe_derivative(cases: Sequence[Case], output: Path) -> None:
    """Write dataset_description.json and .bidsignore; those of an earlier derivative of ours are kept.

    Raises: ConfigError when the folder holds another data set, or two cases would have one mask.
    """
    masks: dict[Path, str] = {}
    for case in cases:
        other = masks.setdefault(bids_mask(case, output), case.id)
        if other != case.id:
            raise ConfigError(
                f"{other} and {case.id} would both be written as {bids_mask(case, output).name}",
                hint="predict them into two folders",
            )
    path = output / DESCRIPTION
    if path.exists():
        with reading(path, ConfigError, "choose another -o"):
            generators = read_document(path).get("GeneratedBy", [])
        if not any(isinstance(entry, dict) and entry.get("Name") == DESC for entry in generators):
            raise ConfigError(f"{output} holds another BIDS data set", hint="choose another -o")
        return
    roots = sorted({bids_name(case).root for case in cases})
    content: dict[str, Any] = {
        "Name": "Segmentations by attunet",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": DESC, "Version": version("attunet")}],
        "SourceDatasets": [{"URL": root.as_uri()} for root in roots],
    }
    if roots:
        content["DatasetLinks"] = {"raw": roots[0].as_uri()}
    _write_json(path, content)
    write_text(output / ".bidsignore", "\n".join(OTHER_FILES) + "\n")


def _cell(text: str) -> str:
    return " ".join(text.split())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
