"""The fine-tuning loop: what changes, what must not, and when it ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.catalog.models import RESNET_BLOCKS
from bench.data.images import Images
from bench.models.blocks import train_only
from bench.models.build import build_model
from bench.suite.model import ModelSpec
from bench.suite.training import TrainSpec
from bench.training.loop import (
    Batchable,
    Outcome,
    accuracy,
    adapt_batchnorm,
    fine_tune,
    mean_loss,
    set_train_mode,
    to_tensors,
)

torch.set_num_threads(1)

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    spec = ModelSpec(name="resnet8", width=4)
    return build_model(spec, n_classes=3, in_channels=1, image_size=8, base=Path())


def data(n: int = 48, seed: int = 0) -> Batchable:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = torch.randn(n, 1, 8, 8, generator=generator) * 0.5 + 2.0
    x[:, 0, :, :4] += y[:, None, None].float()
    return Batchable(x, y)


def spec(**changes: object) -> TrainSpec:
    return TrainSpec(**({"epochs": 3, "batch_size": 16, "lr": 0.05, "patience": None} | changes))  # type: ignore[arg-type]


def tune(model: nn.Module, blocks: tuple[str, ...] = ("full",), **changes: object) -> Outcome:
    parameters = train_only(model, RESNET_BLOCKS, blocks)
    return fine_tune(model, parameters, data(), data(24, seed=1), spec(**changes), seed=0)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}


def is_buffer(name: str) -> bool:
    return name.endswith(BUFFERS)


# -- what BatchNorm does ----------------------------------------------------------------------------


def test_bn_train_updates_the_statistics_of_frozen_blocks_too() -> None:
    model = net()
    before = state(model)
    tune(model, ("fc",), bn_mode="train")
    buffers = {name for name in before if is_buffer(name)}
    assert changed(before, model) == buffers | {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("blocks", [("block1",), ("block3",), ("full",)])
def test_bn_eval_changes_no_buffer_anywhere(blocks: tuple[str, ...]) -> None:
    model = net()
    before = state(model)
    tune(model, blocks, bn_mode="eval")
    assert changed(before, model)
    assert not [name for name in changed(before, model) if is_buffer(name)]


def test_bn_adapted_once_has_the_training_images_statistics_and_keeps_them() -> None:
    model = net()
    seen: list[dict[str, Tensor]] = []
    parameters = train_only(model, RESNET_BLOCKS, ("fc",))
    changes = spec(bn_mode="adapt_once_then_eval", batch_size=48, epochs=3)
    fine_tune(model, parameters, data(), data(24, 1), changes, seed=0, on_epoch=lambda _: seen.append(state(model)))
    # what reaches the first BatchNorm does not depend on any statistics
    with torch.no_grad():
        first = model.conv1(data().x)
    bn = model.layer1[0].bn1
    assert torch.allclose(bn.running_mean, first.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(bn.running_var, first.var((0, 2, 3)), rtol=1e-4)
    for name in seen[0]:
        if is_buffer(name):
            assert torch.equal(seen[0][name], seen[-1][name])
    assert {module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}


def test_adapted_statistics_do_not_depend_on_where_they_started() -> None:
    fresh, used = net(), net()
    for module in used.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 5
            module.running_var *= 7
            module.num_batches_tracked += 50
    for model in (fresh, used):
        adapt_batchnorm(model, data().x, 16)
    assert not changed(state(fresh), used)


def test_a_small_last_batch_does_not_weigh_as_much_as_the_others() -> None:
    """34 images in batches of 16: the two left over are not a third of the statistics."""
    x = data(34).x.clone()
    x[-2:] += 100
    model = net()
    adapt_batchnorm(model, x, 16)
    with torch.no_grad():
        expected = model.conv1(x).mean((0, 2, 3))
    assert torch.allclose(model.layer1[0].bn1.running_mean, expected, rtol=0.05)


def test_train_mode_holds_only_batchnorm() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(), nn.BatchNorm1d(1))
    set_train_mode(model, "eval", [])
    assert [module.training for module in model] == [False, True, False]
    set_train_mode(model, "train", [])
    assert [module.training for module in model] == [True, True, True]


# -- what is frozen stays, bit for bit --------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("block", ["block1", "block2", "block3", "fc"])
def test_frozen_parameters_are_bit_identical(block: str, optimizer: str) -> None:
    """With momentum and weight decay, which would move a parameter that has no gradient of its own."""
    model = net()
    before = state(model)
    tune(model, (block,), optimizer=optimizer, momentum=0.9, weight_decay=0.1)
    own = tuple(f"{path}." for path in RESNET_BLOCKS[block])
    moved = {name for name in changed(before, model) if not is_buffer(name)}
    assert moved
    assert all(name.startswith(own) for name in moved)


def test_no_gradient_is_computed_for_what_is_frozen() -> None:
    model = net()
    tune(model, ("fc",))
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if not name.startswith("fc."))
    assert model.fc.weight.grad is not None
    # autograd does not even keep the way back into the prefix
    features = model.layer3(model.layer2(model.layer1(model.conv1(data().x))))
    assert not features.requires_grad
    tune(model, ("block2",))
    assert not model.layer1(model.conv1(data().x)).requires_grad
    assert model.layer2(model.layer1(model.conv1(data().x))).requires_grad


def test_every_parameter_of_the_tuned_block_moves() -> None:
    model = net()
    before = state(model)
    tune(model, ("block2",))
    assert {name for name in changed(before, model) if name.startswith("layer2") and not is_buffer(name)} == {
        name for name, _ in model.named_parameters() if name.startswith("layer2")
    }


# -- determinism and the end ------------------------------------------------------------------------


def test_same_seed_same_losses_and_weights() -> None:
    first, second = net(), net()
    assert tune(first) == tune(second)
    assert not changed(state(first), second)


def test_another_seed_draws_another_order() -> None:
    outcomes = []
    for seed in (0, 1):
        model = net()
        outcomes.append(
            fine_tune(model, train_only(model, RESNET_BLOCKS, ("full",)), data(), data(24, 1), spec(), seed=seed)
        )
    assert outcomes[0].val_losses != outcomes[1].val_losses


def test_tuning_again_from_the_same_state_gives_the_same() -> None:
    """A cell that is too short for its meter is executed again within the window."""
    model = net()
    source = state(model)
    first = tune(model)
    after = state(model)
    model.load_state_dict(source)
    assert tune(model) == first
    assert not changed(after, model)


def test_it_learns() -> None:
    model = net()
    before = accuracy(model, data(24, 1))
    outcome = tune(model, epochs=30)
    assert accuracy(model, data(24, 1)) > max(0.9, before)
    assert outcome.val_losses[-1] < outcome.val_losses[0]


def test_steps_and_epochs_are_counted() -> None:
    outcome = tune(net(), epochs=4, batch_size=20)
    assert (outcome.epochs_run, outcome.steps) == (4, 4 * 3)  # 48 images: 20, 20, 8
    assert len(outcome.val_losses) == 4


def test_a_batch_of_one_is_passed_over() -> None:
    model = net()
    train = data(33)
    outcome = fine_tune(
        model, train_only(model, RESNET_BLOCKS, ("full",)), train, data(24, 1), spec(epochs=2, batch_size=16), seed=0
    )
    assert outcome.steps == 2 * 2
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def scripted(
    monkeypatch: pytest.MonkeyPatch, losses: list[float], **changes: object
) -> tuple[Outcome, list[Tensor], nn.Module]:
    """A run whose validation losses are given; with the weights of fc after each epoch."""
    remaining = iter(losses)
    monkeypatch.setattr("bench.training.loop.mean_loss", lambda *_: next(remaining))
    model = net()
    weights: list[Tensor] = []
    outcome = fine_tune(
        model, train_only(model, RESNET_BLOCKS, ("fc",)), data(), data(24, 1), spec(epochs=len(losses), **changes),
        seed=0, on_epoch=lambda _: weights.append(model.fc.weight.detach().clone()),
    )  # fmt: skip
    return outcome, weights, model


def test_patience_counts_epochs_without_a_better_one(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, _, _ = scripted(monkeypatch, [5, 4, 4, 6, 3, 9, 9, 9], patience=2)
    # epochs 3 and 4 are not better than 2
    assert (outcome.epochs_run, outcome.best_epoch) == (4, 2)


def test_without_patience_all_epochs_run(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, _, _ = scripted(monkeypatch, [1, 2, 3, 4, 5], patience=None)
    assert (outcome.epochs_run, outcome.best_epoch) == (5, 1)


def test_the_best_epochs_state_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, weights, model = scripted(monkeypatch, [5, 1, 3, 2], patience=None)
    assert outcome.best_epoch == 2
    assert torch.equal(model.fc.weight, weights[1])
    assert not torch.equal(weights[1], weights[3])


def test_the_last_epoch_can_be_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, weights, model = scripted(monkeypatch, [3, 2, 1], patience=2)
    assert outcome.best_epoch == 3
    assert torch.equal(model.fc.weight, weights[2])


def test_where_every_loss_is_nan_the_source_model_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    before = net()
    outcome, _, model = scripted(monkeypatch, [float("nan")] * 6, patience=2)
    assert (outcome.epochs_run, outcome.best_epoch) == (2, 0)
    assert not changed(state(before), model)


# -- measures ---------------------------------------------------------------------------------------


def test_pixels_are_normalised_as_published() -> None:
    pixels = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    tensors = to_tensors(Images(pixels, np.array([0, 1]), ("a", "b")), torch.device("cpu"))
    assert tensors.x.tolist() == [[[[-1.0]]], [[[1.0]]]]
    colour = np.zeros((1, 4, 6, 3), np.uint8)
    colour[0, 1, 2] = (0, 0, 255)
    x = to_tensors(Images(colour, np.array([0]), ("a",)), torch.device("cpu")).x
    assert x.shape == (1, 3, 4, 6)
    assert torch.nonzero(x > 0).tolist() == [[0, 2, 1, 2]]


class Fixed(nn.Module):
    """Says what it is shown."""

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("n", [1, 255, 256, 257, 600])
def test_accuracy_and_loss_are_means_over_all_images(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    logits = torch.randn(n, 3, generator=generator)
    y = torch.randint(0, 3, (n,), generator=generator)
    shown = Batchable(logits, y)
    assert accuracy(Fixed(), shown) == pytest.approx((logits.argmax(1) == y).double().mean().item())
    assert mean_loss(Fixed(), shown) == pytest.approx(nn.functional.cross_entropy(logits, y).item(), rel=1e-5)
