"""Where data lies: the user's data folder, the cache, and what to do when neither has it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bench.errors import RequestError
from bench.suite import DataSpec

CIFAR10_PICKLES = "cifar-10-batches-py"
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})


def data_dirs() -> list[Path]:
    """Folders to look in: JOULETUNE_DATA where it is set, then the cache that `fetch` fills."""
    given = os.environ.get("JOULETUNE_DATA")
    return [*([Path(given).expanduser().resolve()] if given else []), cache_dir() / "data"]


def cache_dir() -> Path:
    """JOULETUNE_CACHE, else the user's cache folder. Everything in it can be made again."""
    given = os.environ.get("JOULETUNE_CACHE")
    if given:
        return Path(given).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jouletune"


@dataclass(frozen=True, slots=True)
class Located:
    """A dataset found on disk.

    Attributes:
        path: folder or archive; None for what comes with a library.
        form: `embedded`, `pickles` (torchvision's CIFAR-10), `split_tree` (train/ and test/ with a folder a class),
            `tar` (an archive of such a tree) or `tree` (a folder a class).
        variant: what a reader must know of this copy, e.g. JPEG.
    """

    path: Path | None
    form: str
    variant: str | None = None


def locate(data: DataSpec) -> Located:
    """Find the images of a dataset without reading them.

    Raises:
        RequestError: they are not there; says what to fetch and where to put it.
    """
    if data.dataset == "digits":
        return Located(None, "embedded")
    if data.dataset == "cifar10":
        return _locate_cifar10(data)
    assert data.source is not None
    source = Path(data.source)
    for key, folder in (("source", source), ("target", Path(data.target) if data.target else None)):
        if folder is not None:
            check_tree(folder, f"{data.label}: {key}")
    return Located(source, "tree")


def _locate_cifar10(data: DataSpec) -> Located:
    if data.source is not None:
        root = Path(data.source)
        for part in ("train", "test"):
            check_tree(root / part, f"{data.label}: source")
        return Located(root, "split_tree", _variant(root / "test"))
    for folder in data_dirs():
        if (folder / CIFAR10_PICKLES / "data_batch_1").is_file():
            return Located(folder, "pickles")
        for name in ("cifar10", "cifar10_jpeg"):
            if (folder / name / "train").is_dir() and (folder / name / "test").is_dir():
                return Located(folder / name, "split_tree", _variant(folder / name / "test"))
        if (folder / "cifar10_jpeg.tar.gz").is_file():
            return Located(folder / "cifar10_jpeg.tar.gz", "tar", "JPEG")
    looked = " and ".join(str(folder) for folder in data_dirs())
    raise RequestError(
        f"cifar10 is not on this machine (looked in {looked}); run `jouletune fetch cifar10`, or set JOULETUNE_DATA "
        f"to a folder with {CIFAR10_PICKLES}/ or with cifar10/train/<class>/ and cifar10/test/<class>/"
    )


def check_tree(folder: Path, what: str) -> list[str]:
    """Class names of a folder that holds one sub-folder of images per class.

    Raises:
        RequestError: no such folder, or fewer than two classes in it.
    """
    try:
        if not folder.is_dir():
            raise RequestError(
                f"{what}: {folder} is not a folder; expected one with a sub-folder of images for each class"
            )
        classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise RequestError(f"{what}: {folder} cannot be read ({error.strerror})") from None
    if len(classes) < 2:
        raise RequestError(
            f"{what}: {folder} has {len(classes)} sub-folders; expected one for each of at least two classes"
        )
    return classes


def image_files(folder: Path) -> list[Path]:
    """Image files of one class, sorted by name."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _variant(folder: Path) -> str | None:
    """JPEG where the images are: re-encoding changes what a net sees, so every figure says so."""
    first = next((path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES), None)
    return "JPEG" if first is not None and first.suffix.lower() in (".jpg", ".jpeg") else None
