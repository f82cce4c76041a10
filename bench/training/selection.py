"""Selection: what a method kept of a net's channels, epoch by epoch, and the facts of it for a record."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.training.loop import Outcome
from bench.training.neurons import Layout, Neurons
from bench.training.partial import Partial, Plan
from bench.training.task import Adapted, Task

VALUE_BYTES = 4
"""Of a stored activation, float32."""


class Account:
    """The plans of a fine-tuning.

    Args:
        budget: in the unit of the channels' cost.

    Attributes:
        last: the newest plan.
    """

    def __init__(self, layout: Layout, neurons: Neurons, budget: int) -> None:
        self._layout, self._neurons, self._budget = layout, neurons, budget
        self._kept: list[int] = []
        self._claimed: list[float] = []
        self._stored: list[int] = []
        self._before_rounding: list[int] = []
        self._ever = torch.zeros(len(neurons.cost), dtype=torch.bool)
        self.last: Plan = {}

    def rounding(self, asked: Tensor, rounded: Tensor) -> Tensor:
        """Note what rounding did to the budget.

        Returns:
            What it made of the channels.
        """
        if rounded is not asked:
            self._before_rounding.append(int(self._neurons.cost[asked].sum()))
        return rounded

    def take(self, kept: Tensor) -> Plan:
        """Note the channels of an epoch, given by number, and plan them."""
        neurons, layout = self._neurons, self._layout
        plan = neurons.plan(kept)
        self._kept.append(int(neurons.cost[kept].sum()))
        self._claimed.append(layout.claimed(neurons.convs, plan, neurons.axis))
        self._stored.append(layout.stored(neurons.convs, plan, neurons.axis))
        self._ever[kept] = True
        self.last = plan
        return plan

    def adapted(self, task: Task, outcome: Outcome, partial: Partial, **more: Any) -> Adapted:
        """What is given back: how much was kept, and what the accounts say of it."""
        neurons = self._neurons
        every = {path: torch.arange(int((neurons.owner == n).sum())) for n, path in enumerate(neurons.convs)}
        whole = self._layout.stored(neurons.convs, every, neurons.axis)
        convs = {id(conv.weight) for conv in neurons.convs.values()}
        others = sum(p.numel() for p in task.model.parameters() if id(p) not in convs and p.requires_grad)
        weights = Neurons.of(task.model, neurons.axis).cost
        facts: dict[str, Any] = {
            "budget": self._budget,
            "budget_of": neurons.total,
            "kept": round(_mean(self._kept)),
            "largest_neuron": int(neurons.cost.max()),
            "convolutions": len(self.last),
            "claimed_saving": _mean(self._claimed),
            "stored_bytes": round(_mean(self._stored) * VALUE_BYTES * min(task.batch_size, len(task.images))),
            "stored_share": _mean(self._stored) / whole,
        }
        if self._before_rounding:
            facts["kept_before_rounding"] = round(_mean(self._before_rounding))
        return Adapted(
            facts=facts | more,
            epochs_run=outcome.epochs_run,
            best_epoch=outcome.best_epoch,
            steps=outcome.steps,
            trained_parameters=int(weights[self._ever].sum()) + others,
        )


def _mean(values: list[int] | list[float]) -> float:
    return sum(values) / max(1, len(values))
