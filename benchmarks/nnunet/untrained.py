"""Writes an nnU-Net model folder with random weights. Runs with the Python of nnU-Net's environment.

    python untrained.py SPECIFICATION.json FOLDER

The specification contains patch, spacing (mm), channels, labels (name to value), and the CT normalization in nnU-Net's
terms. Prints the GFLOP of one window. The model predicts noise, but takes as long as a trained model with this plan.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch.utils.flop_counter import FlopCounterMode

CONFIGURATION = "3d_fullres"
RESAMPLING = "resample_data_or_seg_to_shape"


def architecture(channels: list[int]) -> dict[str, Any]:
    """nnU-Net's own U-Net: two convolutions per stage, instance norm, leaky ReLU."""
    stages = len(channels)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": channels,
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3] * 3] * stages,
            "strides": [[1] * 3] + [[2] * 3] * (stages - 1),
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def resampling() -> dict[str, Any]:
    """nnU-Net's resampling: cubic for images, linear for labels and probabilities."""
    orders = {"data": (False, 3), "seg": (True, 1), "probabilities": (False, 1)}
    settings: dict[str, Any] = {f"resampling_fn_{kind}": RESAMPLING for kind in orders}
    for kind, (is_seg, order) in orders.items():
        kwargs = {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}
        settings[f"resampling_fn_{kind}_kwargs"] = kwargs
    return settings


def plans(specification: dict[str, Any]) -> dict[str, Any]:
    """The plans.json of one configuration. nnU-Net's first axis (feet to head) is attunet's last."""
    patch, spacing = specification["patch"][::-1], specification["spacing"][::-1]
    configuration = {
        "data_identifier": f"nnUNetPlans_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch,
        "median_image_size_in_voxels": patch,
        "spacing": spacing,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        **resampling(),
        "architecture": architecture(specification["channels"]),
        "batch_dice": False,
    }
    return {
        "dataset_name": "Dataset999_Benchmark",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": patch,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": specification["normalization"]},
    }


def main() -> None:
    specification, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    content = plans(specification)
    network_plan = content["configurations"][CONFIGURATION]["architecture"]
    network = get_network_from_plans(
        network_plan["network_class_name"],
        network_plan["arch_kwargs"],
        network_plan["_kw_requires_import"],
        1,
        len(specification["labels"]),
        deep_supervision=False,
    ).eval()
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": specification["labels"],
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (folder / "plans.json").write_text(json.dumps(content))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    checkpoint = {
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION},
        "inference_allowed_mirroring_axes": None,
        "network_weights": network.state_dict(),
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, *specification["patch"][::-1]))
    print(json.dumps({"gflop": counter.get_total_flops() / 1e9}))


if __name__ == "__main__":
    main()
