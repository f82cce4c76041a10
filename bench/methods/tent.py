"""TENT: scale and shift of normalisation layers, moved to make the predictions surer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, Predictor, UnlabelledTask
from bench.suite.spec import Positive

if TYPE_CHECKING:
    from torch import Tensor


class TentOptions(Options):
    """Attributes:
    epochs: passes over the images.
    steps: of Adam on each batch.
    batch: images of a step.
    lr: learning rate.
    """

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    steps: Annotated[int, Field(ge=1, le=1000)] = 1
    batch: Annotated[int, Field(ge=2, le=100_000)] = 64
    lr: Positive = 1e-3


METHOD = Method(
    name="tent",
    about="lowers the entropy of the predictions by scale and shift of the normalisation layers",
    labels="unused",
    needs=("normalisation",),
    options=TentOptions,
    cite="arXiv 2006.10726",
)


def adapt(task: UnlabelledTask, options: TentOptions) -> Adapted:
    """Take steps on the mean entropy; BatchNorm normalises by the batch, and keeps the last pass's statistics."""
    from bench.training.layers import each_batch, scales_and_shifts

    batches = each_batch(task, _step(task, options), epochs=options.epochs, batch=options.batch)
    trained = sum(parameter.numel() for parameter in scales_and_shifts(task.model))
    return Adapted(epochs_run=options.epochs, steps=batches * options.steps, trained_parameters=trained)


def online(task: UnlabelledTask, options: TentOptions) -> Predictor:
    """Predict a batch by its own statistics, then take the steps, as published."""
    from bench.training.layers import batch_statistics

    task.hold(batch_statistics(task.model, keep=False))
    return _step(task, options)


def _step(task: UnlabelledTask, options: TentOptions) -> Predictor:
    """The steps of a batch; gives the predictions before the first of them."""
    import torch

    from bench.training.entropy import entropies
    from bench.training.layers import freeze_but, scales_and_shifts

    parameters = scales_and_shifts(task.model)
    freeze_but(task.model, parameters)
    optimizer = torch.optim.Adam(parameters, lr=options.lr)

    def step(x: Tensor) -> Tensor:
        first: Tensor | None = None
        for _ in range(options.steps):
            logits = task.logits(x)
            first = logits.detach() if first is None else first
            optimizer.zero_grad()
            task.backward(entropies(logits).mean(), len(x))
            optimizer.step()
        assert first is not None
        return first

    return step
