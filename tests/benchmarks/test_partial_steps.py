"""What a training step of some channels saves: claimed, attainable by arithmetic, and in time and stored activations.

Interleaved in one process, in both orders of values in memory. `masked` is the released way: a complete backward pass,
then the gradients of frozen channels are set to 0. It prints a table, and asserts what no other program can upset.

python -m pytest -m long -s tests/benchmarks/test_partial_steps.py
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2, resnet18

from bench.catalog.mobile import RELEASED
from bench.cost import trace
from bench.models.mobile import MobileNet
from bench.training.neurons import Layout, Neurons
from bench.training.partial import Axis, Partial, Plan

ROUNDS = 5
CLASSES = 10
BUDGETS = (0.02, 0.1, 0.5)

NETS: dict[str, tuple[Callable[[], nn.Module], str, int, int]] = {
    "resnet18": (lambda: resnet18(num_classes=CLASSES), "fc", 64, 32),
    "mobilenet_v2": (lambda: mobilenet_v2(num_classes=CLASSES), "classifier", 96, 16),
    "mcunet-in3": (lambda: MobileNet(RELEASED["mcunet-in3"], CLASSES), "classifier", 96, 32),
}
"""Net, its head, pixels of a side, images of a batch."""


@dataclass
class Way:
    """A way to take a step: plan and axis of `Partial`, or a mask over complete gradients."""

    name: str
    budget: float
    axis: Axis = "output"
    plan: Plan | None = None
    masked: bool = False
    lean: bool = False
    norm: str = "live"
    rounded: bool = False


class Lab:
    """A net with its ways; all of them step on the same images."""

    def __init__(self, name: str, layout: torch.memory_format) -> None:
        make, head, size, batch = NETS[name]
        torch.manual_seed(0)
        self.model = make().to(memory_format=layout)
        self.x = torch.randn(batch, 3, size, size).contiguous(memory_format=layout)
        self.y = torch.arange(batch) % CLASSES
        self.head = {id(parameter) for parameter in self.model.get_submodule(head).parameters()}
        self.order = Layout.of(self.model, self.x[:1])
        self.traced = trace(self.model, tuple(self.x.shape))
        self.model.eval()  # BatchNorm held, as with bn_mode eval

    def ways(self) -> list[Way]:
        found = [Way("full", 1.0)]
        for budget in BUDGETS:
            neurons = Neurons.of(self.model, "output")
            order = torch.randperm(len(neurons.cost), generator=torch.Generator().manual_seed(1))
            limit = neurons.budget(budget)
            kept = neurons.fill(order, limit)
            plan = neurons.plan(kept)
            rounded = neurons.plan(neurons.rounded(kept, order, 16, limit))
            costs = {
                path: neurons.convs[path].weight[0].numel() * neurons.convs[path].out_channels
                // neurons.convs[path].in_channels + shapes[0][1:].numel()
                for path, shapes in self.order.shapes.items()
            }  # fmt: skip
            inputs = Neurons.of(self.model, "input", costs)
            drawn = torch.randperm(len(inputs.cost), generator=torch.Generator().manual_seed(1))
            by_input = inputs.plan(inputs.fill(drawn, inputs.budget(budget)))
            found += [
                Way("masked", budget, plan=plan, masked=True),
                Way("output", budget, plan=plan),
                Way("output, multiples of 16", budget, plan=rounded, rounded=True),
                Way("input, lean", budget, "input", by_input, lean=True, norm="shift"),
            ]
        return found

    @contextlib.contextmanager
    def set(self, way: Way) -> Iterator[tuple[Callable[[], None], Partial]]:
        """Prepare a way; gives what takes its step."""
        model = self.model
        for parameter in model.parameters():
            parameter.requires_grad_(True)
            parameter.grad = None
        optimizer = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=1e-4)
        partial = Partial(model, way.axis, lean=way.lean)
        convs = Neurons.of(model, way.axis).convs
        with contextlib.ExitStack() as stack:
            if way.plan is not None and not way.masked:
                stack.enter_context(partial.active())
                self.order.set_others(model, way.plan, way.norm, self.head)  # type: ignore[arg-type]  # of two literals
                partial.follow(way.plan, optimizer)

            def step() -> None:
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(model(self.x), self.y).backward()
                if way.masked and way.plan is not None:
                    for path, conv in convs.items():
                        gradient = conv.weight.grad
                        assert gradient is not None
                        frozen = torch.ones(len(gradient), dtype=torch.bool)
                        frozen[way.plan.get(path, torch.empty(0, dtype=torch.int64))] = False
                        gradient[frozen] = 0
                optimizer.step()

            yield step, partial

    def macs(self, partial: Partial) -> int:
        names = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        return self.traced.step(names | {*partial.shares}, partial.shares).macs

    def stored_bytes(self) -> int:
        """Distinct storages, parameters aside, that a forward pass keeps for the backward pass."""
        own = {value.untyped_storage().data_ptr() for value in self.model.state_dict().values()}
        found: dict[int, tuple[int, Tensor]] = {}

        def pack(value: Tensor) -> Tensor:
            storage = value.untyped_storage()
            if storage.data_ptr() not in own:
                found[storage.data_ptr()] = storage.nbytes(), value.detach()  # held, or its address would be another's
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            self.model(self.x)
        return sum(size for size, _ in found.values())


@pytest.mark.long
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", NETS)
def test_saved_time_and_memory_of_a_step(name: str, layout: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
        lab = Lab(name, formats[layout])
        ways = lab.ways()
        times: dict[int, list[float]] = {number: [] for number in range(len(ways))}
        figures: dict[int, tuple[int, int, float]] = {}
        for round_ in range(ROUNDS + 1):
            for number, way in enumerate(ways):
                with lab.set(way) as (step, partial):
                    if round_ == 0:
                        claimed = lab.order.claimed(Neurons.of(lab.model, way.axis).convs, way.plan or {}, way.axis)
                        figures[number] = lab.macs(partial), lab.stored_bytes(), claimed if way.plan else 0.0
                        step()
                        continue
                    step()  # again warm for this way
                    start = time.perf_counter()
                    step()
                    times[number].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    full_macs, full_bytes, _ = figures[0]
    print(f"\n{name}, {layout}, {tuple(lab.x.shape)}: full step {1e3 * min(times[0]):.1f} ms, stored "
          f"{full_bytes / 1e6:.1f} MB")  # fmt: skip
    print(f"{'way':24}{'budget':>7}{'claimed':>9}{'attainable':>11}{'measured':>10}{'of it':>7}{'stored':>8}")
    for number, way in enumerate(ways[1:], start=1):
        macs, stored, claimed = figures[number]
        attainable = 1 - macs / full_macs
        saved = 1 - statistics.median(b / a for a, b in zip(times[0], times[number], strict=True))
        part = f"{saved / attainable:7.0%}" if attainable > 0 else f"{'':>7}"
        print(
            f"{way.name:24}{way.budget:7}{claimed:9.1%}{attainable:11.1%}{saved:10.1%}{part}{stored / full_bytes:8.1%}"
        )
        if way.masked:
            assert macs == full_macs
            assert stored == full_bytes  # it saves nothing, whatever it claims
        elif way.name == "input, lean" and way.budget == BUDGETS[0]:
            assert stored <= full_bytes / 2
