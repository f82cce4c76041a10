"""Methods: how a model is adapted, one file each, found without a list.

A file has METHOD, what is known before a model is there, and `adapt(task, options)`, which changes the task's model.
It imports torch inside `adapt`, so that `jouletune --help`, `ls` and `validate` stay fast. Where `METHOD.labels` is
`needed` the task is a `Task`, with labelled training and validation images; otherwise it is an `UnlabelledTask`.

A file may have `online(task, options)` too, for a stream of images without labels: it gives back a Predictor, which is
called with each batch as it arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.catalog.methods import Method, Options
from bench.training.task import Adapted, Task, UnlabelledTask

if TYPE_CHECKING:
    from torch import Tensor

Predictor = Callable[["Tensor"], "Tensor"]
"""Images [N, C, H, W] -> logits [N, n_classes] that count as the prediction; it may adapt the model to them."""

__all__ = ["Adapted", "Method", "Options", "Predictor", "Task", "UnlabelledTask"]
