"""Download datasets and released checkpoints into the cache, each checked against its hash."""

from __future__ import annotations

import hashlib
import tempfile
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from rich.console import Console
from rich.progress import wrap_file

from bench.catalog.checkpoints import CHECKPOINTS, Released
from bench.data.locate import CIFAR10_PICKLES, CIFAR10C, CIFAR10C_URL, find_cifar10c
from bench.errors import JouletuneError, RequestError, nearest
from bench.store.cache_dir import cache_dir
from bench.store.durable import write_through

CIFAR10C_FILE = f"{CIFAR10C_URL}/files/{CIFAR10C}.tar"
CIFAR10C_MD5 = "56bf5dcef84df0e2308c6dcbcbbd8499"
"""As Zenodo publishes it; its size is 2,918,471,680 bytes."""

TIMEOUT_S = 60.0
"""Longest silence of a server."""


def fetchable() -> dict[str, str]:
    """Name -> what it is."""
    return {
        "cifar10": "CIFAR-10, the original images (170 MB, through torchvision)",
        "cifar10c": "CIFAR-10-C, its corrupted test images (2.9 GB, from Zenodo)",
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
    if not path.is_file() or _digest(path, "sha256") != released.sha256:
        console.print(f"downloading {name}: {released.about}", soft_wrap=True)
        if released.inside is None:
            _download(name, released.url, path, ("sha256", released.sha256), console)
        else:
            _extract(name, released, path, console)
    return path


def _extract(name: str, released: Released, path: Path, console: Console) -> None:
    """Download a training script's checkpoint and keep its state dict, as safetensors with the published hash.

    Raises:
        JouletuneError: it cannot be had, holds something else, or cannot be written.
    """
    import torch
    from safetensors.torch import save

    # a script that notes its error rate beside the weights has it as a number of numpy's
    scalar = np.float64(0).__reduce__()[0]
    numbers: list[Any] = [
        *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")), np.dtype, np.dtypes.Float64DType,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.pth"
        _download(name, released.url, whole, None, console)
        try:
            with torch.serialization.safe_globals(numbers):
                state = torch.load(whole, weights_only=True, map_location="cpu")[released.inside]
            content = save({key.removeprefix("module."): value.contiguous() for key, value in state.items()})
        except Exception as error:  # damaged bytes make the reader fail in ways it does not list
            reason = " ".join(str(error).split())[:120]
            raise JouletuneError(f"{name}: {released.url} is not the published checkpoint ({reason})") from None
    found = hashlib.sha256(content).hexdigest()
    if found != released.sha256:
        raise JouletuneError(f"{name}: {released.url} holds weights with sha256 {found}, known is {released.sha256}")
    write_through(path, lambda file: file.write(content))


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
    """The folder of arrays where there is one, else the archive, which is read in place."""
    there = find_cifar10c()
    if there is not None:
        if there.is_file() and _digest(there, "md5") != CIFAR10C_MD5:
            raise JouletuneError(f"{there}: not the published archive (another MD5); remove it")
        return there
    path = folder / f"{CIFAR10C}.tar"
    console.print("downloading CIFAR-10-C (2.9 GB)")
    _download("cifar10c", CIFAR10C_FILE, path, ("md5", CIFAR10C_MD5), console)
    return path


def _download(name: str, url: str, path: Path, published: tuple[str, str] | None, console: Console) -> None:
    """Download a file, which appears whole and with its published hash or not at all.

    Args:
        published: name of the hash's algorithm, and the hash; None where what it holds is checked afterwards.

    Raises:
        JouletuneError: it cannot be had, is another, or cannot be written.
    """
    algorithm, digest = published or ("sha256", None)
    otherwise = f"get {url.rpartition('/')[2]} in another way and put it at {path}"

    def write(file: BinaryIO) -> None:
        found = hashlib.new(algorithm)
        for part in _parts(url, name, console):
            found.update(part)
            file.write(part)
        if digest is not None and found.hexdigest() != digest:
            raise JouletuneError(
                f"{name}: {url} gave a file with {algorithm} {found.hexdigest()}, published is {digest}; {otherwise}"
            )

    try:
        write_through(path, write)
    except HTTPException as error:
        raise JouletuneError(f"{name} could not be fetched from {url} ({error}); {otherwise}") from None


def _parts(url: str, name: str, console: Console) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            with wrap_file(answer, total, description=name, console=console, transient=True) as file:
                yield from iter(lambda: file.read(1 << 20), b"")
    except OSError as error:  # urllib's own and those of the socket; not to be taken for the disk's
        raise HTTPException(" ".join(str(error).split())) from None


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
