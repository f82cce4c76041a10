"""Tune a block set that the suite names. TBFT is this too, with the block that the shift's level calls for."""

from __future__ import annotations

from bench.methods import Adapted, Method, Options, Task


class FixedOptions(Options):
    """Attributes: blocks: of the model, or `full` alone."""

    blocks: tuple[str, ...] = ("full",)


METHOD = Method(
    name="fixed",
    about="tunes the blocks that the suite names",
    labels="needed",
    options=FixedOptions,
    cite="arXiv 2403.15905",
)


def adapt(task: Task, options: FixedOptions) -> Adapted:
    """Tune the parameters of the blocks by the suite's protocol."""
    from bench.models.blocks import train_only

    parameters = train_only(task.model, task.block_map, options.blocks)
    return Adapted.by_tuning(task.tune(parameters), parameters)
