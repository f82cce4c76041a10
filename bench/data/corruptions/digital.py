"""Digital corruptions: changes of levels and of resolution, compression, elastic displacement."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from bench.data.corruptions.resample import Float, Pixels, bilinear, mirror, reflect


def brightness(images: Pixels, more: float, rng: np.random.Generator) -> Float:
    """Adds to V of HSV, V = max(R, G, B). With hue and saturation kept, that scales a pixel by V'/V; black becomes
    grey."""
    x = images / 255
    value = x.max(axis=3, keepdims=True)
    brighter = np.clip(value + more, 0, 1)
    scale = np.divide(brighter, value, out=np.zeros_like(value), where=value > 0)
    bright: Float = np.where(value > 0, x * scale, brighter)
    return bright


def contrast(images: Pixels, factor: float, rng: np.random.Generator) -> Float:
    """Scales the distance from each channel's mean over the image."""
    x = images / 255
    mean = x.mean(axis=(1, 2), keepdims=True)
    scaled: Float = (x - mean) * factor + mean
    return scaled


def saturate(images: Pixels, constants: tuple[float, float], rng: np.random.Generator) -> Float | Pixels:
    """S of HSV, times the first constant plus the second, cut off at 0 and 1.

    With V = max and S = (V - min) / V, a channel is V - (V - x): keeping hue and V scales V - x by S'/S. A grey pixel
    has no hue; it counts as red, as in the published script. A grey image has nothing to saturate and stays.
    """
    if images.shape[3] == 1:
        return images
    factor, more = constants
    x = images / 255
    value = x.max(axis=3, keepdims=True)
    spread = value - x.min(axis=3, keepdims=True)
    saturation = np.divide(spread, value, out=np.zeros_like(value), where=value > 0)
    wanted = np.clip(saturation * factor + more, 0, 1)
    scale = np.divide(wanted, saturation, out=np.zeros_like(value), where=spread > 0)
    reddened = value * (1 - wanted * np.array([0.0, 1.0, 1.0]))
    saturated: Float = np.where(spread > 0, value - (value - x) * scale, reddened)
    return saturated


def pixelate(images: Pixels, factor: float, rng: np.random.Generator) -> Pixels:
    """Box-resized to factor x the side, rounded down, and back."""
    _, height, width, _ = images.shape
    small = (max(1, int(width * factor)), max(1, int(height * factor)))

    def change(image: Image.Image) -> Image.Image:
        return image.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)

    return _each(images, change)


def jpeg_compression(images: Pixels, quality: int, rng: np.random.Generator) -> Pixels:
    """Written and read as JPEG, colour at half the resolution, by Pillow's codec."""

    def change(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(images, change)


def elastic_transform(images: Pixels, constants: tuple[float, float, float], rng: np.random.Generator) -> Float:
    """A random affine map, then a smooth random displacement.

    Constants are shares of the image's shorter side: the displacement's amplitude alpha, the sigma of the Gaussian
    that smooths it, and how far the affine map may move each of three points (the corners of a third of the image).
    """
    n, height, width, _ = images.shape
    side = min(height, width)
    alpha, sigma, reach = (side * constant for constant in constants)
    x = images.astype(np.float32) / 255
    down, right = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")

    middle, arm = np.array([width // 2, height // 2]), side // 3
    corners = np.stack([middle + arm, middle + np.array([arm, -arm]), middle - arm]).astype(np.float64)
    moved = corners + rng.uniform(-reach, reach, (n, 3, 2))
    # from a place in the result to its place in the image: [x y 1] of the moved corners -> the corners
    back = np.linalg.solve(np.concatenate([moved, np.ones((n, 3, 1))], axis=2), np.broadcast_to(corners, (n, 3, 2)))
    places = np.stack([right, down, np.ones_like(right)], axis=2).reshape(-1, 3) @ back
    places = places.reshape(n, height, width, 2)
    x = bilinear(x, places[..., 1], places[..., 0], mirror)

    dx, dy = (
        alpha * ndimage.gaussian_filter(rng.uniform(-1, 1, (n, height, width)), (0, sigma, sigma), truncate=3)
        for _ in range(2)
    )
    return bilinear(x, down + dy, right + dx, reflect)


def _each(images: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    out = np.empty_like(images)
    for index, image in enumerate(images):
        made = np.asarray(change(Image.fromarray(image if image.shape[2] == 3 else image[..., 0])))
        out[index] = made.reshape(image.shape)
    return out
