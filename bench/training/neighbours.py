"""Neighbours: a net whose predictions are brought to agree with those of similar images that it has kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.training.entropy import neighbours
from bench.training.layers import head_inputs


class Neighbours(nn.Module):
    """One step of LAME's fixed point towards settled predictions: log of p(x) exp(sum of the k nearest z), normalised.

    Args:
        net: that ends in `head`.
        features: what reached the head for the images that were kept, [N, n_features].
        settled: their predictions, [N, n_classes].
        k: neighbours that count.
    """

    def __init__(self, net: nn.Module, head: nn.Linear, features: Tensor, settled: Tensor, k: int) -> None:
        super().__init__()
        self.net = net
        self.k = k
        self._head = [head]  # in a list: it is a part of the net already
        self.register_buffer("features", features)
        self.register_buffer("settled", settled)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, n_classes]."""
        assert isinstance(self.features, Tensor)
        assert isinstance(self.settled, Tensor)
        with torch.no_grad(), head_inputs(self._head[0]) as seen:
            logits: Tensor = self.net(x)
        nearest = neighbours(seen[0], self.features, self.k, skip_self=False)
        return (logits.log_softmax(1) + self.settled[nearest].sum(1)).log_softmax(1)
