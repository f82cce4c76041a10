"""Weather: snow, frost, fog and splashes on the lens."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from bench.data.corruptions.resample import Float, Index, Pixels, clipped_zoom, smear

SNOW = (
    (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
"""Mean and deviation of the flakes, their zoom, the threshold below which there is none; radius and sigma of their
fall in pixels; share of the picture that is not whitened."""

SPATTER = (
    (0.62, 0.1, 0.7, 0.7, 0.5, False),
    (0.65, 0.1, 0.8, 0.7, 0.5, False),
    (0.65, 0.3, 1.0, 0.69, 0.5, False),
    (0.65, 0.1, 0.7, 0.69, 0.6, True),
    (0.65, 0.1, 0.5, 0.68, 0.6, True),
)
"""Mean and deviation of the liquid, sigma of its blur in pixels, the threshold below which there is none; strength of
the water, or sigma of the mud's blur; whether it is mud."""

_LUMA = np.array([0.299, 0.587, 0.114])
_WATER = np.array([175, 238, 238]) / 255
_MUD = np.array([63, 42, 20]) / 255


def snow(
    images: Pixels, constants: tuple[float, float, float, float, int, float, float], rng: np.random.Generator
) -> Float:
    """Whitened, with flakes that fall within 45 degrees of the vertical; the flakes once more, turned by 180."""
    mean, deviation, zoom, threshold, radius, sigma, share = constants
    x = images / 255
    flakes = clipped_zoom(rng.normal(mean, deviation, (*images.shape[:3], 1)), zoom)
    flakes[flakes < threshold] = 0
    flakes = np.floor(np.clip(flakes, 0, 1) * 255) / 255
    flakes = smear(flakes, radius, sigma, rng.uniform(-135, -45, len(images)))
    whitened = np.maximum(x, _grey(x) * 1.5 + 0.5)
    return share * x + (1 - share) * whitened + flakes + np.rot90(flakes, 2, axes=(1, 2))


def frost(images: Pixels, constants: tuple[float, float], rng: np.random.Generator) -> Float:
    """(weight of the picture, weight of the frost). The frost is a crop of one of five synthetic sheets."""
    weight, frost_weight = constants
    n, height, width, channels = images.shape
    sheets = _frost_sheets(max(128, 2 * height, 2 * width))
    size = sheets.shape[1]
    sheet: Index = rng.integers(0, len(sheets), (n,))
    top, left = rng.integers(0, size - height + 1, (n,)), rng.integers(0, size - width + 1, (n,))
    rows = top[:, np.newaxis, np.newaxis] + np.arange(height)[:, np.newaxis]
    columns = left[:, np.newaxis, np.newaxis] + np.arange(width)
    crop = sheets[sheet[:, np.newaxis, np.newaxis], rows, columns]
    return weight * (images / 255) + frost_weight * (crop if channels == 3 else _grey(crop))


@lru_cache(maxsize=2)
def _frost_sheets(size: int) -> Float:
    """Five sheets [5, size, size, 3] of pale needles and ferns on a dark pane, the same ones always.

    Needles are noise stretched along a direction; the strongest of several directions shows at each place, where a
    slow noise lets ice grow at all.
    """
    rng = np.random.default_rng(0)
    sheets = np.empty((5, size, size, 3))
    dark, pale = np.array([0.16, 0.21, 0.28]), np.array([0.88, 0.94, 0.99])
    for sheet in sheets:
        needles = np.zeros((size, size))
        for degrees in rng.uniform(0, 180, 6):
            field = _standardise(_stretched(rng, size, degrees))
            needles = np.maximum(needles, field)
        growth = _standardise(ndimage.gaussian_filter(rng.standard_normal((size, size)), 9, mode="wrap"))
        grain = _standardise(ndimage.gaussian_filter(rng.standard_normal((size, size)), 0.6, mode="wrap"))
        ice = 1 / (1 + np.exp(-(1.6 * (needles - 1.2) + 1.2 * growth + 0.35 * grain)))
        sheet[:] = dark + ice[..., np.newaxis] * (pale - dark)
    sheets.flags.writeable = False  # shared by every call
    return sheets


def _stretched(rng: np.random.Generator, size: int, degrees: float) -> Float:
    """White noise [size, size] through a Gaussian of 5 pixels along a direction and 0.7 across it."""
    frequency = np.fft.fftfreq(size)
    down, right = frequency[:, np.newaxis], frequency
    angle = np.deg2rad(degrees)
    along = right * np.cos(angle) + down * np.sin(angle)
    across = down * np.cos(angle) - right * np.sin(angle)
    response = np.exp(-2 * np.pi**2 * ((5 * along) ** 2 + (0.7 * across) ** 2))
    stretched: Float = np.fft.ifft2(np.fft.fft2(rng.standard_normal((size, size))) * response).real
    return stretched


def _standardise(field: Float) -> Float:
    standard: Float = (field - field.mean()) / field.std()
    return standard


def fog(images: Pixels, constants: tuple[float, float], rng: np.random.Generator) -> Float:
    """(amount, roughness): a plasma fractal of 0 to amount is added, and the sum scaled to the image's old maximum."""
    amount, decay = constants
    n, height, width, _ = images.shape
    x = images / 255
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    size = 1 << (max(height, width, 2) - 1).bit_length()
    mist = plasma_fractal(n, size, decay, rng)[:, :height, :width, np.newaxis]
    foggy: Float = (x + amount * mist) * brightest / (brightest + amount)
    return foggy


def plasma_fractal(n: int, size: int, decay: float, rng: np.random.Generator) -> Float:
    """Height maps [n, size, size] from 0 to 1 by the diamond-square algorithm on a torus.

    Args:
        size: a power of two, from 2 up.
        decay: what the random part of a height is divided by when the step halves; more is smoother.

    The random part is uniform in +-wibble^2, since the published script multiplies by wibble twice.
    """
    heights = np.zeros((n, size, size))
    step, wibble = size, 100.0

    def settle(total: Float) -> Float:
        return total / 4 + wibble * rng.uniform(-wibble, wibble, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        square = corners + np.roll(corners, -1, axis=1)
        heights[:, half::step, half::step] = settle(square + np.roll(square, -1, axis=2))
        centres = heights[:, half::step, half::step]
        sides = corners + np.roll(corners, -1, axis=2)
        heights[:, ::step, half::step] = settle(centres + np.roll(centres, 1, axis=1) + sides)
        sides = corners + np.roll(corners, -1, axis=1)
        heights[:, half::step, ::step] = settle(centres + np.roll(centres, 1, axis=2) + sides)
        step, wibble = half, wibble / decay
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights


def spatter(
    images: Pixels, constants: tuple[float, float, float, float, float, bool], rng: np.random.Generator
) -> Float:
    """Drops of pale turquoise water, lit from one side (severities 1 to 3), or of brown mud (4 and 5)."""
    mean, deviation, sigma, threshold, last, mud = constants
    x = images / 255
    liquid = ndimage.gaussian_filter(rng.normal(mean, deviation, images.shape[:3]), (0, sigma, sigma), mode="nearest")
    liquid[liquid < threshold] = 0
    colour = _MUD if mud else _WATER
    if images.shape[3] == 1:
        colour = colour @ _LUMA[:, np.newaxis]
    if mud:
        cover = ndimage.gaussian_filter((liquid > threshold).astype(np.float64), (0, last, last), mode="nearest")
        cover[cover < 0.8] = 0
        cover = cover[..., np.newaxis]
        muddy: Float = x * (1 - cover) + colour * cover
        return muddy
    shine = np.stack([_water_shine(drops) for drops in np.floor(liquid * 255)])
    return x + last * shine[..., np.newaxis] * colour


def _water_shine(drops: Float) -> Float:
    """How much light each pixel of the drops adds: [H, W], at most 1.

    Args:
        drops: [H, W], 0 where it is dry, else 0 to 255.

    The distance from a drop's edge, as a relief lit from the upper left, times the drop.
    """
    wet = drops > 0
    # the published script's edges are Canny's; a drop's rim is a jump of over 170 grey levels, which Canny surely finds
    rim = wet & ~ndimage.binary_erosion(wet, border_value=1)
    if not rim.any():
        return np.zeros(drops.shape)
    depth = np.minimum(ndimage.distance_transform_edt(~rim), 20)
    depth = _equalise(ndimage.uniform_filter(depth, 3, mode="mirror").astype(np.uint8))
    relief = ndimage.correlate(depth, np.array([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]]), mode="mirror")
    shine: Float = drops * np.rint(ndimage.uniform_filter(np.clip(relief, 0, 255), 3, mode="mirror"))
    shine /= max(shine.max(), 1.0)  # whole numbers: below 1 there is no light at all
    return shine


def _equalise(levels: Pixels) -> Float:
    """Histogram equalisation of 8-bit levels: the least becomes 0, the most 255."""
    below = np.cumsum(np.bincount(levels.ravel(), minlength=256))
    least = below[levels.min()]
    if least == levels.size:
        return levels.astype(np.float64)
    equalised: Float = np.rint((below - least) * (255 / (levels.size - least)))[levels]
    return equalised


def _grey(x: Float) -> Float:
    """[..., C] -> [..., 1]."""
    grey: Float = x if x.shape[-1] == 1 else x @ _LUMA[:, np.newaxis]
    return grey
