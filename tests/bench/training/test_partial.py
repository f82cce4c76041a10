"""Convolutions of which some channels train: gradients, frozen weights, stored activations, for every kind of layer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import RequestError
from bench.training.partial import Axis, Partial, convolutions, n_units, put, take

LAYERS: dict[str, dict[str, Any]] = {
    "dense": {"in_channels": 8, "out_channels": 12, "kernel_size": 3, "padding": 1},
    "strided": {"in_channels": 8, "out_channels": 12, "kernel_size": 5, "padding": 2, "stride": 2},
    "pointwise": {"in_channels": 8, "out_channels": 12, "kernel_size": 1, "bias": False},
    "dilated": {"in_channels": 8, "out_channels": 12, "kernel_size": (3, 1), "padding": "same", "dilation": 2},
    "depthwise": {"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, "groups": 8, "bias": False},
    "multiplied": {"in_channels": 8, "out_channels": 24, "kernel_size": 3, "groups": 8},
    "grouped": {"in_channels": 8, "out_channels": 12, "kernel_size": 3, "padding": 1, "groups": 4},
}
AXES: tuple[Axis, ...] = ("output", "input")


def net(layer: str, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    first = nn.Conv2d(3, 8, 3, padding=1)
    middle = nn.Conv2d(**LAYERS[layer])
    return nn.Sequential(
        first, nn.BatchNorm2d(8), nn.ReLU(), middle, nn.BatchNorm2d(middle.out_channels), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(middle.out_channels, 4),
    )  # fmt: skip


def optimizer_of(model: nn.Module, **more: Any) -> torch.optim.Optimizer:
    groups = [{"params": [parameter]} for parameter in model.parameters()]
    return torch.optim.SGD(groups, **({"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01} | more))


def batches(n: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    for _ in range(n):
        yield torch.randn(6, 3, 9, 9, generator=generator), torch.randint(0, 4, (6,), generator=generator)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


@pytest.mark.parametrize(("layer", "axis", "last"), [*itertools.product(LAYERS, AXES, (False, True))])
def test_the_gradients_of_kept_weights_are_those_of_a_full_pass(layer: str, axis: Axis, last: bool) -> None:
    model, x_y = net(layer), next(batches(1))
    model.train()
    if last:
        model.to(memory_format=torch.channels_last)
    F.cross_entropy(model(x_y[0]), x_y[1]).backward()
    full = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    partial = Partial(model, axis)
    plan = {"0": torch.arange(n_units(model[0], axis)), "3": torch.tensor([1, 2, 5, 7])}
    with partial.active():
        partial.follow(plan, optimizer_of(model))
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(x_y[0]), x_y[1]).backward()
        rows = partial._parts["3"].rows
        assert rows is not None
        assert rows.grad is not None
        expected = take(model[3], full["3.weight"], plan["3"], axis)
        assert (rows.grad - expected).norm() <= 1e-6 * expected.norm()
        assert model[3].weight.grad is None
        for name, parameter in model.named_parameters():
            if name != "3.weight":
                assert torch.allclose(parameter.grad, full[name], rtol=1e-5, atol=1e-7), name
    assert partial.shares == {"0.weight": 1.0, "3.weight": 4 / n_units(model[3], axis)}
    assert "forward" not in vars(model[3])


@pytest.mark.parametrize(("layer", "axis", "kind"), [*itertools.product(LAYERS, AXES, ("sgd", "adam"))])
def test_frozen_weights_stay_bit_by_bit_and_kept_ones_move_as_in_a_full_step(layer: str, axis: Axis, kind: str) -> None:
    """With momentum and weight decay, over epochs whose kept channels differ."""
    model, other = net(layer), net(layer)
    plans = [[1, 2, 5, 7], [0, 1, 6], [1, 4, 5, 6, 7]]
    make = optimizer_of if kind == "sgd" else lambda m: torch.optim.Adam([{"params": [p]} for p in m.parameters()])
    optimizer, reference = make(model), make(other)
    conv, peer = model[3], other[3]
    partial = Partial(model, axis)
    with partial.active():
        for kept in plans:
            index = torch.tensor(kept)
            partial.follow({"3": index}, optimizer)
            assert not model[0].weight.requires_grad
            before, first = conv.weight.detach().clone(), model[0].weight.detach().clone()
            frozen = torch.tensor(sorted({*range(n_units(conv, axis))} - {*kept}))
            for x, y in batches(3):
                step(model, optimizer, x, y)
            assert torch.equal(take(conv, conv.weight, frozen, axis), take(conv, before, frozen, axis))
            assert not torch.equal(take(conv, conv.weight, index, axis), take(conv, before, index, axis))
            assert torch.equal(model[0].weight, first)
            if kept == plans[0]:  # the released way, in its first epoch: a full pass, a step, frozen weights put back
                other[0].weight.requires_grad_(False)
                for x, y in batches(3):
                    step(other, reference, x, y)
                    with torch.no_grad():
                        put(peer, peer.weight, frozen, axis, take(conv, before, frozen, axis))
                assert torch.allclose(conv.weight, peer.weight, rtol=1e-5, atol=1e-6)


def test_momentum_stays_with_a_weight_while_it_is_frozen() -> None:
    model = net("dense")
    optimizer = optimizer_of(model)
    partial = Partial(model, "output")
    with partial.active():
        partial.follow({"3": torch.tensor([2, 3])}, optimizer)
        step(model, optimizer, *next(batches(1)))
        rows = partial._parts["3"].rows
        velocity = optimizer.state[rows]["momentum_buffer"][1].clone()
        partial.follow({"3": torch.tensor([5])}, optimizer)
        step(model, optimizer, *next(batches(1)))
        partial.follow({"3": torch.tensor([3, 5])}, optimizer)
        again = optimizer.state[partial._parts["3"].rows]["momentum_buffer"]
        assert torch.equal(again[0], velocity)
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
        partial.follow({"3": torch.arange(12)}, optimizer)  # everything: the net's own weight, with all its momentum
        assert torch.equal(optimizer.state[model[3].weight]["momentum_buffer"][3], velocity)


def stored_bytes(model: nn.Module, x: Tensor) -> int:
    """Bytes of distinct storages, parameters aside, that a forward pass keeps for the backward pass."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        out = model(x)
    assert out.requires_grad
    return sum(found.values())


def test_input_channels_store_their_own_activations_and_output_channels_all() -> None:
    model = net("pointwise").eval()
    x = torch.randn(4, 3, 16, 16)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    made = {}
    for axis, n in ((axis, n) for axis in AXES for n in (1, 4)):
        partial = Partial(model, axis, lean=True)
        with partial.active():
            partial.follow({"3": torch.arange(n)}, optimizer_of(model))
            made[axis, n] = stored_bytes(model[3], x.new_zeros(4, 8, 16, 16))
    map_bytes = 4 * 16 * 16 * 4
    assert made == {("output", 1): 8 * map_bytes, ("output", 4): 8 * map_bytes,
                    ("input", 1): map_bytes, ("input", 4): 4 * map_bytes}  # fmt: skip


def test_lean_layers_give_the_same_gradients_and_store_less() -> None:
    results = []
    for lean in (False, True):
        model = net("dense").eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        partial = Partial(model, "input", lean=lean)
        x, y = next(batches(1))
        with partial.active():
            model[4].bias.requires_grad_(True)
            partial.follow({"0": torch.tensor([1]), "3": torch.tensor([2, 6])}, optimizer_of(model))
            bytes_ = stored_bytes(model, x)
            F.cross_entropy(model(x), y).backward()
            rows = [partial._parts[path].rows for path in ("0", "3")]
            results.append((bytes_, [row.grad.clone() for row in rows if row is not None], model[4].bias.grad.clone()))
    (plain, rows, bias), (lean_bytes, lean_rows, lean_bias) = results
    assert lean_bytes < plain / 2
    assert torch.allclose(bias, lean_bias, atol=1e-7)
    for one, two in zip(rows, lean_rows, strict=True):
        assert torch.allclose(one, two, rtol=1e-5, atol=1e-7)


def test_no_input_gradient_is_computed_below_the_earliest_live_layer() -> None:
    model = net("dense")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    partial = Partial(model, "output")
    seen: list[bool] = []
    model[2].register_forward_hook(lambda *given: seen.append(given[2].requires_grad))
    with partial.active():
        partial.follow({"3": torch.tensor([0])}, optimizer_of(model))
        out = model(next(batches(1))[0])
    assert seen == [False]
    assert out.requires_grad


def test_evaluation_is_the_net_s_own_and_its_state_is_as_before() -> None:
    model = net("grouped").eval()
    x = next(batches(1))[0]
    expected, names = model(x), [*model.state_dict()]
    partial = Partial(model, "input", lean=True)
    with partial.active(), torch.no_grad():
        partial.follow({"3": torch.tensor([3])}, optimizer_of(model))
        assert torch.equal(model(x), expected)
        assert [*model.state_dict()] == names
    assert [*convolutions(model)] == ["0", "3"]


def test_a_padding_that_it_does_not_know_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(RequestError, match="pads in a way"), Partial(model, "output").active():
        pass
