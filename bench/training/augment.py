"""Random changes to the images that a model is trained on, so that few of them teach more."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

MOVE = 8
"""An image moves by up to an eighth of its side: 4 pixels at 32."""


MIN_AREA = 0.08
"""Of an image that `crop` keeps; its sides are up to 4 : 3."""

JITTER = 0.4
"""Brightness, contrast and saturation change by up to this share."""

Change = Callable[[Tensor, torch.Generator], Tensor]
"""(images [N, C, H, W], generator on the CPU) -> images of the same shape."""


def changer(wanted: bool | Literal["crop"], images: Tensor) -> Change:
    """The changes that a protocol asks for.

    Args:
        images: among the first to be changed; a pixel below 0 says that they go from -1 to 1.
    """
    if wanted == "crop":
        return partial(crop, signed=bool(images.min() < 0))
    return augment if wanted else keep


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


def crop(x: Tensor, generator: torch.Generator, *, signed: bool) -> Tensor:
    """A random part of each image, resized to all of it, mirrored or not, with its colours changed.

    Area from 0.08 to 1 of the image, sides from 3 : 4 to 4 : 3; brightness, contrast and saturation by 0.6 to 1.4: the
    usual changes for photographs (Szegedy et al. 2015; `RandomResizedCrop` and `ColorJitter` of torchvision), with one
    attempt at a shape that fits, which is then brought to the image's sides.

    Args:
        x: [N, C, H, W].
        generator: on the CPU, as in `augment`.
        signed: whether pixels go from -1 to 1, otherwise from 0 to 1.

    Returns:
        [N, C, H, W].
    """
    n, channels = x.shape[:2]
    drawn = torch.rand(8, n, generator=generator)
    area = MIN_AREA + (1 - MIN_AREA) * drawn[0]
    aspect = torch.exp((2 * drawn[1] - 1) * math.log(4 / 3))
    height, width = (area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = width * torch.where(drawn[2] < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (1 - width) * (2 * drawn[3] - 1)
    theta[:, 1, 2] = (1 - height) * (2 * drawn[4] - 1)
    grid = F.affine_grid(theta.to(x.device), list(x.shape), align_corners=False)
    part = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    part = (part + 1) / 2 if signed else part
    brightness, contrast, saturation = (
        (1 - JITTER + 2 * JITTER * one).to(x.device)[:, None, None, None] for one in drawn[5:]
    )
    part = (part * brightness).clamp(0, 1)
    part = _blend(part, _grey(part).mean((1, 2, 3), keepdim=True), contrast)
    if channels == 3:
        part = _blend(part, _grey(part), saturation)
    return part * 2 - 1 if signed else part


def _grey(x: Tensor) -> Tensor:
    """Luma of ITU-R BT.601, [N, 1, H, W]."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def _blend(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return (other + (x - other) * share).clamp(0, 1)
