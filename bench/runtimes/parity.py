"""Parity: how near a net in another runtime comes to the float model in torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BATCH = 64


@dataclass(frozen=True, slots=True)
class Parity:
    """A comparison of logits on the same images.

    Attributes:
        images: number of them.
        agreement: share of images of which both have the same class first.
        max_difference: largest difference between two logits.
        largest_logit: largest absolute logit of the float model, to set the difference against.
    """

    images: int
    agreement: float
    max_difference: float
    largest_logit: float


@torch.no_grad()
def parity(model: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], images: Tensor) -> Parity:
    """Compare the logits of two models of the same classes.

    Args:
        model: in float, in evaluation mode.
        images: [N, C, H, W], N at least 1.
    """
    pairs = [(model(x).float().cpu(), other(x).float().cpu()) for x in images.split(BATCH)]
    ours, theirs = (torch.cat(side) for side in zip(*pairs, strict=True))
    return of_logits(ours, theirs)


def of_logits(ours: Tensor, theirs: Tensor) -> Parity:
    """Compare two sets of logits of the same images, [N, K] each, the float model's first."""
    ours, theirs = ours.float().cpu(), theirs.float().cpu()
    return Parity(
        images=len(ours),
        agreement=float((ours.argmax(1) == theirs.argmax(1)).float().mean()),
        max_difference=float((ours - theirs).abs().max()),
        largest_logit=float(ours.abs().max()),
    )
