"""GALA: each layer is tuned only while its gradient agrees with the way it has gone (Sahoo et al. 2024).

Published for adaptation without labels, by pseudo-labels of an entropy or a SHOT loss; here with the labels at hand, so
that it chooses layers for the same loss as the other arms: which layers are fit to be trained is what it decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, Task
from bench.suite.spec import Positive

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class GalaOptions(Options):
    """Attributes:
    threshold: cosine above which a layer is updated.
    reset: steps after which a layer's way is counted anew.
    lr: null: the suite's.
    """

    threshold: Annotated[float, Field(ge=-1, le=1)] = 0.75
    reset: Annotated[int, Field(ge=1, le=100_000)] = 20
    lr: Positive | None = None


METHOD = Method(
    name="gala",
    about="updates a layer where its next step agrees with the way it has gone since an anchor",
    labels="needed",
    options=GalaOptions,
    cite="arXiv 2404.03784",
)


def adapt(task: Task, options: GalaOptions) -> Adapted:
    """Tune everything, but let each step through only for the layers that agree."""
    parameters = list(task.model.parameters())
    gate = Gate(task.model, options)
    hooks: list[torch.utils.hooks.RemovableHandle] = []

    def watch(epoch: int, optimizer: torch.optim.Optimizer) -> None:
        if epoch == 1:
            hooks.append(optimizer.register_step_pre_hook(lambda *_: gate(optimizer)))

    try:
        outcome = task.tune(parameters, lr=options.lr, before_epoch=watch)
    finally:
        for hook in hooks:
            hook.remove()
    return Adapted.by_tuning(outcome, parameters, updated_share=gate.shares())


class Gate:
    """Lets gradients of the layers through that agree with the way gone: cos(u, u + (theta - anchor)) > threshold.

    u = -lr x gradient is the step that plain descent would take. A layer is a module with parameters of its own. In the
    first step after a reset the way is nothing, the cosine 1, and every layer is updated.
    """

    def __init__(self, model: nn.Module, options: GalaOptions) -> None:
        self._layers = {
            name: own for name, module in model.named_modules() if (own := [*module.parameters(recurse=False)])
        }
        self._options = options
        self._anchors: dict[str, list[Tensor]] = {}
        self._steps = 0
        self._updated = dict.fromkeys(self._layers, 0)

    def __call__(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the gradients away from the layers that do not agree."""
        import torch

        if self._steps % self._options.reset == 0:
            self._anchors = {name: [p.detach().clone() for p in own] for name, own in self._layers.items()}
        self._steps += 1
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for name, own in self._layers.items():
            trained = [(p, anchor) for p, anchor in zip(own, self._anchors[name], strict=True) if p.grad is not None]
            if not trained:
                continue
            step = torch.cat([(-rates.get(id(p), 0.0) * p.grad).flatten() for p, _ in trained if p.grad is not None])
            gone = torch.cat([(p.detach() - anchor).flatten() for p, anchor in trained])
            if cosine(step, step + gone) > self._options.threshold:
                self._updated[name] += 1
            else:
                for p, _ in trained:
                    p.grad = None

    def shares(self) -> dict[str, float]:
        """In which share of the steps each layer was updated."""
        return {name: round(n / max(1, self._steps), 3) for name, n in self._updated.items()}


def cosine(a: Tensor, b: Tensor) -> float:
    """Of the angle between two vectors; 0 where one of them is 0."""
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else 0.0
