"""Everything that reads a file of any origin, with valid files to begin with.

There is a target for every suffix of `FORMATS`; a suffix without a seed fails the run, so that a new format cannot be
left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from images import image_seeds
from models import model_seeds, open_model, open_sealed, open_weights, tiny_plan, weights_seeds
from mutations import Files
from objects import object_seeds, read_object
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from series import archive_seeds, read_archive

from attunet.bundle import execution
from attunet.bundle.execution import Execution, Quantization
from attunet.config import (
    ComponentRules,
    Plan,
    Postprocessing,
    QualityCalibration,
    TrainingConfig,
    load_settings,
)
from attunet.data.cases import read_dataset
from attunet.data.checks import inspect
from attunet.data.folds import Split
from attunet.data.formats import FORMATS, check_header, read_label, read_volume, write_volume
from attunet.data.volume import Volume
from attunet.dicom.network import read_identity
from attunet.dicom.node.rules import read_facts
from attunet.dicom.node.settings import NodeSettings
from attunet.errors import AttunetError
from attunet.evaluation.overlap import Counts
from attunet.evaluation.scores import CaseScores, LabelScores
from attunet.evaluation.summary import Summary, summarize
from attunet.inference.batch_record import RecordFiles
from attunet.report.attention_frames import read_attention_frames
from attunet.report.training import read_history
from attunet.selection.samples import Sample

__all__ = ["TARGETS", "Target", "seeds_of"]


@dataclass(frozen=True)
class Target:
    """Something that reads files.

    Args:
        name: what is read, such as image.nii.gz or plan.json.
        main: name of the file (or folder) that is passed.
        read: reads it; an AttunetError is a right answer.
        seeds: makes valid files in an empty folder, once for each seed.
        changed: the files that are changed; empty: all of them.
        share: inputs of this target in proportion to those of others; slow ones have fewer.
    """

    name: str
    main: str
    read: Callable[[Path], object]
    seeds: Callable[[Path], Iterator[None]]
    changed: tuple[str, ...] = ()
    share: float = 1.0


def seeds_of(target: Target) -> list[Files]:
    """The valid inputs of a target."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in target.seeds(folder):
            files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
            found.append(files)
            for file in sorted(folder.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
    if not found:
        raise LookupError(f"there is no valid file of {target.name} to begin with: add a seed to fuzz/images.py")
    return found


def _image(path: Path) -> None:
    """Read as a header, as a label and as an image; images that are no labels are refused as labels only."""
    check_header(path)
    with contextlib.suppress(AttunetError):
        read_label(path)
    read_volume(path)


def _settings(kind: Any, text: Callable[[], str], main: str) -> Target:
    def seeds(folder: Path) -> Iterator[None]:
        (folder / main).write_text(text())
        yield

    return Target(main, main, lambda path: load_settings(kind, path), seeds)


def _recipe() -> str:
    recipe = TrainingConfig(class_weights={"a": 2.0}, group_by="^p[0-9]+", init_weights="x", loggers=("tensorboard",))
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def _node() -> str:
    settings = NodeSettings(
        state="state",
        receive={"peers": [{"ae_title": "SCANNER", "address": "10.0.0.7"}]},
        queries=[{"url": "https://pacs.example/rs", "filters": {"ModalitiesInStudy": "CT"}}],
        rules=[{"name": "organs", "model": "model", "modality": ["CT"], "body_part": "abdomen|pelvis"}],
        destinations=[{"name": "pacs", "address": "dicom://PACS@10.0.0.7:104"}],
    )
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def _instance(folder: Path) -> Iterator[None]:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    instance.SOPClassUID, instance.SOPInstanceUID = CTImageStorage, "1.2.3"
    instance.StudyInstanceUID, instance.SeriesInstanceUID = "1.2", "1.2.1"
    instance.Modality, instance.SeriesDescription, instance.ImageType = "CT", "portal venous", ["ORIGINAL", "PRIMARY"]
    instance.save_as(folder / "1.dcm", enforce_file_format=True)
    yield


def _routed(folder: Path) -> object:
    return read_identity(folder / "1.dcm"), read_facts(folder)


def _postprocessing() -> str:
    quality = QualityCalibration(cases=9, spearman=0.5, low=0.1, high=0.8, slope=0.9, intercept=0.1, error=0.05)
    rules = ComponentRules(fill_holes=True, minimum_ml=0.5, largest_component=True)
    return Postprocessing(
        components={"a": rules}, temperature=1.5, quality=quality, reasons={"a": "x"}
    ).model_dump_json()


def _execution() -> str:
    quantization = Quantization(kept=True, dice_before=0.9, dice_after=0.89, cases=3, patches=8)
    tensors = {"image": ("N", 1, 16, 16), "logits": ("N", 2, 16, 16)}
    return Execution(tensors=tensors, quantization=quantization, reasons={"graph": "x"}).model_dump_json()


def _described(folder: Path, description: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "dataset.json").write_text(json.dumps(description))


def _datasets(folder: Path) -> Iterator[None]:
    labels = {"background": 0, "whole": [1, 2], "part": 2, "ignore": 3}
    described = {"channel_names": {"0": "CT"}, "labels": labels, "regions_class_order": [1, 2], "numTraining": 1}
    _described(folder, {**described, "file_ending": ".nii"}, ("imagesTr/a_0000.nii", "labelsTr/a.nii"))
    yield
    pairs = [{"image": "./imagesTr/a.nii", "label": "./labelsTr/a.nii"}]
    msd = {
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "a"},
        "training": pairs,
        "test": ["./b.nii"],
    }
    _described(folder, msd, ("imagesTr/a.nii", "labelsTr/a.nii", "b.nii"))
    yield


def _tables(folder: Path) -> Iterator[None]:
    for columns in (["image", "label", "group", "split", "labels"], ["image_0", "image_1", "label", "id"]):
        rows = {5: 'a.nii,b.nii,p1,train,"liver=1,spleen=2"', 4: "a.nii,b.nii,c.nii,x"}
        (folder / "x.csv").write_text(f"{','.join(columns)}\n{rows[len(columns)]}\n")
        yield


def _split(folder: Path) -> Iterator[None]:
    Split(Path("data"), "fail", ("a", "b"), ("c",)).write(folder)
    yield


def _summaries(folder: Path) -> Iterator[None]:
    scores = LabelScores(Counts(tp=3, fp=1, fn=2, tn=90), {"HD95": 1.5})
    cases = [CaseScores("a", {"liver": scores}, "a.nii", "b.nii"), CaseScores("b", {"liver": scores}, missing=True)]
    summarize(cases, {"background": 0, "liver": 1}, ["c"]).write(folder / "summary.json")
    yield


def _history(folder: Path) -> Iterator[None]:
    (folder / "log.csv").write_text("epoch,step,loss,dice\n0,10,0.5,\n1,20,0.25,0.75\n")
    yield


def _continued(path: Path) -> object:
    """Continue a batch that wrote statistics, without its model."""
    return RecordFiles(path.parent, None, {}, statistics=path, extend=True)  # type: ignore[arg-type]


def _statistics(folder: Path) -> Iterator[None]:
    content = {"unit": "ml", "cases": {"a": {"liver": 1.5}}, "predicted_dice": {"a": {"liver": 0.9}}}
    (folder / "statistics.json").write_text(json.dumps(content))
    yield


def _frames(folder: Path) -> Iterator[None]:
    probe = {"case": "a", "image": "a_image.nii.gz", "label": "a_label.nii.gz", "gates": ["level2"]}
    (folder / "frames.json").write_text(json.dumps({"frames": [{"epoch": 1, "minutes": 0.5}], "probes": [probe]}))
    volume = Volume.from_array(np.arange(120, dtype=np.uint8).reshape(6, 5, 4) % 2)
    for name in ("image", "label", "level2"):
        write_volume(volume, folder / f"a_{name}.nii.gz")
    yield


def _sample(folder: Path) -> Iterator[None]:
    half, mask = np.ones((2, 9), np.float32), np.ones((2, 9), bool)
    Sample(half, mask, half[0], mask[0], np.ones((15, 1), np.float32), "sum").save(folder / "x.npz")
    yield


def _named(path: Path) -> object:
    """Read a folder whose files have the names in a file, one a line."""
    folder = path.with_name("set")
    for name in path.read_bytes().split(b"\n")[:100]:
        file = Path(os.fsdecode(os.fsencode(folder) + b"/" + name.replace(b"\0", b"")))
        with contextlib.suppress(OSError, ValueError):  # no name for a file
            if file.resolve().is_relative_to(folder.resolve()):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"x")
    return read_dataset(folder)


def _names(folder: Path) -> Iterator[None]:
    for names in NAMES:
        (folder / "names.txt").write_text("\n".join(names))
        yield


def _inspected(folder: Path) -> Iterator[None]:
    for suffix in (".nii.gz", ".mha", ".png"):
        for kind, name in (("images", "a"), ("labels", "a"), ("images", "b"), ("labels", "b")):
            array = np.arange(63, dtype=np.uint8).reshape(9, 7) % (2 if kind == "labels" else 60)
            write_volume(Volume.from_array(array), folder / kind / f"{name}{suffix}")
        yield


NAMES = (
    ("images/a.nii.gz", "images/b.nii.gz", "labels/a.nii.gz", "labels/b.nii.gz"),
    (
        "p1/p1_t1.nii.gz",
        "p1/p1_t2.nii.gz",
        "p1/p1_seg.nii.gz",
        "p2/p2_t1.nii.gz",
        "p2/p2_t2.nii.gz",
        "p2/p2_seg.nii.gz",
    ),
    ("volume-0.nii", "volume-1.nii", "segmentation-0.nii", "segmentation-1.nii"),
    ("s1/ct.nii.gz", "s1/segmentations/liver.nii.gz", "s1/segmentations/spleen.nii.gz", "s2/ct.nii.gz"),
    ("images/21_training.tif", "1st_manual/21_manual1.gif", "mask/21_training_mask.gif", "images/22_training.tif"),
    ("sub-1/anat/sub-1_T1w.nii.gz", "derivatives/labels/sub-1/anat/sub-1_dseg.nii.gz"),
    ("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b_0000.nii.gz"),
)

APART = {entry.read for entry in FORMATS if "in_own_process" in entry.read.__qualname__}
"""Readers that start a process for each file, half a second."""
SETTINGS = ("plan.json", "postprocessing.json", "engine.json")
ENGINE_FILES = {engine: tuple(f"fold_0/{file}" for file in files) for engine, files in execution.ENGINE_FILES.items()}
TARGETS: tuple[Target, ...] = (
    *(
        Target(f"image{suffix}", f"x{suffix}", _image, image_seeds(suffix), share=0.1 if entry.read in APART else 2)
        for entry in FORMATS
        for suffix in entry.suffixes
    ),
    Target("series.zip", "x.zip", read_archive, archive_seeds, changed=("x.zip",), share=0.5),
    Target("label.dcm", "label.dcm", read_object, object_seeds, share=2),
    _settings(Plan, lambda: tiny_plan().model_dump_json(), "plan.json"),
    _settings(Postprocessing, _postprocessing, "postprocessing.json"),
    _settings(Execution, _execution, "engine.json"),
    _settings(TrainingConfig, _recipe, "recipe.yaml"),
    Target("dataset.json", "", read_dataset, _datasets, changed=("dataset.json",), share=2),
    Target("table.csv", "x.csv", read_dataset, _tables),
    _settings(NodeSettings, _node, "node.yaml"),
    Target("instance", "", _routed, _instance),
    Target("split.yaml", "", Split.read, _split),
    Target("summary.json", "summary.json", lambda path: Summary.read(path).to_json(), _summaries),
    Target("log.csv", "log.csv", read_history, _history),
    Target("statistics.json", "statistics.json", _continued, _statistics),
    Target("frames.json", "", read_attention_frames, _frames),
    Target("sample.npz", "x.npz", Sample.load, _sample, share=0.5),
    Target("names", "names.txt", _named, _names, share=2),
    Target("inspect", "", lambda path: inspect(read_dataset(path)).to_json(), _inspected, share=0.5),
    *(Target(f"weights{s}", f"x{s}", open_weights, weights_seeds(s)) for s in (".safetensors", ".pth")),
    Target("manifest.json", "", open_model, model_seeds("openvino"), changed=("manifest.json",), share=0.3),
    Target("ensemble", "", open_model, model_seeds("ensemble"), share=0.3),
    Target("ensemble.sealed", "", open_sealed, model_seeds("ensemble"), changed=("ensemble.json",), share=0.3),
    *(
        Target(
            f"model.{engine.replace(' ', '_')}",
            "",
            open_sealed,
            model_seeds(engine),
            changed=(*SETTINGS, *files),
            share=0.3,
        )
        for engine, files in ENGINE_FILES.items()
    ),
)
"""Every reader."""
