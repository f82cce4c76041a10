"""Read the images of a subpopulation shift from folders named by class, as ImageNet's, for the classes of a table."""

from __future__ import annotations

from pathlib import Path

from bench.catalog.datasets import Superclasses
from bench.data.archive import as_images, read_images
from bench.data.images import Images, Progress, read_files
from bench.data.locate import Located, image_files
from bench.errors import RequestError
from bench.suite.data_axis import DataSpec
from bench.suite.superclasses import read_table

PARTS = ("train", "val")


def read_breeds(data: DataSpec, located: Located, progress: Progress) -> tuple[Images, Images]:
    """Read both sides, labelled with the superclass. Each has the images of the training and the validation part.

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
    """List the folders of the images of a class."""
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
    source, target = read_files(files, tuple(table), size, root, progress)
    return source, target


def _read_tar(archive: Path, table: Superclasses, size: int, progress: Progress) -> tuple[Images, Images]:
    """An archive of train/<class>/<image>."""
    where = {
        member: (side, label)
        for label, sides in enumerate(table.values())
        for side, members in enumerate(sides)
        for member in members
    }
    seen: set[str] = set()

    def place(parts: tuple[str, ...]) -> tuple[int, int] | None:
        if len(parts) < 3 or parts[0] not in PARTS or parts[1] not in where:
            return None
        seen.add(parts[1])
        return where[parts[1]]

    sides = read_images(archive, place, size, progress)
    if set(where) - seen:
        raise RequestError(f"{archive}: no images of {min(set(where) - seen)}; expected train/<class>/<image>")
    return as_images(sides[0], tuple(table)), as_images(sides[1], tuple(table))
