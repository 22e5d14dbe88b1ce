"""The network families as settings."""

from __future__ import annotations

import subprocess
import sys

import pytest

from attunet.errors import ConfigError
from attunet.networks import default_network, listing_network, paper_network


def test_listing_hard_codes_one_gate():
    assert listing_network(channels=(2, 4, 8, 16, 32)).gate_widths == {1: 1, 2: 64, 3: 4, 4: 8}
    assert listing_network().gate_widths == {1: 32, 2: 64, 3: 128, 4: 256}


def test_paper_variants_share_everything_but_the_gate():
    single, multi, unet = (paper_network(variant) for variant in ("single", "multi", "unet"))
    assert single.model_copy(update={"gate": "multi"}) == multi
    assert single.model_copy(update={"gate": None}) == unet
    assert single.gate_widths == {2: 32, 3: 64, 4: 128}
    assert unet.gate_widths == {}


def test_default_takes_lists_as_read_from_json():
    config = default_network(
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        channels=[8, 16, 32],
        strides=[[2, 2], [2, 2]],
        kernel_sizes=[[3, 3]] * 3,
    )
    assert config.strides == ((2, 2), (2, 2))
    assert config.gate_widths == {2: 8}


@pytest.mark.parametrize(
    "make",
    [lambda: paper_network("triple"), lambda: listing_network("cubic"), lambda: paper_network(channels=(8,))],
)
def test_what_does_not_exist_is_a_config_error(make):
    with pytest.raises(ConfigError):
        make()


def test_needs_no_torch():
    script = "import sys, attunet.networks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
