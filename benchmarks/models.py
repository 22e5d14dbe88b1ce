"""The model folders of the benchmarks: plans without a data set, random or briefly trained weights, modified copies."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from processes import measure

from attunet.bundle import fold_folder, load_bundle, save_manifest, save_plan
from attunet.config import FingerprintSummary, NetworkConfig, Normalization, Plan, Preprocessing, load_settings
from attunet.data.formats import write_volume
from attunet.data.phantom import PHANTOM_LABELS, make_phantom
from attunet.files import write_text
from attunet.gates import Gate
from attunet.networks import default_network

__all__ = [
    "benchmark_plan",
    "case_model",
    "case_plan",
    "network_config",
    "quantized_model",
    "trained_model",
    "with_folds",
    "with_labels",
    "write_model",
]

Triple = tuple[int, int, int]

LABELS = {"background": 0, "liver": 1, "kidneys": 2}
# Patch size and channels that nnU-Net plans for a small data set with 1 mm spacing.
CHANNELS, PATCH, SPACING = (32, 64, 128, 256), (40, 56, 40), (1.0, 1.0, 1.0)
TINY_CHANNELS, TINY_PATCH, TINY_SPACING = (4, 8), (16, 16, 16), (8.0, 8.0, 8.0)
CT = Normalization(kind="ct", lower=-160.0, upper=300.0, mean=70.0, std=70.0)
TRAINING_CASES = 6
TRAINING_SECONDS = 240


def network_config(
    channels: Sequence[int], *, spatial_dims: int = 3, classes: int = 2, gate: Gate | None = "grid"
) -> NetworkConfig:
    """attunet's default network with these channels, all kernel sizes 3, all strides 2."""
    return default_network(
        spatial_dims=spatial_dims,
        in_channels=1,
        out_channels=classes,
        channels=channels,
        strides=((2,) * spatial_dims,) * (len(channels) - 1),
        kernel_sizes=((3,) * spatial_dims,) * len(channels),
        gate=gate,
    )


def benchmark_plan(
    network: NetworkConfig,
    patch: Triple,
    *,
    labels: dict[str, int] | None = None,
    spacing: tuple[float, float, float] = SPACING,
) -> Plan:
    """A plan with fixed settings: CT intensities, no mirroring."""
    labels = labels or {"background": 0, **{f"class_{value}": value for value in range(1, network.out_channels)}}
    channels = network.in_channels
    return Plan(
        name="benchmark",
        labels=labels,
        channel_names=tuple(f"channel {index}" for index in range(channels)),
        modality="ct",
        preprocessing=Preprocessing(spacing=spacing, normalization=(CT,) * channels),
        patch_size=patch,
        batch_size=2,
        network=network,
        fingerprint=FingerprintSummary(
            cases=0, channels=channels, median_shape=patch, median_spacing=spacing, label_voxels={}
        ),
        reasons={"network": "set by the benchmark, the same for all programs"},
    )


def case_plan(quick: bool) -> Plan:
    """The plan for predicting whole cases."""
    channels, patch, spacing = (TINY_CHANNELS, TINY_PATCH, TINY_SPACING) if quick else (CHANNELS, PATCH, SPACING)
    return benchmark_plan(network_config(channels, classes=len(LABELS)), patch, labels=LABELS, spacing=spacing)


def case_model(work: Path, quick: bool) -> Path:
    """A model folder with that plan, created once and briefly trained on synthetic abdomens to predict organs.

    The time to restore a mask depends on its share of boundary voxels, and the time in the network on the share of
    windows with only air; random weights would predict noise. A quick run uses random weights nevertheless.
    """
    root = work / ("quick_model" if quick else "model")
    if (root / "manifest.json").exists():
        return root
    plan = case_plan(quick)
    if quick:
        write_model(plan, root)
        return root
    return trained_model(plan, _dataset(work / "abdomens"), root, TRAINING_SECONDS)


def trained_model(plan: Plan, dataset: Path, root: Path, seconds: float) -> Path:
    """A model folder with this plan, created once by training for that time. Files beside it have names of its own."""
    if (root / "manifest.json").exists():
        return root
    file = root.with_name(f"{root.name}.plan.json")
    write_text(file, json.dumps(plan.model_dump(mode="json")))
    for stale in (root, *root.parent.glob(f"{root.name}_*")):  # of an interrupted training, and models made from it
        shutil.rmtree(stale, ignore_errors=True)
    command: list[str | Path] = [sys.executable, "-m", "attunet", "train", dataset, "-o", root, "--plan", file]
    flags: list[str | Path] = ["--seed", "0", "--max-time", f"{seconds:g}s", "--store", root.parent / "store"]
    measure([*command, *flags], root.with_name(f"{root.name}.log"))
    return root


def quantized_model(model: Path, root: Path) -> tuple[Path, str]:
    """The model in 8-bit integers, created once, and a note on its Dice. Ends the benchmark if int8 is rejected."""
    if not (root / "manifest.json").exists():
        command: list[str | Path] = [sys.executable, "-m", "attunet", "export", "-m", model, "-o", root]
        measure([*command, "--format", "openvino", "--int8"], root.with_name("int8.log"))
    result = load_bundle(root).execution.quantization
    if result is None or not result.kept:
        raise SystemExit(f"the 8-bit model was rejected: {result}")
    dice = f"{result.dice_before:.4f} before quantization, {result.dice_after:.4f} in 8-bit integers"
    return root, f"Dice of the {result.cases} validation cases: {dice}."


def write_model(plan: Plan, root: Path, *, seed: int = 0) -> None:
    """Write a complete model folder with one fold of random weights."""
    import torch

    from attunet.nn import AttentionUNet

    torch.manual_seed(seed)
    save_plan(plan, root)
    _write_fold(AttentionUNet.from_config(plan.network).eval(), plan, fold_folder(root, 0))
    save_manifest(root)


def with_labels(model: Path, root: Path, count: int) -> Path:
    """A copy with `count` foreground labels; the added labels are never predicted, so the masks are the same."""
    import torch

    from attunet.nn import AttentionUNet, load_weights

    if (root / "manifest.json").exists():
        return root
    plan = load_settings(Plan, model / "plan.json")
    network = AttentionUNet.from_config(plan.network)
    load_weights(fold_folder(model, 0) / "weights.safetensors", network)
    extended = AttentionUNet.from_config(plan.network.model_copy(update={"out_channels": count + 1}))
    state = network.state_dict()
    for name, tensor in extended.state_dict().items():
        if not name.startswith("heads."):
            continue
        background = [0] * (len(tensor) - len(state[name]))
        state[name] = torch.cat([state[name], state[name][background]])
        if name.endswith("bias"):
            state[name][len(plan.labels) :] -= 1e3
    extended.load_state_dict(state)
    extra = {f"label_{value}": value for value in range(len(plan.labels), count + 1)}
    settings = plan.model_dump(mode="json") | {"network": extended.config, "labels": plan.labels | extra}
    extended_plan = load_settings(Plan, settings)
    save_plan(extended_plan, root)
    _write_fold(extended.eval(), extended_plan, fold_folder(root, 0))
    save_manifest(root)
    return root


def with_folds(model: Path, root: Path, count: int) -> Path:
    """A copy with `count` folds, all with the same weights."""
    if (root / "manifest.json").exists():
        return root
    root.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model / "plan.json", root / "plan.json")
    for index in range(count):
        shutil.copytree(fold_folder(model, 0), fold_folder(root, index), dirs_exist_ok=True)
    save_manifest(root)
    return root


def _write_fold(network: object, plan: Plan, folder: Path) -> None:
    from attunet.export.formats import export_openvino
    from attunet.nn import AttentionUNet, save_weights

    assert isinstance(network, AttentionUNet)
    save_weights(network, folder / "weights.safetensors")
    export_openvino(network, plan, folder / "graph.xml")


def _dataset(folder: Path) -> Path:
    """Write synthetic abdomens with the labels of the plan, in nnU-Net's layout."""
    organs = [PHANTOM_LABELS[name] for name in LABELS if name != "background"]
    for seed in range(TRAINING_CASES):
        image, label = make_phantom(seed, shape=(96, 80, 60), spacing=(3.5, 3.5, 4.0))
        slab = slice(20, 40)  # slices with organs; validation on whole abdomens would take longer than the training
        masks = [label.array[..., slab] == organ for organ in organs]
        values = np.select(masks, range(1, len(organs) + 1), 0).astype(np.uint8)
        write_volume(image.with_array(image.array[..., slab]), folder / "imagesTr" / f"abdomen{seed}_0000.nii.gz")
        write_volume(label.with_array(values), folder / "labelsTr" / f"abdomen{seed}.nii.gz")
    content = {"channel_names": {"0": "CT"}, "labels": LABELS, "file_ending": ".nii.gz", "numTraining": TRAINING_CASES}
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
