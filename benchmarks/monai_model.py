"""MONAI's AttentionUnet as a model folder, so that both programs run the same network with the same weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from forward import export_onnx, openvino_forward, openvino_graph, to_channels_last
from models import benchmark_plan, network_config
from monai_network import OWN_WEIGHTS, monai_network
from safetensors.torch import save_file
from torch import Tensor, nn

from attunet.bundle import Execution, fold_folder, load_bundle, save_execution, save_plan
from attunet.config import Plan
from attunet.data.formats import read_volume
from attunet.data.preprocess import prepare

__all__ = ["monai_model"]

TRAINING_SECONDS = 240
PATCHES_AT_ONCE = 2


def monai_model(teacher: Path, scan: Path, root: Path, *, quick: bool) -> Path:
    """A model folder with the plan of the teacher and MONAI's network as its graph; created once.

    The network is trained for four minutes to reproduce the teacher's masks on patches of this scan, so that it
    predicts organs instead of noise. Its accuracy means nothing. A quick run uses random weights.
    """
    if (root / "manifest.json").exists():
        return root
    plan = load_bundle(teacher).plan
    network = monai_network(plan.network.channels, len(plan.labels))
    if not quick:
        _distill(network, teacher, scan, plan)
    ungated = network_config(
        plan.network.channels, classes=len(plan.labels), gate=None
    )  # MONAI's gates are inside the graph
    root.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, root / OWN_WEIGHTS)
    save_plan(benchmark_plan(ungated, plan.patch_size, labels=plan.labels, spacing=plan.preprocessing.spacing), root)
    shape = (1, *plan.patch_size)
    graph = ov.convert_model(export_onnx(network, shape, root.with_name("monai_case.onnx")))
    fold_folder(root, 0).mkdir(parents=True, exist_ok=True)
    ov.save_model(graph, openvino_graph(root), compress_to_fp16=False)
    save_execution(Execution(engine="openvino"), root)  # the folder contains only a graph
    return root


def _distill(network: nn.Module, teacher: Path, scan: Path, plan: Plan) -> None:
    to_channels_last(network.train())
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    deadline = time.monotonic() + TRAINING_SECONDS
    for image, label in _teacher_batches(teacher, scan, plan):
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image)
        nn.functional.cross_entropy(logits.float(), label).backward()
        optimizer.step()
        optimizer.zero_grad()
        if time.monotonic() > deadline:
            break
    network.eval()


def _teacher_batches(teacher: Path, scan: Path, plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
    """Random patches (B, 1, *patch) of a scan, and the labels (B, *patch) that the teacher predicts for them."""
    predict = openvino_forward(openvino_graph(teacher), (1, *plan.patch_size), batch=PATCHES_AT_ONCE)
    image, random = prepare(read_volume(scan), plan.preprocessing).array, np.random.default_rng(0)
    free = np.subtract(image.shape[1:], plan.patch_size)
    while True:
        starts = random.integers(0, free + 1, (PATCHES_AT_ONCE, 3))
        boxes = [tuple(map(slice, start, start + plan.patch_size)) for start in starts]
        patches = np.stack([image[(slice(None), *box)] for box in boxes])
        label = torch.from_numpy(predict(patches).argmax(1))
        yield torch.from_numpy(patches).contiguous(memory_format=torch.channels_last_3d), label
