"""Images as arrays: uint8 [N, H, W, C] with labels, from files, from scikit-learn, or drawn at random."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from bench.data.locate import check_tree, image_files
from bench.errors import RequestError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF")
"""What Pillow may open; its reader of EPS starts Ghostscript."""

MAX_PIXELS = 25_000_000
"""Of one image. Two copies of 4 bytes a pixel are held at once: 200 MB."""

MAX_PIXELS_COSTLY = 5_000_000
"""Of one image of a format whose decoder holds 20 bytes a pixel (WebP) or takes 0.7 us a pixel (PPM in digits)."""

MAX_ASPECT = 16
"""Times the shorter side: of a longer image the middle is cut out before it is resized."""

Progress = Callable[[int, int], None]
"""Called with (done, total) while images are read."""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Pixels uint8 [N, H, W, C], labels int64 [N], and the class each label names."""

    x: Pixels
    y: Labels
    classes: tuple[str, ...]

    def take(self, index: npt.NDArray[np.int64]) -> Images:
        return Images(self.x[index], self.y[index], self.classes)


def read_digits() -> Images:
    """scikit-learn's 1,797 scans, 8x8, grey levels 0-16 stretched to 0-255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    return Images(pixels, bunch.target.astype(np.int64), tuple("0123456789"))


def random_images(n: int, n_classes: int, image_size: int, seed: int) -> Images:
    """Colour images of uniform noise, n of them, whose labels go round; for timing steps, not for learning."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, image_size, image_size, 3), dtype=np.uint8)
    return Images(pixels, np.arange(n, dtype=np.int64) % n_classes, tuple(str(label) for label in range(n_classes)))


def read_tree(folder: Path, image_size: int | None, progress: Progress) -> Images:
    """A folder with one sub-folder of images per class.

    Args:
        image_size: pixels of a side to resize to (shorter side, then centre crop); None keeps the images' own.

    Raises:
        RequestError: an unreadable image, images of several sizes without image_size, or a class without any.
    """
    names = tuple(check_tree(folder, "images"))
    files: list[tuple[Path, int]] = []
    for label, name in enumerate(names):
        found = image_files(folder / name)
        if not found:
            raise RequestError(f"{folder / name}: no images in it; expected <image>.png, .jpg, ...")
        files += [(path, label) for path in found]
    return read_files([files], names, image_size, folder, progress)[0]


def read_files(
    sides: Sequence[Sequence[tuple[Path, int]]],
    classes: tuple[str, ...],
    image_size: int | None,
    named: Path,
    progress: Progress,
) -> list[Images]:
    """Images from files, for each side of a shift a list of (file, label).

    Args:
        image_size: as in `read_tree`.
        named: how an error names them all.

    Raises:
        RequestError: an unreadable image, or images of several sizes.
    """
    total, done = sum(map(len, sides)), 0
    images, shapes = [], set()
    for files in sides:
        pixels: Pixels | None = None
        for index, (file, _) in enumerate(files):
            image = decode(file, file, image_size)
            shapes.add(image.shape)
            if pixels is None:
                # made at once: a list of single images would need the memory twice, and Living17 has 2 GB a side
                pixels = np.empty((len(files), *image.shape), np.uint8)
            if len(shapes) == 1:
                pixels[index] = image
            done += 1
            progress(done, total)
        assert pixels is not None
        images.append(Images(pixels, np.array([label for _, label in files], np.int64), classes))
    check_shapes(shapes, named)
    return images


def check_shapes(shapes: set[tuple[int, ...]], named: Path) -> None:
    """Refuse images of several sizes.

    Raises:
        RequestError: with their number.
    """
    if len(shapes) > 1:
        raise RequestError(f"{named}: images of {len(shapes)} sizes; give image_size to resize them")


def decode(file: Path | io.BytesIO, named: Path, image_size: int | None) -> Pixels:
    """One image as uint8 [H, W, 3].

    Args:
        file: path or content.
        named: how to name it to its user.
        image_size: pixels of a side to resize to (shorter side, then centre crop); None keeps the image's own.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            costly = image.format == "WEBP" or any(tile[0] == "ppm_plain" for tile in image.tile)
            limit = MAX_PIXELS_COSTLY if costly else MAX_PIXELS
            if image.width * image.height > limit:
                raise RequestError(f"{named}: {image.width} x {image.height} pixels; the limit is {limit:,}")
            ImageOps.exif_transpose(image, in_place=True)  # cameras note which side is up
            rgb = image.convert("RGB")
    except RequestError:
        raise
    except UnidentifiedImageError:
        raise RequestError(f"{named}: not a readable image; expected one of {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's decoders fail on damaged bytes in ways that it does not list
        raise RequestError(f"{named}: not a readable image ({error})") from None
    if image_size is not None and rgb.size != (image_size, image_size):
        longest = MAX_ASPECT * min(rgb.size)
        if max(rgb.size) > longest:
            width, height = min(rgb.width, longest), min(rgb.height, longest)
            left, top = (rgb.width - width) // 2, (rgb.height - height) // 2
            rgb = rgb.crop((left, top, left + width, top + height))
        scale = image_size / min(rgb.size)
        size = (max(image_size, round(rgb.width * scale)), max(image_size, round(rgb.height * scale)))
        rgb = rgb.resize(size, Image.Resampling.BILINEAR)
        left, top = (rgb.width - image_size) // 2, (rgb.height - image_size) // 2
        rgb = rgb.crop((left, top, left + image_size, top + image_size))
    return np.asarray(rgb, np.uint8)
