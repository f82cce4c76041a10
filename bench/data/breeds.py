"""A subpopulation shift from folders named by class, as ImageNet has them: only the classes of the table are read."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np

from bench.catalog.datasets import Superclasses
from bench.data.images import Images, Pixels, Progress, decode
from bench.data.locate import Located, image_files
from bench.errors import RequestError
from bench.suite.data_axis import DataSpec
from bench.suite.superclasses import read_table

PARTS = ("train", "val")


def read_breeds(data: DataSpec, located: Located, progress: Progress) -> tuple[Images, Images]:
    """Both sides, labelled with the superclass. Each side joins the training and the validation part where both are.

    Raises:
        RequestError: a class has no images, or one that cannot be read.
    """
    assert located.path is not None
    assert data.image_size is not None
    table = superclasses_of(data, located)
    read = _read_tar if located.form == "tar" else _read_folders
    return read(located.path, table, data.image_size, progress)


def superclasses_of(data: DataSpec, located: Located) -> Superclasses:
    """The suite's table, or the one that lies beside the images."""
    if data.superclasses is not None:
        return data.superclasses
    assert located.table is not None
    return read_table(located.table, str(located.table))


def class_folders(root: Path, wnid: str) -> list[Path]:
    """Where the images of a class lie."""
    return [root / part / wnid for part in PARTS if (root / part / wnid).is_dir()]


def _read_folders(root: Path, table: Superclasses, size: int, progress: Progress) -> tuple[Images, Images]:
    files: tuple[list[tuple[Path, int]], list[tuple[Path, int]]] = ([], [])
    for label, sides in enumerate(table.values()):
        for side, members in enumerate(sides):
            for member in members:
                found = [file for folder in class_folders(root, member) for file in image_files(folder)]
                if not found:
                    raise RequestError(f"{root / PARTS[0] / member}: no images in it; expected <image>.JPEG, .png, ...")
                files[side].extend((file, label) for file in found)
    total, done = sum(map(len, files)), 0
    images = []
    for side_files in files:
        # made at once: a list of single images would need the memory twice, and Living17 has 2 GB a side
        pixels = np.empty((len(side_files), size, size, 3), np.uint8)
        for index, (file, _) in enumerate(side_files):
            pixels[index] = decode(file, file, size)
            done += 1
            progress(done, total)
        images.append(Images(pixels, np.array([label for _, label in side_files], np.int64), tuple(table)))
    return images[0], images[1]


def _read_tar(archive: Path, table: Superclasses, size: int, progress: Progress) -> tuple[Images, Images]:
    """An archive of train/<class>/<image>, read in place; the order is by name, not the archive's."""
    where = {
        member: (side, label)
        for label, sides in enumerate(table.values())
        for side, members in enumerate(sides)
        for member in members
    }
    found: tuple[list[tuple[int, str, Pixels]], list[tuple[int, str, Pixels]]] = ([], [])
    seen: set[str] = set()
    try:
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.isfile()]
            for number, member in enumerate(members):
                parts = PurePosixPath(member.name.removeprefix("./")).parts
                if len(parts) >= 3 and parts[0] in PARTS and parts[1] in where:
                    side, label = where[parts[1]]
                    file = tar.extractfile(member)
                    assert file is not None
                    image = decode(io.BytesIO(file.read()), archive / member.name, size)
                    found[side].append((label, member.name, image))
                    seen.add(parts[1])
                progress(number + 1, len(members))
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise RequestError(f"{archive}: not a readable archive ({error})") from None
    if set(where) - seen:
        raise RequestError(f"{archive}: no images of {min(set(where) - seen)}; expected train/<class>/<image>")
    images = []
    for entries in found:
        entries.sort(key=lambda entry: entry[:2])
        labels = np.array([label for label, _, _ in entries], np.int64)
        images.append(Images(np.stack([image for _, _, image in entries]), labels, tuple(table)))
    return images[0], images[1]
