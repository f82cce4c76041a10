"""T3A: the head rebuilt from the features of images that it is sure of. No gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, Predictor, UnlabelledTask

if TYPE_CHECKING:
    from torch import Tensor


class T3aOptions(Options):
    """Attributes:
    keep: features that make up a class, those with the surest predictions.
    batch: images at once.
    """

    keep: Annotated[int, Field(ge=1, le=100_000)] = 20
    batch: Annotated[int, Field(ge=2, le=100_000)] = 64


METHOD = Method(
    name="t3a",
    about="rebuilds the head from the features that it classifies most surely",
    labels="unused",
    needs=("linear head",),
    options=T3aOptions,
    cite="Iwasawa and Matsuo, NeurIPS 2021",
)


def adapt(task: UnlabelledTask, options: T3aOptions) -> Adapted:
    """Run the images through the net once and replace the head's rows."""
    import torch

    from bench.training.entropy import support_head
    from bench.training.layers import head_inputs, linear_head

    head = linear_head(task.model)
    assert head is not None
    task.model.eval()
    with torch.no_grad(), head_inputs(head) as seen:
        logits = torch.cat([task.logits(x) for x in task.batches(options.batch, shuffle=False)])
        rows, counts = support_head(head.weight, head.bias, torch.cat(seen), logits, options.keep)
        head.weight.copy_(rows)
        head.bias.zero_()
    return Adapted(epochs_run=1, facts={"supports": counts}, trained_parameters=head.weight.numel())


def online(task: UnlabelledTask, options: T3aOptions) -> Predictor:
    """Predict a batch by the supports of all images so far, its own among them, as published."""
    import torch
    from torch.nn import functional as F

    from bench.training.entropy import support_head, surest
    from bench.training.layers import head_inputs, linear_head

    head = linear_head(task.model)
    assert head is not None
    task.model.eval()
    seen = task.hold(head_inputs(head))
    features, logits = head.weight.new_empty(0, head.in_features), head.weight.new_empty(0, head.out_features)

    def predict(x: Tensor) -> Tensor:
        nonlocal features, logits
        with torch.no_grad():
            seen.clear()
            scores = task.logits(x)
            own = torch.cat(seen)
            features, logits = torch.cat([features, own]), torch.cat([logits, scores])
            rows, _ = support_head(head.weight, head.bias, features, logits, options.keep)
            kept = torch.cat(surest(logits, options.keep))  # no other can become a support later
            features, logits = features[kept], logits[kept]
            return F.linear(own, rows)

    return predict
