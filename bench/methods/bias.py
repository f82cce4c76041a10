"""Biases, those of normalisation layers among them, and nothing else (BitFit)."""

from __future__ import annotations

from bench.methods import Adapted, Method, Options, Task
from bench.suite.spec import Positive


class BiasOptions(Options):
    """Attributes: lr: learning rate; null: the suite's."""

    lr: Positive | None = None


METHOD = Method(
    name="bias",
    about="tunes every bias, the shifts of normalisation layers among them",
    labels="needed",
    needs=("biases",),
    options=BiasOptions,
    cite="arXiv 2106.10199",
)


def adapt(task: Task, options: BiasOptions) -> Adapted:
    """Tune the biases by the suite's protocol."""
    from bench.training.layers import biases

    parameters = biases(task.model)
    return Adapted.by_tuning(task.tune(parameters, lr=options.lr), parameters)
