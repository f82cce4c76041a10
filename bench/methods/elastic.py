"""Elastic: the tensors that promise most for the loss within a share of a training step's time (ElasticTrainer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from bench.methods import Adapted, Method, Options, Task
from bench.suite.spec import Positive

if TYPE_CHECKING:
    import torch

UNITS = 1000
"""Times are whole multiples of a thousandth of the backward pass."""


class ElasticOptions(Options):
    """Attributes:
    budget: share of the time of a full training step that a step may take; a forward pass is a third of it.
    every: epochs between two selections.
    times: where the times of gradients come from: `profiled`: measured layer by layer before the first selection;
        `macs`: multiply-accumulates, which do not differ from run to run.
    lr: null: the suite's.
    """

    budget: Annotated[float, Field(gt=1 / 3, le=1)] = 0.6
    every: Annotated[int, Field(ge=1, le=10_000)] = 4
    times: Literal["profiled", "macs"] = "profiled"
    lr: Positive | None = None


METHOD = Method(
    name="elastic",
    about="tunes the tensors that lower the loss most within a share of a full step's time, by dynamic programming",
    labels="needed",
    options=ElasticOptions,
    cite="doi:10.1145/3581791.3596852 (MobiSys 2023)",
)


def select(importance: Sequence[float], dw: Sequence[int], dy: Sequence[int], budget: int) -> list[int]:
    """The tensors with the largest sum of importance whose gradients fit into the budget.

    A selection costs dw of each of its tensors and dy of all tensors from the output to its deepest one.

    Args:
        importance: of each tensor, in the order of the backward pass, the output's first.
        dw: time of the tensor's own gradient.
        dy: time to bring the gradient of the activations to the tensor from the one before.
        budget: in the same unit.

    Returns:
        Their numbers, ascending; none where nothing of positive importance fits.
    """
    import numpy as np

    n = len(importance)
    best = np.zeros(budget + 1)  # of the tensors so far, with at most so much time for their own gradients
    taken = np.zeros((n, budget + 1), dtype=bool)
    found, deepest, left, reached = 0.0, -1, 0, 0
    for k in range(n):
        reached += dy[k]
        room = budget - reached - dw[k]
        if reached > budget:
            break
        if room >= 0 and importance[k] > 0 and best[room] + importance[k] > found:
            found, deepest, left = float(best[room] + importance[k]), k, room
        if importance[k] > 0 and dw[k] <= budget:
            with_k = np.full(budget + 1, -np.inf)
            with_k[dw[k] :] = best[: budget + 1 - dw[k]] + importance[k]
            taken[k] = with_k > best
            best = np.maximum(best, with_k)
    chosen = [deepest] if deepest >= 0 else []
    for k in range(deepest - 1, -1, -1):
        if taken[k, left]:
            chosen.append(k)
            left -= dw[k]
    return sorted(chosen)


def adapt(task: Task, options: ElasticOptions) -> Adapted:
    """Tune what is selected, and select anew every few epochs."""
    from bench.training.gradients import trial_importance
    from bench.training.layers import by_block
    from bench.training.profile import gradient_times

    parameters = list(task.model.parameters())
    names = {id(parameter): name for name, parameter in task.model.named_parameters()}
    with task.phase("select"):
        times = gradient_times(task, measured=options.times == "profiled")
    whole = sum(dw + dy for dw, dy in times.values()) or 1.0
    dw, dy = ([int(UNITS * time[part] / whole) for time in times.values()] for part in (0, 1))
    budget = round(UNITS * (options.budget - 1 / 3) * 3 / 2)
    order = [next(p for p in parameters if names[id(p)] == name) for name in times]
    history: list[list[str]] = []

    def choose(epoch: int, optimizer: torch.optim.Optimizer) -> None:
        if (epoch - 1) % options.every:
            return
        with task.phase("select"):
            importance = trial_importance(task, order, task.lr if options.lr is None else options.lr)
            chosen = {id(order[number]) for number in select(importance, dw, dy, budget)}
            for parameter in parameters:
                parameter.requires_grad_(id(parameter) in chosen)
            history.append([names[id(parameter)] for parameter in order if id(parameter) in chosen])

    outcome = task.tune(parameters, lr=options.lr, before_epoch=choose)
    ever = {name for chosen in history for name in chosen}
    last = [float(names[id(parameter)] in history[-1]) for parameter in parameters]
    return Adapted.by_tuning(
        outcome,
        [parameter for parameter in parameters if names[id(parameter)] in ever],
        selections=len(history),
        selected_shares=by_block(task.model, task.block_map, parameters, last),
    )
