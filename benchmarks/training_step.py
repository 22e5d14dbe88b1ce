"""A training step: the same network, batch and patch in torch eager fp32 and as attunet trains; also MONAI's network.

    python benchmarks/training_step.py [--rounds 9] [--compile]

Measures the batch planned for a small 3-D data set, and one with more and larger patches.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace

import torch
from forward import to_channels_last
from harness import Goal, Row, Table, interleave, ratios
from models import benchmark_plan, network_config
from monai.losses import DiceCELoss
from monai.networks.nets import AttentionUnet
from results import argument_parser, publish
from torch import Tensor, nn

from attunet.config import TrainingConfig
from attunet.nn import AttentionUNet
from attunet.training.module import TrainingModule

CHANNELS, CLASSES = (16, 32, 64, 128), 3
BATCHES = {"": (2, (40, 56, 40)), "_larger": (4, (48, 64, 48))}
"""Batch size and patch size, by the suffix of the table's name."""
EAGER, OURS = "attunet's network, eager fp32", "attunet's network, bf16, channels_last, fused AdamW"
AS_TRAINED = "attunet's network as in `attunet train`, with auxiliary logits and weight averaging"
COMPILED = f"{OURS}, torch.compile"

Step = Callable[[], None]


def step(network: nn.Module, image: Tensor, label: Tensor, *, fast: bool, compiled: bool = False) -> Step:
    """Forward, MONAI's Dice and cross-entropy, backward, AdamW; `fast` uses bf16, channels_last and fused AdamW."""
    loss = DiceCELoss(softmax=True, to_onehot_y=True)
    if fast:
        to_channels_last(network)
        image = image.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=fast)
    run: Callable[[Tensor], Tensor] = torch.compile(network) if compiled else network

    def once() -> None:
        with torch.autocast(image.device.type, torch.bfloat16, enabled=fast):
            logits = run(image)
        loss(logits.float(), label).backward()
        optimizer.step()
        optimizer.zero_grad()

    return once


def as_trained(network: AttentionUNet, image: Tensor, label: Tensor) -> Step:
    """The training step of `attunet train`, with its own loss and weight averaging."""
    _, _, i, j, k = image.shape
    plan = benchmark_plan(network.config, (i, j, k))
    module = TrainingModule(plan, TrainingConfig())
    optimizer = module.configure_optimizers()
    image = image.to(memory_format=module.memory_format)
    target = label[:, 0].to(torch.uint8)

    def once() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            result = module.network(image, detailed=True)
            loss = module.segmentation_loss(result, target)
        optimizer.zero_grad()
        loss.backward()
        module.configure_gradient_clipping(optimizer)
        optimizer.step()
        module.on_train_batch_end(None, SimpleNamespace(), 0)

    return once


def main() -> None:
    parser = argument_parser(__doc__, rounds=9)
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too; compilation takes minutes")
    options = parser.parse_args()
    for name, (batch, patch) in BATCHES.items():
        publish([cpu_table(f"training_step{name}", batch, patch, options)], options)


def cpu_table(table: str, batch: int, patch: tuple[int, int, int], options: argparse.Namespace) -> Table:
    channels, patch = ((4, 8, 16), (16, 16, 16)) if options.quick else (CHANNELS, patch)
    torch.manual_seed(0)
    image = torch.randn(batch, 1, *patch)
    label = torch.randint(0, CLASSES, (batch, 1, *patch))
    ours = AttentionUNet.from_config(network_config(channels, classes=CLASSES))
    strides = (2,) * (len(channels) - 1)
    monai = AttentionUnet(spatial_dims=3, in_channels=1, out_channels=CLASSES, channels=channels, strides=strides)
    steps = {
        EAGER: step(deepcopy(ours), image, label, fast=False),
        OURS: step(deepcopy(ours), image, label, fast=True),
        AS_TRAINED: as_trained(ours, image, label),
        "MONAI AttentionUnet, eager fp32": step(deepcopy(monai), image, label, fast=False),
        "MONAI AttentionUnet, bf16, channels_last, fused": step(monai, image, label, fast=True),
    }
    if options.compile:
        steps[COMPILED] = step(deepcopy(ours), image, label, fast=True, compiled=True)
    seconds = interleave(steps, options.rounds, warm_up=2)
    rates = {name: batch / Row(name, times).median for name, times in seconds.items()}
    rows = tuple(Row(name, times, {"patches/s": f"{rates[name]:.1f}"}) for name, times in seconds.items())
    best = min((name for name in (OURS, COMPILED) if name in seconds), key=lambda name: Row(name, seconds[name]).median)
    goal = Goal(f"{best}, compared with eager fp32", ratios(seconds[EAGER], seconds[best])[0], 2.3)
    size = " × ".join(map(str, patch))
    note = f"{batch} patches of {size}, channels {channels}, {torch.get_num_threads()} threads."
    return Table(table, f"Training step, {batch} patches of {size}, CPU", rows, (goal,), (note,))


if __name__ == "__main__":
    main()
