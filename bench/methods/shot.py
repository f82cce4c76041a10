"""SHOT: everything but the head, moved to sure and diverse predictions and to labels from clusters of the features."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, UnlabelledTask
from bench.suite.spec import NonNegative, Positive


class ShotOptions(Options):
    """Attributes:
    epochs: passes over the images; the labels from clusters are taken anew before each.
    batch: images of a step.
    lr: of SGD with momentum 0.9 at first; it falls as (1 + 10 progress)^-0.75.
    pseudo: weight of the cross-entropy to the labels from clusters.
    """

    epochs: Annotated[int, Field(ge=1, le=1000)] = 15
    batch: Annotated[int, Field(ge=2, le=100_000)] = 64
    lr: Positive = 1e-2
    pseudo: NonNegative = 0.3


METHOD = Method(
    name="shot",
    about="tunes all but the head to sure and diverse predictions, with labels from clusters of the features",
    labels="unused",
    needs=("linear head",),
    options=ShotOptions,
    cite="arXiv 2002.08546",
)


def adapt(task: UnlabelledTask, options: ShotOptions) -> Adapted:
    """Take steps on information maximisation + pseudo x cross-entropy to the labels from clusters."""
    import torch
    from torch.nn import functional as F

    from bench.training.entropy import information_maximisation, pseudo_labels
    from bench.training.layers import batch_statistics, freeze_but, head_inputs, linear_head

    head = linear_head(task.model)
    assert head is not None
    frozen = {id(parameter) for parameter in head.parameters()}
    parameters = [parameter for parameter in task.model.parameters() if id(parameter) not in frozen]
    freeze_but(task.model, parameters)
    optimizer = torch.optim.SGD(parameters, lr=options.lr, momentum=0.9, weight_decay=1e-3, nesterov=True)
    device, n = task.images.device, len(task.images)
    parts = max(1, min(-(-n // options.batch), n // 2))
    total, steps = options.epochs * parts, 0
    for epoch in range(options.epochs):
        with torch.no_grad(), head_inputs(head) as seen, batch_statistics(task.model, keep=epoch > 0):
            logits = torch.cat([task.logits(x) for x in task.batches(options.batch, shuffle=False)])
        labels = pseudo_labels(torch.cat(seen), logits)
        with batch_statistics(task.model):
            for index in torch.randperm(n, generator=task.generator).to(device).tensor_split(parts):
                x = task.images[index]
                for group in optimizer.param_groups:
                    group["lr"] = options.lr * (1 + 10 * steps / total) ** -0.75
                logits = task.logits(x)
                loss = information_maximisation(logits) + options.pseudo * F.cross_entropy(logits, labels[index])
                optimizer.zero_grad()
                task.backward(loss, len(x))
                optimizer.step()
                steps += 1
    return Adapted(epochs_run=options.epochs, steps=steps, trained_parameters=sum(p.numel() for p in parameters))
