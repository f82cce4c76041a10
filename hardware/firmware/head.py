"""Head: softmax regression on features by stochastic gradient descent, as the firmware does it, in numpy.

For one example after the other, in an order that is drawn anew each epoch:

    p = softmax(W x + b),  g = p - onehot(y),  W <- W - r (g x^T + d W),  b <- b - r g

with the rate r and the decay d, from W = 0 and b = 0. The threshold at which the first part of a net answers alone,
for a share of examples, is the (1 - share)-quantile of its confidences max p on the stored features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Head:
    """Weights [classes, features] and biases [classes]."""

    weight: Floats
    bias: Floats

    def probabilities(self, features: Floats) -> Floats:
        """[N, features] -> [N, classes]."""
        logits = features @ self.weight.T + self.bias
        raised = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float32)
        shares: Floats = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares


def order(count: int, state: int) -> tuple[list[int], int]:
    """A permutation of `count` examples, and the next state of the generator.

    Fisher and Yates, from the last place down, with Marsaglia's xorshift32 (J. Stat. Softw. 8(14), 2003).
    """
    places = list(range(count))
    for last in range(count - 1, 0, -1):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        other = state % (last + 1)
        places[last], places[other] = places[other], places[last]
    return places, state


def train(
    features: Floats, labels: Labels, *, classes: int, epochs: int, rate: float, decay: float = 0.0, seed: int = 1
) -> Head:
    """Train a head.

    Args:
        features: [N, width].
        labels: [N], each below `classes`.
        seed: of the order of examples, not 0.
    """
    weight = np.zeros((classes, features.shape[1]), np.float32)
    bias = np.zeros(classes, np.float32)
    state, step, shrink = seed, np.float32(rate), np.float32(decay)
    for _ in range(epochs):
        places, state = order(len(features), state)
        for place in places:
            x = features[place]
            logits = weight @ x + bias
            p = np.exp(logits - logits.max())
            p = p / p.sum()
            p[labels[place]] -= np.float32(1)
            weight -= step * (np.outer(p, x) + shrink * weight)
            bias -= step * p
    return Head(weight, bias)


def threshold(confidences: Floats, share: float) -> float:
    """The confidence from which on the first part answers, so that it does for a share of these examples.

    0 and 1 mean never and always. Between two confidences it is linear (numpy's quantile).
    """
    if share <= 0:
        return 2.0
    return 0.0 if share >= 1 else float(np.quantile(confidences, 1 - share))
