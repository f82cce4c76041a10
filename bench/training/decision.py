"""Decision: when a part model answers and when the rest runs (stage decision of MicroT, arXiv 2403.08040)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

NEVER = 2.0
"""A threshold above every confidence: all images go on."""

DRAWS, DRAWN = 200, 10
"""Of the released script: so many times, quartiles of so many confidences."""

BINS = 15


def confidences(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """The largest class probability of each image, [N, K] -> [N]."""
    return (logits / temperature).softmax(1).amax(1)


def threshold(found: Tensor, ratio: float) -> float:
    """The confidence that a share of images reaches: their (1 - ratio) quantile, linear between order statistics.

    Args:
        found: confidences of images without labels, [N].
        ratio: share that the part is to answer; at 0 none, at 1 all of whatever comes.
    """
    if ratio <= 0:
        return NEVER
    if ratio >= 1:
        return 0.0
    return float(np.quantile(found.double().cpu().numpy(), 1 - ratio))


def published_threshold(found: Tensor, ratio: float, seed: int) -> float:
    """As the released script: the mean over 200 draws of the quantile of 10 confidences.

    That pulls outer quantiles inwards: of uniform confidences the mean lower quartile is 3.25 / 11 = 0.2955.
    """
    if ratio <= 0 or ratio >= 1:
        return threshold(found, ratio)
    rng, values = np.random.default_rng(seed), found.double().cpu().numpy()
    n = min(DRAWN, len(values))
    return float(np.mean([np.quantile(rng.choice(values, n, replace=False), 1 - ratio) for _ in range(DRAWS)]))


def calibration_error(found: Tensor, right: Tensor, bins: int = BINS) -> float:
    """Expected calibration error: mean over images of |accuracy - confidence| of their bin of confidence.

    Args:
        found: confidences, [N].
        right: whether the prediction was, [N].
    """
    place = (found * bins).long().clamp(max=bins - 1)
    hits, sums = torch.zeros(2, bins, dtype=torch.float64, device=found.device)
    hits.index_add_(0, place, right.double())
    sums.index_add_(0, place, found.double())
    return float((hits - sums).abs().sum() / len(found))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the lowest cross-entropy (Guo et al. 2017, arXiv 1706.04599), from 0.05 to 20.

    The loss has one minimum in 1 / temperature: golden-section search on its logarithm.
    """
    logits = logits.double()

    def loss(log_t: float) -> float:
        return float(F.cross_entropy(logits / np.exp(log_t), labels))

    low, high, golden = np.log(0.05), np.log(20.0), (np.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


@dataclass(frozen=True, slots=True)
class Decision:
    """When the part answers.

    Attributes:
        threshold: smallest confidence at which it does.
        temperature: its logits are divided by it.
    """

    threshold: float
    temperature: float = 1.0

    def stays(self, logits: Tensor) -> Tensor:
        """Whether the part answers, [N, K] -> [N]."""
        return confidences(logits, self.temperature) >= self.threshold
