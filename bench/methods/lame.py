"""LAME: predictions brought to agree with those of similar images. The net stays as it is.

Published for a batch of test images; here the images at hand are settled among themselves once, and an image that is
classified later takes one step towards the predictions of its neighbours among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, Predictor, UnlabelledTask

if TYPE_CHECKING:
    from torch import Tensor, nn


class LameOptions(Options):
    """Attributes:
    neighbours: images that a prediction is brought to agree with.
    batch: images at once.
    """

    neighbours: Annotated[int, Field(ge=1, le=1000)] = 5
    batch: Annotated[int, Field(ge=2, le=100_000)] = 64


METHOD = Method(
    name="lame",
    about="brings predictions to agree with those of the nearest images, without changing the net",
    labels="unused",
    needs=("linear head",),
    options=LameOptions,
    cite="arXiv 2201.05718",
)


def adapt(task: UnlabelledTask, options: LameOptions) -> Adapted:
    """Run the images through the net once and settle their predictions."""
    import torch

    from bench.training.entropy import laplacian_assignments, neighbours
    from bench.training.layers import head_inputs, linear_head
    from bench.training.neighbours import Neighbours

    head = linear_head(task.model)
    assert head is not None
    task.model.eval()
    with torch.no_grad(), head_inputs(head) as seen:
        logits = torch.cat([task.logits(x) for x in task.batches(options.batch, shuffle=False)])
        features = torch.cat(seen)
        nearest = neighbours(features, features, options.neighbours, skip_self=True)
        settled = laplacian_assignments(logits, nearest)
    changed = float((settled.argmax(1) != logits.argmax(1)).float().mean())
    model = Neighbours(task.model, head, features, settled, options.neighbours)
    return Adapted(model=model, epochs_run=1, facts={"changed_share": round(changed, 4)})


def online(task: UnlabelledTask, options: LameOptions) -> Predictor:
    """Settle the predictions of each batch among themselves, as published."""
    import torch

    from bench.training.entropy import laplacian_assignments, neighbours
    from bench.training.layers import head_inputs, linear_head

    head = linear_head(task.model)
    assert head is not None
    task.model.eval()
    seen = task.hold(head_inputs(head))

    def predict(x: Tensor) -> Tensor:
        with torch.no_grad():
            seen.clear()
            logits = task.logits(x)
            features = torch.cat(seen)
            nearest = neighbours(features, features, options.neighbours, skip_self=True)
            return laplacian_assignments(logits, nearest).clamp_min(1e-30).log()

    return predict


def rebuild(model: nn.Module, state: Mapping[str, Tensor], options: LameOptions) -> nn.Module:
    """Put a kept model together again: the net, with the images' features and settled predictions."""
    from bench.training.layers import linear_head
    from bench.training.neighbours import Neighbours

    head = linear_head(model)
    assert head is not None
    return Neighbours(model, head, state["features"].clone(), state["settled"].clone(), options.neighbours)
