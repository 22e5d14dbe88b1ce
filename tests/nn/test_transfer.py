"""Starting from other weights: what is taken over is used, what is not is counted, and nothing fitting is an error."""

from __future__ import annotations

import math

import pytest
import torch

from attunet.errors import BundleError, ConfigError, FormatError
from attunet.networks import default_network
from attunet.nn import AttentionUNet, listing, paper, save_weights
from attunet.nn.foreign import FAMILIES
from attunet.nn.transfer import freeze_encoder, transfer_weights

FILE = "weights.safetensors"


def network(*, seed=0, **changes):
    torch.manual_seed(seed)
    settings = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": (4, 6, 8)}
    settings |= {"strides": ((2, 2),) * 2, "kernel_sizes": ((3, 3),) * 3} | changes
    return AttentionUNet.from_config(default_network(**settings))


def batch_normed(**changes):
    return paper(channels=(2, 4, 6), spatial_dims=2, out_channels=2, **changes)


@pytest.fixture
def source(tmp_path):
    """The file of a network of one channel and three outputs."""
    save_weights(network(), tmp_path / FILE)
    return tmp_path / FILE


def rows(transfer):
    return {row.part: row for row in transfer.rows}


def test_same_network_takes_all(source):
    ours = network(seed=1)
    transfer = transfer_weights(source, ours)
    assert transfer.loaded == transfer.total == len(ours.state_dict())
    assert not transfer.unused
    assert [row.part for row in transfer.rows] == ["encoder", "gates", "decoder", "heads"]
    assert all(row.reason == "" for row in transfer.rows)
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(ours(x), network()(x))


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_more_channels_that_show_the_same_answer_as_before(source, channels):
    ours = network(seed=1, in_channels=channels)
    encoder = rows(transfer_weights(source, ours))["encoder"]
    assert (encoder.adapted, encoder.new) == (1, 0)
    assert encoder.reason == f"1 from 1 to {channels} input channels"
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(ours(x.expand(-1, channels, -1, -1)), network()(x))


def test_fewer_channels_answer_as_if_all_had_been_equal(tmp_path):
    source = network(in_channels=3, seed=3)
    save_weights(source, tmp_path / FILE)
    ours = network(seed=1)
    transfer_weights(tmp_path / FILE, ours)
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(ours(x), source(x.expand(-1, 3, -1, -1)))


def test_heads_go_by_the_names_of_labels(source):
    ours = network(seed=1, out_channels=4)
    initial = {key: value.clone() for key, value in ours.state_dict().items()}
    names = ("background", "tumour", "spleen", "liver")
    transfer = transfer_weights(source, ours, outputs=names, source_outputs=("background", "liver", "kidney"))
    heads, theirs = rows(transfer)["heads"], network().state_dict()
    assert (heads.loaded, heads.adapted, heads.new) == (0, heads.total, 0)
    assert heads.reason == f"{heads.total} with the rows of background, liver (new: tumour, spleen)"
    for key in (f"heads.level{level}.{kind}" for level in (1, 2) for kind in ("weight", "bias")):
        after = ours.state_dict()[key]
        assert after[0].equal(theirs[key][0])
        assert after[3].equal(theirs[key][1])
        assert after[1:3].equal(initial[key][1:3])


def test_labels_in_another_order_give_the_same_answer(source):
    ours = network(seed=1)
    transfer_weights(source, ours, outputs=("a", "b", "c"), source_outputs=("c", "a", "b"))
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(ours(x), network()(x)[:, [1, 2, 0]])


def test_fused_heads_go_by_the_names_of_labels(tmp_path):
    source, ours = batch_normed(), batch_normed()
    save_weights(source, tmp_path / FILE)
    transfer_weights(tmp_path / FILE, ours, outputs=("a", "b"), source_outputs=("b", "a"))
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(ours.eval()(x), source.eval()(x)[:, [1, 0]])


@pytest.mark.parametrize("names", [None, ("x", "y", "z", "w")])
def test_heads_of_other_labels_are_left_new(source, names):
    ours = network(seed=1, out_channels=4)
    before = ours.heads["level1"].weight.clone()
    heads = rows(transfer_weights(source, ours, outputs=names, source_outputs=names and ("a", "b", "c")))["heads"]
    assert heads.new == heads.total
    assert heads.reason.endswith("without a label of the same name" if names else "of another shape")
    assert ours.heads["level1"].weight.equal(before)


def test_a_deeper_network_takes_the_levels_it_shares(source):
    deeper = network(channels=(4, 6, 8, 10), strides=((2, 2),) * 3, kernel_sizes=((3, 3),) * 4, seed=1)
    transfer = transfer_weights(source, deeper)
    encoder = rows(transfer)["encoder"]
    assert encoder.loaded == 18
    assert encoder.new == 6
    assert encoder.reason == "6 not in the file"


def test_a_norm_is_not_taken_without_its_convolution(source):
    ours = network(seed=1, kernel_sizes=((3, 3), (5, 5), (3, 3)))
    with torch.no_grad():
        ours.encoder["level2"].convs[0].norm.weight.fill_(7)
    encoder = rows(transfer_weights(source, ours))["encoder"]
    assert encoder.reason == "6 of another shape"
    assert ours.encoder["level2"].convs[0].norm.weight.eq(7).all()


def test_a_gate_is_not_taken_in_part(source):
    gates = rows(transfer_weights(source, network(seed=1, channels=(4, 7, 8))))["gates"]
    assert network(channels=(4, 7, 8)).gates["level2"].psi.weight.shape == network().gates["level2"].psi.weight.shape
    assert gates.new == gates.total - 3
    assert gates.reason == f"{gates.new} of another shape"


def test_a_network_without_gates_gives_and_takes_the_rest(source):
    plain = network(seed=1, gate=None)
    transfer = transfer_weights(source, plain)
    assert "gates" not in rows(transfer)
    assert transfer.loaded == transfer.total
    assert transfer.unused > 0


def test_a_known_foreign_network_is_recognised(tmp_path):
    foreign = listing(channels=(2, 4, 6, 8, 10), in_channels=1)
    family = FAMILIES[0]
    back = {ours: theirs for theirs, ours in reversed(family.names.items())}
    state = {f"{back[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": v for key, v in foreign.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "theirs.pth")
    ours = network(channels=(2, 4, 6, 8, 10), strides=((2, 2),) * 4, kernel_sizes=((3, 3),) * 5)
    transfer = transfer_weights(tmp_path / "theirs.pth", ours)
    assert transfer.origin == family.name
    assert rows(transfer)["encoder"].loaded == rows(transfer)["encoder"].total
    assert ours.encoder["level3"].convs[1].conv.weight.equal(foreign.encoder["level3"].convs[1].conv.weight)


def test_half_precision_weights_are_taken(source, tmp_path):
    torch.save(network().half().state_dict(), tmp_path / "half.pt")
    ours = network(seed=1, in_channels=2)
    transfer = transfer_weights(tmp_path / "half.pt", ours)
    assert transfer.loaded == transfer.total
    assert ours.encoder["level1"].convs[0].conv.weight.dtype == torch.float32


@pytest.mark.parametrize(
    "ours",
    [
        network(spatial_dims=3, strides=((2, 2, 2),) * 2, kernel_sizes=((3, 3, 3),) * 3),
        network(channels=(5, 7, 9)),
        batch_normed(),
    ],
    ids=["3-D", "widths", "paper"],
)
def test_nothing_that_fits_is_an_error_and_changes_nothing(source, ours):
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    with pytest.raises(ConfigError, match="no convolution") as refused:
        transfer_weights(source, ours)
    assert "same dimension" in refused.value.hint
    assert all(before[key].equal(value) for key, value in ours.state_dict().items())


def test_values_that_are_not_numbers_are_refused(tmp_path):
    broken = network()
    with torch.no_grad():
        broken.heads["level1"].weight[0] = math.nan
    save_weights(broken, tmp_path / FILE)
    with pytest.raises(FormatError, match=r"heads\.level1\.weight"):
        transfer_weights(tmp_path / FILE, network(seed=1))


def test_a_plan_of_another_model_is_refused(source):
    with pytest.raises(BundleError, match=r"3 outputs, its plan 2 \(a, b\)"):
        transfer_weights(source, network(), outputs=("a", "b", "c"), source_outputs=("a", "b"))


def test_a_missing_file_is_a_format_error(tmp_path):
    with pytest.raises(FormatError, match="missing"):
        transfer_weights(tmp_path / "missing.safetensors", network())


@pytest.mark.parametrize("make", [network, batch_normed])
@pytest.mark.parametrize("levels", [0, 2, 3])
def test_frozen_levels_stay_while_the_rest_learns(make, levels):
    ours = make()
    freeze_encoder(ours, levels)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    optimizer = torch.optim.AdamW(ours.parameters(), 0.1)
    for _ in range(2):
        ours.train()
        ours(torch.randn(2, 1, 16, 16)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    frozen = tuple(f"encoder.level{level}." for level in range(1, levels + 1))
    for key, value in ours.state_dict().items():
        if key.startswith("encoder"):
            assert value.equal(before[key]) == key.startswith(frozen), key
    assert not ours.decoder["level1"].convs[0].conv.weight.equal(before["decoder.level1.convs.0.conv.weight"])


def test_frozen_levels_compute_in_training_as_in_evaluation():
    ours = batch_normed()
    freeze_encoder(ours, 1)
    x = torch.randn(2, 1, 16, 16)
    trained, evaluated = ours.train().encoder["level1"](x), ours.eval().encoder["level1"](x)
    torch.testing.assert_close(trained, evaluated)


@pytest.mark.parametrize("levels", [-1, 4])
def test_more_levels_than_there_are_is_an_error(levels):
    with pytest.raises(ConfigError, match="3 levels") as refused:
        freeze_encoder(network(), levels)
    assert "0..3" in refused.value.hint


def test_context_starts_at_zero_beside_the_channels_of_the_image(source):
    ours = network(seed=1, in_channels=3)
    encoder = rows(transfer_weights(source, ours, contexts=(2, 0)))["encoder"]
    assert encoder.reason == "1 with 2 instead of 0 channels of context, which start at zero"
    x = torch.randn(1, 1, 16, 16)
    for context in (torch.zeros(1, 2, 16, 16), torch.randn(1, 2, 16, 16)):
        torch.testing.assert_close(ours(torch.cat([x, context], 1)), network()(x))


@pytest.mark.parametrize(("contexts", "adapted"), [((2, 2), 0), ((2, None), 0), ((2, 1), 1)])
def test_as_many_channels_of_context_are_taken_over(contexts, adapted, tmp_path):
    save_weights(network(in_channels=3), tmp_path / FILE)
    ours = network(seed=1, in_channels=3)
    assert rows(transfer_weights(tmp_path / FILE, ours, contexts=contexts))["encoder"].adapted == adapted


def test_channels_of_the_image_and_of_context_may_both_differ(source):
    ours = network(seed=1, in_channels=3)
    reason = rows(transfer_weights(source, ours, contexts=(1, None)))["encoder"].reason
    assert reason == "1 from 1 to 2 input channels, with 1 instead of 0 channels of context, which start at zero"
