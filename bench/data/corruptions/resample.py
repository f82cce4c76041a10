"""Resampling for several corruptions: zooming, smearing along a line, sampling between pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Pixels = npt.NDArray[np.uint8]
Float = npt.NDArray[Any]
"""float32 or float64, of the full scale."""
Index = npt.NDArray[np.int64]
Fold = Callable[[Index, int], Index]
"""Index of any size, length of the axis -> index on the axis: what lies beyond the border."""


def clipped_zoom(x: Float, factor: float) -> Float:
    """Each image's centre, enlarged linearly to the image's size.

    Args:
        x: [N, H, W, C].
        factor: at least 1; the centre is ceil(side / factor) pixels wide.
    """
    n, height, width, channels = x.shape
    rows, columns = (_zoom_matrix(side, factor).astype(x.dtype) for side in (height, width))
    planes = x.transpose(0, 3, 1, 2).reshape(n * channels, height, width)
    zoomed = rows @ planes @ columns.T
    back: Float = zoomed.reshape(n, channels, height, width).transpose(0, 2, 3, 1)
    return back


@lru_cache(maxsize=128)
def _zoom_matrix(side: int, factor: float) -> Float:
    """[side, side]: linear zoom works on each axis alone, and on an axis it is a matrix. The parts that the published
    script cuts off, of the image before and of the enlarged one after, are integer divisions as there."""
    crop = int(np.ceil(side / factor))
    top = (side - crop) // 2
    enlarged = ndimage.zoom(np.eye(crop), (factor, 1), order=1)
    trim = (len(enlarged) - side) // 2
    matrix = np.zeros((side, side))
    matrix[:, top : top + crop] = enlarged[trim : trim + side]
    return matrix


def smear(x: Float, radius: int, sigma: float, degrees: Float) -> Float:
    """Motion blur with the kernel of ImageMagick's: half a Gaussian along a line, at whole pixels, borders extended.

    Args:
        x: [N, H, W, C] of the full scale.
        radius: of the kernel, pixels; it has 2 radius + 1 taps, from the pixel itself outwards.
        sigma: of the Gaussian, pixels.
        degrees: [N], the direction of each image's line; 0 is to the right, 90 down.

    Returns:
        [N, H, W, C], rounded to 8 bits as the program does.
    """
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = np.deg2rad(degrees)[:, np.newaxis]
    down = np.ceil(taps * np.sin(angle) - 0.5).astype(np.int64)
    right = np.ceil(taps * np.cos(angle) - 0.5).astype(np.int64)
    n, height, width, _ = x.shape
    image = np.arange(n)[:, np.newaxis, np.newaxis]
    out = np.zeros(x.shape)
    for tap in taps[weights > 1e-4]:  # the others together are less than a grey level
        rows = np.clip(np.arange(height) + down[:, tap, np.newaxis], 0, height - 1)
        columns = np.clip(np.arange(width) + right[:, tap, np.newaxis], 0, width - 1)
        out += weights[tap] * x[image, rows[:, :, np.newaxis], columns[:, np.newaxis, :]]
    return np.rint(out * 255) / 255


def bilinear(x: Float, rows: Float, columns: Float, fold: Fold) -> Float:
    """Values between pixels.

    Args:
        x: [N, H, W, C].
        rows, columns: [N, H', W'], where to look in each image, in pixels.
        fold: `reflect` or `mirror`.

    Returns:
        [N, H', W', C].
    """
    n, height, width, _ = x.shape
    image = np.arange(n)[:, np.newaxis, np.newaxis]
    top, left = np.floor(rows), np.floor(columns)
    below, beside = (rows - top)[..., np.newaxis], (columns - left)[..., np.newaxis]
    r = [fold(top.astype(np.int64) + step, height) for step in (0, 1)]
    c = [fold(left.astype(np.int64) + step, width) for step in (0, 1)]
    upper = x[image, r[0], c[0]] * (1 - beside) + x[image, r[0], c[1]] * beside
    lower = x[image, r[1], c[0]] * (1 - beside) + x[image, r[1], c[1]] * beside
    between: Float = upper * (1 - below) + lower * below
    return between


def reflect(index: Index, length: int) -> Index:
    """... b a | a b c | c b ..."""
    folded = index % (2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


def mirror(index: Index, length: int) -> Index:
    """... c b | a b c | b a ..."""
    if length == 1:
        return np.zeros_like(index)
    folded = index % (2 * length - 2)
    return np.where(folded < length, folded, 2 * length - 2 - folded)
