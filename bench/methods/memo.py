"""MEMO: the whole net moved until all views of an image are classified alike, and surely.

Published for one test image at a time, with AugMix and a reset after each; here over the images at hand without a
reset, a few per step, with views that are moved and mirrored, and BatchNorm at its source statistics.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, UnlabelledTask
from bench.suite.spec import Positive


class MemoOptions(Options):
    """Attributes:
    batch: images of a step; 1 is nearest to what was published, and collapses where nothing is reset.
    views: versions of an image.
    mirror: whether views may be mirrored, which must not change the class.
    lr: of SGD.
    """

    batch: Annotated[int, Field(ge=1, le=100_000)] = 16
    views: Annotated[int, Field(ge=2, le=1024)] = 32
    mirror: bool = True
    lr: Positive = 5e-3


METHOD = Method(
    name="memo",
    about="lowers the entropy of the mean prediction of an image's views by the whole net",
    labels="unused",
    options=MemoOptions,
    cite="arXiv 2110.09506",
)


def adapt(task: UnlabelledTask, options: MemoOptions) -> Adapted:
    """Take steps on the entropy of the mean prediction of an image's views, its mean over a batch."""
    import torch

    from bench.training.augment import augment
    from bench.training.entropy import marginal_entropy
    from bench.training.layers import freeze_but

    parameters = list(task.model.parameters())
    freeze_but(task.model, parameters)
    task.model.eval()
    optimizer = torch.optim.SGD(parameters, lr=options.lr)
    order, steps = torch.randperm(len(task.images), generator=task.generator), 0
    for index in order.to(task.images.device).split(options.batch):
        many = task.images[index].repeat_interleave(options.views, dim=0)
        logits = task.logits(augment(many, task.generator, mirror=options.mirror))
        loss = torch.stack([marginal_entropy(views) for views in logits.split(options.views)]).mean()
        optimizer.zero_grad()
        task.backward(loss, len(many))
        optimizer.step()
        steps += 1
    return Adapted(epochs_run=1, steps=steps, trained_parameters=sum(p.numel() for p in parameters))
