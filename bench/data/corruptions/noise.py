"""Noise of a sensor. All draws are independent per pixel and channel."""

from __future__ import annotations

import numpy as np

from bench.data.corruptions.resample import Float, Pixels

TINY_PX = 16
"""Images below this side have strokes a pixel or two wide, on which CIFAR's constants would hardly show."""

NOISE_SIGMA = ((0.04, 0.08), (0.06, 0.16), (0.08, 0.24), (0.09, 0.32), (0.10, 0.40))
"""Of `noise`: CIFAR-10-C's sigma, and ours for tiny images, chosen so that severity 5 is plainly visible."""


def noise(images: Pixels, sigmas: tuple[float, float], rng: np.random.Generator) -> Float:
    """Additive Gaussian noise; sigma, of the full scale, for images from TINY_PX up and below."""
    sigma = sigmas[0] if images.shape[1] >= TINY_PX else sigmas[1]
    x = images.astype(np.float32) / 255
    return x + rng.standard_normal(x.shape, dtype=np.float32) * np.float32(sigma)


def gaussian_noise(images: Pixels, sigma: float, rng: np.random.Generator) -> Float:
    """x + N(0, sigma^2)."""
    return images / 255 + sigma * rng.standard_normal(images.shape)


def shot_noise(images: Pixels, photons: float, rng: np.random.Generator) -> Float:
    """Poisson(photons x) / photons: `photons` is the count at full scale."""
    return rng.poisson(images / 255 * photons) / photons


def impulse_noise(images: Pixels, share: float, rng: np.random.Generator) -> Float:
    """Salt and pepper: this share of the values becomes 0 or 1, one as likely as the other."""
    hit = rng.random(images.shape) <= share
    salt = rng.random(images.shape) < 0.5
    return np.where(hit, salt.astype(np.float64), images / 255)


def speckle_noise(images: Pixels, sigma: float, rng: np.random.Generator) -> Float:
    """x + x N(0, sigma^2): noise in proportion to the light."""
    x = images / 255
    return x + x * (sigma * rng.standard_normal(images.shape))
