"""CIFAR-10-C as published (Zenodo 2535967): arrays in a folder or in the archive itself, read where they lie."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.images import Images
from bench.data.locate import CIFAR10C
from bench.errors import RequestError

SEVERITIES = 5


def read_cifar10c(path: Path, shift: str, severity: int, classes: tuple[str, ...]) -> Images:
    """The images of one corruption at one severity; nothing else of the 150 MB of its file is read.

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
    try:
        if path.is_dir():
            array: npt.NDArray[Any] = np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            return array
        return _array_in_tar(path, f"{CIFAR10C}/{name}.npy")
    except (KeyError, FileNotFoundError):
        raise RequestError(f"{path}: no {name}.npy in it; get the archive again from Zenodo, record 2535967") from None
    except (OSError, ValueError, tarfile.TarError, EOFError) as error:
        raise RequestError(f"{path}: {name}.npy is damaged ({error}); get the archive again") from None


def _array_in_tar(archive: Path, member: str) -> npt.NDArray[Any]:
    """An archive without compression holds a file's bytes as they are, so they can be mapped too."""
    with tarfile.open(archive, "r:") as tar:
        names = {name.removeprefix("./"): name for name in tar.getnames()}
        start = tar.getmember(names[member]).offset_data
    with archive.open("rb") as file:
        file.seek(start)
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError("it holds objects")
        return np.memmap(file, dtype, "r", file.tell(), shape, order="F" if fortran else "C")
