"""MEMO: the whole net moved until all views of an image are classified alike, and surely.

Published for one test image at a time, with AugMix and a reset after each, which is its form for streams; over the
images at hand there is no reset, and a few are taken per step. Views are moved and mirrored here, and BatchNorm keeps
its source statistics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, Predictor, UnlabelledTask
from bench.suite.spec import Positive

if TYPE_CHECKING:
    from torch import Tensor


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


def online(task: UnlabelledTask, options: MemoOptions) -> Predictor:
    """Adapt to each image of a batch from the source model on, and predict it, as published."""
    import torch

    from bench.training.augment import augment
    from bench.training.entropy import marginal_entropy
    from bench.training.layers import freeze_but

    named = dict(task.model.named_parameters())
    freeze_but(task.model, named.values())
    task.model.eval()
    optimizer = torch.optim.SGD(named.values(), lr=options.lr)

    def predict(x: Tensor) -> Tensor:
        found = []
        for image in x.split(1):
            many = augment(image.repeat_interleave(options.views, dim=0), task.generator, mirror=options.mirror)
            optimizer.zero_grad()
            task.backward(marginal_entropy(task.logits(many)), len(many))
            optimizer.step()
            with torch.no_grad():
                found.append(task.logits(image))
                for name, parameter in named.items():
                    parameter.copy_(task.source_state[name])
        return torch.cat(found)

    return predict
