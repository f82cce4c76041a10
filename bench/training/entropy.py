"""Entropies of predictions, and the rules that methods without labels make of them. Natural logarithms throughout."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def entropies(logits: Tensor) -> Tensor:
    """Entropy of the prediction of each image: [N, n_classes] -> [N]."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def cross_entropies(logits: Tensor, others: Tensor) -> Tensor:
    """-sum q log p of each image, p the prediction of `logits`, q that of `others`: [N, n_classes] x 2 -> [N]."""
    return -(others.softmax(1) * logits.log_softmax(1)).sum(1)


def marginal_entropy(logits: Tensor) -> Tensor:
    """Entropy of the mean prediction of several views of one image: [n_views, n_classes] -> scalar (MEMO, eq. 4)."""
    mean = logits.log_softmax(1).logsumexp(0) - math.log(len(logits))
    return -(mean.exp() * mean).sum()


def information_maximisation(logits: Tensor) -> Tensor:
    """Mean entropy of the predictions less the entropy of their mean: sure of each image, and diverse (SHOT, eq. 3)."""
    mean = logits.softmax(1).mean(0)
    return entropies(logits).mean() + (mean * (mean + 1e-5).log()).sum()


def reliable_and_new(
    logits: Tensor, mean_prediction: Tensor | None, *, margin: float, max_cosine: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Which images EATA learns from, and with what weight (Niu et al. 2022, eq. 2 to 5).

    Args:
        logits: [N, n_classes].
        mean_prediction: moving mean of the predictions learned from so far, [n_classes]; None at first.
        margin: E_0, the entropy that an image must stay below.
        max_cosine: that the prediction may have with the moving mean, in absolute value.

    Returns:
        Mask [N]; weight exp(E_0 - entropy) of each image of it; the new moving mean, 0.9 of the old one.
    """
    entropy, predictions = entropies(logits.detach()), logits.detach().softmax(1)
    chosen = entropy < margin
    if mean_prediction is not None:
        chosen &= F.cosine_similarity(mean_prediction[None], predictions).abs() < max_cosine
    if chosen.any():
        new = predictions[chosen].mean(0)
        mean_prediction = new if mean_prediction is None else 0.9 * mean_prediction + 0.1 * new
    return chosen, (margin - entropy[chosen]).exp(), mean_prediction


def pseudo_labels(features: Tensor, logits: Tensor) -> Tensor:
    """The class whose centre is nearest by cosine distance, centres first weighted by predictions, then by these
    classes (SHOT, eq. 4 to 6; released code: features get a 1 appended and have length 1).

    Args:
        features: [N, n_features].
        logits: [N, n_classes].

    Returns:
        [N] int64.
    """
    points = F.normalize(torch.cat([features, torch.ones_like(features[:, :1])], 1), dim=1)
    weights = logits.softmax(1)
    labels = logits.argmax(1)
    for _ in range(2):
        centres = (weights.T @ points) / (weights.sum(0)[:, None] + 1e-8)
        similarity = points @ F.normalize(centres, dim=1).T
        empty = weights.sum(0) <= 0  # a class that nothing was given to attracts nothing
        labels = similarity.masked_fill(empty, -2.0).argmax(1)
        weights = F.one_hot(labels, logits.shape[1]).to(points.dtype)
    return labels


def support_head(weight: Tensor, bias: Tensor, features: Tensor, logits: Tensor, keep: int) -> tuple[Tensor, list[int]]:
    """The linear head that T3A makes of the features of unlabelled images (Iwasawa and Matsuo 2021, eq. 2 to 4).

    The supports of a class are its row of the source head and the features predicted to be of it; the `keep` with the
    least entropy remain; the class's new row is the sum of their directions, of length 1.

    Args:
        weight, bias: of the source head, [n_classes, n_features] and [n_classes].
        features: [N, n_features].
        logits: their predictions by the source head.
        keep: supports per class.

    Returns:
        Rows [n_classes, n_features], to be used without a bias, and the supports of each class.
    """
    own = F.linear(weight, weight, bias)  # the head's view of its own rows
    best = surest(torch.cat([own, logits]), keep)
    directions = F.normalize(torch.cat([weight, features]), dim=1)
    rows = torch.stack([directions[members].sum(0) for members in best])
    return F.normalize(rows, dim=1), [len(members) for members in best]


def surest(logits: Tensor, keep: int) -> list[Tensor]:
    """Numbers of the `keep` rows predicted to be of each class whose entropy is least: [N, n_classes] -> n_classes."""
    labels, entropy = logits.argmax(1), entropies(logits)
    members = [(labels == number).nonzero()[:, 0] for number in range(logits.shape[1])]
    return [of_class[entropy[of_class].argsort()[:keep]] for of_class in members]


def neighbours(features: Tensor, among: Tensor, k: int, *, skip_self: bool) -> Tensor:
    """Numbers [N, k] of the nearest of `among` [M, n_features] to each of `features` [N, n_features], by direction."""
    similarity = F.normalize(features, dim=1) @ F.normalize(among, dim=1).T
    if skip_self:
        similarity = similarity.clone().fill_diagonal_(-2.0)
    return similarity.topk(min(k, len(among) - skip_self), dim=1).indices


def laplacian_assignments(logits: Tensor, nearest: Tensor, *, rounds: int = 100, tolerance: float = 1e-6) -> Tensor:
    """The predictions that agree with those of the neighbours: the fixed point of z = softmax(log p + sum_j z_j)
    (LAME, Boudiaf et al. 2022, eq. 7, affinity 1 to each of the k nearest).

    Args:
        logits: [N, n_classes].
        nearest: [N, k], numbers among the same N.

    Returns:
        [N, n_classes], rows sum to 1.
    """
    log_p = logits.log_softmax(1)
    z = log_p.exp()
    for _ in range(rounds):
        before, z = z, (log_p + z[nearest].sum(1)).softmax(1)
        if (z - before).abs().max() < tolerance:
            break
    return z
