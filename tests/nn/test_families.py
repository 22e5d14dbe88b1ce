"""The known foreign networks: told apart by their keys, described from their shapes, named as ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attunet.nn import AttentionUNet
from attunet.nn.families import FAMILIES, Family, Weights

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = {
    "blog_transpose": "transposed",
    "blog_upsample": "nearest",
    "leejunhyun": "popular",
    "oktay_multi": "multi_att",
    "oktay_single": "single_att",
    "oktay_unet": "unet_CT_dsv",
}


def weights_of(folder: str) -> Weights:
    if folder == "leejunhyun":
        shapes = json.loads((GOLDEN / folder / "keys.json").read_text())["shapes"]
        return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    return load_file(GOLDEN / folder / "weights.safetensors")


def family_of(weights: Weights) -> Family:
    (family,) = [family for family in FAMILIES if family.matches(weights)]
    return family


@pytest.mark.parametrize("folder", NAMES)
def test_exactly_one_family_matches(folder):
    family = family_of(weights_of(folder))
    assert NAMES[folder] in family.name
    assert family.double_sigmoid == folder.startswith("blog")


@pytest.mark.parametrize("folder", NAMES)
def test_names_and_shapes_become_ours(folder):
    weights = weights_of(folder)
    family = family_of(weights)
    with torch.device("meta"):
        network = AttentionUNet.from_config(family.describe(weights))
    ours = {key: value.shape for key, value in network.state_dict().items()}
    assert {family.translate(key): value.shape for key, value in weights.items()} == ours


def test_an_unknown_key_keeps_its_name():
    assert FAMILIES[0].translate("elsewhere.weight") == "elsewhere.weight"
