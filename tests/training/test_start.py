import shutil

import pytest
import torch
from safetensors.torch import load_file

from attunet.config import TrainingConfig
from attunet.errors import AttunetError
from attunet.training import start
from attunet.training.start import check_start, emulates_bf16, settle_precision, start_network


@pytest.mark.parametrize(
    ("native", "asked", "settled", "warned"),
    [
        ("bf16", "auto", "bf16", False),
        ("bf16", "fp32", "fp32", False),
        ("fp32", "auto", "fp32", False),
        ("fp32", "bf16", "bf16", True),
    ],
)
def test_the_precision_is_that_of_the_cpu_unless_the_recipe_says_one(native, asked, settled, warned, monkeypatch):
    monkeypatch.setattr(start, "cpu_precision", lambda: native)
    config = settle_precision(TrainingConfig(precision=asked), "cpu")
    assert config.precision == settled
    assert bool(emulates_bf16(config, "cpu")) == warned


@pytest.mark.parametrize("native", [True, False])
def test_the_precision_of_a_gpu(native, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    auto, given = (settle_precision(TrainingConfig(precision=asked), "cuda") for asked in ("auto", "bf16"))
    assert (auto.precision, given.precision) == ("bf16" if native else "fp32", "bf16")


def test_a_new_network_takes_nothing_over(tiny_plan, tiny_config):
    network, transfer = start_network(tiny_plan(), tiny_config())
    assert transfer is None
    assert all(weight.requires_grad for weight in network.parameters())
    assert check_start(tiny_plan(), tiny_config()) is None


@pytest.mark.parametrize("fold", ["", "fold_0/weights.safetensors"])
def test_weights_come_from_a_model_folder_or_a_file(fold, trained, tiny_plan, tiny_config):
    config = tiny_config(init_weights=str(trained / fold))
    network, transfer = start_network(tiny_plan(), config)
    assert transfer.loaded == transfer.total == len(network.state_dict())
    other, _ = start_network(tiny_plan(), config)
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), other.parameters(), strict=True))


def test_other_labels_keep_what_they_share(trained, tiny_plan, tiny_config):
    plan = tiny_plan(labels={"background": 0, "blob": 1, "other": 2})
    transfer = check_start(plan, tiny_config(init_weights=str(trained)))
    heads = {row.part: row for row in transfer.rows}["heads"]
    assert heads.adapted > 0
    assert "other" in heads.reason


def test_frozen_levels_stay_as_they_were(train, trained, tmp_path, last_of):
    def encoder(run, level):
        weights = last_of(run)["state_dict"]
        return [weights[name] for name in sorted(weights) if name.startswith(f"network.encoder.level{level}.")]

    train(init_weights=str(trained), freeze_encoder=1)
    started = encoder_of(trained)
    assert all(torch.equal(*pair) for pair in zip(encoder(tmp_path / "run", 1), started[1], strict=True))
    assert not all(torch.equal(*pair) for pair in zip(encoder(tmp_path / "run", 2), started[2], strict=True))


def encoder_of(run):
    """Encoder weights of the finest two levels, in the order of their names, as a finished model has them."""
    weights = load_file(run / "fold_0" / "weights.safetensors")
    return {
        level: [weights[name] for name in sorted(weights) if name.startswith(f"encoder.level{level}.")]
        for level in (1, 2)
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"freeze_encoder": 9}, "the encoder has 3 levels"),
        ({"devices": 3}, "cannot be shared by 3"),
        ({"class_weights": {"liver": 2.0}}, "names liver"),
        ({"init_weights": "nowhere.safetensors"}, "nowhere"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_read(changes, words, tiny_plan, tiny_config):
    with pytest.raises(AttunetError, match=words):
        check_start(tiny_plan(), tiny_config(**changes))


def test_gates_cannot_be_supervised_where_there_are_none(tiny_plan, tiny_config):
    plain = tiny_plan(network=tiny_plan().network.model_copy(update={"gate": None}))
    with pytest.raises(AttunetError, match="without gates"):
        check_start(plain, tiny_config(attention_supervision=0.1))


def test_an_unfinished_model_gives_no_weights(tiny_plan, tiny_config, tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(AttunetError, match="unfinished"):
        check_start(tiny_plan(), tiny_config(init_weights=str(tmp_path)))


@pytest.mark.integration
def test_resumed_training_does_not_need_the_initial_model(train, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "first")
    train(epochs=1, init_weights=str(tmp_path / "first"))
    shutil.rmtree(tmp_path / "first")
    assert train(epochs=2, init_weights=str(tmp_path / "first"), resume=True).trained
