"""SAR: TENT on reliable images, towards a flat minimum of the entropy, with a reset where it collapses."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from bench.methods import Adapted, Method, Options, UnlabelledTask
from bench.suite.spec import NonNegative, Positive


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
    import torch

    from bench.training.entropy import entropies
    from bench.training.layers import batch_statistics, freeze_but, lower_blocks, scales_and_shifts

    within = lower_blocks(task.model, task.block_map) if options.layers == "lower" else None
    parameters = scales_and_shifts(task.model, within) or scales_and_shifts(task.model)
    freeze_but(task.model, parameters)
    optimizer = torch.optim.SGD(parameters, lr=options.lr, momentum=0.9)
    margin = options.margin * math.log(task.n_classes)
    seen = learned = steps = resets = 0
    moving: float | None = None
    for _ in range(options.epochs):
        with batch_statistics(task.model):
            for x in task.batches(options.batch):
                entropy = entropies(task.logits(x))
                chosen = entropy < margin
                seen, learned = seen + len(x), learned + int(chosen.sum())
                if not chosen.any():
                    continue
                optimizer.zero_grad()
                task.backward(entropy[chosen].mean(), len(x))
                length = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
                moves = [options.rho * p.grad / (length + 1e-12) for p in parameters if p.grad is not None]
                with torch.no_grad():
                    for parameter, move in zip(parameters, moves, strict=True):
                        parameter.add_(move)
                again = entropies(task.logits(x))[chosen]
                reliable = again[again < margin]
                optimizer.zero_grad()
                if len(reliable):
                    task.backward(reliable.mean(), len(x))
                    value = float(reliable.detach().mean())
                    moving = value if moving is None else 0.9 * moving + 0.1 * value
                with torch.no_grad():
                    for parameter, move in zip(parameters, moves, strict=True):
                        parameter.sub_(move)
                optimizer.step()  # nothing where no image was reliable the second time
                steps += 1
                if moving is not None and moving < options.reset:
                    with torch.no_grad():
                        for name, parameter in task.model.named_parameters():
                            parameter.copy_(task.source_state[name])
                    optimizer.state.clear()
                    moving, resets = None, resets + 1
    return Adapted(
        epochs_run=options.epochs,
        steps=steps,
        trained_parameters=sum(p.numel() for p in parameters),
        facts={"learned_share": round(learned / seen, 4), "resets": resets},
    )
