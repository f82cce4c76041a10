"""Keep images in the cache, in a folder of arrays that appears whole, is synced, and is checked before use."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.images import Images
from bench.errors import JouletuneError
from bench.store.durable import json_sha256

PARTS = ("source", "target")
FACTS = "facts.json"


def write(folder: Path, sides: tuple[Images, Images], facts: Mapping[str, Any], shared: Mapping[str, Path]) -> None:
    """Write both sides of a domain and facts on them. Where two processes make the same folder, the first one stays.

    Args:
        folder: to be made; replaced where it is damaged.
        facts: plain data that `read_facts` returns, with the classes and the checksums added.
        shared: part -> folder of the cache that has the same arrays, which are linked instead of written again.

    Raises:
        JouletuneError: it cannot be written.
    """
    with _new_folder(folder) as temporary:
        for part, images in zip(PARTS, sides, strict=True):
            x, y = _files(temporary, part)
            if part in shared:
                for file in (x, y):
                    _link(shared[part] / file.name, file)
            else:
                np.save(x, np.ascontiguousarray(images.x))
                np.save(y, images.y)
        files = [file for part in PARTS for file in _files(temporary, part)]
        content = dict(facts) | {"classes": sides[0].classes, "sha256": {file.name: _digest(file) for file in files}}
        (temporary / FACTS).write_text(json.dumps(content | {"check": json_sha256(content)}))
        for file in (*files, temporary / FACTS, temporary):
            _sync(file)
    _sync(folder.parent)


def read_facts(folder: Path) -> dict[str, Any] | None:
    """The facts of a folder that `write` made; None where it is absent, or an array differs from its checksum.

    Reads every array once per process, at 2 GB/s on a processor with SHA instructions.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_bytes())
        check = facts.pop("check")
        files = {file.name: _digest(file) for part in PARTS for file in _files(folder, part)}
        return facts if check == json_sha256(facts) and files == facts["sha256"] else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def load(folder: Path) -> tuple[Images, Images, dict[str, Any]]:
    """Both sides, their pixels memory-mapped, and the facts, of a folder that `read_facts` found whole."""
    facts = json.loads((folder / FACTS).read_bytes())
    source, target = (
        Images(np.load(x, mmap_mode="r"), np.load(y), tuple(facts["classes"]))
        for x, y in (_files(folder, part) for part in PARTS)
    )
    return source, target, facts


def fingerprint(facts: Mapping[str, Any]) -> str:
    """SHA-256 of the images, labels and class names of a folder, whatever they were read from."""
    return json_sha256({"classes": list(facts["classes"]), "sha256": facts["sha256"]})


def _files(folder: Path, part: str) -> tuple[Path, Path]:
    return folder / f"{part}_x.npy", folder / f"{part}_y.npy"


def _digest(file: Path) -> str:
    """SHA-256 of a file's content, taken once per process, also of files that share it on the disk."""
    facts = file.stat()
    key = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    if key not in _DIGESTS:
        with file.open("rb") as opened:
            _DIGESTS[key] = hashlib.file_digest(opened, "sha256").hexdigest()
    return _DIGESTS[key]


_DIGESTS: dict[tuple[int, ...], str] = {}


def _link(old: Path, new: Path) -> None:
    """Link a file under another name; copy it where the file system has no links."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Make a folder under another name and rename it when it is complete.

    Raises:
        JouletuneError: it cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if read_facts(folder) is None:  # damaged; else another process was faster
                shutil.rmtree(folder, ignore_errors=True)
                temporary.rename(folder)
    except OSError as error:
        raise JouletuneError(
            f"{folder}: cannot write ({error.strerror}); set JOULETUNE_CACHE to a roomier folder"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
