"""A MONAI Bundle: configs, one TorchScript network and the plan, which MONAI's own `bundle run` executes.

OUT/
  configs/metadata.json  configs/inference.json
  models/model.ts        logits (B, outputs, *patch) of all folds together, the temperature applied
  docs/README.md         how to run it, and where its masks may differ from attunet's
  plan.json  postprocessing.json
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from attunet.bundle import Bundle, load_bundle, save_plan
from attunet.bundle.run import has_postprocessing, write_postprocessing
from attunet.claims import claimed
from attunet.config import Plan
from attunet.errors import ConfigError, EngineError, TrainingError
from attunet.export.monai_config import differences, inference_config, metadata
from attunet.export.outputs import example_input, prepare_for_export
from attunet.export.package import load_network
from attunet.export.program import supports_any_size
from attunet.files import refuse_existing, staged, write_text
from attunet.inference.engines.protocol import window_shape
from attunet.inference.outputs import biases_of
from attunet.nn import AttentionUNet

__all__ = ["JoinedNetworks", "export_monai", "write_script"]

_TOLERANCE = 1e-4


class JoinedNetworks(nn.Module):
    """Several networks as one: logits whose softmax (or, of regions, sigmoid) is their mean probability.

    Args:
        networks: the networks.
        temperature: divides their logits.
        bias: added to the logits of each output first; empty for none.
        regions: whether the outputs are regions.
    """

    def __init__(
        self, networks: Sequence[AttentionUNet], *, temperature: float, regions: bool, bias: Sequence[float] = ()
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.temperature = temperature
        self.regions = regions
        self._bias = tuple(bias) if any(bias) else ()

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, *patch) to (B, outputs, *patch)."""
        logits: list[Tensor] = [self._shifted(network(image)) / self.temperature for network in self.networks]
        if len(logits) == 1:
            return logits[0]
        if self.regions:
            return torch.logit(torch.stack([member.sigmoid() for member in logits]).mean(dim=0), eps=1e-6)
        return torch.stack([member.log_softmax(dim=1) for member in logits]).logsumexp(dim=0)

    def _shifted(self, logits: Tensor) -> Tensor:
        if not self._bias:
            return logits
        return logits + torch.tensor(self._bias, dtype=logits.dtype).view(-1, *[1] * (logits.ndim - 2))


def export_monai(run: Path, output: Path, *, folds: Sequence[int] | None = None) -> list[str]:
    """Write the bundle's folder; it appears whole or not at all.

    Args:
        run: a trained run.
        output: the folder to write.
        folds: indices of the folds; None for all finished ones.
    Returns: the differences from `attunet predict` that may affect masks.
    Raises: BundleError when `run` is not a trained run; ConfigError when the folder exists, or the networks need the
        context of localizers; EngineError without MONAI; TrainingError when the script's outputs differ from the
        networks'.
    """
    refuse_existing(output)
    if find_spec("monai") is None:
        raise EngineError("a MONAI Bundle needs monai", hint='install it with: pip install "attunet[train]"')
    bundle = load_bundle(run, folds)
    plan, postprocessing = bundle.plan, bundle.postprocessing
    if plan.context:
        raise ConfigError(
            f"{run} is a cascade, whose networks see what localizers find on a coarse grid; a MONAI Bundle holds one "
            "network and cannot run localizers",
            hint="export with --format openvino, onnx or torch, or train with --cascade off",
        )
    networks = [prepare_for_export(load_network(fold, plan)) for fold in bundle.folds]
    joined = JoinedNetworks(
        networks,
        temperature=postprocessing.temperature,
        regions=bool(plan.regions),
        bias=biases_of(plan, postprocessing.logit_bias),
    ).eval()
    limits = differences(plan, postprocessing, len(networks))
    with claimed(output, "attunet export"), staged(output) as stage:
        refuse_existing(output)
        write_script(joined, plan, stage / "models" / "model.ts")
        for name, content in (("metadata", metadata(plan)), ("inference", inference_config(plan, postprocessing))):
            write_text(stage / "configs" / f"{name}.json", json.dumps(content, indent=2) + "\n")
        write_text(stage / "docs" / "README.md", _readme(bundle, limits))
        save_plan(plan, stage)
        if has_postprocessing(bundle.root):
            write_postprocessing(bundle.postprocessing, stage)
    return limits


def write_script(network: JoinedNetworks, plan: Plan, path: Path, *, tolerance: float = _TOLERANCE) -> None:
    """Write a TorchScript for patches of the plan's size, any batch size, and of the sizes that `as_program` takes.

    Args:
        network: the networks to write.
        plan: their plan.
        path: the file.
        tolerance: limit of the difference from the network, relative to the logits' scale.
    Raises: TrainingError when the script differs from the network.
    """
    example = example_input(plan, 2)
    with staged(path) as stage, torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sizes that become constants, as intended, and TorchScript's deprecation
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        _save_script(torch.jit.script(_Sized(traced, plan)), stage)
        expected = network(example[:1])
        result = torch.jit.load(stage)(example[:1])  # type: ignore[no-untyped-call]
        difference = float((result - expected).abs().max() / expected.abs().max().clamp(1))
        if not difference < tolerance:
            raise TrainingError(
                f"the TorchScript differs from the network by {difference:.2g} (allowed: {tolerance})",
                hint="report this with the plan.json; the weights are unchanged",
            )


class _Sized(nn.Module):
    """A traced network that refuses sizes for which the trace is not the network."""

    def __init__(self, traced: torch.jit.ScriptModule, plan: Plan) -> None:
        super().__init__()
        self.traced = traced
        self.free: bool = supports_any_size(plan)
        self.patch: list[int] = list(window_shape(plan)[1:])
        self.strides: list[int] = list(plan.network.total_strides[-1])

    def forward(self, image: Tensor) -> Tensor:
        """As the network."""
        size = image.shape[2:]
        for axis, edge in enumerate(size):
            stride = self.strides[axis]
            if not (self.free and edge % stride == 0 and edge >= 2 * stride) and edge != self.patch[axis]:
                rule = f"multiples of {self.strides}, at least twice that" if self.free else "nothing else"
                raise ValueError(f"got an image of {size} voxels, expected {self.patch} or {rule}")
        result: Tensor = self.traced(image)
        return result


def _save_script(traced: torch.jit.ScriptModule, path: Path) -> None:
    """Save a TorchScript without its debug information, which names the folders of this machine."""
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    with zipfile.ZipFile(buffer) as archive, zipfile.ZipFile(path, "w") as target:
        for entry in archive.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                target.writestr(entry, archive.read(entry))


def _readme(bundle: Bundle, limits: Sequence[str]) -> str:
    labels = ", ".join(f"{name} = {value}" for name, value in bundle.plan.labels.items())
    return "\n".join(
        [
            f"# {bundle.plan.name}",
            "",
            f"Labels: {labels}. Folds: {len(bundle.folds)}.",
            "",
            "```console",
            "$ python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir SCANS",
            "```",
            "",
            "Masks go to `eval/` (`--output_dir`). All NIfTI files in `dataset_dir` are segmented; several channels "
            "are separate files, CASE_0000.nii.gz, CASE_0001.nii.gz, ...",
            "",
            "Differences from `attunet predict`:",
            *(f"- {text}" for text in limits),
            "",
        ]
    )
