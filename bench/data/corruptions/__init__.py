"""The corruptions of CIFAR-10-C (Hendrycks & Dietterich 2019), made here, for images of any size.

Constants are those of the CIFAR script, in its units: noise as a share of the full scale, lengths in pixels. The names
say how near an image comes to the published archive's:

- The plain names (`gaussian_noise`, `fog`, `jpeg_compression`, ...) compute the published formula. With the same draws
  they give the script's bytes, but for rounding by one grey level. The archive was drawn without a seed, so its noise
  is another draw; and its JPEG codec is an older one.
- `-like` marks an approximation. `motion_blur-like` and `snow-like` follow the kernel of ImageMagick's motion blur
  without that program. `spatter-like` takes the rims of the drops for what OpenCV's edge detector finds. `frost-like`
  lays a synthetic frost over the picture: the archive's is a crop of one of five photographs that may not be passed on.
- `noise` and `blur` are jouletune's own: gaussian_noise and gaussian_blur whose constants also suit tiny images.

At other sizes than 32 pixels lengths stay what they are in pixels; what the script ties to the side of the image
(zoom, pixelation, elastic displacement, the extent of fog) goes with it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.corruptions import blur, digital, noise, weather
from bench.data.corruptions.resample import Pixels

Make = Callable[[Pixels, Any, np.random.Generator], npt.NDArray[Any]]
"""uint8 [N, H, W, C], the constants of a severity, a generator -> float [N, H, W, C] of the full scale, not yet cut
off at 0 and 1, or uint8 of the same shape."""

CHUNK = 250
"""Images worked on at a time, to bound the memory. Part of the definition: it decides which draw an image gets."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """A function and its constants at severities 1 to 5."""

    make: Make
    constants: tuple[Any, Any, Any, Any, Any]


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "noise": Corruption(noise.noise, noise.NOISE_SIGMA),
        "gaussian_noise": Corruption(noise.gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
        "shot_noise": Corruption(noise.shot_noise, (500, 250, 100, 75, 50)),
        "impulse_noise": Corruption(noise.impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
        "speckle_noise": Corruption(noise.speckle_noise, (0.06, 0.10, 0.12, 0.16, 0.20)),
        "blur": Corruption(blur.blur, blur.BLUR_SIGMA_PX),
        "gaussian_blur": Corruption(blur.gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
        "defocus_blur": Corruption(blur.defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))),
        "glass_blur": Corruption(blur.glass_blur, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))),
        "motion_blur-like": Corruption(blur.motion_blur, ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))),
        "zoom_blur": Corruption(blur.zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
        "snow-like": Corruption(weather.snow, weather.SNOW),
        "frost-like": Corruption(weather.frost, ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
        "fog": Corruption(weather.fog, ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))),
        "spatter-like": Corruption(weather.spatter, weather.SPATTER),
        "brightness": Corruption(digital.brightness, (0.05, 0.10, 0.15, 0.20, 0.30)),
        "contrast": Corruption(digital.contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
        "saturate": Corruption(digital.saturate, ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))),
        "elastic_transform": Corruption(
            digital.elastic_transform,
            ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ),
        "pixelate": Corruption(digital.pixelate, (0.95, 0.90, 0.85, 0.75, 0.65)),
        "jpeg_compression": Corruption(digital.jpeg_compression, (80, 65, 58, 50, 40)),
    }
)
"""Every corruption of the catalogue that can be made here."""


def corrupt(images: Pixels, shift: str, severity: int, label: str) -> Pixels:
    """Apply an input-level shift: corrupt the images.

    Args:
        images: uint8 [N, H, W, C]; C is 1 (grey) or 3 (colour).
        shift: a name in CORRUPTIONS.
        severity: 1 to 5.
        label: seeds the draws together with shift and severity, so that a dataset's corrupted images are always the
            same; the first images do not depend on how many follow, but for those of one CHUNK.

    Returns:
        uint8 [N, H, W, C]. Values are cut off at 0 and 1 and truncated, as in CIFAR-10-C.

    Raises:
        ValueError: no such corruption is made here.
    """
    if shift not in CORRUPTIONS:
        raise ValueError(f"{shift!r} is not a corruption that is made here")
    corruption = CORRUPTIONS[shift]
    constants = corruption.constants[severity - 1]
    # noise is older than the others, and its images stay what they were
    named = [] if shift == "noise" else [zlib.crc32(shift.encode())]
    rng = np.random.default_rng([zlib.crc32(label.encode()), *named, severity])
    out = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), CHUNK):
        made = corruption.make(np.asarray(images[start : start + CHUNK]), constants, rng)
        out[start : start + CHUNK] = made if made.dtype == np.uint8 else (np.clip(made, 0, 1) * 255).astype(np.uint8)
    return out
