"""MONAI's own AttentionUnet as a model folder, so that one network with one set of weights runs in both programs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from forward import graph_of, lay_out, onnx_of, our_engine
from models import network_like, plan_of
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
    """A folder with the plan of the teacher, and MONAI's network as its graph; made once.

    Its masks are those of the teacher on patches of this scan, learnt for four minutes: organs, not noise. Scores on it
    say nothing. A quick run takes random weights.
    """
    if (root / "manifest.json").exists():
        return root
    plan = load_bundle(teacher).plan
    network = monai_network(plan.network.channels, len(plan.labels))
    if not quick:
        _imitate(network, teacher, scan, plan)
    bare = network_like(plan.network.channels, classes=len(plan.labels), gate=None)  # its gates are MONAI's matter
    root.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, root / OWN_WEIGHTS)
    save_plan(plan_of(bare, plan.patch_size, labels=plan.labels, spacing=plan.preprocessing.spacing), root)
    shape = (1, *plan.patch_size)
    graph = ov.convert_model(onnx_of(network, shape, root.with_name("monai_case.onnx")))
    fold_folder(root, 0).mkdir(parents=True, exist_ok=True)
    ov.save_model(graph, graph_of(root), compress_to_fp16=False)
    save_execution(Execution(engine="openvino"), root)  # a graph is all that there is
    return root


def _imitate(network: nn.Module, teacher: Path, scan: Path, plan: Plan) -> None:
    lay_out(network.train())
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    until = time.monotonic() + TRAINING_SECONDS
    for image, label in _lessons(teacher, scan, plan):
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image)
        nn.functional.cross_entropy(logits.float(), label).backward()
        optimizer.step()
        optimizer.zero_grad()
        if time.monotonic() > until:
            break
    network.eval()


def _lessons(teacher: Path, scan: Path, plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
    """Patches (B, 1, *patch) of a scan from anywhere, and the labels (B, *patch) that the teacher gives them."""
    answer = our_engine(graph_of(teacher), (1, *plan.patch_size), batch=PATCHES_AT_ONCE)
    image, random = prepare(read_volume(scan), plan.preprocessing).array, np.random.default_rng(0)
    room = np.subtract(image.shape[1:], plan.patch_size)
    while True:
        starts = random.integers(0, room + 1, (PATCHES_AT_ONCE, 3))
        boxes = [tuple(map(slice, start, start + plan.patch_size)) for start in starts]
        patches = np.stack([image[(slice(None), *box)] for box in boxes])
        label = torch.from_numpy(answer(patches).argmax(1))
        yield torch.from_numpy(patches).contiguous(memory_format=torch.channels_last_3d), label
