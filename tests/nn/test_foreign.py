"""The original networks: recognised from their keys, rebuilt, and equal number by number."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from attunet.errors import ConfigError
from attunet.nn import AttentionUNet, Detailed
from attunet.nn.foreign import FAMILIES, Family, Weights, unwrap

GOLDEN = Path(__file__).parents[1] / "golden"
ORIGINALS = {
    "oktay_single": ("grid", {f"attention_block{level}": f"level{level}" for level in (2, 3, 4)}),
    "oktay_multi": ("multi", {f"attention_block{level}": f"level{level}" for level in (2, 3, 4)}),
    "oktay_unet": (None, {}),
    "blog_transpose": ("additive", {f"attention_att{level + 1}": f"level{level}" for level in (1, 2, 3, 4)}),
    "blog_upsample": ("additive", {f"attention_att{level + 1}": f"level{level}" for level in (1, 2, 3, 4)}),
}


def weights_of(name: str) -> dict[str, Tensor]:
    return load_file(GOLDEN / name / "weights.safetensors")


def rebuild(weights: dict[str, object], **settings: bool) -> AttentionUNet:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AttentionUNet.from_foreign(weights, **settings)


TOLERANCE = 5e-5
"""Share of the original's scale. The goldens are float32: the same networks in double precision differ from them by up
to 1.7e-5, and a CPU with AVX2 only by 2.5e-5; a wrong layer differs by orders of magnitude more."""

GRADIENT_TOLERANCE = 1e-3
"""Share of the norm of the original's gradient. A ReLU whose input is as small as its rounding passes a gradient on one
CPU and none on another, and in double precision: 2.4e-4, in the field of view of one unit."""


def assert_equal(ours: Tensor, original: Tensor) -> None:
    assert ours.shape == original.shape
    assert (ours - original).abs().max() <= TOLERANCE * original.abs().max()


@pytest.mark.parametrize("name", ORIGINALS)
def test_equals_the_original_in_evaluation(name):
    gate, maps = ORIGINALS[name]
    golden = load_file(GOLDEN / name / "io.safetensors")
    network = rebuild(weights_of(name))
    assert network.config.gate == gate
    with torch.no_grad():
        detailed = network(golden["input"], detailed=True)
        logits = network(golden["input"])
    assert isinstance(detailed, Detailed)
    assert_equal(logits, golden["logits"])
    assert_equal(detailed.logits, golden["logits"])
    assert set(detailed.attention) == set(maps.values())
    for theirs, ours in maps.items():
        assert_equal(detailed.attention[ours], golden[theirs])


@pytest.mark.parametrize("name", ORIGINALS)
def test_equals_the_original_in_training(name):
    golden = load_file(GOLDEN / name / "io.safetensors")
    network = rebuild(weights_of(name)).train()
    image = golden["input"].requires_grad_()
    logits = network(image)
    logits.square().mean().backward()
    assert_equal(logits, golden["logits_train_mode"])
    assert image.grad is not None
    gradient = golden["input_grad_train_mode"]
    assert (image.grad - gradient).norm() <= GRADIENT_TOLERANCE * gradient.norm()


def test_the_listings_double_sigmoid_is_reproduced_aloud_and_can_be_refused():
    weights = weights_of("blog_transpose")
    with pytest.warns(UserWarning, match="double sigmoid"):
        assert AttentionUNet.from_foreign(weights).config.double_sigmoid
    assert not rebuild(weights, double_sigmoid=False).config.double_sigmoid


@pytest.mark.parametrize("name", ["oktay_single", "oktay_unet"])
def test_others_have_one_sigmoid_silently(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not AttentionUNet.from_foreign(weights_of(name)).config.double_sigmoid


def test_the_popular_variant_computes_the_listing_with_one_sigmoid():
    listing = weights_of("blog_upsample")
    popular = {key.replace(".Conv.0.", ".up.1.").replace(".Conv.1.", ".up.2."): value for key, value in listing.items()}
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(rebuild(popular)(x), rebuild(listing, double_sigmoid=False)(x))


def test_wrappers_and_prefixes_are_removed():
    weights = weights_of("oktay_unet")
    wrapped = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in weights.items()}}
    assert unwrap(wrapped).keys() == weights.keys()
    rebuild(wrapped)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"net": weights, "acc": 90, "epoch": 3},
        lambda weights: {"model_state_dict": {f"module.{key}": value for key, value in weights.items()}},
        lambda weights: {"state_dict": {f"model._orig_mod.{key}": value for key, value in weights.items()}},
        lambda weights: {"state_dict": {f"model.{key}": value for key, value in weights.items()} | EXTRA},
        lambda weights: weights | {"total_ops": torch.zeros(1), "conv1.total_params": torch.zeros(1)} | EXTRA,
    ],
    ids=["net", "module", "compiled", "loss beside a prefix", "loss and counters"],
)
@pytest.mark.filterwarnings("ignore:left out")
def test_checkpoints_as_people_have_them(wrap):
    weights = weights_of("oktay_unet")
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert rebuild(wrap(weights))(x).equal(rebuild(weights)(x))


EXTRA = {"loss.weight": torch.ones(2), "criterion.pos_weight": torch.ones(1), "val_acc.tp": torch.zeros(1)}


def test_what_is_left_out_is_said_and_an_additional_layer_is_refused():
    weights = weights_of("oktay_unet")
    with pytest.warns(UserWarning, match=r"left out, not part of the network: loss\.weight, criterion\.pos_weight"):
        AttentionUNet.from_foreign(weights | EXTRA)
    with pytest.raises(ConfigError, match="do not fit"):
        rebuild(weights | {"attention.fc.weight": torch.zeros(2, 2)})


def test_old_checkpoints_without_batch_counters_load():
    rebuild({key: value for key, value in weights_of("oktay_single").items() if "num_batches" not in key})


def test_an_unknown_network_is_refused_with_what_is_known():
    with pytest.raises(ConfigError, match=r"2 keys such as fc\.weight") as refused:
        rebuild({"fc.weight": torch.zeros(2, 2), "fc.bias": torch.zeros(2)})
    assert all(family.name in refused.value.hint for family in FAMILIES)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}])
def test_a_checkpoint_without_weights_is_refused(content):
    with pytest.raises(ConfigError, match="no weights"):
        rebuild(content)


@pytest.mark.parametrize("missing", ["conv2.conv1.0.weight", "conv2.conv2.0.weight"])
def test_a_part_of_the_weights_is_refused(missing):
    weights = weights_of("oktay_single")
    del weights[missing]
    with pytest.raises(ConfigError, match="do not fit"):
        rebuild(weights)


GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = {
    "blog_transpose": "transposed",
    "blog_upsample": "nearest",
    "leejunhyun": "popular",
    "oktay_multi": "multi_att",
    "oktay_single": "single_att",
    "oktay_unet": "unet_CT_dsv",
}


def shapes_of(folder: str) -> Weights:
    if folder == "leejunhyun":
        shapes = json.loads((GOLDEN / folder / "keys.json").read_text())["shapes"]
        return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    return load_file(GOLDEN / folder / "weights.safetensors")


def family_of(weights: Weights) -> Family:
    (family,) = [family for family in FAMILIES if family.matches(weights)]
    return family


@pytest.mark.parametrize("folder", NAMES)
def test_exactly_one_family_matches(folder):
    family = family_of(shapes_of(folder))
    assert NAMES[folder] in family.name
    assert family.double_sigmoid == folder.startswith("blog")


@pytest.mark.parametrize("folder", NAMES)
def test_names_and_shapes_become_ours(folder):
    weights = shapes_of(folder)
    family = family_of(weights)
    with torch.device("meta"):
        network = AttentionUNet.from_config(family.describe(weights))
    ours = {key: value.shape for key, value in network.state_dict().items()}
    assert {family.translate(key): value.shape for key, value in weights.items()} == ours


def test_an_unknown_key_keeps_its_name():
    assert FAMILIES[0].translate("elsewhere.weight") == "elsewhere.weight"
