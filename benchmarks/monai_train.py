"""Trains MONAI's AttentionUnet for some minutes and predicts a folder of images; accuracy.py runs it as a program.

    python benchmarks/monai_train.py PLAN TRAINING IMAGES MASKS --seconds 900 [--recipe best] [--seed 0]

PLAN is attunet's plan of the same cases; monai_recipe.py says what each recipe takes from it. TRAINING is in nnU-Net's
raw layout; all of its cases are trained on, and the last weights are used. Only training steps count towards the time.
Prints its steps and seconds as JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, Dataset, decollate_batch, list_data_collate
from monai.inferers import sliding_window_inference
from monai.transforms import AsDiscreted, Compose, Invertd, SaveImaged
from monai.utils import convert_to_tensor, set_determinism
from monai_recipe import RECIPES, Recipe, cached_transforms, image_transforms, loss_of, network_of, random_transforms
from torch import Tensor, nn

from attunet.config import Plan, load_settings
from attunet.data.cases import read_dataset

WINDOWS_AT_ONCE = 4
DEVICE = "cpu"


def batches(training: Path, plan: Plan, recipe: Recipe) -> Iterator[dict[str, Tensor]]:
    """Batches without end; one worker prepares them, as for attunet.

    Cases are cached by this thread: the worker is forked, and must not find locks that other threads held.
    """
    cases = read_dataset(training).labelled
    items = [{"image": [str(file) for file in case.images], "label": str(case.label)} for case in cases]
    cached = CacheDataset(items, cached_transforms(plan, recipe), num_workers=0, progress=False)
    loader = DataLoader(
        Dataset(cached, Compose(random_transforms(plan, recipe))),
        batch_size=min(recipe.cases, len(items)),
        shuffle=True,
        drop_last=True,
        num_workers=1,
        persistent_workers=True,
        collate_fn=list_data_collate,
    )
    return itertools.chain.from_iterable(iter(loader) for _ in itertools.count())


def train(network: nn.Module, source: Iterator[dict[str, Tensor]], recipe: Recipe, seconds: float) -> dict[str, float]:
    """Train for that many seconds. Returns: "steps" and "seconds"."""
    loss = loss_of(recipe)
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(network.parameters(), recipe.rate, fused=True)
        if recipe.fast
        else torch.optim.Adam(network.parameters(), recipe.rate)
    )
    network.train()
    steps, batch = 0, next(source)  # the start of the worker does not count
    started = time.monotonic()
    while (used := time.monotonic() - started) < seconds:
        if recipe.fast:
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * 0.5 * (1 + math.cos(math.pi * used / seconds))
        image, label = (convert_to_tensor(batch[key], track_meta=False) for key in ("image", "label"))
        if recipe.fast:
            image = image.contiguous(memory_format=_memory_format(image))
        with torch.autocast(DEVICE, torch.bfloat16, enabled=recipe.bf16):
            logits = network(image)
        optimizer.zero_grad()
        loss(logits.float(), label).backward()
        optimizer.step()
        steps += 1
        batch = next(source)
    return {"steps": steps, "seconds": time.monotonic() - started}


def _memory_format(image: Tensor) -> torch.memory_format:
    return torch.channels_last_3d if image.dim() == 5 else torch.channels_last


def predict(network: nn.Module, images: Path, output: Path, plan: Plan, recipe: Recipe) -> None:
    """Write the masks of all images, each on its own grid."""
    network.eval()
    output.mkdir(parents=True, exist_ok=True)
    prepare = Compose(image_transforms(plan, recipe, ("image",)))
    for first in sorted(images.glob("*_0000.nii.gz")):
        case = first.name.removesuffix("_0000.nii.gz")
        item = prepare({"image": [str(file) for file in sorted(images.glob(f"{case}_[0-9][0-9][0-9][0-9].nii.gz"))]})
        batch = list_data_collate([item])
        with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16, enabled=recipe.bf16):
            logits = sliding_window_inference(
                batch["image"],
                recipe.patch(plan),
                WINDOWS_AT_ONCE,
                network,
                overlap=recipe.overlap,
                mode=recipe.blending,
            )
        batch["pred"] = logits.float()
        file = output / f"{case}.nii.gz"
        if plan.network.spatial_dims == 3:
            _save_volume(batch, prepare, file)
        else:
            _save_picture(batch["pred"], first, file)


def _save_volume(batch: dict[str, Any], prepare: Compose, file: Path) -> None:
    """Invert the transforms, as in MONAI's tutorials; the mask is named after the case instead of its first channel."""
    restore = Compose(
        [
            Invertd("pred", transform=prepare, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
            SaveImaged(
                "pred",
                output_dir=file.parent,
                output_postfix="",
                separate_folder=False,
                dtype="uint8",
                print_log=False,
                output_name_formatter=lambda _meta, _transform: {
                    "subject": file.name.removesuffix(".nii.gz"),
                    "idx": None,
                },
            ),
        ]
    )
    for item in decollate_batch(batch):
        restore(item)


def _save_picture(logits: Tensor, image: Path, file: Path) -> None:
    mask = logits.argmax(1)[0].numpy().astype(np.uint8)[..., np.newaxis]
    nib.save(nib.Nifti1Image(mask, nib.load(image).affine), file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("training", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--recipe", choices=RECIPES, default="tutorial")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    set_determinism(options.seed)
    torch.use_deterministic_algorithms(False)
    recipe, plan = RECIPES[options.recipe], load_settings(Plan, options.plan)
    network = network_of(plan, recipe)
    record = train(network, batches(options.training, plan, recipe), recipe, options.seconds)
    started = time.monotonic()
    predict(network, options.images, options.masks, plan, recipe)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    facts = {"patch": recipe.patch(plan), "parameters": parameters, "prediction_seconds": time.monotonic() - started}
    print(json.dumps(record | facts), flush=True)


if __name__ == "__main__":
    main()
