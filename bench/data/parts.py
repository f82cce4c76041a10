"""Images that come divided: train/CLASS/IMAGE, test/CLASS/IMAGE, maybe val/CLASS/IMAGE, in a folder or an archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.data.archive import read_images
from bench.data.images import Images, Pixels, Progress, read_files
from bench.data.locate import Located, part_files, part_of
from bench.errors import RequestError

PARTED = ("parts", "parts_tar")
"""Forms of `bench.data.locate.Located` that are read here."""

_LAYOUT = "expected train/<class>/<image> and test/<class>/<image>"

Entry = tuple[str, int, Pixels]
"""Class, part and pixels of an image."""

Parts = tuple[Images, Images, Images]
"""To train from, to validate (maybe none) and to test with."""


def read_parts(located: Located, image_size: int | None, progress: Progress) -> Parts:
    """Read all parts, with the same classes.

    Args:
        image_size: as in `bench.data.images.read_tree`.

    Raises:
        RequestError: an image cannot be read, or a class has none to train from or to test with.
    """
    assert located.path is not None
    read = _read_tar if located.form == "parts_tar" else _read_folder
    found, named = read(located.path, image_size, progress)
    classes = tuple(sorted({name for name, _, _ in found}))
    for number, part in ((0, "train"), (2, "test")):
        lacking = [name for name in classes if not any(one[0] == name and one[1] == number for one in found)]
        if lacking or len(classes) < 2:
            what = f"class {lacking[0]!r} has no image in {part}" if lacking else f"{len(classes)} classes"
            raise RequestError(f"{named}: {what}; {_LAYOUT}, of two classes at least")
    shapes = {pixels.shape for _, _, pixels in found}
    if len(shapes) > 1:
        raise RequestError(f"{named}: images of {len(shapes)} sizes; give image_size to resize them")
    label = {name: number for number, name in enumerate(classes)}
    made = []
    for number in range(3):
        own = [(label[name], pixels) for name, part, pixels in found if part == number]
        x = np.stack([pixels for _, pixels in own]) if own else np.empty((0, *shapes.copy().pop()), np.uint8)
        made.append(Images(x, np.array([one for one, _ in own], np.int64), classes))
    return made[0], made[1], made[2]


def _read_tar(archive: Path, image_size: int | None, progress: Progress) -> tuple[list[Entry], Path]:
    def place(path: tuple[str, ...]) -> tuple[int, str] | None:
        found = part_of(path)
        return None if found is None else (0, f"{found[0]}{found[1]}")

    entries, _ = read_images(archive, place, image_size, progress)
    return [(key[1:], int(key[0]), pixels) for key, _, pixels in entries], archive


def _read_folder(root: Path, image_size: int | None, progress: Progress) -> tuple[list[Entry], Path]:
    files = part_files(root)
    if not files:
        raise RequestError(f"{root}: no images in it; {_LAYOUT}")
    listed = [(file, number) for number, (_, _, file) in enumerate(files)]
    (images,) = read_files([listed], (), image_size, root, progress)
    return [(name, part, pixels) for (part, name, _), pixels in zip(files, images.x, strict=True)], root
