"""Random changes to the images that a source model is trained on, so that few of them teach more."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MOVE = 8
"""An image moves by up to an eighth of its side: 4 pixels at 32."""


def keep(x: Tensor, generator: torch.Generator) -> Tensor:
    """The images as they are."""
    return x


def augment(x: Tensor, generator: torch.Generator, *, mirror: bool = True) -> Tensor:
    """Each image mirrored or not, then moved along both axes; what moves in is 0.

    Args:
        x: [N, C, H, W], square.
        mirror: whether any is mirrored; it draws the same numbers if none is.
        generator: on the CPU, whatever x lies on, so that equal seeds give equal images everywhere.

    Returns:
        [N, C, H, W].
    """
    n, _, height, width = x.shape
    reach = width // MOVE
    mirrored = (torch.rand(n, generator=generator) < 0.5) & mirror
    moves = torch.randint(0, 2 * reach + 1, (2, n, 1), generator=generator)
    rows = moves[0] + torch.arange(height)
    columns = moves[1] + torch.arange(width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    padded = F.pad(x, (reach, reach, reach, reach)).permute(0, 2, 3, 1)
    image = torch.arange(n)[:, None, None]
    index = (part.to(x.device) for part in (image, rows[:, :, None], columns[:, None, :]))
    return padded[tuple(index)].permute(0, 3, 1, 2).contiguous()
