"""EATA: TENT on images that are reliable and new, held near the source model where that matters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, UnlabelledTask
from bench.suite.spec import NonNegative, Positive

if TYPE_CHECKING:
    from torch import Tensor


class EataOptions(Options):
    """Attributes:
    epochs: passes over the images.
    batch: images of a step.
    lr: of SGD with momentum 0.9.
    margin: entropy that an image must stay below, as a share of ln(classes).
    max_cosine: that its prediction may have with the mean of those learned from.
    fisher: weight of the pull to the source model.
    """

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    batch: Annotated[int, Field(ge=2, le=100_000)] = 64
    lr: Positive = 5e-3
    margin: Annotated[float, Field(gt=0, le=1)] = 0.4
    max_cosine: Annotated[float, Field(gt=0, le=1)] = 0.4
    fisher: NonNegative = 1.0


METHOD = Method(
    name="eata",
    about="as tent, on reliable and new images only, held near the source model by its Fisher information",
    labels="unused",
    needs=("normalisation",),
    source_facts=("fisher",),
    options=EataOptions,
    cite="arXiv 2204.02610",
)


def adapt(task: UnlabelledTask, options: EataOptions) -> Adapted:
    """Take steps on mean of weight x entropy + fisher x sum F (theta - theta_source)^2."""
    import torch

    from bench.training.entropy import entropies, reliable_and_new
    from bench.training.layers import batch_statistics, freeze_but, scales_and_shifts

    parameters = scales_and_shifts(task.model)
    freeze_but(task.model, parameters)
    names = {id(parameter): name for name, parameter in task.model.named_parameters()}
    anchors = [
        (parameter, task.source_state[names[id(parameter)]], task.source_facts["fisher"][names[id(parameter)]])
        for parameter in parameters
    ]
    optimizer = torch.optim.SGD(parameters, lr=options.lr, momentum=0.9)
    mean: Tensor | None = None
    seen = learned = steps = 0
    for _ in range(options.epochs):
        with batch_statistics(task.model):
            for x in task.batches(options.batch):
                logits = task.logits(x)
                chosen, weights, mean = reliable_and_new(
                    logits, mean, margin=options.margin * math.log(task.n_classes), max_cosine=options.max_cosine
                )
                seen, learned = seen + len(x), learned + len(weights)
                if not len(weights):
                    continue
                pull = torch.stack([(f * (p - source).square()).sum() for p, source, f in anchors]).sum()
                loss = (entropies(logits[chosen]) * weights).mean() + options.fisher * pull
                optimizer.zero_grad()
                task.backward(loss, len(x))
                optimizer.step()
                steps += 1
    return Adapted(
        epochs_run=options.epochs,
        steps=steps,
        trained_parameters=sum(p.numel() for p in parameters),
        facts={"learned_share": round(learned / seen, 4)},
    )
