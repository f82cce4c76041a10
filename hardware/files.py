"""Files: read only where they are regular and of bounded size, written whole or not at all.

A path that a user names may lead through links. What lies in a run folder may come from somebody else, so with `root`
given no component below it may be a link: neither the file nor a folder on the way to it. What a file is, is checked on
the open descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_file(path: Path, *, limit: int, root: Path | None = None) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        limit: bytes that it may have at most.
        root: a folder above it, below which nothing may be a link.

    Raises:
        OSError: it is not there, a link, a device, a pipe, or too large.
    """
    with folder_of(path, root) as folder:
        descriptor = open_in(folder, path.name, os.O_RDONLY, follow=root is None)
    size = os.fstat(descriptor).st_size
    if size > limit:
        os.close(descriptor)
        raise OSError(errno.EFBIG, f"too large: it has {size:,} bytes; at most {limit:,} are read")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, *, limit: int, root: Path | None = None) -> bytes:
    """Read the content of a regular file.

    Args, Raises: as `open_file`.
    """
    with open_file(path, limit=limit, root=root) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"too large: it has more than the {limit:,} bytes that are read")
    return content


@contextlib.contextmanager
def written_whole(path: Path, *, root: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file that appears under its name, whole and on the disk, when the block ends without an error.

    A reader sees the old file or the new one, never a part. Missing folders are made; a link under the name is
    replaced, not followed.

    Args:
        root: a folder above it, below which nothing is written through a link.

    Raises:
        OSError: it cannot be written; what stood there before is whole, and nothing is left of the new file.
    """
    temporary = f".{path.name}.{secrets.token_hex(4)}.tmp"
    with folder_of(path, root, create=True) as folder:
        try:
            with os.fdopen(create_in(folder, temporary), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            sync_folder(folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, so that a power loss does not take them back.

    Raises:
        OSError: it cannot be made.
    """
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        with folder_of(one, None) as above:
            sync_folder(above)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


@contextlib.contextmanager
def folder_of(path: Path, root: Path | None, *, create: bool = False) -> Iterator[int]:
    """Open the folder in which a file lies, to work in it whatever its name comes to mean; yields its descriptor.

    Args:
        root: a folder above it, below which no link is followed on the way; None: links are followed.
        create: make the folders that are missing.

    Raises:
        OSError: it is not there, cannot be made, or a link is in the way.
    """
    top = path.parent if root is None else root
    if create:
        make_folder(top)
    descriptor = os.open(top, _FOLDER)
    try:
        for part in path.parent.relative_to(top).parts:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)
                    sync_folder(descriptor)
            with _links_named(part, descriptor):
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def create_in(folder: int, name: str, flags: int = os.O_WRONLY) -> int:
    """Make a file that is not there in an open folder, and open it with these flags."""
    flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o666, dir_fd=folder)


def open_in(folder: int, name: str, flags: int, *, follow: bool = False) -> int:
    """Open an existing regular file in an open folder; what else it may be neither blocks nor is opened for writing."""
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    with _links_named(name, folder):
        descriptor = os.open(name, flags, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


def sync_folder(descriptor: int) -> None:
    """Wait until the names in an open folder are on the disk, on file systems that support it."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


@contextlib.contextmanager
def _links_named(name: str, folder: int) -> Iterator[None]:
    """Say of a link that it is one: the system's own words are of loops and folders."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            mode = 0
            with contextlib.suppress(OSError):
                mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                raise OSError(errno.ELOOP, "it is a link, which is not followed in a run folder") from None
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                raise OSError(errno.EINVAL, "it is not a regular file") from None
        raise
