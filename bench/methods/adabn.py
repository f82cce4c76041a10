"""AdaBN: BatchNorm's running statistics replaced by those of the target's images. No gradient, no label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, Predictor, UnlabelledTask

if TYPE_CHECKING:
    from torch import Tensor


class AdabnOptions(Options):
    """Attributes: batch: images whose statistics are taken at once; the batches' mean counts."""

    batch: Annotated[int, Field(ge=2, le=100_000)] = 64


METHOD = Method(
    name="adabn",
    about="replaces BatchNorm's running statistics by those of the images",
    labels="unused",
    needs=("BatchNorm",),
    options=AdabnOptions,
    cite="arXiv 1603.04779",
)


def adapt(task: UnlabelledTask, options: AdabnOptions) -> Adapted:
    """Run the images through the net once."""
    import torch

    from bench.training.layers import batch_statistics

    with torch.no_grad(), batch_statistics(task.model):
        for x in task.batches(options.batch, shuffle=False):
            task.logits(x)
    return Adapted(epochs_run=1)


def online(task: UnlabelledTask, options: AdabnOptions) -> Predictor:
    """Normalise each batch by its own statistics (prediction-time BatchNorm, arXiv 2006.10963)."""
    import torch

    from bench.training.layers import batch_statistics

    task.hold(batch_statistics(task.model, keep=False))

    def predict(x: Tensor) -> Tensor:
        with torch.no_grad():
            return task.logits(x)

    return predict
