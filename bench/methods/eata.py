"""EATA: TENT on images that are reliable and new, held near the source model where that matters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, Predictor, UnlabelledTask
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
    from bench.training.layers import each_batch, scales_and_shifts

    step = _Step(task, options)
    each_batch(task, step, epochs=options.epochs, batch=options.batch)
    return Adapted(
        epochs_run=options.epochs,
        steps=step.steps,
        trained_parameters=sum(parameter.numel() for parameter in scales_and_shifts(task.model)),
        facts={"learned_share": round(step.learned / step.seen, 4)},
    )


def online(task: UnlabelledTask, options: EataOptions) -> Predictor:
    """Predict a batch by its own statistics, then take the step, as published."""
    from bench.training.layers import batch_statistics

    task.hold(batch_statistics(task.model, keep=False))
    return _Step(task, options)


class _Step:
    """The step of a batch; called, it gives the predictions before it.

    Attributes:
        seen, learned: images so far, and those among them that were learned from.
        steps: that were taken.
    """

    def __init__(self, task: UnlabelledTask, options: EataOptions) -> None:
        import torch

        from bench.training.layers import freeze_but, scales_and_shifts

        parameters = scales_and_shifts(task.model)
        freeze_but(task.model, parameters)
        names = {id(parameter): name for name, parameter in task.model.named_parameters()}
        self._anchors = [
            (parameter, task.source_state[names[id(parameter)]], task.source_facts["fisher"][names[id(parameter)]])
            for parameter in parameters
        ]
        self._optimizer = torch.optim.SGD(parameters, lr=options.lr, momentum=0.9)
        self._task, self._options = task, options
        self._mean: Tensor | None = None
        self.seen = self.learned = self.steps = 0

    def __call__(self, x: Tensor) -> Tensor:
        import torch

        from bench.training.entropy import entropies, reliable_and_new

        task, options = self._task, self._options
        logits = task.logits(x)
        chosen, weights, self._mean = reliable_and_new(
            logits, self._mean, margin=options.margin * math.log(task.n_classes), max_cosine=options.max_cosine
        )
        self.seen, self.learned = self.seen + len(x), self.learned + len(weights)
        if len(weights):
            pull = torch.stack([(f * (p - source).square()).sum() for p, source, f in self._anchors]).sum()
            loss = (entropies(logits[chosen]) * weights).mean() + options.fisher * pull
            self._optimizer.zero_grad()
            task.backward(loss, len(x))
            self._optimizer.step()
            self.steps += 1
        return logits.detach()
