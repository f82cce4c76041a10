"""Channels under a budget: velocities by hand, budgets exact, plans, and the accounts of what is saved."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from bench.catalog.mobile import RELEASED
from bench.catalog.sparse_update import SCHEMES
from bench.cost import trace
from bench.errors import RequestError
from bench.models.mobile import MobileNet
from bench.training.neurons import Layout, Neurons, Recursion, Velocity, outputs, similarity


@pytest.fixture(scope="module")
def mobile() -> nn.Module:
    torch.manual_seed(0)
    return MobileNet(RELEASED["mcunet-5fps-vww"], 3)


@pytest.mark.parametrize(
    ("recursion", "expected"), [("paper", (0.5, -0.05, 0.125)), ("released", (0.5, -0.05, -0.125))]
)
def test_the_velocity_of_a_hand_sequence(recursion: Recursion, expected: tuple[float, ...]) -> None:
    """Changes of the similarity of 0.5, 0.2 and 0.1 at a momentum of 0.5."""
    velocity = Velocity(recursion, 0.5)
    found = []
    for phi in (1.5, 1.7, 1.8):
        velocity.move(torch.tensor([phi], dtype=torch.float64))
        assert isinstance(velocity.value, torch.Tensor)
        found.append(float(velocity.value))
    assert found == pytest.approx(expected)


def test_similarity_is_per_image_and_knows_maps_of_zeros() -> None:
    old = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]], [[[0.0, 2.0]], [[0.0, 0.0]], [[1.0, 1.0]]]])
    new = torch.tensor([[[[3.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]]], [[[0.0, -1.0]], [[0.0, 0.0]], [[2.0, 2.0]]]])
    # opposite directions of two images cancel; both zero is 1; one zero is 0
    assert similarity(old, new).tolist() == pytest.approx([0.0, 1.0, 0.5])


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.37, 0.999])
def test_what_is_kept_fills_the_budget_to_less_than_the_largest_neuron(mobile: nn.Module, share: float) -> None:
    neurons = Neurons.of(mobile, "output")
    budget = neurons.budget(share)
    for seed in range(5):
        order = torch.randperm(len(neurons.cost), generator=torch.Generator().manual_seed(seed))
        kept = neurons.fill(order, budget)
        plan = neurons.plan(kept)
        weights = sum(neurons.convs[path].weight[index].numel() for path, index in plan.items())
        assert weights == int(neurons.cost[kept].sum()) <= budget
        assert weights > budget - int(neurons.cost.max())
        assert torch.equal(kept, order[: len(kept)])  # the sizes of the shuffled channels, in their order


def test_a_depthwise_neuron_has_k_x_k_weights_and_all_of_them_are_all(mobile: nn.Module) -> None:
    neurons = Neurons.of(mobile, "output")
    assert neurons.total == sum(conv.weight.numel() for conv in neurons.convs.values())
    for number, conv in enumerate(neurons.convs.values()):
        if conv.groups > 1:
            assert set(neurons.cost[neurons.owner == number].tolist()) == {conv.kernel_size[0] ** 2}
    for given in (1.0, 1):
        kept = neurons.fill(torch.randperm(len(neurons.cost)), neurons.budget(given))
        assert len(kept) == len(neurons.cost)
    with pytest.raises(RequestError, match="more than the convolutions have"):
        neurons.budget(neurons.total + 1)


def test_rounding_gives_multiples_within_the_budget(mobile: nn.Module) -> None:
    neurons = Neurons.of(mobile, "output")
    order = torch.randperm(len(neurons.cost), generator=torch.Generator().manual_seed(3))
    budget = neurons.budget(0.3)
    kept = neurons.fill(order, budget)
    plan = neurons.plan(neurons.rounded(kept, order, 16, budget))
    before = neurons.plan(kept)
    assert any(len(index) % 16 for index in before.values())
    total = 0
    for path, index in plan.items():
        conv = neurons.convs[path]
        total += conv.weight[index].numel()
        assert len(index) == len(index.unique())
        if conv.groups == 1 and conv.out_channels > 16:
            assert len(index) % 16 == 0 or len(index) == conv.out_channels
    assert budget * 0.9 < total <= budget
    assert neurons.rounded(kept, order, 1, budget) is kept


@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.net != "MCUNet-in1"])
def test_a_sparse_update_keeps_as_many_weights_as_published(name: str) -> None:
    net = mobilenet_v2() if name.startswith("mbv2") else MobileNet(RELEASED["proxyless-w0.3"], 10)
    neurons = Neurons.of(net, "output")
    kept = neurons.of_scheme(SCHEMES[name])
    assert int(neurons.cost[kept].sum()) == SCHEMES[name].budget
    number, ratio = next(iter(SCHEMES[name].ratios.items()))
    path, conv = list(neurons.convs.items())[number]
    norms = conv.weight.flatten(1).norm(dim=1)
    mine = neurons.plan(kept)[path]
    rest = torch.ones(len(norms), dtype=torch.bool).index_fill(0, mine, False)
    assert len(mine) == round(ratio * len(norms))
    assert ratio == 1 or norms[mine].min() >= norms[rest].max()


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_for_another_net_is_refused(mobile: nn.Module, name: str) -> None:
    with pytest.raises(RequestError, match="the scheme is for"):
        Neurons.of(mobile, "output").of_scheme(SCHEMES[name])


def test_the_claimed_saving_is_the_frozen_share_of_the_forward_pass(mobile: nn.Module) -> None:
    neurons = Neurons.of(mobile, "output")
    layout = Layout.of(mobile, torch.zeros(1, 3, 32, 32))
    assert layout.claimed(neurons.convs, neurons.plan(torch.arange(len(neurons.cost))), "output") == 0
    assert layout.claimed(neurons.convs, {}, "output") == 1
    path, conv = next(iter(neurons.convs.items()))
    followed = trace(mobile, (2, 3, 32, 32))
    forward = {one.module: one.macs for one in followed.operations if "convolution" in one.name}
    half = {path: torch.arange(conv.out_channels // 2)}
    expected = 1 - forward[path] / 2 / sum(forward.values())
    assert layout.claimed(neurons.convs, half, "output") == pytest.approx(expected)


def test_masked_training_is_priced_exactly(mobile: nn.Module) -> None:
    """Weight gradients in proportion to the kept channels, input gradients from the earliest live layer on."""
    names = [name for name, _ in mobile.named_parameters()]
    followed = trace(mobile, (2, 3, 32, 32))
    full = followed.step(names)
    weights = {f"{path}.weight": conv for path, conv in Neurons.of(mobile, "output").convs.items()}
    halves = dict.fromkeys(weights, 0.5)
    half = followed.step(names, halves)
    head = followed.step([name for name in names if name.startswith("classifier")])
    convs = full.weight_macs - head.weight_macs
    assert half.weight_macs == head.weight_macs + convs // 2
    assert half.input_macs == full.input_macs
    assert half.forward_macs == full.forward_macs
    assert half.backward_bytes < full.backward_bytes
    last = [*weights][-1]
    only = followed.step([last, "classifier.linear.weight"], {last: 0.25})
    own = next(one.macs for one in followed.operations if f"{one.module}.weight" == last)
    assert only.weight_macs == own // 4 + head.weight_macs
    assert only.input_macs == head.input_macs + head.weight_macs  # the classifier's alone: nothing below is live


def test_layers_below_the_earliest_live_one_do_not_train(mobile: nn.Module) -> None:
    layout = Layout.of(mobile, torch.zeros(1, 3, 32, 32))
    path = "blocks.9.mobile_inverted_conv.point_linear.conv"
    head = {id(parameter) for parameter in mobile.classifier.parameters()}
    for norm, expected in (("live", {"weight", "bias"}), ("shift", {"bias"}), ("none", set())):
        layout.set_others(mobile, {path: torch.tensor([0])}, norm, head)  # type: ignore[arg-type]  # a list of literals
        trains = {name for name, parameter in mobile.named_parameters() if parameter.requires_grad}
        trains -= {name for name in trains if ".conv." in name or name.startswith("classifier")}
        numbers = {int(name.split(".")[1]) for name in trains}
        assert {name.rpartition(".")[2] for name in trains} == expected
        assert numbers == ({9, 10, 11, 12, 13, 14} if expected else set())


def test_outputs_are_those_of_the_convolutions_alone(mobile: nn.Module) -> None:
    neurons = Neurons.of(mobile.eval(), "output")
    with torch.no_grad(), outputs(neurons.convs) as maps:
        mobile(torch.zeros(2, 3, 32, 32))
    assert [value.shape[1] for value in maps] == [conv.out_channels for conv in neurons.convs.values()]
    assert all(not conv._forward_hooks for conv in neurons.convs.values())
