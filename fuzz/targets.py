"""Everything that reads a file of any origin, with valid files to begin with.

There is a target for every suffix of `FORMATS`; a suffix without a seed fails the run, so that a new format cannot be
left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from images import image_seeds
from mutations import Files

from attunet.bundle import save_manifest, save_plan
from attunet.bundle.execution import Execution, Quantization
from attunet.bundle.run import fold_folder
from attunet.config import (
    ComponentRules,
    FingerprintSummary,
    Normalization,
    Plan,
    Postprocessing,
    Preprocessing,
    QualityCalibration,
    TrainingConfig,
    load_settings,
)
from attunet.data.cases import read_dataset
from attunet.data.folds import Split
from attunet.data.formats import FORMATS, check_header, read_label, read_volume
from attunet.errors import AttunetError
from attunet.evaluation.overlap import Counts
from attunet.evaluation.scores import CaseScores, LabelScores
from attunet.evaluation.summary import Summary, summarize
from attunet.inference.batch_record import write_statistics
from attunet.networks import default_network
from attunet.report.training import read_history

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


def _plan() -> Plan:
    network = default_network(
        spatial_dims=2, in_channels=1, out_channels=2, channels=(2, 4), strides=((2, 2),), kernel_sizes=((3, 3),) * 2
    )
    return Plan(
        name="x",
        labels={"background": 0, "a": 1},
        channel_names=("c",),
        patch_size=(16, 16, 1),
        batch_size=2,
        preprocessing=Preprocessing(spacing=(1, 1, 1), normalization=(Normalization(kind="ct", upper=9, std=2),)),
        network=network,
        fingerprint=FingerprintSummary(
            cases=1, channels=1, median_shape=(16, 16, 1), median_spacing=(1, 1, 1), label_voxels={"a": 3}
        ),
        reasons={"patch_size": "it fits"},
    )


def _settings(kind: Any, text: Callable[[], str], main: str) -> Target:
    def seeds(folder: Path) -> Iterator[None]:
        (folder / main).write_text(text())
        yield

    return Target(main, main, lambda path: load_settings(kind, path), seeds)


def _recipe() -> str:
    recipe = TrainingConfig(class_weights={"a": 2.0}, group_by="^p[0-9]+", init_weights="x", loggers=("tensorboard",))
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


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


def _statistics(folder: Path) -> Iterator[None]:
    content = {"unit": "ml", "cases": {"a": {"liver": 1.5}}, "predicted_dice": {"a": {"liver": 0.9}}}
    (folder / "statistics.json").write_text(json.dumps(content))
    yield


@lru_cache
def _model() -> Files:
    """A tiny model folder with weights and graph, made without a training."""
    from attunet.export.formats import export_openvino
    from attunet.nn import AttentionUNet, save_weights

    with tempfile.TemporaryDirectory() as name:
        root, plan = Path(name), _plan()
        network = AttentionUNet.from_config(plan.network)
        save_plan(plan, root)
        save_weights(network, fold_folder(root, 0) / "weights.safetensors")
        export_openvino(network, plan, fold_folder(root, 0) / "graph.xml")
        (root / "postprocessing.json").write_text(Postprocessing(temperature=1.5).model_dump_json())
        (root / "engine.json").write_text(Execution(engine="openvino").model_dump_json())
        save_manifest(root)
        return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def _models(folder: Path) -> Iterator[None]:
    for name, content in _model().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    yield


def _open_model(root: Path) -> None:
    from attunet.inference.segmenter import Segmenter

    Segmenter.load(root, device="cpu").predict(np.zeros((16, 16), np.float32))


def _open_sealed(root: Path) -> None:
    """Open a model of a stranger, whose manifest is right."""
    manifest = json.loads((root / "manifest.json").read_bytes())
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256((root / name).read_bytes()).hexdigest()
    (root / "manifest.json").write_text(json.dumps(manifest))
    _open_model(root)


def _weights(suffix: str) -> Target:
    def seeds(folder: Path) -> Iterator[None]:
        import torch
        from safetensors.torch import save_file

        state = {"module.a.weight": torch.zeros(2, 3), "b": torch.ones(3)}
        if suffix == ".safetensors":
            save_file(state, folder / "x.safetensors")
            yield
            return
        for zipped in (True, False):
            torch.save({"state_dict": state, "epoch": 3}, folder / "x.pth", _use_new_zipfile_serialization=zipped)
            yield

    def read(path: Path) -> object:
        from attunet.nn.weights import read_weights

        return read_weights(path)

    return Target(f"weights{suffix}", f"x{suffix}", read, seeds)


MODEL_FILES = ("plan.json", "postprocessing.json", "engine.json", "fold_0/weights.safetensors", "fold_0/graph.bin")
TARGETS: tuple[Target, ...] = (
    *(Target(f"image{s}", f"x{s}", _image, image_seeds(s), share=2) for entry in FORMATS for s in entry.suffixes),
    _settings(Plan, lambda: _plan().model_dump_json(), "plan.json"),
    _settings(Postprocessing, _postprocessing, "postprocessing.json"),
    _settings(Execution, _execution, "engine.json"),
    _settings(TrainingConfig, _recipe, "recipe.yaml"),
    Target("dataset.json", "", read_dataset, _datasets, changed=("dataset.json",), share=2),
    Target("table.csv", "x.csv", read_dataset, _tables),
    Target("split.yaml", "", Split.read, _split),
    Target("summary.json", "summary.json", lambda path: Summary.read(path).to_json(), _summaries),
    Target("log.csv", "log.csv", read_history, _history),
    Target("statistics.json", "statistics.json", lambda path: write_statistics([], path, extend=True), _statistics),
    _weights(".safetensors"),
    _weights(".pth"),
    Target("manifest.json", "", _open_model, _models, changed=("manifest.json",), share=0.3),
    Target("model", "", _open_sealed, _models, changed=MODEL_FILES, share=0.5),
    Target("graph", "", _open_sealed, _models, changed=("fold_0/graph.xml",), share=0.5),
)
"""Every reader."""
