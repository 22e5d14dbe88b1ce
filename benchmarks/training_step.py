"""One training step of our default network against MONAI's AttentionUnet, in the same process, in turn.

    python benchmarks/training_step.py [--patch 40 56 40] [--batch 2] [--rounds 7]

Both as their own documentation would have them trained on a CPU: ours in bf16 and channels_last, MONAI's in fp32 as its
tutorials write it and with the same switches as ours. Prints medians and the ratio of each pair of rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import AttentionUnet

from attunet.networks import default_network
from attunet.nn import AttentionUNet, in_layout

CHANNELS = (16, 32, 64, 128)


def ours() -> torch.nn.Module:
    config = default_network(
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        channels=CHANNELS,
        strides=[[2] * 3] * 3,
        kernel_sizes=[[3] * 3] * 4,
    )
    return in_layout(AttentionUNet.from_config(config), torch.channels_last_3d)


def monai(layout: torch.memory_format) -> torch.nn.Module:
    network = AttentionUnet(spatial_dims=3, in_channels=1, out_channels=3, channels=CHANNELS, strides=(2, 2, 2))
    return network.to(memory_format=layout)


def step(network: torch.nn.Module, image: torch.Tensor, label: torch.Tensor, bf16: bool) -> Callable[[], None]:
    loss = DiceCELoss(softmax=True, to_onehot_y=True)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(image)
        loss(logits.float(), label).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patch", type=int, nargs=3, default=(40, 56, 40))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.manual_seed(0)
    image = torch.randn(given.batch, 1, *given.patch)
    label = torch.randint(0, 3, (given.batch, 1, *given.patch))
    fast = image.to(memory_format=torch.channels_last_3d)
    runs = {
        "attunet, bf16 channels_last": step(ours(), fast, label, True),
        "MONAI AttentionUnet, fp32": step(monai(torch.contiguous_format), image, label, False),
        "MONAI AttentionUnet, bf16 channels_last": step(monai(torch.channels_last_3d), fast, label, True),
    }
    for run in runs.values():
        run()
    times = {name: [] for name in runs}
    for _ in range(given.rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
    first = next(iter(times.values()))
    print(f"{torch.get_num_threads()} threads, patch {tuple(given.patch)}, batch {given.batch}, {given.rounds} rounds")
    for name, row in times.items():
        ratios = sorted(b / a for a, b in zip(first, row, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{name:42s} {statistics.median(row) * 1000:8.0f} ms   {spread} times ours")


if __name__ == "__main__":
    main()
