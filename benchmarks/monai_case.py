"""A CT from file to file with MONAI, in the style of its tutorials; the other scripts run it as a program.

    python benchmarks/monai_case.py MODEL IMAGE OUTPUT [--step 1.0] [--best] [--own] [--prepare-only]

Runs the network of an attunet model folder in torch, with the same weights; --own runs MONAI's AttentionUnet with the
weights in that folder (monai_model.py). --best adds the fast options of torch on a CPU: inference mode, bf16 and
channels_last. --prepare-only prints the seconds from file to network input and stops.
Source: the transforms and their order follow MONAI's spleen segmentation tutorial.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from monai.data import decollate_batch, list_data_collate
from monai.inferers import sliding_window_inference
from monai.transforms import (
    AsDiscreted,
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    MapLabelValued,
    Orientationd,
    SaveImaged,
    ScaleIntensityRanged,
    Spacingd,
)
from monai_network import load_monai
from torch import nn

from attunet.bundle import Bundle, load_bundle
from attunet.config import Plan
from attunet.nn import AttentionUNet, load_weights

WINDOWS_AT_ONCE = 4


def preprocessing_transforms(plan: Plan) -> Compose:
    """From file to network input, with the plan's spacing and intensity normalization."""
    scale = plan.preprocessing.normalization[0]
    return Compose(
        [
            LoadImaged(keys="image"),
            EnsureChannelFirstd(keys="image"),
            Orientationd(keys="image", axcodes="RAS"),
            Spacingd(keys="image", pixdim=plan.preprocessing.spacing, mode="bilinear"),
            ScaleIntensityRanged(
                keys="image",
                a_min=scale.lower,
                a_max=scale.upper,
                b_min=(scale.lower - scale.mean) / scale.std,
                b_max=(scale.upper - scale.mean) / scale.std,
                clip=True,
            ),
            CropForegroundd(keys="image", source_key="image", select_fn=lambda image: image > image.min()),
        ]
    )


def postprocessing_transforms(preprocessing: Compose, output: Path, values: Sequence[int]) -> Compose:
    """From logits to a mask file on the image's own grid, with the label value of each class."""
    return Compose(
        [
            Invertd(keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted(keys="pred", argmax=True),
            MapLabelValued(keys="pred", orig_labels=range(len(values)), target_labels=values, dtype="uint8"),
            SaveImaged(
                keys="pred", output_dir=output, output_postfix="", separate_folder=False, dtype="uint8", print_log=False
            ),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--step", type=float, default=1.0)
    parser.add_argument("--best", action="store_true")
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--prepare-only", action="store_true")
    options = parser.parse_args()
    bundle = load_bundle(options.model)
    preprocessing = preprocessing_transforms(bundle.plan)
    started = time.perf_counter()
    case = preprocessing({"image": options.image})
    if options.prepare_only:
        print(json.dumps({"seconds": time.perf_counter() - started}))
        return
    network = load_monai(options.model, bundle.plan) if options.own else _attunet_network(bundle)
    batch = list_data_collate([case])
    batch["pred"] = segment(network, batch["image"], bundle.plan.patch_size, options.step, options.best)
    postprocessing = postprocessing_transforms(preprocessing, options.output, tuple(bundle.plan.labels.values()))
    for item in decollate_batch(batch):
        postprocessing(item)


def _attunet_network(bundle: Bundle) -> nn.Module:
    network = AttentionUNet.from_config(bundle.plan.network).eval()
    load_weights(bundle.folds[0].weights, network)
    return network


def segment(
    network: nn.Module, image: torch.Tensor, patch: tuple[int, int, int], step: float, best: bool
) -> torch.Tensor:
    """Logits on the model grid."""
    if best:
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    with torch.inference_mode() if best else torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=best):
        logits = sliding_window_inference(image, patch, WINDOWS_AT_ONCE, network, overlap=1 - step)
    assert isinstance(logits, torch.Tensor)
    return logits


if __name__ == "__main__":
    main()
