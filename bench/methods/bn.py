"""Scale and shift of normalisation layers, and nothing else."""

from __future__ import annotations

from bench.methods import Adapted, Method, Options, Task
from bench.suite.spec import Positive


class BnOptions(Options):
    """Attributes: lr: learning rate; null: the suite's."""

    lr: Positive | None = None


METHOD = Method(
    name="bn",
    about="tunes scale and shift of every normalisation layer",
    labels="needed",
    needs=("normalisation",),
    options=BnOptions,
    cite="arXiv 2003.00152",
)


def adapt(task: Task, options: BnOptions) -> Adapted:
    """Tune the scales and shifts by the suite's protocol."""
    from bench.training.layers import scales_and_shifts

    parameters = scales_and_shifts(task.model)
    return Adapted.by_tuning(task.tune(parameters, lr=options.lr), parameters)
