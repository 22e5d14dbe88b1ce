from typing import get_args

import pytest
import torch

from attunet.config import TrainingConfig
from attunet.training.module import OPTIMIZERS, DivergenceError, TrainingModule
from attunet.training.patches.augmentation import Patch


def a_batch(dims=3, value=None):
    size = (16, 16, 8)[:dims]
    image = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    if value is not None:
        image[0, 0, 0] = value
    return Patch(image, (image[:, 0] > 1).long(), torch.ones(2, 2, dtype=torch.bool))


@pytest.fixture
def module(tiny_plan, tiny_config, monkeypatch):
    torch.manual_seed(0)
    module = TrainingModule(tiny_plan(), tiny_config())
    monkeypatch.setattr(module, "log", lambda *_args, **_kwargs: None)
    return module


@pytest.mark.parametrize("dims", [2, 3])
def test_a_step_gives_a_loss_that_reaches_every_weight(dims, tiny_plan, tiny_config, monkeypatch):
    module = TrainingModule(tiny_plan(dims=dims), tiny_config())
    monkeypatch.setattr(module, "log", lambda *_args, **_kwargs: None)
    module.training_step(a_batch(dims), 0).backward()
    assert all(weight.grad is not None for weight in module.network.parameters())
    assert all(weight.grad is None for weight in module.averaged.parameters())


def test_the_coefficients_of_the_last_step_are_kept_without_their_graph(module):
    module.training_step(a_batch(), 0)
    (alpha,) = module.attention.values()
    assert alpha.shape == (2, 1, 8, 8, 4)
    assert not alpha.requires_grad


def test_supervised_gates_add_to_the_loss_and_others_do_not(tiny_plan, tiny_config, monkeypatch):
    losses = []
    for settings in ({}, {"attention_dilation": 9.0}, {"attention_supervision": 0.5}, {"attention_sparsity": 0.5}):
        torch.manual_seed(0)
        module = TrainingModule(tiny_plan(), tiny_config(**settings))
        monkeypatch.setattr(module, "log", lambda *_args, **_kwargs: None)
        losses.append(module.training_step(a_batch(), 0).detach())
    plain, untouched, supervised, sparse = losses
    assert torch.equal(plain, untouched)
    assert supervised > plain
    mean = sum(alpha.mean() for alpha in module.attention.values()) / len(module.attention)
    assert sparse == pytest.approx(float(plain + 0.5 * mean))


def test_the_average_follows_the_weights(module, tiny_config):
    start = [weight.detach().clone() for weight in module.network.parameters()]
    module.on_train_batch_end(None, None, 0)
    assert all(torch.equal(*pair) for pair in zip(start, module.averaged_network.parameters(), strict=True))
    with torch.no_grad():
        for weight in module.network.parameters():
            weight += 1
    module.on_train_batch_end(None, None, 1)
    share = 1 - min(tiny_config().ema_decay, 2 / 11)
    for before, after in zip(start, module.averaged_network.parameters(), strict=True):
        torch.testing.assert_close(after.detach(), before + share, rtol=0, atol=1e-5)


def test_the_first_weights_fade_from_the_average_of_a_short_training(tiny_plan, tiny_config):
    module = TrainingModule(tiny_plan(), tiny_config(ema_decay=0.99))
    module.on_train_batch_end(None, None, 0)
    start = [weight.detach().clone() for weight in module.network.parameters()]
    with torch.no_grad():
        for weight in module.network.parameters():
            weight += 1
    for step in range(1, 100):
        module.on_train_batch_end(None, None, step)
    for before, after in zip(start, module.averaged_network.parameters(), strict=True):
        torch.testing.assert_close(after.detach(), before + 1, rtol=0, atol=1e-3)


def test_a_long_training_is_averaged_at_the_decay_of_the_recipe(module, tiny_config):
    module.averaged.n_averaged.fill_(10_000)
    start = [weight.detach().clone() for weight in module.averaged_network.parameters()]
    with torch.no_grad():
        for weight in module.network.parameters():
            weight += 1
    module.on_train_batch_end(None, None, 0)
    share = 1 - tiny_config().ema_decay
    for before, after in zip(start, module.averaged_network.parameters(), strict=True):
        torch.testing.assert_close(after.detach(), before + share, rtol=0, atol=1e-5)


def test_every_optimizer_of_a_recipe_is_in_the_table():
    assert set(OPTIMIZERS) == set(get_args(TrainingConfig.model_fields["optimizer"].annotation))


@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_the_optimizer_is_the_recipes_and_trains_the_network_only(name, kind, tiny_plan, tiny_config):
    config = tiny_config(optimizer=name, learning_rate=0.5, weight_decay=0.25, momentum=0.75)
    module = TrainingModule(tiny_plan(), config)
    optimizer = module.configure_optimizers()
    (group,) = optimizer.param_groups
    assert type(optimizer).__name__ == kind
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    assert group.get("momentum", 0.75) == 0.75
    assert group["params"] == list(module.network.parameters())


def test_gradients_are_clipped(module, tiny_config):
    (1e4 * module.training_step(a_batch(), 0)).backward()
    module.configure_gradient_clipping(module.configure_optimizers())
    norm = torch.stack([weight.grad.norm() for weight in module.network.parameters()]).norm()
    assert norm == pytest.approx(tiny_config().gradient_clip, rel=1e-3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_image_that_is_not_a_number_shows_in_the_gradient(value, module):
    module.training_step(a_batch(value=value), 0).backward()
    with pytest.raises(DivergenceError, match="diverged at step 0"):
        module.configure_gradient_clipping(module.configure_optimizers())


def test_no_step_is_taken_with_a_gradient_that_is_not_a_number(module):
    next(module.network.parameters()).grad = torch.full_like(next(module.network.parameters()), torch.inf)
    with pytest.raises(DivergenceError, match="gradient is not a number"):
        module.configure_gradient_clipping(module.configure_optimizers())


@pytest.mark.parametrize("sparing", [{"checkpointing": True}, {"accumulation": 2}])
def test_the_average_and_the_weights_are_two_networks_however_memory_is_spared(sparing, tiny_plan, tiny_config):
    module = TrainingModule(tiny_plan(**sparing), tiny_config())
    assert module.network.state_dict().keys() == module.averaged_network.state_dict().keys()
    assert not {id(weight) for weight in module.network.parameters()} & {
        id(weight) for weight in module.averaged_network.parameters()
    }


def test_the_average_waits_for_all_parts_of_a_batch(tiny_plan, tiny_config):
    module = TrainingModule(tiny_plan(accumulation=2), tiny_config())
    followed = []
    module.averaged.update_parameters = followed.append
    for part in range(4):
        module.on_train_batch_end(None, None, part)
    assert len(followed) == 2
