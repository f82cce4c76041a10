"""Blocks drawn by the cell's seed: what choosing without looking gives."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, Task


class RandomOptions(Options):
    """Attributes: count: blocks that are drawn, at most as many as the model has."""

    count: Annotated[int, Field(ge=1, le=100)] = 1


METHOD = Method(name="random", about="tunes blocks drawn by the seed", labels="needed", options=RandomOptions)


def adapt(task: Task, options: RandomOptions) -> Adapted:
    """Draw the blocks and tune them by the suite's protocol."""
    import torch

    from bench.models.blocks import train_only

    names = list(task.block_map)
    drawn = torch.randperm(len(names), generator=task.generator)[: options.count].tolist()
    blocks = tuple(names[index] for index in sorted(drawn))
    parameters = train_only(task.model, task.block_map, blocks)
    return Adapted.by_tuning(task.tune(parameters), parameters, blocks=list(blocks))
