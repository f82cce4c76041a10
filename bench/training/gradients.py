"""Gradients of labelled images as criteria of what to tune: of a batch, and of every image alone.

The model is in evaluation mode throughout, so that BatchNorm's statistics stay and an image has a gradient of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.training.loop import Batchable
from bench.training.task import Task

CHUNK = 16
"""Images whose gradients are held at once: each has the size of the model."""

TINY = 1e-30
RELEASED_EPSILON = 1e-8
"""Added to the variance in the released code of surgical fine-tuning."""


def batch_gradients(
    task: Task, parameters: list[nn.Parameter], batch_size: int, limit: int | None = None
) -> Iterator[tuple[int, list[Tensor]]]:
    """The gradient of the mean cross-entropy of one batch after the other, in the images' order.

    Args:
        parameters: with requires_grad.
        limit: batches at most; None: all.

    Yields:
        (images of the batch, gradient of each parameter).
    """
    task.model.eval()
    pairs = zip(task.train.x.split(batch_size), task.train.y.split(batch_size), strict=True)
    for number, (x, y) in enumerate(pairs):
        if limit is not None and number >= limit:
            return
        gradients = torch.autograd.grad(F.cross_entropy(task.logits(x), y), parameters)
        task.count_steps(len(x))
        yield len(x), list(gradients)


def mean_gradient(task: Task, parameters: list[nn.Parameter], batch_size: int) -> list[Tensor]:
    """The gradient of the mean cross-entropy of all training images."""
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for n, gradients in batch_gradients(task, parameters, batch_size):
        for value, gradient in zip(total, gradients, strict=True):
            value.add_(gradient, alpha=n / len(task.train.x))
    return total


def relative_norms(gradients: list[Tensor], parameters: list[nn.Parameter]) -> Tensor:
    """RGN_i = |g_i| / |theta_i| of each tensor; 0 for one that is all zeros (Lee et al. 2023, arXiv 2210.11466)."""
    norms = torch.stack([parameter.detach().norm() for parameter in parameters])
    ratios = torch.stack([gradient.norm() for gradient in gradients]) / norms.clamp(min=TINY)
    return torch.where(norms > 0, ratios, torch.zeros_like(ratios))


def sample_moments(model: nn.Module, parameters: list[nn.Parameter], data: Batchable) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance over the images of the gradient of each element, for each parameter.

    The variance divides by the number of images. The model must be in evaluation mode.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    chosen = {names[id(parameter)]: parameter.detach() for parameter in parameters}
    held = {
        name: value.detach()
        for name, value in [*model.named_parameters(), *model.named_buffers()]
        if name not in chosen
    }

    def loss(tuned: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, {**tuned, **held}, (x[None],))
        return F.cross_entropy(logits, y[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    for x, y in zip(data.x.split(CHUNK), data.y.split(CHUNK), strict=True):
        gradients = each(chosen, x, y)
        for place, name in enumerate(chosen):
            sums[place] += gradients[name].sum(0)
            squares[place] += gradients[name].square().sum(0)
    n = len(data.x)
    means = [value / n for value in sums]
    return [(mean, (square / n - mean.square()).clamp(min=0)) for mean, square in zip(means, squares, strict=True)]


def signal_to_noise(moments: list[tuple[Tensor, Tensor]]) -> Tensor:
    """SNR_i: mean over the elements of a tensor of mean(g)^2 / variance(g) over the images."""
    return torch.stack([(mean.square() / variance.clamp(min=TINY)).mean() for mean, variance in moments])


def released_signal_to_noise(gradients: list[Tensor]) -> Tensor:
    """The criterion of the released code: mean of g^2 / (variance of g over its first dimension + 1e-8)."""
    return torch.stack(
        [(g.square() / (g.var(0) + RELEASED_EPSILON)).mean() if len(g) > 1 else g.new_zeros(()) for g in gradients]
    )


def trial_importance(task: Task, parameters: list[nn.Parameter], lr: float) -> list[float]:
    """How much one step along the gradient lowers the loss, tensor by tensor, to first order: I_k = lr sum(g'_k g_k).

    g is the gradient of a batch, g' that of the same batch after a plain step -lr g of all tensors (ElasticTrainer,
    Huang et al. 2023, eq. 3). The largest importance is brought to 1; the model is left as it was.
    """
    task.model.eval()
    for parameter in parameters:
        parameter.requires_grad_()
    index = torch.randperm(len(task.train.x), generator=task.generator)[: task.batch_size].to(task.train.x.device)
    batch = Batchable(task.train.x[index], task.train.y[index])
    before = [parameter.detach().clone() for parameter in parameters]
    first = _gradient(task, parameters, batch)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, first, strict=True):
            parameter.sub_(gradient, alpha=lr)
    second = _gradient(task, parameters, batch)
    with torch.no_grad():
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(value)
    gains = torch.stack([lr * (a * b).sum() for a, b in zip(first, second, strict=True)])
    found: list[float] = (gains / gains.max().clamp(min=TINY)).tolist()
    return found


def _gradient(task: Task, parameters: list[nn.Parameter], batch: Batchable) -> tuple[Tensor, ...]:
    gradients = torch.autograd.grad(F.cross_entropy(task.logits(batch.x), batch.y), parameters)
    task.count_steps(len(batch.x))
    return gradients
