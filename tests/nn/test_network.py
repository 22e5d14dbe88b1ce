"""The network: any size, any topology, and every way in which it is run."""

from __future__ import annotations

import copy
import inspect
import math
import warnings

import numpy as np
import openvino
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attunet.config import NetworkConfig
from attunet.errors import ConfigError, DataError
from attunet.nn import AttentionUNet, Detailed, default, listing, paper

SHAPES = {2: (2, 1, 24, 40), 3: (2, 1, 16, 24, 8)}
LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}


def tiny(spatial_dims: int = 3, gate: str | None = "grid", **changes: object) -> AttentionUNet:
    """Three levels, strides 2; `changes` as NetworkConfig."""
    config = default(
        spatial_dims=spatial_dims,
        in_channels=1,
        out_channels=3,
        channels=(4, 6, 8),
        strides=((2,) * spatial_dims,) * 2,
        kernel_sizes=((3,) * spatial_dims,) * 3,
    ).config
    torch.manual_seed(0)
    return AttentionUNet(**{**config.model_dump(), "gate": gate, **changes})


def everything(out: Detailed) -> list[Tensor]:
    return [out.logits, *out.auxiliary, *out.attention.values()]


@pytest.fixture(params=[2, 3])
def dims(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def image(dims: int) -> Tensor:
    return torch.randn(SHAPES[dims], generator=torch.Generator().manual_seed(1))


def test_the_constructor_is_the_schema():
    arguments = inspect.signature(AttentionUNet.__init__).parameters
    assert list(arguments)[1:] == list(NetworkConfig.model_fields)
    for name, field in NetworkConfig.model_fields.items():
        assert arguments[name].kind is inspect.Parameter.KEYWORD_ONLY
        expected = inspect.Parameter.empty if field.is_required() else field.default
        assert arguments[name].default == expected


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"gate": "soft"}, "gate"),
        ({"channels": (4,)}, "channels"),
        ({"strides": ((2, 2, 2),)}, "strides"),
        ({"kernel_sizes": ((2, 2, 2),) * 3}, "odd"),
        ({"strides": ((0, 1, 1),) * 2}, "strides.0.0"),
        ({"gated_levels": (3,)}, "gated_levels"),
        ({"gated_levels": (2, 2)}, "gated_levels"),
        ({"gate_channels": (2, 2)}, "gate_channels"),
    ],
)
def test_bad_settings_are_config_errors(changes, named):
    with pytest.raises(ConfigError, match=named):
        tiny(**changes)


@pytest.mark.parametrize("shape", [(2, 2, 8, 8, 8), (2, 1, 8, 8)])
def test_an_image_of_other_channels_or_dimension_is_a_data_error(shape):
    with pytest.raises(DataError, match="expects"):
        tiny()(torch.zeros(shape))


@pytest.mark.parametrize("gate", ["grid", "multi", "additive", None])
@pytest.mark.parametrize("upsample", ["deconv", "linear", "nearest", "transpose"])
def test_every_gate_and_upsampling_trains_every_parameter(dims, image, gate, upsample):
    network = tiny(dims, gate, upsample=upsample, norm="none", gated_levels=(1, 2), dropout=0.1)
    out = network(image, detailed=True)
    assert out.logits.shape == (2, 3, *image.shape[2:])
    assert [tuple(a.shape[2:]) for a in out.auxiliary] == [tuple(n // 2 for n in image.shape[2:])]
    assert list(out.attention) == (["level1", "level2"] if gate else [])
    assert all(a.shape[1] == (2 if gate == "multi" else 1) for a in out.attention.values())
    sum(tensor.square().mean() for tensor in everything(out)).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("supervision", ["auxiliary", "fused", "none"])
@pytest.mark.parametrize("downsample", ["stride", "max"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_anisotropic_strides_and_kernels(supervision, downsample, norm):
    network = tiny(
        strides=((1, 2, 2), (2, 2, 1)),
        kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 1)),
        deep_supervision=supervision,
        downsample=downsample,
        norm=norm,
    )
    out = network(torch.randn(2, 1, 8, 8, 6), detailed=True)
    assert out.logits.shape == (2, 3, 8, 8, 6)
    assert out.attention["level2"].shape == (2, 1, 8, 4, 3)
    assert len(out.auxiliary) == (supervision == "auxiliary")


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_any_size_is_accepted_by_any_preset(data: st.DataObject):
    dims = data.draw(st.sampled_from([2, 3]))
    size = tuple(data.draw(st.lists(st.integers(1, 21), min_size=dims, max_size=dims)))
    network = data.draw(st.sampled_from([tiny(dims), paper(spatial_dims=dims, channels=(2, 2, 4, 4))]))
    with torch.no_grad():
        out = network.train(data.draw(st.booleans()))(torch.randn(1, 1, *size), detailed=True)
    assert out.logits.shape[2:] == size
    for name, attention in out.attention.items():
        stride = 2 ** (int(name[-1]) - 1)
        assert attention.shape[2:] == tuple(math.ceil(n / stride) for n in size)
        assert 0 <= attention.min() <= attention.max() <= 1
    assert all(tensor.isfinite().all() for tensor in everything(out))


def test_padding_repeats_the_border_and_leaves_divisible_sizes_alone(dims, image):
    network = tiny(dims).eval()
    odd = image[..., :-3]
    padded = torch.cat([odd, odd[..., -1:].expand(*odd.shape[:-1], 3)], dim=-1)
    torch.testing.assert_close(network(odd), network(padded)[..., :-3])


def test_detailed_changes_no_logits_and_auxiliary_heads_cost_nothing_without_it(dims, image):
    network = tiny(dims).eval()
    torch.testing.assert_close(network(image, detailed=True).logits, network(image))
    network.heads["level2"].register_forward_hook(lambda *_: pytest.fail("computed without need"))
    network(image)


def test_the_plain_unet_is_the_same_network_without_gates():
    gated, plain = tiny(), tiny(gate=None)
    names = set(gated.state_dict()) - set(plain.state_dict())
    assert {name.partition(".")[0] for name in names} == {"gates", "gating"}
    assert set(plain.state_dict()) < set(gated.state_dict())


def test_default_gates_pass_nearly_everything_at_the_start(dims, image):
    attention = tiny(dims)(image, detailed=True).attention["level2"]
    assert attention.min() > 0.9


def test_a_double_sigmoid_is_warned_about():
    with pytest.warns(UserWarning, match="cannot suppress anything"):
        tiny(2, "additive", double_sigmoid=True)


def test_from_config_and_copies_are_the_same_network(dims, image):
    network = tiny(dims).eval()
    other = AttentionUNet.from_config(network.config).eval()
    other.load_state_dict(network.state_dict())
    torch.testing.assert_close(other(image), network(image))
    torch.testing.assert_close(copy.deepcopy(network)(image), network(image))


@pytest.mark.parametrize("gate", ["grid", "multi", "additive"])
def test_channels_last(dims, image, gate):
    network = tiny(dims, gate)
    expected = everything(network(image, detailed=True))
    network = network.to(memory_format=LAYOUTS[dims])
    out = everything(network(image.contiguous(memory_format=LAYOUTS[dims]), detailed=True))
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gate", ["grid", "additive"])
def test_autocast_bf16_with_gradients(dims, image, gate):
    network = tiny(dims, gate)
    expected = network(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(image, detailed=True)
    assert out.logits.dtype == torch.bfloat16
    assert (out.logits.float() - expected).abs().mean() < 0.05 * expected.abs().max()
    out.logits.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.integration
def test_compile(dims, image):
    network, x = tiny(dims), image[..., :-3]
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True, dynamic=False)
    expected, out = network(x, detailed=True), compiled(x, detailed=True)
    torch.testing.assert_close(everything(out), everything(expected), atol=1e-5, rtol=1e-4)
    out.logits.square().mean().backward()


@pytest.mark.integration
def test_a_compiled_network_accepts_other_sizes():
    network = tiny(2, convolutions=1, channels=(2, 2, 2)).eval()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for size in ((16, 24), (12, 17)):
            x = torch.randn(1, 1, *size)
            torch.testing.assert_close(compiled(x), network(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gate", ["grid", "multi", "additive"])
def test_export(dims, image, gate):
    network, x = tiny(dims, gate).eval(), image[..., :-3]
    program = torch.export.export(network, (x,), {"detailed": True})
    out = program.module()(x, detailed=True)
    assert isinstance(out, Detailed)
    torch.testing.assert_close(everything(out), everything(network(x, detailed=True)), atol=1e-5, rtol=1e-4)


class Named(nn.Module):
    """Logits and attention as a dict, so that the outputs of a traced graph have names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        out = self.network(x, detailed=True)
        return {"logits": out.logits, **out.attention}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [tiny, paper, listing])
def test_openvino_computes_the_same(make):
    if make is tiny:
        network, x = tiny().eval(), torch.randn(1, 1, 16, 12, 9)
    elif make is paper:
        network, x = paper("multi", channels=(2, 4, 6)).eval(), torch.randn(1, 1, 16, 12, 9)
    else:
        network, x = listing(channels=(4, 6, 8)).eval(), torch.randn(1, 3, 16, 13)
    graph = openvino.convert_model(Named(network), example_input=x, input=[x.shape])
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(x.numpy())
    with torch.no_grad():
        expected = network(x, detailed=True)
    np.testing.assert_allclose(results["logits"], expected.logits, atol=1e-4, rtol=1e-3)
    for name, attention in expected.attention.items():
        np.testing.assert_allclose(results[name], attention, atol=1e-5)


def test_building_and_running_are_silent(image, dims):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny(dims)(image, detailed=True)


@pytest.mark.parametrize("gate", ["grid", "multi", "additive"])
@pytest.mark.parametrize("cut", [0, 3])
def test_given_attention_is_what_scales_the_skips(dims, image, gate, cut):
    network = tiny(dims, gate, gated_levels=(1, 2)).eval()
    x = image[..., : image.shape[-1] - cut]
    own = network(x, detailed=True)
    if not cut:  # the coefficients of the padding are not returned
        torch.testing.assert_close(network(x, attention=own.attention), own.logits, atol=1e-5, rtol=1e-4)
    given = {"level2": torch.rand_like(own.attention["level2"])}
    told = network(x, detailed=True, attention=given)
    torch.testing.assert_close(told.attention["level2"], given["level2"])
    torch.testing.assert_close(network(x, attention=given), told.logits)
    assert not torch.allclose(told.logits, own.logits, atol=1e-3)


def test_the_gates_are_nothing_but_factors(dims, image):
    network = tiny(dims).eval()
    opened = network(image, attention={"level2": torch.ones(2, 1, *(n // 2 for n in image.shape[2:]))})
    plain = tiny(dims, None).eval()
    plain.load_state_dict({name: value for name, value in network.state_dict().items() if name in plain.state_dict()})
    torch.testing.assert_close(opened, plain(image), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("attention", "reason"),
    [
        ({"level3": torch.ones(2, 1, 8, 12, 4)}, "'level3', the gates are: level2"),
        ({"level2": torch.ones(2, 1, 16, 24, 8)}, r"shape .* expected \(2, 1, 8, 12, 4\)"),
        ({"level2": torch.ones(2, 2, 8, 12, 4)}, "attention of level2 has shape"),
        ({"level2": torch.ones(1, 1, 8, 12, 4)}, "attention of level2 has shape"),
    ],
)
def test_attention_that_does_not_fit_is_a_data_error(attention, reason):
    with pytest.raises(DataError, match=reason):
        tiny()(torch.zeros(SHAPES[3]), attention=attention)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture
def no_storage():
    with torch.device("meta"):
        yield


@pytest.mark.usefixtures("no_storage")
@pytest.mark.parametrize(("variant", "count"), [("unet", 5_888_004), ("single", 6_214_151), ("multi", 6_473_322)])
def test_paper_counts(variant, count):
    assert parameters(paper(variant)) == count


@pytest.mark.usefixtures("no_storage")
@pytest.mark.parametrize(("upsample", "count"), [("transpose", 57_162_733), ("nearest", 34_878_573)])
def test_listing_counts(upsample, count):
    assert parameters(listing(upsample)) == count


@pytest.mark.usefixtures("no_storage")
def test_only_the_listing_has_a_double_sigmoid_and_only_when_requested():
    with pytest.warns(UserWarning, match=r"\(0\.5, 0\.731\)"):
        assert listing(double_sigmoid=True).config.double_sigmoid
    assert not listing().config.double_sigmoid


@pytest.mark.usefixtures("no_storage")
def test_default_gates_all_skips_but_the_finest():
    network = default(
        spatial_dims=3,
        in_channels=2,
        out_channels=3,
        channels=(4, 8, 16, 32),
        strides=((1, 2, 2), (2, 2, 2), (2, 2, 2)),
        kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    )
    assert isinstance(network, AttentionUNet)
    assert sorted(network.gates) == ["level2", "level3"]
    assert (network.config.norm, network.config.upsample, network.config.deep_supervision) == (
        "instance",
        "deconv",
        "auxiliary",
    )
