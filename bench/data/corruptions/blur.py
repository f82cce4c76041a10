"""Blur of the lens, of glass in front of it, and of motion."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bench.data.corruptions.noise import TINY_PX
from bench.data.corruptions.resample import Float, Pixels, clipped_zoom, smear

BLUR_SIGMA_PX = ((0.4, 0.4), (0.6, 0.6), (0.7, 0.8), (0.8, 1.0), (1.0, 1.2))
"""Of `blur`: CIFAR-10-C's sigma in pixels, and ours for tiny images."""


def blur(images: Pixels, sigmas_px: tuple[float, float], rng: np.random.Generator) -> Float:
    """Gaussian; sigma in pixels for images from TINY_PX up and below."""
    sigma = sigmas_px[0] if images.shape[1] >= TINY_PX else sigmas_px[1]
    return _gaussian(images.astype(np.float32) / 255, sigma)


def gaussian_blur(images: Pixels, sigma_px: float, rng: np.random.Generator) -> Float:
    """Gaussian, cut off at 4 sigma, border pixels extended."""
    return _gaussian(images / 255, sigma_px)


def defocus_blur(images: Pixels, disk: tuple[float, float], rng: np.random.Generator) -> Float:
    """A disk's mean, its edge softened by a 3x3 Gaussian; (radius of the disk, sigma of the Gaussian) in pixels."""
    kernel = _soft_disk(*disk)
    blurred: Float = ndimage.correlate(images / 255, kernel[np.newaxis, :, :, np.newaxis], mode="mirror")
    return blurred


def glass_blur(images: Pixels, constants: tuple[float, int], rng: np.random.Generator) -> Float:
    """Blur, move pixels about, blur; (sigma in pixels, how often pixels move).

    Every pixel takes the colour of one to its upper left (0 or 1 up, 0 or 1 left), the first two rows and columns
    excepted. The published script means to swap the two, but assigns one to the other through views of the same array.
    What it then takes was never overwritten before, as it goes from the lower right; so all of them move at once here.
    """
    sigma_px, times = constants
    x = (_gaussian(images / 255, sigma_px) * 255).astype(np.uint8)
    n, height, width, _ = x.shape
    image = np.arange(n)[:, np.newaxis, np.newaxis]
    rows, columns = np.arange(2, height)[:, np.newaxis], np.arange(2, width)
    for _ in range(times):
        up, left = rng.integers(0, 2, (2, n, len(rows), len(columns)))
        moved = x.copy()
        moved[:, 2:, 2:] = x[image, rows - up, columns - left]
        x = moved
    return _gaussian(x / 255, sigma_px)


def motion_blur(images: Pixels, constants: tuple[int, float], rng: np.random.Generator) -> Float:
    """Along a line within 45 degrees of the horizontal, another for each image; (radius, sigma) in pixels."""
    radius, sigma = constants
    return smear(images / 255, radius, sigma, rng.uniform(-45, 45, len(images)))


def zoom_blur(images: Pixels, limit: float, rng: np.random.Generator) -> Float:
    """Mean of the image and of its centre enlarged 1, 1.01, 1.02, ... times, up to the limit."""
    x = images.astype(np.float32) / 255
    # as the script has it; where rounding lets arange reach its end, the limit is one of the factors
    factors = np.arange(1, limit, 0.01)
    total = x.copy()
    for factor in factors:
        total += clipped_zoom(x, float(factor))
    return total / np.float32(len(factors) + 1)


def _gaussian(x: Float, sigma_px: float) -> Float:
    blurred: Float = ndimage.gaussian_filter(x, (0, sigma_px, sigma_px, 0), mode="nearest", truncate=4.0)
    return blurred


def _soft_disk(radius_px: float, sigma_px: float) -> Float:
    """Kernel [K, K] that sums to 1."""
    reach = int(np.ceil(radius_px)) + 1
    line = np.arange(-reach, reach + 1)
    disk = (line[:, np.newaxis] ** 2 + line**2 <= radius_px**2).astype(np.float64)
    soft = np.exp(-(np.arange(-1, 2) ** 2) / (2 * sigma_px**2))
    soft /= soft.sum()
    kernel: Float = ndimage.convolve(disk / disk.sum(), np.outer(soft, soft), mode="constant")
    return kernel
