"""The last layer solved at once: linear discriminant analysis on the features that the frozen net gives it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from bench.training.loop import Batchable, Outcome

SHRINKAGES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
"""Weights of the round covariance against the pooled one; validation chooses."""

SCALES = (0.1, 0.2, 0.4, 0.7, 1.0, 1.5)
"""Factors on the logits. The covariance is estimated from few images, which makes a discriminant too sure of itself."""

FLOOR = 1e-6
"""Of the mean variance, added to every variance: a feature that is always 0 has none."""


@torch.no_grad()
def solve(layer: nn.Linear, train: Batchable, val: Batchable) -> Outcome:
    """Set a linear layer to the discriminant of its input that has the lowest validation loss.

    With class means m_c, the pooled covariance S within the classes, shrunk towards t I (t: its mean variance) by s,
    and shares p_c of the classes: logit_c(x) = a (m_c' A x - m_c' A m_c / 2 + ln p_c), A = ((1 - s) S + s t I)^-1
    (Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2009, 4.3; regularised as in Friedman 1989,
    doi:10.1080/01621459.1989.10478752). s and the scale a are chosen on the validation images. A class without an
    image keeps no chance.

    Args:
        layer: n_features -> n_classes, with a bias.
        train: x [N, n_features], y [N].
        val: likewise.

    Returns:
        One pass over the images, one step.
    """
    features = torch.cat([train.x, *train.views]).flatten(1).double()
    labels = train.y.repeat(1 + len(train.views))
    val_features = val.x.double()
    n_classes = layer.out_features
    counts = torch.bincount(labels, minlength=n_classes).double()
    one_hot = F.one_hot(labels, n_classes).double()
    means = (one_hot.T @ features) / counts.clamp(min=1)[:, None]
    centred = features - means[labels]
    covariance = centred.T @ centred / max(1, len(features) - int((counts > 0).sum()))
    variance = covariance.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    identity = torch.eye(len(covariance), dtype=torch.float64, device=covariance.device)
    # a class that was never seen must not win by chance
    log_share = torch.where(counts > 0, (counts.clamp(min=1) / counts.sum()).log(), torch.tensor(-1e3).double())
    best_loss, best = float("inf"), None
    for shrinkage in SHRINKAGES:
        mixed = (1 - shrinkage) * covariance + (shrinkage + FLOOR) * variance * identity
        weight = torch.linalg.solve(mixed, means.T).T
        bias = log_share - 0.5 * (weight * means).sum(1)
        logits = val_features @ weight.T + bias
        for scale in SCALES:
            loss = float(F.cross_entropy(scale * logits, val.y))
            if loss < best_loss:
                best_loss, best = loss, (scale * weight, scale * bias)
    if best is not None:
        layer.weight.copy_(best[0])
        layer.bias.copy_(best[1])
    return Outcome(epochs_run=1, best_epoch=int(best is not None), steps=1, val_losses=(best_loss,))


def solve_macs(layer: nn.Linear, n_train: int, n_val: int) -> int:
    """Multiply-accumulates of `solve` by arithmetic: class means and covariance, and for each shrinkage an LU
    factorisation (n_features^3 / 3), its use for every class, and the validation logits.

    Args:
        layer: as in `solve`.
        n_train: feature vectors it is solved from, further versions of an image included.
        n_val: those it chooses on.
    """
    d, classes = layer.in_features, layer.out_features
    return n_train * d * (classes + d) + len(SHRINKAGES) * (d**3 // 3 + classes * d * d + n_val * d * classes)
