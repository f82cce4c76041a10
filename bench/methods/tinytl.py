"""TinyTL: biases, the head, and small residual branches beside the frozen blocks."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, Task
from bench.suite.spec import Positive

if TYPE_CHECKING:
    from torch import Tensor, nn


class TinytlOptions(Options):
    """Attributes:
    kernel: side of the branches' grouped convolution; odd.
    groups: of it, where the channels divide by it.
    lr: null: the suite's.
    """

    kernel: Annotated[int, Field(ge=1, le=11, multiple_of=1)] = 5
    groups: Annotated[int, Field(ge=1, le=64)] = 2
    lr: Positive | None = None


METHOD = Method(
    name="tinytl",
    about="tunes biases, the head and lite residual branches at half of the resolution; all other weights stay",
    labels="needed",
    needs=("linear head",),
    options=TinytlOptions,
    cite="arXiv 2007.11622",
)

_MADE: weakref.WeakKeyDictionary[Task, tuple[nn.Module, list[nn.Parameter]]] = weakref.WeakKeyDictionary()
"""The net with branches of each task: built once, as its tuner is, and not in every execution of a window."""


def adapt(task: Task, options: TinytlOptions) -> Adapted:
    """Tune a copy of the net with its branches, which start from zero, by the suite's protocol."""
    if task not in _MADE:
        made = insert(copy.deepcopy(task.model), options)
        _MADE[task] = made, [parameter for parameter in made.parameters() if parameter.requires_grad]
        _start_of(made)
    made, parameters = _MADE[task]
    made.load_state_dict(_STARTS[made])
    source, task.model = task.model, made
    try:
        outcome = task.tune(parameters, lr=options.lr)
    finally:
        task.model = source
    branches = sum(name.endswith(".branch") for name, _ in made.named_modules())
    tuned = Adapted.by_tuning(outcome, parameters, branches=branches)
    return Adapted(
        model=made, facts=tuned.facts, epochs_run=tuned.epochs_run, best_epoch=tuned.best_epoch, steps=tuned.steps,
        trained_parameters=tuned.trained_parameters,
    )  # fmt: skip


_STARTS: weakref.WeakKeyDictionary[nn.Module, dict[str, Tensor]] = weakref.WeakKeyDictionary()


def _start_of(made: nn.Module) -> None:
    _STARTS[made] = {name: value.clone() for name, value in made.state_dict().items()}


def insert(model: nn.Module, options: TinytlOptions) -> nn.Module:
    """Put a branch beside each of the smallest modules with two convolutions or more, in place.

    A branch sees the block's input at half of its resolution, convolves it in groups, and adds to the block's output;
    its last convolution starts from zero, so that the net starts as it was. What trains has requires_grad.
    """
    from torch import nn

    from bench.training.layers import biases, freeze_but, linear_head

    def convolutions(module: nn.Module) -> list[nn.Conv2d]:
        return [one for one in module.modules() if isinstance(one, nn.Conv2d)]

    places = [
        name
        for name, module in model.named_modules()
        if name and len(convolutions(module)) > 1 and all(len(convolutions(one)) < 2 for one in module.children())
    ]
    added: list[nn.Parameter] = []
    for name in places:
        inner = model.get_submodule(name)
        layers = convolutions(inner)
        lite = _lite(inner, layers[0].in_channels, layers[-1].out_channels, options)
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, lite.to(layers[0].weight.device))
        added += lite.get_submodule("branch").parameters()
    head = linear_head(model)
    assert head is not None
    freeze_but(model, [*biases(model), *head.parameters(), *added])
    return model


trained_form = insert
"""What trains while the model is adapted, for the price of its steps."""


def _lite(inner: nn.Module, channels: int, out: int, options: TinytlOptions) -> nn.Module:
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Lite(nn.Module):
        """A block with its branch: [N, C, H, W] -> [N, C', H', W']."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = inner
            groups = options.groups if channels % options.groups == 0 else 1
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(channels)
                self.branch = nn.Sequential(
                    nn.AvgPool2d(2, ceil_mode=True),
                    nn.Conv2d(
                        channels, channels, options.kernel, padding=options.kernel // 2, groups=groups, bias=False
                    ),
                    nn.ReLU(),
                    nn.Conv2d(channels, out, 1),
                )
            for parameter in self.branch[3].parameters():
                nn.init.zeros_(parameter)

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.inner(x)
            return made + F.interpolate(self.branch(x), size=made.shape[-2:], mode="bilinear")

    return Lite()


def rebuild(model: nn.Module, state: Mapping[str, Tensor], options: TinytlOptions) -> nn.Module:
    """Put a kept model together again: the net with its branches."""
    return insert(model, options)
