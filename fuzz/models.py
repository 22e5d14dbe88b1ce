"""Tiny models of every kind, made without a training, and how a stranger's are opened."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from mutations import Files

from attunet.bundle import save_manifest, save_plan
from attunet.bundle.ensemble import save_ensemble
from attunet.bundle.execution import Execution
from attunet.bundle.run import fold_folder
from attunet.config import FingerprintSummary, Normalization, Plan, Postprocessing, Preprocessing
from attunet.networks import default_network

__all__ = ["model_seeds", "open_model", "open_sealed", "open_weights", "tiny_plan", "weights_seeds"]


def tiny_plan() -> Plan:
    """A plan of a small 2-D network."""
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


@lru_cache
def _model(engine: str) -> Files:
    """A model folder that this engine runs, or an ensemble of one."""
    from attunet.export.formats import export_onnx, export_openvino
    from attunet.export.program import export_program
    from attunet.nn import AttentionUNet, save_weights

    writers = {"openvino": (export_openvino, "graph.xml"), "onnxruntime": (export_onnx, "model.onnx")}
    writers |= {"torch program": (export_program, "model.pt2")}
    with tempfile.TemporaryDirectory() as name:
        root, plan = Path(name) / "run", tiny_plan()
        network = AttentionUNet.from_config(plan.network)
        save_plan(plan, root)
        save_weights(network, fold_folder(root, 0) / "weights.safetensors")
        for write, file in [writers[engine]] if engine in writers else []:
            write(network, plan, fold_folder(root, 0) / file)
        (root / "postprocessing.json").write_text(Postprocessing(temperature=1.5).model_dump_json())
        kind = Execution.model_validate({"engine": "torch" if engine == "ensemble" else engine})
        (root / "engine.json").write_text(kind.model_dump_json())
        save_manifest(root)
        if engine == "ensemble":
            save_ensemble({"a": root}, Postprocessing(), Path(name) / "both")
            root = Path(name) / "both"
        return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def model_seeds(engine: str) -> Callable[[Path], Iterator[None]]:
    """Makes a model of an engine in a folder."""

    def seeds(folder: Path) -> Iterator[None]:
        for name, content in _model(engine).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        yield

    return seeds


def open_model(root: Path) -> None:
    """Load a model, and segment an image with it."""
    from attunet.inference.segmenter import Segmenter

    Segmenter.load(root, device="cpu").predict(np.zeros((16, 16), np.float32))


def open_sealed(root: Path) -> None:
    """Open a model of a stranger, whose manifest is right."""
    for path in sorted(root.rglob("manifest.json"), key=lambda path: -len(path.parts)):
        manifest = json.loads(path.read_bytes())
        for name in manifest["sha256"]:
            manifest["sha256"][name] = hashlib.sha256((path.parent / name).read_bytes()).hexdigest()
        path.write_text(json.dumps(manifest))
    open_model(root)


def weights_seeds(suffix: str) -> Callable[[Path], Iterator[None]]:
    """Makes weights files of a suffix in a folder, one after the other."""

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

    return seeds


def open_weights(path: Path) -> object:
    """Read weights to start from."""
    from attunet.nn.weights import read_weights

    return read_weights(path)
