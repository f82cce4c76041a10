"""Files: what a board was sent, kept in its cache by the hash of the content, so that nothing is sent twice.

A blob is a file named by its SHA-256. A tree is a folder of named blobs, e.g. the arrays of a prepared dataset; it is
named by the hash of its list and appears as a whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.errors import RequestError
from bench.store.cache_dir import cache_dir
from bench.store.durable import json_sha256
from bench.targets.wire import file_sha256

SHA256 = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)*")
"""Name of a file of a tree: relative, without links to what is above it."""

RESERVE_BYTES = 100_000_000
"""Left free on the board's disk for its log and its libraries' temporary files."""


def tree_of(path: Path, files: Iterable[Path] | None = None) -> dict[str, Path]:
    """Name -> file of a file, a folder, or some files in it, as a tree that can be sent."""
    if path.is_file():
        return {path.name: path}
    chosen = files if files is not None else (one for one in path.iterdir() if one.is_file())
    return {one.relative_to(path).as_posix(): one for one in sorted(chosen)}


class Store:
    """The blobs and trees in this machine's cache folder."""

    def __init__(self) -> None:
        self.path = cache_dir() / "received"
        self._whole: set[str] = set()

    @property
    def free(self) -> int:
        """Bytes that may be written here. The folder need not be there yet."""
        there = next(path for path in (self.path, *self.path.parents) if path.exists())
        return max(0, shutil.disk_usage(there).free - RESERVE_BYTES)

    def lacking(self, hashes: Iterable[str]) -> list[str]:
        """Those of the blobs that are not here, or are damaged."""
        return [one for one in dict.fromkeys(hashes) if not self._has(one)]

    def _has(self, sha256: str) -> bool:
        if sha256 not in self._whole:
            try:
                if file_sha256(self._blob(sha256)) != sha256:
                    return False
            except OSError:
                return False
            self._whole.add(sha256)
        return True

    def put(self, sha256: str, pieces: Iterable[bytes]) -> None:
        """Keep a blob; all pieces are taken in any case, so that what follows them is read aright.

        Raises:
            RequestError: it cannot be written, or is not what its hash says.
        """
        path = self._blob(sha256)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        digest = hashlib.sha256()
        rest = iter(pieces)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                for piece in rest:
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != sha256:
                raise RequestError(f"a file arrived damaged at {path.parent}")
            temporary.replace(path)
        except OSError as error:
            for _ in rest:
                pass
            raise RequestError(f"cannot write to {path.parent} there ({error.strerror}); free some space") from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        self._whole.add(sha256)

    def tree(self, blobs: Mapping[str, str]) -> Path:
        """The folder of a tree, name -> hash, whose blobs are here; made where it is missing or damaged.

        Raises:
            RequestError: a name or hash is none, a blob is missing, or it cannot be made.
        """
        for name, sha256 in blobs.items():
            if not NAME.fullmatch(name) or not SHA256.fullmatch(sha256):
                raise RequestError(f"no file of a tree: {name!r}")
        folder = self.path / "trees" / json_sha256(dict(sorted(blobs.items())))
        if all(_same(folder / name, self._blob(sha256)) for name, sha256 in blobs.items()):
            return folder
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for name, sha256 in blobs.items():
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                _link(self._blob(sha256), temporary / name)
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise RequestError(f"cannot write to {folder.parent} there ({error.strerror}); free some space") from None
        return folder

    def _blob(self, sha256: str) -> Path:
        if not SHA256.fullmatch(sha256):
            raise RequestError(f"no hash of a file: {sha256[:80]!r}")
        return self.path / "files" / sha256


def _same(file: Path, blob: Path) -> bool:
    """Whether a file of a tree is the blob: linked to it, or where the disk has no links, as large."""
    try:
        ours, kept = file.stat(), blob.stat()
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (kept.st_dev, kept.st_ino) or ours.st_size == kept.st_size


def _link(blob: Path, file: Path) -> None:
    try:
        os.link(blob, file)
    except OSError:
        shutil.copyfile(blob, file)
