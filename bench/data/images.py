"""Images as arrays: readers for the datasets, all of them giving uint8 [N, H, W, C] and labels."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from bench.data.locate import Located, check_tree, image_files
from bench.errors import RequestError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
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


def read_cifar10(located: Located, progress: Progress) -> tuple[Images, Images]:
    """Train and test part, from torchvision's download, an image folder, or an archive of one."""
    assert located.path is not None
    if located.form == "pickles":
        return _cifar10_part(located.path, train=True), _cifar10_part(located.path, train=False)
    if located.form == "tar":
        return _read_tar(located.path, progress)
    parts = [read_tree(located.path / part, None, progress) for part in ("train", "test")]
    if parts[0].classes != parts[1].classes:
        odd = sorted(set(parts[0].classes) ^ set(parts[1].classes))
        raise RequestError(f"{located.path}: train and test must have the same classes; only one has {odd[0]}")
    return parts[0], parts[1]


def _cifar10_part(root: Path, *, train: bool) -> Images:
    from torchvision.datasets import CIFAR10

    # torchvision checks each file's MD5 against the published one before it unpickles it
    try:
        part = CIFAR10(str(root), train=train)
    except RuntimeError:
        raise RequestError(f"{root}: its CIFAR-10 is incomplete or damaged; run `jouletune fetch cifar10`") from None
    return Images(np.asarray(part.data, np.uint8), np.asarray(part.targets, np.int64), tuple(part.classes))


def read_tree(folder: Path, image_size: int | None, progress: Progress, classes: Iterable[str] | None = None) -> Images:
    """A folder with one sub-folder of images per class.

    Args:
        image_size: pixels of a side to resize to (shorter side, then centre crop); None keeps the images' own.
        classes: only these, in this order; default all, sorted.

    Raises:
        RequestError: an unreadable image, images of several sizes where none was asked for, or a class without any.
    """
    names = tuple(classes) if classes is not None else tuple(check_tree(folder, "images"))
    files: list[tuple[Path, int]] = []
    for label, name in enumerate(names):
        found = image_files(folder / name)
        if not found:
            raise RequestError(f"{folder / name}: no images in it; expected <image>.png, .jpg, ...")
        files += [(path, label) for path in found]
    pixels: list[Pixels] = []
    for number, (path, _) in enumerate(files):
        pixels.append(decode(path, path, image_size))
        progress(number + 1, len(files))
    return Images(_stack(pixels, folder), np.array([label for _, label in files], np.int64), names)


def _read_tar(archive: Path, progress: Progress) -> tuple[Images, Images]:
    """An archive of train/<class>/<image> and test/<class>/<image>, read in place."""
    parts: dict[str, list[tuple[str, str, Pixels]]] = {"train": [], "test": []}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = Path(member.name).parts
                if member.isfile() and len(path) == 3 and path[0] in parts:
                    file = tar.extractfile(member)
                    assert file is not None
                    parts[path[0]].append(
                        (path[1], path[2], decode(io.BytesIO(file.read()), archive / member.name, None))
                    )
                    done = sum(map(len, parts.values()))
                    progress(done, max(done, 60_000))
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise RequestError(f"{archive}: not a readable archive ({error})") from None
    names = tuple(sorted({name for name, _, _ in parts["train"]}))
    images = []
    for part in ("train", "test"):
        entries = sorted(parts[part], key=lambda entry: entry[:2])
        if not entries or {entry[0] for entry in entries} != set(names):
            raise RequestError(f"{archive}: expected train/<class>/ and test/<class>/ with the same classes")
        labels = np.array([names.index(entry[0]) for entry in entries], np.int64)
        images.append(Images(_stack([entry[2] for entry in entries], archive), labels, names))
    return images[0], images[1]


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
        with Image.open(file) as image:
            rgb = ImageOps.exif_transpose(image).convert("RGB")  # cameras note which side is up
    except UnidentifiedImageError:
        raise RequestError(f"{named}: not a readable image") from None
    except Exception as error:  # Pillow's decoders fail on damaged bytes in ways that it does not list
        raise RequestError(f"{named}: not a readable image ({error})") from None
    if image_size is not None and rgb.size != (image_size, image_size):
        scale = image_size / min(rgb.size)
        size = (max(image_size, round(rgb.width * scale)), max(image_size, round(rgb.height * scale)))
        rgb = rgb.resize(size, Image.Resampling.BILINEAR)
        left, top = (rgb.width - image_size) // 2, (rgb.height - image_size) // 2
        rgb = rgb.crop((left, top, left + image_size, top + image_size))
    return np.asarray(rgb, np.uint8)


def _stack(pixels: list[Pixels], named: Path) -> Pixels:
    shapes = {image.shape for image in pixels}
    if len(shapes) > 1:
        raise RequestError(f"{named}: images of {len(shapes)} sizes; give image_size to resize them")
    return np.stack(pixels)
