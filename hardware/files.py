"""Files: read only where they are regular and of bounded size, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path, *, follow: bool = False) -> BinaryIO:
    """Open a regular file to read, without waiting as a FIFO would make it.

    Args:
        follow: whether the file may be a link.

    Raises:
        OSError: not there, not readable, or a FIFO, device, folder or link.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, limit: int, *, gzipped: bool = False, follow: bool = False) -> bytes:
    """All of a regular file, unpacked if it is gzipped.

    Raises:
        ValueError: longer than limit bytes, or gzip that is damaged or cut short.
        OSError: see `open_regular`.
    """
    with open_regular(path, follow=follow) as file, gzip.open(file) if gzipped else file as stream:
        try:
            data = stream.read(limit + 1)
        except EOFError:
            raise ValueError("cut short") from None
        except (zlib.error, gzip.BadGzipFile):
            raise ValueError("not readable as gzip") from None
    if len(data) > limit:
        raise ValueError(f"longer than {limit / 1e6:g} MB")
    return data


@contextlib.contextmanager
def folder_descriptor(folder: Path, *, follow: bool = False) -> Iterator[int]:
    """A descriptor of a folder, which is made if need be, to write in it whatever its name comes to mean.

    Raises:
        OSError: it cannot be made, is no folder, or is a link that may not be followed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def written_whole(path: Path, *, follow_folder: bool = False) -> Iterator[BinaryIO]:
    """A file to write that appears under its name, whole and on the disk, when the block ends without an error.

    What stands under the name before is replaced; if it is a link, the link itself.

    Raises:
        OSError: the folder cannot be written; nothing is left of the file.
    """
    temporary = f".{path.name}.{os.getpid()}.part"
    with folder_descriptor(path.parent, follow=follow_folder) as folder:
        with contextlib.suppress(FileNotFoundError):  # of a process of the same number that was killed
            os.unlink(temporary, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o666, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)
