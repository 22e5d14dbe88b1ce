"""The configuration of a MONAI Bundle: the plan in MONAI's own transforms, and how these differ from attunet's."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from attunet.config import Normalization, Plan, Postprocessing

__all__ = ["differences", "inference_config", "metadata"]

_AXES = "RAS"
_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_LARGEST = "largest component"


def inference_config(plan: Plan, postprocessing: Postprocessing) -> dict[str, Any]:
    """configs/inference.json: from NIfTI in `dataset_dir`, one file for each channel, to masks in `output_dir`."""
    return {
        "imports": ["$import functools", "$import glob"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": _datalist(len(plan.channel_names)),
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": "torch.jit.load",
            "f": "$@bundle_root + '/models/model.ts'",
            "map_location": "@device",
        },
        "network": "$@network_def.to(@device).eval()",
        "preprocessing": _compose(_preprocessing(plan)),
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': files} for files in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": _inferer(plan),
        "postprocessing": _compose(_postprocessing(plan, postprocessing)),
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "amp": False,
        },
        "run": ["$@evaluator.run()"],
    }


def metadata(plan: Plan) -> dict[str, Any]:
    """configs/metadata.json, with the format of the network's input and output."""
    network = plan.network
    shape = list(plan.patch_size[: network.spatial_dims])
    common = {"type": "image", "spatial_shape": shape, "dtype": "float32", "value_range": [], "is_patch_data": True}
    image = {
        **common,
        "format": "hounsfield" if plan.modality == "ct" else "magnitude",
        "modality": {"ct": "CT", "mr": "MR", "pet": "PT"}.get(plan.modality, "n/a"),
        "num_channels": len(plan.channel_names),
        "channel_def": {str(index): name for index, name in enumerate(plan.channel_names)},
    }
    prediction = {
        **common,
        "format": "segmentation",
        "num_channels": network.out_channels,
        "channel_def": {str(index): name for index, name in enumerate(plan.outputs)},
    }
    return {
        "schema": _SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by attunet {version('attunet')}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"nibabel": version("nibabel"), "pytorch-ignite": "0.5.0", "fire": "0.6.0"},
        "name": plan.name,
        "task": f"segmentation of {', '.join(plan.foreground)}",
        "description": "An Attention U-Net planned and trained by attunet.",
        "authors": "see plan.json",
        "copyright": "that of the run it was exported from",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": prediction}},
    }


def differences(plan: Plan, postprocessing: Postprocessing, folds: int) -> list[str]:
    """Steps that MONAI's transforms cannot express, so that masks may differ from those of `attunet predict`.

    Args:
        plan: the plan.
        postprocessing: results of the cross-validation.
        folds: number of folds that are averaged.
    Returns: a sentence for each difference.
    """
    texts = [
        "fp32; windows are half a patch apart from the start of each axis, not spread evenly",
        "MONAI resamples to exactly the plan's spacing, attunet to the image's extent, so grids differ by up to half "
        "a voxel at their far end; on axes that shrink, attunet averages voxels that MONAI skips",
    ]
    if plan.localizer is not None:
        texts.append("every window is run, also those that attunet's localizers allow to skip")
    if plan.mirror_axes:
        texts.append("no test-time mirroring: compare with --disable-tta")
    if folds > 1:
        texts.append(f"the {folds} folds are averaged window by window, not after the windows have been blended")
    left_out = [
        f"{name}: {step}" for name in postprocessing.components for step in _left_out(plan, postprocessing, name)
    ]
    if left_out:
        texts.append(f"post-processing that is left out: {'; '.join(left_out)}")
    return texts


def _left_out(plan: Plan, postprocessing: Postprocessing, name: str) -> list[str]:
    cleaning = postprocessing.components[name]
    steps = {
        "fill holes": cleaning.fill_holes,
        f"remove below {cleaning.minimum_ml:g} ml": cleaning.minimum_ml > 0,
        _LARGEST: cleaning.largest_component and bool(plan.regions),
    }
    return [step for step, used in steps.items() if used]


def _datalist(channels: int) -> str:
    if channels == 1:
        return "$sorted(glob.glob(@dataset_dir + '/*.nii*'))"
    first = "sorted(glob.glob(@dataset_dir + '/*_0000.nii.gz'))"
    return f"$[[name.replace('_0000.nii', f'_{{k:04d}}.nii') for k in range({channels})] for name in {first}]"


def _compose(transforms: list[dict[str, Any]]) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": transforms}


def _on(key: str, target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{target}d", "keys": key, **arguments}


def _preprocessing(plan: Plan) -> list[dict[str, Any]]:
    preprocessing = plan.preprocessing
    axes = "".join(
        _AXES[axis]
        for axis in (*(axis for axis in range(3) if axis != preprocessing.slice_axis), preprocessing.slice_axis)
    )
    spacing = [preprocessing.spacing[index] for index in range(3)]
    floors = _per_channel(
        str([channel.lower if channel.kind == "ct" else -1e30 for channel in preprocessing.normalization])
    )
    above = f"$lambda x: x > torch.maximum(x.amin(dim=(1, 2, 3), keepdim=True), {floors})"
    crop = _on("image", "CropForeground", source_key="image", select_fn=above, allow_smaller=True)
    return [
        _on("image", "LoadImage", reader="NibabelReader"),
        _on("image", "EnsureChannelFirst"),
        _on("image", "EnsureType", dtype="$torch.float32"),
        _on("image", "Orientation", axcodes=axes, labels=None),
        *([crop] if preprocessing.crop_to_content else []),
        *_zscore(preprocessing.normalization),
        _on("image", "Spacing", pixdim=spacing, mode="bilinear", scale_extent=True, align_corners=True),
        *_rescaled(preprocessing.normalization),
        _on("image", "EnsureType", dtype="$torch.float32"),
    ]


def _zscore(normalizations: tuple[Normalization, ...]) -> list[dict[str, Any]]:
    """Z-score by the voxels above the minimum, before resampling, which does not change such a linear map."""
    chosen = tuple(index for index, channel in enumerate(normalizations) if channel.kind == "zscore")
    if not chosen:
        return []

    def each(statistic: str, otherwise: float) -> str:
        number = f"float(c[c > c.min()].double().{statistic})"
        return _per_channel(
            f"[{number} if k in {chosen} and c.max() > c.min() else {otherwise} for k, c in enumerate(x.as_tensor())]"
        )

    return [_lambda("image", f"(x - {each('mean()', 0.0)}) / {each('std(correction=0)', 1.0)}")]


def _rescaled(normalizations: tuple[Normalization, ...]) -> list[dict[str, Any]]:
    """CT: clipped after resampling, then normalized by the statistics of the data set."""
    if not any(channel.kind == "ct" for channel in normalizations):
        return []
    numbers = [
        (channel.lower, channel.upper, channel.mean, channel.std) if channel.kind == "ct" else (-1e30, 1e30, 0.0, 1.0)
        for channel in normalizations
    ]
    lower, upper, mean, std = (_per_channel(str(list(column))) for column in zip(*numbers, strict=True))
    return [_lambda("image", f"(torch.clamp(x, {lower}, {upper}) - {mean}) / {std}")]


def _per_channel(numbers: str) -> str:
    return f"torch.tensor({numbers}).view(-1, 1, 1, 1)"


def _lambda(key: str, expression: str) -> dict[str, Any]:
    return _on(key, "Lambda", func=f"$lambda x: {expression}")


def _inferer(plan: Plan) -> dict[str, Any]:
    flat = plan.network.spatial_dims == 2
    return {
        "_target_": "SliceInferer" if flat else "SlidingWindowInferer",
        "roi_size": list(plan.patch_size[: plan.network.spatial_dims]),
        "sw_batch_size": 8 if flat else 2,
        "overlap": 0.5,
        "mode": "gaussian",
        "sigma_scale": 0.125,
        "padding_mode": "replicate",
        **({"spatial_dim": 2} if flat else {}),
    }


def _postprocessing(plan: Plan, postprocessing: Postprocessing) -> list[dict[str, Any]]:
    inverted = _on(
        "pred", "Invert", transform="@preprocessing", orig_keys="image", nearest_interp=False, to_tensor=True
    )
    activated = _on("pred", "Activations", **({"sigmoid": True} if plan.regions else {"softmax": True}))
    values = plan.labels.values()
    small = min(values) >= 0 and max(values) <= 255
    saved = _on(
        "pred",
        "SaveImage",
        output_dir="@output_dir",
        output_postfix="seg",
        output_dtype=f"$np.{'uint8' if small else 'int32'}",
        resample=False,
        separate_folder=False,
    )
    decided = _painted(plan) if plan.regions else _strongest(plan)
    return [activated, inverted, *decided, *_cleaned(plan, postprocessing), saved]


def _strongest(plan: Plan) -> list[dict[str, Any]]:
    values = list(plan.labels.values())
    decided = [_on("pred", "AsDiscrete", argmax=True)]
    if values == list(range(len(values))):
        return decided
    return [*decided, _on("pred", "MapLabelValue", orig_labels=list(range(len(values))), target_labels=values)]


def _painted(plan: Plan) -> list[dict[str, Any]]:
    background, *values = plan.labels.values()
    step = "lambda mask, region: torch.where(region[0] > 0.5, region[1], mask)"
    start = f"torch.full_like(x[:1], {background})"
    return [_lambda("pred", f"functools.reduce({step}, zip(x.split(1), {values}), {start})")]


def _cleaned(plan: Plan, postprocessing: Postprocessing) -> list[dict[str, Any]]:
    cleaning = {} if plan.regions else postprocessing.components
    chosen = [plan.labels[name] for name, steps in cleaning.items() if steps.largest_component]
    return [_on("pred", "KeepLargestConnectedComponent", applied_labels=[value], connectivity=3) for value in chosen]
