"""Find data in the user's data folder or in the cache, and say how to get what is in neither."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from bench.catalog.checkpoints import CHECKPOINTS
from bench.catalog.datasets import NO_SHIFT
from bench.errors import RequestError
from bench.store.cache_dir import cache_dir
from bench.suite.data_axis import DataSpec, n_target

CIFAR10_PICKLES = "cifar-10-batches-py"
CIFAR10C = "CIFAR-10-C"
CIFAR10C_URL = "https://zenodo.org/records/2535967"
TINY_SUBSET = "tiny_imagenet32_subset"
ARCHIVES = (".tar", ".tar.gz", ".tgz")
MAX_BYTES = 8_000_000_000
"""Of a checkpoint."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})


def data_dirs() -> list[Path]:
    """List the folders to look in: JOULETUNE_DATA where it is set, then the cache that `fetch` fills."""
    given = os.environ.get("JOULETUNE_DATA")
    return [*([Path(given).expanduser().resolve()] if given else []), cache_dir() / "data"]


@dataclass(frozen=True, slots=True)
class Located:
    """A dataset found on disk.

    Attributes:
        path: folder or archive; None for what comes with a library.
        form: `embedded`, `pickles` (torchvision's CIFAR-10), `split_tree` (train/ and test/ with a folder a class),
            `tar` (an archive of such a tree), `tree` (a folder a class), `npy` (a folder of arrays), `parts` or
            `parts_tar` (train/, test/ and maybe val/ with a folder a class, in a folder or an archive).
        variant: what a reader must know of this copy, e.g. JPEG.
        clean: the images that a dataset of corrupted ones was made from.
        table: file of the superclasses that lies beside the images.
    """

    path: Path | None
    form: str
    variant: str | None = None
    clean: Located | None = None
    table: Path | None = None


def locate(data: DataSpec) -> Located:
    """Find the images of a dataset without reading them.

    Raises:
        RequestError: they are not there; with what to fetch and where to put it.
    """
    if data.dataset in ("digits", "random"):
        return Located(None, "embedded")
    if data.dataset == "cifar10":
        return _locate_cifar10(Path(data.source) if data.source is not None else None, data.label)
    if data.dataset == "cifar10c":
        return _locate_cifar10c()
    if data.dataset == "imagenet":
        return _locate_imagenet(data)
    if data.dataset == "tiny_imagenet":
        return _locate_tiny_imagenet(data)
    return _locate_folder(data)


def _locate_folder(data: DataSpec) -> Located:
    assert data.source is not None
    source = _users_file(data.source)
    if source.name.endswith(ARCHIVES):
        if not source.is_file():
            raise RequestError(f"{data.label}: source: {source} is not there (looked also in {_looked()})")
        return Located(source, "parts_tar")
    if data.shift == NO_SHIFT and data.target is None:
        for part in ("train", "test"):
            check_tree(source / part, f"{data.label}: source")
        return Located(source, "parts", _variant(source / "test"))
    for key, folder in (("source", source), ("target", Path(data.target) if data.target else None)):
        if folder is not None:
            check_tree(folder, f"{data.label}: {key}")
    return Located(source, "tree")


def _users_file(given: str) -> Path:
    """A path as placed by the suite or, where nothing is there, below a data folder."""
    path = Path(given)
    inside = getattr(given, "portable", "")
    if os.path.lexists(path) or not inside or Path(inside).is_absolute():  # Path's own raises for a name too long
        return path
    return next((folder / inside for folder in data_dirs() if os.path.lexists(folder / inside)), path)


def locate_all(points: Iterable[DataSpec], checkpoint: str | None) -> None:
    """Find the data of a run and its checkpoint, and report all that is missing at once.

    Raises:
        RequestError: one line with everything that is missing, each thing once.
    """
    missing: dict[str, None] = {}
    wanted: list[Callable[[], object]] = [partial(locate, data) for data in points]
    if checkpoint is not None:
        wanted.append(partial(locate_checkpoint, checkpoint))
    for find in wanted:
        try:
            find()
        except RequestError as error:
            missing[str(error)] = None
    if missing:
        raise RequestError("; and ".join(missing))


def _locate_cifar10(root: Path | None, label: str) -> Located:
    if root is not None:
        for part in ("train", "test"):
            check_tree(root / part, f"{label}: source")
        return Located(root, "split_tree", _variant(root / "test"))
    for folder in data_dirs():
        if (folder / CIFAR10_PICKLES / "data_batch_1").is_file():
            return Located(folder, "pickles")
        for name in ("cifar10", "cifar10_jpeg"):
            if (folder / name / "train").is_dir() and (folder / name / "test").is_dir():
                return Located(folder / name, "split_tree", _variant(folder / name / "test"))
        if (folder / "cifar10_jpeg.tar.gz").is_file():
            return Located(folder / "cifar10_jpeg.tar.gz", "tar", "JPEG")
    raise RequestError(
        f"cifar10 is not on this machine (looked in {_looked()}); run `jouletune fetch cifar10`, or set JOULETUNE_DATA "
        f"to a folder with {CIFAR10_PICKLES}/ or with cifar10/train/<class>/ and cifar10/test/<class>/"
    )


def _locate_cifar10c() -> Located:
    clean, lacking = None, []
    try:
        clean = _locate_cifar10(None, "cifar10c")
    except RequestError as error:
        lacking.append(str(error))
    archive = find_cifar10c()
    if archive is None:
        lacking.append(
            f"cifar10c is not on this machine (looked in {_looked()}); run `jouletune fetch cifar10c`, or get "
            f"{CIFAR10C}.tar (2.9 GB) from {CIFAR10C_URL} and put it, or the folder {CIFAR10C}/ that it unpacks to, "
            f"into one of these; suites with the generator's corruptions (`jouletune ls cifar10c-like`) need CIFAR-10 "
            f"only"
        )
    if clean is None or archive is None:
        raise RequestError("; and ".join(lacking))
    variant = f"clean images {clean.variant}" if clean.variant else None
    return Located(archive, "npy" if archive.is_dir() else "tar", variant, clean)


def find_cifar10c() -> Path | None:
    """Find the folder of CIFAR-10-C's arrays, or its archive, in the first data folder that has one."""
    for folder in data_dirs():
        if (folder / CIFAR10C / "labels.npy").is_file():
            return folder / CIFAR10C
        if (folder / f"{CIFAR10C}.tar").is_file():
            return folder / f"{CIFAR10C}.tar"
    return None


def _locate_imagenet(data: DataSpec) -> Located:
    """A user's ILSVRC-2012: train/<wnid>/, and val/<wnid>/ where the validation images are sorted into folders too."""
    roots = [Path(data.source)] if data.source is not None else [folder / "imagenet" for folder in data_dirs()]
    members = [member for sides in data.members().values() for side in sides for member in side]
    for root in roots:
        for inner in (root, root / "Data" / "CLS-LOC", root / "ILSVRC" / "Data" / "CLS-LOC"):
            if (inner / "train").is_dir():
                lacking = [member for member in members if not (inner / "train" / member).is_dir()]
                if lacking:
                    more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
                    raise RequestError(
                        f"{data.label}: {inner / 'train'} lacks {lacking[0]}{more} of the {len(members)} classes that "
                        f"the superclasses name; expected train/<class>/<image>"
                    )
                sorted_val = all((inner / "val" / member).is_dir() for member in members)
                return Located(inner, "imagenet", None if sorted_val else "train part only")
    looked = " and ".join(str(root) for root in roots)
    raise RequestError(
        f"{data.label}: no ImageNet (ILSVRC-2012) in {looked}; it may not be passed on: get it with an account of your "
        f"own from https://www.image-net.org, and set JOULETUNE_DATA to a folder that has it as "
        f"imagenet/train/<wnid>/<image> and imagenet/val/<wnid>/<image>, or name its root in `data`: source: PATH"
    )


def _locate_tiny_imagenet(data: DataSpec) -> Located:
    for folder in data_dirs() if data.source is None else ():
        for path in (folder / f"{TINY_SUBSET}.tar.gz", folder / TINY_SUBSET, folder / "tiny-imagenet-200"):
            form = "tar" if path.name.endswith(".tar.gz") and path.is_file() else "imagenet"
            if form == "tar" or (path / "train").is_dir():
                return Located(path, form, "JPEG", table=_tiny_table(data, folder))
    if data.source is not None and (Path(data.source) / "train").is_dir():
        return Located(Path(data.source), "imagenet", "JPEG", table=_tiny_table(data, Path(data.source)))
    looked = data.source or _looked()
    raise RequestError(
        f"tiny_imagenet is not on this machine (looked in {looked}); set JOULETUNE_DATA to a folder with "
        f"{TINY_SUBSET}.tar.gz and {TINY_SUBSET}.json, or with tiny-imagenet-200/ (unpacked from "
        f"https://cs231n.stanford.edu/tiny-imagenet-200.zip) and that table"
    )


def _tiny_table(data: DataSpec, folder: Path) -> Path | None:
    if data.superclasses is not None:
        return None
    table = folder / f"{TINY_SUBSET}.json"
    if not table.is_file():
        raise RequestError(
            f"{data.label}: no table of superclasses at {table}; put one there, "
            f"{{name: {{source: [wnid, ...], target: [wnid, ...]}}}}, or name it in `data`: superclasses: PATH"
        )
    return table


def _looked() -> str:
    return " and ".join(str(folder) for folder in data_dirs())


PART_OF = {"train": 0, "trainval": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
"""Folder of a divided dataset -> its part: to train from, to validate and to test with."""


def part_of(path: tuple[str, ...]) -> tuple[int, str] | None:
    """Part and class of an image in an archive, whatever folder its path begins with; None for another file."""
    if len(path) < 3 or path[-3] not in PART_OF or Path(path[-1]).suffix.lower() not in IMAGE_SUFFIXES:
        return None
    return PART_OF[path[-3]], path[-2]


def part_files(root: Path) -> list[tuple[int, str, Path]]:
    """Part, class and file of every image below a folder with train/CLASS/IMAGE, test/CLASS/IMAGE and maybe val/..."""
    return [
        (number, folder.name, file)
        for part, number in PART_OF.items()
        if (root / part).is_dir()
        for folder in sorted((root / part).iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
        for file in image_files(folder)
    ]


def _parts_of_all(path: Path, form: str) -> list[int]:
    """The part of every image; none of an archive that cannot be read, of which reading it says what is wrong."""
    if form == "parts":
        return [part for part, _, _ in part_files(path)]
    try:
        with tarfile.open(path) as tar:
            placed = [part_of(PurePosixPath(member.name).parts) for member in tar if member.isreg()]
    except (tarfile.TarError, OSError, EOFError, ValueError):
        return []
    return [found[0] for found in placed if found is not None]


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


def image_counts(data: DataSpec) -> tuple[int, int]:
    """Images of the source and of the target, near enough for an estimate; those of a user's folders are counted.

    Raises:
        RequestError: the folders are not there.
    """
    known = n_target(data)
    if known is not None:
        return (known if data.dataset not in ("cifar10", "cifar10c") else 50_000), known
    located = locate(data)
    if located.path is None or located.form == "tar":
        return 10_000, 10_000
    if located.form in ("parts", "parts_tar"):
        found = _parts_of_all(located.path, located.form)
        return found.count(0), len(found)
    root, sides = located.path, list(zip(*data.members().values(), strict=True))
    if located.form == "split_tree":
        folders = [[root / "train"], [root / "test"]]
    elif sides:
        parts = [root / part for part in ("train", "val")] if located.form == "imagenet" else [root]
        folders = [[part / member for part in parts for members in side for member in members] for side in sides]
    elif data.target is not None:
        folders = [[root], [Path(data.target)]]
    else:
        half = len(image_files(root)) // 2
        return half, half
    source, target = (sum(len(image_files(folder)) for folder in side) for side in folders)
    return source, target


def _variant(folder: Path) -> str | None:
    """Get 'JPEG' where the images are JPEGs: re-encoding changes accuracies, so every figure names it."""
    first = next((path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES), None)
    return "JPEG" if first is not None and first.suffix.lower() in (".jpg", ".jpeg") else None


def check_size(path: Path, max_bytes: int) -> None:
    """Refuse a file before it is read, where it is larger than it can be.

    Raises:
        RequestError: with both sizes.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size > max_bytes:
        raise RequestError(f"{path}: {size / 1e9:.2f} GB; expected at most {max_bytes / 1e9:.2f} GB")


def locate_checkpoint(checkpoint: str) -> Path:
    """The file of a checkpoint, given by a released name or a path; a released one is checked to be that one.

    Raises:
        RequestError: it is not there, or it is another file than was released.
    """
    released = CHECKPOINTS.get(checkpoint)
    if released is None:
        path = Path(checkpoint)
        if not path.is_file():
            raise RequestError(f"model.checkpoint: {path}: no such file")
        check_size(path, MAX_BYTES)
        return path
    for folder in data_dirs():
        path = folder / released.file
        if path.is_file():
            check_size(path, MAX_BYTES)
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != released.sha256:
                raise RequestError(
                    f"{path}: SHA-256 is {found[:12]}..., the released {checkpoint} has {released.sha256[:12]}..."
                )
            return path
    raise RequestError(
        f"checkpoint {checkpoint} ({released.about}) is not on this machine (looked in {_looked()}); "
        f"run `jouletune fetch {checkpoint}`, or set JOULETUNE_DATA to a folder that has it as {released.file}"
    )
