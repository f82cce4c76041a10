"""TraDy: train input channels drawn at random from the layers that matter, as many as fit into a budget of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from bench.methods import Adapted, Method, Options, Task
from bench.methods.neq import check_budget, head_of

if TYPE_CHECKING:
    from torch import nn


class TradyOptions(Options):
    """Attributes:
    budget: share of the memory of all input channels, or values: of a channel its weights and its map of one image.
    layers: so many layers that matter most; 0: as many as hold the share `coverage` of the gradient.
    coverage: see `layers`.
    norm: what else trains, as of `neq`. Shifts need no stored activation; scales do.
    lean: activation functions store a byte per value, and held BatchNorm nothing, for their gradient.
    """

    budget: int | float = 0.1
    layers: Annotated[int, Field(ge=0, le=10_000)] = 0
    coverage: Annotated[float, Field(gt=0, le=1)] = 0.97
    norm: Literal["all", "live", "shift", "none"] = "shift"
    lean: bool = True

    _budget = field_validator("budget", mode="before")(check_budget)


METHOD = Method(
    name="trady",
    about="trains input channels drawn at random from the layers that matter, as many as fit into a budget of memory",
    labels="needed",
    needs=("convolutions",),
    options=TradyOptions,
    cite="arXiv 2510.19675",
)


def check(model: nn.Module, options: TradyOptions) -> None:
    """Check the number of layers against a model.

    Raises:
        RequestError: it has fewer.
    """
    from bench.errors import RequestError
    from bench.training.partial import convolutions

    n = len(convolutions(model))
    if options.layers > n:
        raise RequestError(f"layers {options.layers} is more than the net's convolutions, {n}")


def adapt(task: Task, options: TradyOptions) -> Adapted:
    """Rank the layers by one gradient, then draw anew before each epoch."""
    import torch

    from bench.training.gradients import batch_gradients
    from bench.training.layers import freeze_but
    from bench.training.neurons import Layout, Neurons
    from bench.training.partial import Partial, convolutions, n_units, take, unit_size
    from bench.training.selection import Account

    convs = convolutions(task.model)
    with task.phase("select"):
        layout = Layout.of(task.model, task.images[:1])
        task.count_forward(1)
        area = {path: layout.shapes[path][0][1:].numel() for path in convs}
        costs = {path: unit_size(conv, "input") + area[path] for path, conv in convs.items()}
        neurons = Neurons.of(task.model, "input", costs)
        weights = [p for conv in convs.values() if isinstance(p := conv.weight, torch.nn.Parameter)]
        freeze_but(task.model, weights)
        ((_, gradients),) = batch_gradients(task, weights, task.batch_size, limit=1)
        ranks = []
        for (path, conv), gradient in zip(convs.items(), gradients, strict=True):
            every = torch.arange(n_units(conv, "input"), device=gradient.device)
            ranks.append(float(take(conv, gradient, every, "input").flatten(1).norm(dim=1).sum()) / costs[path])
        rank = torch.tensor(ranks, dtype=torch.float64)
        order = rank.argsort(descending=True)
        shares = rank[order].cumsum(0) / rank.sum().clamp(min=torch.finfo(torch.float64).tiny)
        n_layers = options.layers or min(len(order), int((shares < options.coverage).sum()) + 1)
        matter = torch.isin(neurons.owner, order[:n_layers]).nonzero()[:, 0]
    budget = neurons.budget(options.budget)
    partial = Partial(task.model, "input", lean=options.lean)
    account = Account(layout, neurons, budget)
    head = head_of(task)

    def choose(_: int) -> Any:
        with task.phase("select"):
            drawn = matter[torch.randperm(len(matter), generator=task.generator)]
            plan = account.take(neurons.fill(drawn, budget))
            layout.set_others(task.model, plan, options.norm, head)
            return plan

    outcome = task.tune(list(task.model.parameters()), partial=partial, plan=choose)
    return account.adapted(task, outcome, partial, layers=n_layers)
