"""Read CIFAR-10 in each of its usual forms, and CIFAR-10-C as published (Zenodo 2535967), without unpacking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.catalog.datasets import DATASETS
from bench.data.archive import as_images, read_images, read_members
from bench.data.images import Images, Progress, check_shapes, read_tree
from bench.data.locate import CIFAR10C, CIFAR10C_URL, Located
from bench.errors import RequestError

PARTS = ("train", "test")
N_TRAIN = 50_000
SEVERITIES = 5
MAX_ARRAY_BYTES = 2_000_000_000


def read_cifar10(located: Located, progress: Progress) -> tuple[Images, Images]:
    """Read train and test part from torchvision's download, an image folder, or an archive of one."""
    assert located.path is not None
    if located.form == "pickles":
        return _cifar10_part(located.path, train=True), _cifar10_part(located.path, train=False)
    if located.form == "tar":
        return _read_tar(located.path, progress)
    parts = [read_tree(located.path / part, None, progress) for part in PARTS]
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


def _read_tar(archive: Path, progress: Progress) -> tuple[Images, Images]:
    """Read an archive of train/<class>/<image> and test/<class>/<image>."""

    def place(parts: tuple[str, ...]) -> tuple[int, str] | None:
        return (PARTS.index(parts[0]), parts[1]) if len(parts) == 3 and parts[0] in PARTS else None

    sides = read_images(archive, place, None, progress)
    names = tuple(sorted({name for name, _, _ in sides[0]}))
    counts, expected = tuple(map(len, sides)), (N_TRAIN, DATASETS["cifar10"].n_target)
    if names == DATASETS["cifar10"].classes and counts != expected:
        raise RequestError(f"{archive}: {counts[0]} training and {counts[1]} test images; expected {N_TRAIN} and 10000")
    images = []
    for entries in sides:
        if not entries or {name for name, _, _ in entries} != set(names):
            raise RequestError(f"{archive}: expected train/<class>/ and test/<class>/ with the same classes")
        check_shapes({image.shape for _, _, image in entries}, archive)
        images.append(as_images([(names.index(name), path, image) for name, path, image in entries], names))
    return images[0], images[1]


def read_cifar10c(path: Path, shift: str, severity: int, classes: tuple[str, ...]) -> Images:
    """Read the images of one corruption at one severity, and nothing else of the 150 MB of its file.

    Args:
        path: the folder CIFAR-10-C/ or the archive CIFAR-10-C.tar.
        shift: name of its file, without .npy.
        severity: 1 to 5. A file holds them one after the other, 10,000 images each.
        classes: names of the labels 0 to 9.

    Raises:
        RequestError: the file is missing, damaged or has another shape.
    """
    images, labels = _array(path, shift), _array(path, "labels")
    rows = len(images) if images.ndim else 0
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not rows or rows % SEVERITIES:
        raise RequestError(
            f"{path}: {shift}.npy holds {images.dtype} of shape {images.shape}; expected uint8 (50000, 32, 32, 3)"
        )
    if labels.shape != (rows,) or not np.isin(labels, np.arange(len(classes))).all():
        raise RequestError(
            f"{path}: labels.npy does not fit {shift}.npy; expected a label from 0 to {len(classes) - 1} for each of "
            f"its {rows} images"
        )
    part = rows // SEVERITIES
    here = slice((severity - 1) * part, severity * part)
    return Images(images[here], np.asarray(labels[here], np.int64), classes)


def _array(path: Path, name: str) -> npt.NDArray[Any]:
    """An array, memory-mapped."""
    again = f"get the archive again from {CIFAR10C_URL}"
    try:
        if path.is_dir():
            array: npt.NDArray[Any] = np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            return array
        members = read_members(path, lambda done, total: None, max_bytes=MAX_ARRAY_BYTES)
        offsets = {"/".join(parts): offset for parts, offset, _ in members}
        return _mapped(path, offsets[f"{CIFAR10C}/{name}.npy"])
    except (KeyError, FileNotFoundError):
        raise RequestError(f"{path}: no {name}.npy in it; {again}") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: {name}.npy is damaged ({error}); {again}") from None
    except RequestError as error:
        raise RequestError(f"{error}; {again}") from None


def _mapped(archive: Path, start: int) -> npt.NDArray[Any]:
    """Map an array in an archive, which without compression holds the bytes of a file as they are."""
    with archive.open("rb") as file:
        file.seek(start)
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError("it holds objects")
        return np.memmap(file, dtype, "r", file.tell(), shape, order="F" if fortran else "C")
