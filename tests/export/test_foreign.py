"""Another project's weights as a model folder: the original's numbers come out of it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from attunet.bundle import load_bundle
from attunet.errors import ConfigError, FormatError
from attunet.export import foreign
from attunet.export.foreign import ForeignInput, convert_weights, with_background
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.inference.engines.torch_engine import TorchEngine
from attunet.inference.member import Member
from attunet.inference.segmenter import Segmenter
from attunet.nn import AttentionUNet

GOLDEN = Path(__file__).parents[1] / "golden"
ORIGINALS = ("blog_transpose", "oktay_single", "oktay_multi", "oktay_unet")


@pytest.fixture(autouse=True)
def no_warning():
    """The double sigmoid of the listing is announced; that is tested with the command."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def golden_of(name):
    return load_file(GOLDEN / name / "io.safetensors")


def patch_of(tensor):
    """(I, J, K) of an image (B, C, *spatial)."""
    i, j, k = (*tensor.shape[2:], 1)[:3]
    return i, j, k


def given(name, **more):
    return ForeignInput(patch=patch_of(golden_of(name)["input"]), spacing=(1, 1, 1), normalization="none", **more)


@pytest.fixture(scope="module", params=ORIGINALS)
def converted(request, tmp_path_factory):
    """Name of the original, its model folder."""
    model = tmp_path_factory.mktemp("converted") / "model"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        convert_weights(GOLDEN / request.param / "weights.safetensors", model, given(request.param))
    return request.param, model


def probabilities_of(golden):
    logits = golden["logits"]
    if logits.shape[1] == 1:
        return torch.cat([1 - logits.sigmoid(), logits.sigmoid()], dim=1)
    return logits.softmax(dim=1)


def predict(name, bundle, engine):
    """The prediction of the original's input, and the probabilities that the original computed."""
    golden = golden_of(name)
    image = golden["input"][0].numpy()
    image = image.reshape(len(image), *patch_of(golden["input"]))
    result = Segmenter((Member("foreign", bundle.plan, (engine,)),)).predict(image, probabilities=True, attention=True)
    return result, probabilities_of(golden)[0].numpy().reshape(-1, *image.shape[1:])


def test_a_model_folder_predicts_what_the_original_computed(converted):
    name, model = converted
    bundle = load_bundle(model)
    engine = TorchEngine(bundle.folds[0].weights, bundle.plan.network, device="cpu")
    result, expected = predict(name, bundle, engine)
    np.testing.assert_allclose(result.probabilities.array, expected, atol=1e-5)
    assert result.attention.keys() == {f"level{level}" for level in bundle.plan.network.gate_widths}


def test_the_graph_of_the_folder_predicts_the_same(converted):
    name, model = converted
    bundle = load_bundle(model)
    network = bundle.plan.network
    shape = (network.in_channels, *bundle.plan.patch_size[: network.spatial_dims])
    result, expected = predict(name, bundle, OpenVINOEngine(bundle.folds[0].graph, shape, precision="fp32"))
    np.testing.assert_allclose(result.probabilities.array, expected, atol=1e-4)


def test_the_plan_says_what_was_known_and_what_was_assumed(converted):
    name, model = converted
    plan = load_bundle(model).plan
    assert plan.preset == ("listing" if name.startswith("blog") else "paper")
    assert plan.labels["background"] == 0
    assert plan.reasons["spacing"] == "given with --spacing"
    assert "recognised" in plan.reasons["network"]


@pytest.mark.parametrize("deep_supervision", ["fused", "none", "auxiliary"])
def test_one_output_becomes_two_with_the_same_probabilities(deep_supervision, make_plan_of):
    config = make_plan_of(2).network.model_copy(update={"out_channels": 1, "deep_supervision": deep_supervision})
    torch.manual_seed(0)
    network = AttentionUNet.from_config(config).eval()
    image = torch.randn(2, 1, 16, 12)
    with torch.no_grad():
        single, pair = network(image), with_background(network)(image)
    torch.testing.assert_close(pair[:, :1], torch.zeros_like(single))
    torch.testing.assert_close(pair.softmax(dim=1)[:, 1:], single.sigmoid())


def test_labels_name_the_outputs_in_their_order(tmp_path):
    labels = {"background": 0, "liver": 5, "spleen": 2, "pancreas": 9}
    weights = GOLDEN / "oktay_unet" / "weights.safetensors"
    plan = convert_weights(weights, tmp_path / "model", given("oktay_unet", labels=labels))
    assert list(plan.labels.items()) == list(labels.items())


@pytest.mark.parametrize("labels", [{"background": 0, "liver": 1}, {"background": 0}])
def test_labels_must_be_as_many_as_the_outputs(labels, tmp_path):
    with pytest.raises(ConfigError, match="the weights have 3 besides the background"):
        convert_weights(
            GOLDEN / "oktay_unet" / "weights.safetensors", tmp_path / "model", given("oktay_unet", labels=labels)
        )
    assert not list(tmp_path.iterdir())


def test_a_flat_network_needs_a_flat_patch(tmp_path):
    with pytest.raises(ConfigError, match="depth 1"):
        convert_weights(
            GOLDEN / "blog_transpose" / "weights.safetensors", tmp_path / "model", ForeignInput(patch=(32, 32, 8))
        )
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_pytorch_is_taken_and_code_is_not(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    weights = load_file(GOLDEN / "oktay_unet" / "weights.safetensors")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "a.pth"
    )
    assert convert_weights(tmp_path / "a.pth", tmp_path / "a", given("oktay_unet")).network.gate is None
    torch.save({**weights, "extra": Trap()}, tmp_path / "b.pth")
    with pytest.raises(FormatError, match="never run"):
        convert_weights(tmp_path / "b.pth", tmp_path / "b", given("oktay_unet"))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "a.pth", "b.pth"]


def test_weights_of_an_unknown_network_are_refused(tmp_path):
    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="unknown network"):
        convert_weights(tmp_path / "other.safetensors", tmp_path / "model", ForeignInput())
    assert not (tmp_path / "model").exists()


def test_a_failure_leaves_no_half_of_a_model(tmp_path, monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(foreign, "export_openvino", fail)
    with pytest.raises(MemoryError):
        convert_weights(GOLDEN / "oktay_unet" / "weights.safetensors", tmp_path / "model", given("oktay_unet"))
    assert not list(tmp_path.iterdir())
