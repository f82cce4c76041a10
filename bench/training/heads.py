"""Heads: linear classifiers fitted to features that stay, in one of the ways a device may."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HISTORY = 10
"""Pairs that L-BFGS keeps, as scikit-learn's does."""

TOLERANCE = 1e-6
"""Of the largest gradient at which L-BFGS ends; below it no accuracy moves."""


def fit_logistic(layer: nn.Linear, x: Tensor, y: Tensor, *, c: float, max_iter: int = 200) -> int:
    """Set a linear layer to multinomial logistic regression.

    Minimises c * (sum of the cross-entropies) + |W|^2 / 2 by L-BFGS from zero; the bias is free, as in scikit-learn's
    LogisticRegression, which MicroT's stand-in for its board uses.

    Args:
        layer: n_features -> n_classes.
        x, y: [N, n_features] and int64 [N].

    Returns:
        Evaluations of the loss.
    """
    x = x.double()
    weight = torch.zeros_like(layer.weight, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros_like(layer.bias, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=max_iter, history_size=HISTORY, line_search_fn="strong_wolfe",
        tolerance_grad=TOLERANCE, tolerance_change=1e-12,
    )  # fmt: skip
    evaluations = 0

    def loss() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weight.T + bias, y) + weight.square().sum() / (2 * c * len(x))
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return evaluations


def fit_sgd(
    layer: nn.Linear, x: Tensor, y: Tensor, *, lr: float, epochs: int, batch: int, generator: torch.Generator
) -> int:
    """Train a linear layer from zero by plain SGD on the mean cross-entropy, as a microcontroller does.

    Args:
        generator: draws the order of the images.

    Returns:
        Steps.
    """
    steps = 0
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        for _ in range(epochs):
            for index in torch.randperm(len(x), generator=generator).split(batch):
                features = x[index.to(x.device)]
                probabilities = F.linear(features, layer.weight, layer.bias).softmax(1)
                probabilities[torch.arange(len(index)), y[index.to(y.device)]] -= 1
                layer.weight.sub_(probabilities.T @ features, alpha=lr / len(index))
                layer.bias.sub_(probabilities.sum(0), alpha=lr / len(index))
                steps += 1
    return steps
