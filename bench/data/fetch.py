"""Downloads ahead of a run: datasets and released checkpoints, into the cache, each checked against its hash."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from bench.catalog.checkpoints import CHECKPOINTS
from bench.data.locate import CIFAR10_PICKLES, CIFAR10C, CIFAR10C_URL, data_dirs
from bench.data.robustbench_compat import import_robustbench
from bench.errors import JouletuneError, RequestError, nearest
from bench.store.cache_dir import cache_dir


def fetchable() -> dict[str, str]:
    """Name -> what it is."""
    return {
        "cifar10": "CIFAR-10, the original images (170 MB, through torchvision)",
        "cifar10c": "CIFAR-10-C, its corrupted test images (2.9 GB, through the robustbench extra)",
        **{name: released.about for name, released in CHECKPOINTS.items()},
    }


def fetch(name: str, console: Console) -> Path:
    """Download one thing, unless it is there. Returns where it lies.

    Raises:
        RequestError: no such name.
        JouletuneError: the download failed or is not what was published.
    """
    folder = cache_dir() / "data"
    if name == "cifar10":
        return _fetch_cifar10(folder, console)
    if name == "cifar10c":
        return _fetch_cifar10c(folder, console)
    if name not in CHECKPOINTS:
        raise RequestError(f"nothing to fetch is called {name!r}; {nearest(name, fetchable())}")
    released = CHECKPOINTS[name]
    path = folder / released.file
    if path.is_file():
        return path
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    console.print(f"downloading {name}: {released.about}")
    try:
        torch.hub.download_url_to_file(
            released.url, str(path), hash_prefix=released.sha256, progress=console.is_terminal
        )
    except (OSError, RuntimeError) as error:
        raise JouletuneError(
            f"{name} could not be fetched from {released.url} ({' '.join(str(error).split())}); "
            f"get {Path(released.url).name} in another way and put it at {path}"
        ) from None
    return path


def _fetch_cifar10(folder: Path, console: Console) -> Path:
    if (folder / CIFAR10_PICKLES / "data_batch_1").is_file():
        return folder / CIFAR10_PICKLES
    from torchvision.datasets import CIFAR10

    folder.mkdir(parents=True, exist_ok=True)
    console.print("downloading CIFAR-10 (170 MB)")
    try:
        CIFAR10(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise JouletuneError(
            f"cifar10 could not be fetched ({' '.join(str(error).split())}); "
            f"get cifar-10-python.tar.gz in another way and unpack it to {folder / CIFAR10_PICKLES}"
        ) from None
    return folder / CIFAR10_PICKLES


def _fetch_cifar10c(folder: Path, console: Console) -> Path:
    """The folder of arrays. It appears whole or not at all: robustbench takes whatever folder it finds for complete."""
    for place in data_dirs():
        for path in (place / CIFAR10C, place / f"{CIFAR10C}.tar"):
            if (path / "labels.npy").is_file() or path.is_file():
                return path
    otherwise = (
        f"get {CIFAR10C}.tar (2.9 GB) in another way, from {CIFAR10C_URL}, and put it, or the folder {CIFAR10C}/ that "
        f"it unpacks to, into {folder} or into the folder that JOULETUNE_DATA names"
    )
    try:
        robustbench = import_robustbench()
    except RequestError as error:
        raise RequestError(f"cifar10c is fetched through robustbench, and {error}; or {otherwise}") from None
    temporary = folder / f".{CIFAR10C}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    console.print("downloading CIFAR-10-C (2.9 GB); 6 GB of disk meanwhile")
    try:
        robustbench.data.load_cifar10c(1, 5, str(temporary), False, ["gaussian_noise"])
        (temporary / CIFAR10C).rename(folder / CIFAR10C)
    except Exception as error:  # robustbench's own, and whatever its parsers meet in an answer that is not Zenodo's
        raise JouletuneError(f"cifar10c could not be fetched ({' '.join(str(error).split())}); {otherwise}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / CIFAR10C
