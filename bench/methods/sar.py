"""SAR: TENT on reliable images, towards a flat minimum of the entropy, with a reset where it collapses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from bench.methods import Adapted, Method, Options, Predictor, UnlabelledTask
from bench.suite.spec import NonNegative, Positive

if TYPE_CHECKING:
    from torch import Tensor


class SarOptions(Options):
    """Attributes:
    epochs: passes over the images.
    batch: images of a step.
    lr: of SGD with momentum 0.9.
    rho: length of the step to where the gradient is taken.
    margin: entropy that an image must stay below, as a share of ln(classes).
    reset: mean entropy below which the source model is taken up again.
    layers: `lower`: without the block before the head, as published; `all`.
    """

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    batch: Annotated[int, Field(ge=2, le=100_000)] = 64
    lr: Positive = 1e-3
    rho: Positive = 0.05
    margin: Annotated[float, Field(gt=0, le=1)] = 0.4
    reset: NonNegative = 0.2
    layers: Literal["lower", "all"] = "lower"


METHOD = Method(
    name="sar",
    about="as tent, on reliable images only, with gradients from the worst point nearby",
    labels="unused",
    needs=("normalisation",),
    options=SarOptions,
    cite="arXiv 2302.12400",
)


def adapt(task: UnlabelledTask, options: SarOptions) -> Adapted:
    """Take steps with the gradient at theta + rho g / |g|, g the gradient of the mean entropy at theta."""
    from bench.training.layers import each_batch

    step = _Step(task, options)
    each_batch(task, step, epochs=options.epochs, batch=options.batch)
    return Adapted(
        epochs_run=options.epochs,
        steps=step.steps,
        trained_parameters=step.trained_parameters,
        facts={"learned_share": round(step.learned / step.seen, 4), "resets": step.resets},
    )


def online(task: UnlabelledTask, options: SarOptions) -> Predictor:
    """Predict a batch by its own statistics, then take the step, as published."""
    from bench.training.layers import batch_statistics

    task.hold(batch_statistics(task.model, keep=False))
    return _Step(task, options)


class _Step:
    """The step of a batch; called, it gives the predictions before it.

    Attributes:
        seen, learned: images so far, and those among them that were reliable.
        steps: that were taken.
        resets: how often the source model was taken up again.
    """

    def __init__(self, task: UnlabelledTask, options: SarOptions) -> None:
        import torch

        from bench.training.layers import freeze_but, lower_blocks, scales_and_shifts

        within = lower_blocks(task.model, task.block_map) if options.layers == "lower" else None
        self._parameters = scales_and_shifts(task.model, within) or scales_and_shifts(task.model)
        freeze_but(task.model, self._parameters)
        self._optimizer = torch.optim.SGD(self._parameters, lr=options.lr, momentum=0.9)
        self._task, self._options = task, options
        self._margin = options.margin * math.log(task.n_classes)
        self._moving: float | None = None
        self.seen = self.learned = self.steps = self.resets = 0
        self.trained_parameters = sum(parameter.numel() for parameter in self._parameters)

    def __call__(self, x: Tensor) -> Tensor:
        from bench.training.entropy import entropies

        logits = self._task.logits(x)
        entropy = entropies(logits)
        chosen = entropy < self._margin
        self.seen, self.learned = self.seen + len(x), self.learned + int(chosen.sum())
        if chosen.any():
            self._learn(x, entropy, chosen)
        return logits.detach()

    def _learn(self, x: Tensor, entropy: Tensor, chosen: Tensor) -> None:
        import torch

        from bench.training.entropy import entropies

        task, parameters, optimizer = self._task, self._parameters, self._optimizer
        optimizer.zero_grad()
        task.backward(entropy[chosen].mean(), len(x))
        length = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
        moves = [self._options.rho * p.grad / (length + 1e-12) for p in parameters if p.grad is not None]
        with torch.no_grad():
            for parameter, move in zip(parameters, moves, strict=True):
                parameter.add_(move)
        again = entropies(task.logits(x))[chosen]
        reliable = again[again < self._margin]
        optimizer.zero_grad()
        if len(reliable):
            task.backward(reliable.mean(), len(x))
            value = float(reliable.detach().mean())
            self._moving = value if self._moving is None else 0.9 * self._moving + 0.1 * value
        with torch.no_grad():
            for parameter, move in zip(parameters, moves, strict=True):
                parameter.sub_(move)
        optimizer.step()  # nothing where no image was reliable the second time
        self.steps += 1
        if self._moving is not None and self._moving < self._options.reset:
            with torch.no_grad():
                for name, parameter in task.model.named_parameters():
                    parameter.copy_(task.source_state[name])
            optimizer.state.clear()
            self._moving, self.resets = None, self.resets + 1
