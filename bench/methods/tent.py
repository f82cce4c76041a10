"""TENT: scale and shift of normalisation layers, moved to make the predictions surer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, UnlabelledTask
from bench.suite.spec import Positive


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
    import torch

    from bench.training.entropy import entropies
    from bench.training.layers import batch_statistics, freeze_but, scales_and_shifts

    parameters = scales_and_shifts(task.model)
    freeze_but(task.model, parameters)
    optimizer, steps = torch.optim.Adam(parameters, lr=options.lr), 0
    for _ in range(options.epochs):
        with batch_statistics(task.model):
            for x in task.batches(options.batch):
                for _ in range(options.steps):
                    loss = entropies(task.logits(x)).mean()
                    optimizer.zero_grad()
                    task.backward(loss, len(x))
                    optimizer.step()
                    steps += 1
    return Adapted(epochs_run=options.epochs, steps=steps, trained_parameters=sum(p.numel() for p in parameters))
