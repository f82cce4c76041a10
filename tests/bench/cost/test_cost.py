"""The cost model against torch's own FLOP counter, its closed form, and the integers of the published net."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model

from bench import cost
from bench.catalog.models import FULL, RESNET_BLOCKS, BlockMap, BlockSet, find_model
from bench.catalog.resnet_macs import Layer, forward_macs, resnet_layers, step_macs
from bench.cost import Cost, fine_tuning_macs, step_of, trace
from bench.models.blocks import train_only
from bench.models.build import build_model
from bench.models.resnet import ResNet
from bench.suite.model import ModelSpec
from bench.suite.training import EngineSpec
from bench.training.closed_form import SHRINKAGES, solve, solve_macs
from bench.training.loop import Batchable
from bench.training.task import Ledger, Tuned

BLOCKS = ["block1", "block2", "block3", "fc"]


def torch_macs(run: Callable[[], Tensor]) -> tuple[int, Tensor]:
    with FlopCounterMode(display=False) as counter:
        out = run()
    return int(counter.get_total_flops()) // 2, out


def overcounted(model: nn.Module, image: Tensor) -> int:
    """torch's counter takes the weight gradient of a grouped convolution for that of a dense one."""
    surplus = 0

    def hook(module: nn.Module, _: object, out: Tensor) -> None:
        nonlocal surplus
        assert isinstance(module, nn.Conv2d)
        if module.weight.requires_grad:
            surplus += (module.groups - 1) * out.numel() * module.weight[:1].numel()

    hooks = [module.register_forward_hook(hook) for module in model.modules() if isinstance(module, nn.Conv2d)]
    model(image)
    for handle in hooks:
        handle.remove()
    return surplus


def frozen_macs(layers: tuple[Layer, ...], blocks: BlockSet) -> int:
    """Of the forward pass of one image, the part before the first of these blocks: it can be kept."""
    trained = {layer.block for layer in layers} if blocks == (FULL,) else set(blocks)
    first = next(number for number, layer in enumerate(layers) if layer.block in trained)
    return sum(layer.macs for layer in layers[:first])


def block_map(name: str) -> BlockMap:
    entry = find_model(name)
    assert entry is not None
    assert entry.blocks is not None
    return entry.blocks


def net(name: str) -> nn.Module:
    if name == "resnet26":
        return ResNet(4, n_classes=10)
    model: nn.Module = get_model(name, weights=None, num_classes=10)
    return model


@pytest.mark.parametrize(
    "name",
    ["resnet26", "resnet18", "mobilenet_v2", "convnext_tiny", pytest.param("densenet121", marks=pytest.mark.long)],
)
def test_every_block_set_costs_what_torch_counts(name: str) -> None:
    model, blocks = net(name).to("meta").train(), block_map(name)
    shape = (2, 3, 32, 32) if name == "resnet26" else (2, 3, 64, 64)
    image = torch.zeros(shape, device="meta")
    followed = trace(model, shape)
    sets = [*((block,) for block in blocks), tuple(blocks)[:2], (*tuple(blocks)[1:3], "fc"), (FULL,)]
    forward, _ = torch_macs(lambda: model(image))
    for chosen in sets:
        train_only(model, blocks, chosen)
        cost = followed.step([name for name, parameter in model.named_parameters() if parameter.requires_grad])
        assert cost.forward_macs == forward
        out = model(image).sum()
        backward, _ = torch_macs(lambda out=out: out.backward() or out)
        assert cost.weight_macs + cost.input_macs == backward - overcounted(model, image), chosen


class Moved(TorchDispatchMode):
    """Bytes that every kernel really reads and writes; views move none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    # torch gives this no types that a subclass could name
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        flat = [value for arg in args for value in (arg if isinstance(arg, list) else [arg])]
        taken = [value for value in flat if isinstance(value, Tensor) and value.is_floating_point()]
        given = [value for value in (out if isinstance(out, tuple) else [out]) if isinstance(value, Tensor)]
        same = {value.untyped_storage()._cdata for value in taken}
        if taken and (func._schema.is_mutable or any(v.untyped_storage()._cdata not in same for v in given)):
            self.bytes += sum(value.numel() * value.element_size() for value in [*taken, *given])
        return out


@pytest.mark.parametrize("name", ["resnet26", "resnet18"])
def test_bytes_are_near_those_that_the_kernels_move(name: str) -> None:
    model, blocks = net(name).to("meta").train(), block_map(name)
    image = torch.zeros((32, 3, 32, 32), device="meta")
    for chosen in [*((block,) for block in blocks if block != "fc"), (FULL,)]:
        for parameter in model.parameters():
            parameter.grad = None
        train_only(model, blocks, chosen)
        cost = step_of(model, (32, 3, 32, 32))
        with Moved() as forward:
            loss = nn.functional.cross_entropy(model(image), torch.zeros(32, dtype=torch.int64, device="meta"))
        with Moved() as backward:
            loss.backward()
        assert cost.forward_bytes == pytest.approx(forward.bytes, rel=0.03)
        assert cost.backward_bytes == pytest.approx(backward.bytes, rel=0.25)


def saving(cost: Cost, full: Cost) -> float:
    return 100 * (1 - cost.macs / full.macs)


@pytest.fixture(scope="module")
def paper() -> dict[str, Cost]:
    """Cost per block set of the published net, on one image of 32x32 with 10 classes."""
    model = ResNet(4, n_classes=10)
    followed = trace(model, (1, 3, 32, 32))
    costs = {}
    for chosen in [*((block,) for block in BLOCKS), ("block2", "block3"), (FULL,)]:
        train_only(model, RESNET_BLOCKS, chosen)
        costs["+".join(chosen)] = followed.step([n for n, p in model.named_parameters() if p.requires_grad])
    return costs


def test_resnet26_costs_the_published_integers(paper: dict[str, Cost]) -> None:
    assert paper[FULL].forward_macs == 54_706_816
    assert paper[FULL].macs == 163_678_080 == 3 * 54_706_816 - 442_368  # less the gradient of the image
    assert [paper[block].macs for block in BLOCKS] == [128_288_000, 107_791_616, 90_096_896, 54_707_456]
    savings = {name: saving(cost, paper[FULL]) for name, cost in paper.items()}
    expected = {"block1": 21.62, "block2": 34.14, "block3": 44.95, "fc": 66.58, "block2+block3": 23.33, FULL: 0.0}
    assert {name: round(value, 2) for name, value in savings.items()} == expected


def test_savings_with_a_cached_prefix(paper: dict[str, Cost]) -> None:
    full = paper[FULL].macs

    def cached(block: str, epochs: int | None) -> float:
        cost, kept = paper[block], 1.0 if epochs is None else 1 - 1 / epochs  # None: the filling counts nothing
        return 100 * (1 - (cost.macs - cost.frozen_macs * kept) / full)

    assert [round(cached(block, None), 2) for block in BLOCKS[:3]] == [21.62, 45.95, 67.57]
    assert cached("fc", None) == pytest.approx(99.999, abs=5e-4)
    assert [round(cached(block, 10), 1) for block in BLOCKS[1:]] == [44.8, 65.3, 96.7]
    assert [round(cached(block, 1), 2) for block in BLOCKS] == [21.62, 34.14, 44.95, 66.58]  # one epoch gains nothing


def test_selecting_by_substring_costs_more_than_block1(paper: dict[str, Cost]) -> None:
    # the defect of the released power script: 'conv1' is also in layer2.0.conv1.weight
    followed = trace(ResNet(4, n_classes=10), (1, 3, 32, 32))
    named = [name for name in followed.parameters if "conv1" in name or "layer1" in name]
    sizes = {name: parameter.numel() for name, parameter in ResNet(4, n_classes=10).named_parameters()}
    assert sum(sizes[name] for name in named) == 180_400
    assert round(saving(followed.step(named), paper[FULL]), 2) == 11.53


def test_128_pixels_cost_sixteen_times_as_much_and_save_the_same(paper: dict[str, Cost]) -> None:
    model = ResNet(4, n_classes=17, image_size=128)
    followed = trace(model, (1, 3, 128, 128))
    train_only(model, RESNET_BLOCKS, ("block1",))
    block1 = followed.step([n for n, p in model.named_parameters() if p.requires_grad])
    full = followed.step(followed.parameters)
    assert full.forward_macs == 16 * (54_706_816 - 640) + 1024 * 17
    assert saving(block1, full) == pytest.approx(saving(paper["block1"], paper[FULL]), abs=0.01)


def test_cost_by_block_adds_up(paper: dict[str, Cost]) -> None:
    followed = trace(ResNet(4, n_classes=10), (1, 3, 32, 32))
    parts = {block: Cost() for block in [*RESNET_BLOCKS, ""]}
    for operation in followed.operations:
        name = next((b for b, paths in RESNET_BLOCKS.items() if operation.module.startswith(tuple(paths))), "")
        parts[name] += replace(followed, operations=(operation,)).step(followed.parameters)
    assert [parts[block].forward_macs for block in BLOCKS] == [19_316_736, 17_694_720, 17_694_720, 640]
    assert sum(parts.values(), Cost()) == paper[FULL]
    assert parts[""].forward_bytes > 0  # the final bn, which belongs to no block


@pytest.mark.parametrize(
    ("name", "width", "in_channels", "image_size", "n_classes"),
    [
        ("resnet26", 16, 3, 32, 10), ("resnet26", 16, 3, 128, 17), ("resnet8", 16, 1, 8, 5),
        ("resnet14", 4, 3, 20, 3), ("resnet8", 8, 3, 33, 7), ("resnet8", 4, 3, 100, 3),
    ],
)  # fmt: skip
def test_the_closed_form_gives_the_same_integers(
    name: str, width: int, in_channels: int, image_size: int, n_classes: int
) -> None:
    spec = ModelSpec(name=name, width=width)
    model = build_model(spec, n_classes=n_classes, in_channels=in_channels, image_size=image_size, base=Path())
    layers = resnet_layers(name, width=width, in_channels=in_channels, image_size=image_size, n_classes=n_classes)
    assert layers is not None
    followed = trace(model, (1, in_channels, image_size, image_size))
    for blocks in [("block1",), ("block2",), ("block3",), ("fc",), ("block2", "fc"), ("block1", "block3"), (FULL,)]:
        train_only(model, RESNET_BLOCKS, blocks)
        cost = followed.step([n for n, p in model.named_parameters() if p.requires_grad])
        assert (cost.forward_macs, cost.macs) == (forward_macs(layers), step_macs(layers, blocks)), blocks
        assert cost.frozen_macs == frozen_macs(layers, blocks), blocks


def test_the_closed_form_knows_the_papers_nets_only() -> None:
    assert resnet_layers("resnet18", width=16, in_channels=3, image_size=32, n_classes=10) is None


def test_attention_is_counted_and_a_model_keeps_its_mode() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    tokens, width = 4 * 6, 16
    products = 4 * tokens * width * width + 2 * tokens * 6 * width + 2 * tokens * width * 32
    followed = trace(layer, (4, 6, 16))
    assert followed.step([]).forward_macs == products
    assert not layer.training
    # every product has two factors with a gradient, but for the first ones: nobody needs that of the input
    assert followed.step(followed.parameters).macs == 3 * products - 3 * tokens * width * width


def test_a_model_that_needs_values_is_followed_all_the_same() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.fc = nn.BatchNorm2d(3), nn.Linear(3 * 16, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(x)
            return self.fc(x.flatten(1) if float(x.sum()) < 1e9 else x)  # a branch on a value

    model = Counts()
    before = model.norm.num_batches_tracked.clone()
    assert trace(model, (2, 3, 4, 4)).step([]).forward_macs == 2 * 48 * 2
    assert model.norm.num_batches_tracked == before


def cell_costs(
    model: nn.Module, images: Tensor, spec: EngineSpec, epochs: int, n_val: int, *, cached: bool = False
) -> dict[str, Any]:
    """Of one fine-tuning of what has requires_grad."""
    names = frozenset(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    return cost.cell_costs(
        model, images, spec, {"adapt": Ledger(tuned=[Tuned(names, (), epochs, cached, True)])}, n_val
    )


def test_what_a_record_says_of_a_cell() -> None:
    model = ResNet(1, n_classes=10, width=4)
    train_only(model, RESNET_BLOCKS, ("fc",))
    images, spec = torch.zeros(17, 3, 32, 32), EngineSpec(batch_size=8, bn_mode="adapt_once_then_eval")
    costs = cell_costs(model, images, spec, 3, 5)
    forward = costs["forward_macs"]
    assert forward is not None
    assert costs["step_macs"] == 8 * (forward + 160)
    assert costs["train_macs"] == 17 * forward + 3 * (16 * (forward + 160) + 5 * forward)
    assert cell_costs(model, images, spec, 3, 5, cached=True)["train_macs"] == (
        17 * forward + 22 * (forward - 160) - (forward - 160) + 3 * (16 * 320 + 5 * 160)
    )


def test_a_closed_form_costs_no_epoch_but_its_solution() -> None:
    model = ResNet(1, n_classes=10, width=4)
    train_only(model, RESNET_BLOCKS, ("fc",))
    spec = EngineSpec(engine="fast", batch_size=8, bn_mode="eval", head="closed_form")
    costs = cell_costs(model, torch.zeros(17, 3, 32, 32), spec, 1, 5, cached=True)
    assert costs["forward_macs"] is not None
    assert costs["train_macs"] == 22 * (costs["forward_macs"] - 160) + solve_macs(model.fc, 17, 5)
    thrice = spec.model_copy(update={"augment": True, "views": 3})
    assert cell_costs(model, torch.zeros(17, 3, 32, 32), thrice, 1, 5, cached=True)["train_macs"] == (
        (3 * 17 + 5) * (costs["forward_macs"] - 160) + solve_macs(model.fc, 3 * 17, 5)
    )
    train, val = (Batchable(torch.rand(n, 16), torch.arange(n) % 10) for n in (17, 5))
    with FlopCounterMode(display=False) as counter:
        solve(model.fc, train, val)
    # torch counts products of matrices and no solution of equations
    equations = len(SHRINKAGES) * (16**3 // 3 + 10 * 16**2)
    assert solve_macs(model.fc, 17, 5) == counter.get_total_flops() // 2 + equations


def test_a_model_that_cannot_be_followed_has_no_cost() -> None:
    costs = cell_costs(nn.Linear(7, 2), torch.zeros(2, 3, 8, 8), EngineSpec(), 1, 1)
    assert set(costs.values()) == {None}


def test_macs_of_a_whole_fine_tuning() -> None:
    cost = Cost(forward_macs=100, frozen_macs=60, weight_macs=10, input_macs=30)  # of 10 images
    assert fine_tuning_macs(cost, batch=10, epochs=5, n_train=20, n_val=10) == 5 * (20 * 14 + 10 * 10)
    assert fine_tuning_macs(cost, batch=10, epochs=5, n_train=20, n_val=10, n_adapt=20) == 5 * 380 + 20 * 10
    # 30 images through the frozen part once, the rest as before
    assert fine_tuning_macs(cost, batch=10, epochs=5, n_train=20, n_val=10, cached=True) == 30 * 6 + 5 * (
        20 * 8 + 10 * 4
    )
