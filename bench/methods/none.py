"""None: the source model as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.methods import Adapted, Method, Options, Predictor, UnlabelledTask

if TYPE_CHECKING:
    from torch import Tensor

METHOD = Method(name="none", about="leaves the source model as it is", labels="unused", idle=True)


def adapt(task: UnlabelledTask, options: Options) -> Adapted:
    """Do nothing."""
    return Adapted()


def online(task: UnlabelledTask, options: Options) -> Predictor:
    """Classify only."""
    import torch

    task.model.eval()

    def predict(x: Tensor) -> Tensor:
        with torch.no_grad():
            return task.logits(x)

    return predict
