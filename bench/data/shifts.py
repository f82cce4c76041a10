"""The shifts at their three levels, as functions of images or labels."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bench.data.catalog import Superclasses
from bench.data.images import Images, Labels, Pixels

DEFAULT_SEVERITY = 5

# Severities 1-5. From 16 pixels up: the constants of CIFAR-10-C (Hendrycks & Dietterich 2019). Below, where a
# stroke is a pixel or two wide and those would hardly show: ours, chosen so that severity 5 is plainly visible.
_NOISE_SIGMA = {"cifar": (0.04, 0.06, 0.08, 0.09, 0.10), "tiny": (0.08, 0.16, 0.24, 0.32, 0.40)}
_BLUR_SIGMA_PX = {"cifar": (0.4, 0.6, 0.7, 0.8, 1.0), "tiny": (0.4, 0.6, 0.8, 1.0, 1.2)}
_CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)


def corrupt(images: Pixels, shift: str, severity: int, label: str) -> Pixels:
    """Input-level shift: the same pictures, worse taken.

    Args:
        images: uint8 [N, H, W, C].
        shift: `noise` (additive Gaussian, sigma of the full scale), `blur` (Gaussian, sigma in pixels) or `contrast`
            (distance from each channel's mean, scaled).
        severity: 1 to 5.
        label: seeds the noise, so that a dataset's corrupted images are always the same.

    Returns:
        uint8 [N, H, W, C]. Values are cut off at 0 and 1 and truncated, as in CIFAR-10-C.
    """
    scale = "cifar" if images.shape[1] >= 16 else "tiny"
    x = images.astype(np.float32) / 255
    if shift == "noise":
        rng = np.random.default_rng([zlib.crc32(label.encode()), severity])
        x = x + rng.standard_normal(x.shape, dtype=np.float32) * np.float32(_NOISE_SIGMA[scale][severity - 1])
    elif shift == "blur":
        sigma = _BLUR_SIGMA_PX[scale][severity - 1]
        x = ndimage.gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest", truncate=4.0)
    elif shift == "contrast":
        mean = x.mean(axis=(1, 2), keepdims=True)
        x = (x - mean) * np.float32(_CONTRAST[severity - 1]) + mean
    else:
        raise ValueError(f"{shift!r} is not a corruption")
    clipped: Pixels = (np.clip(x, 0, 1) * 255).astype(np.uint8)
    return clipped


def flip(labels: Labels, n_classes: int) -> Labels:
    """Output-level shift of TBFT and of surgical fine-tuning (Lee et al. 2023): y -> K - 1 - y."""
    return n_classes - 1 - labels


def permute(labels: Labels, permutation: tuple[int, ...]) -> Labels:
    """Output-level shift: label y becomes permutation[y]."""
    return np.asarray(permutation, np.int64)[labels]


def subpopulation(images: Images, superclasses: Superclasses) -> tuple[Images, Images]:
    """Feature-level shift in the manner of BREEDS (Santurkar et al. 2021).

    Args:
        images: labelled with fine classes.
        superclasses: superclass -> (source members, target members), by class name.

    Returns:
        Source and target, labelled with the superclass; their members differ.
    """
    number = {name: index for index, name in enumerate(images.classes)}
    parts = []
    for side in (0, 1):
        relabel = np.full(len(images.classes), -1, np.int64)
        for index, members in enumerate(superclasses.values()):
            for member in members[side]:
                relabel[number[member]] = index
        keep: npt.NDArray[np.int64] = np.flatnonzero(relabel[images.y] >= 0)
        parts.append(Images(images.x[keep], relabel[images.y[keep]], tuple(superclasses)))
    return parts[0], parts[1]
