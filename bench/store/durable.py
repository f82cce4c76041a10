"""Files of a run folder: written so that a kill, a power loss or a full disk leaves them whole, read within bounds.

A path that a user names may lead through links. What lies in a run folder may come from somebody else, so with `root`
given no component below it may be a link: neither the file nor a folder on the way to it. What is read must be a
regular file of a bounded size, which is checked on the open descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bench.errors import JouletuneError, RequestError

MAX_JSON_DEPTH = 64
"""Objects and lists within each other, in a JSON file of a run folder."""

_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def write_atomic(path: Path, content: str | bytes, *, root: Path | None = None) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one, never a part.

    Text is written as UTF-8; a lone surrogate, which no file can hold, as the escape that names it.

    Args, Raises: as `write_through`.
    """
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    write_through(path, lambda file: file.write(data), root=root)


def write_through(path: Path, write: Callable[[BinaryIO], object], *, root: Path | None = None) -> None:
    """Replace a file as a whole by what `write` puts into an open file; missing folders are made.

    Args:
        root: a folder above it, below which nothing is written through a link.

    Raises:
        JouletuneError: it cannot be written; what stood there before is whole.
    """
    temporary = f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with _folder_of(path, root, create=True) as folder:
            try:
                with os.fdopen(_create(temporary, folder), "wb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
                sync_folder(folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
    except OSError as error:
        raise JouletuneError(f"{path}: cannot write ({error.strerror}); free space or choose another --out") from error


def remove_file(path: Path, *, root: Path) -> None:
    """Remove a file below a folder; one that is gone already is no error.

    Raises:
        JouletuneError: it cannot be removed, or a link below `root` leads to it.
    """
    try:
        with contextlib.suppress(FileNotFoundError), _folder_of(path, root) as folder:
            os.unlink(path.name, dir_fd=folder)
            sync_folder(folder)
    except OSError as error:
        raise JouletuneError(f"{path}: cannot remove ({error.strerror})") from error


def append_line(path: Path, line: bytes, *, root: Path | None = None) -> None:
    """Append a line and wait for the disk, or leave the file as it was.

    Raises:
        OSError: the disk is full or gone, or a link is in the way.
    """
    with _folder_of(path, root) as folder:
        try:
            descriptor, new = _open(path.name, os.O_WRONLY | os.O_APPEND, folder), False
        except FileNotFoundError:
            descriptor, new = _create(path.name, folder), True
        try:
            before = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
                if new:
                    sync_folder(folder)
            except OSError:
                with contextlib.suppress(OSError):  # what cannot be cut off now is cut off by `cut_torn_line`
                    os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)


def open_append(path: Path, *, root: Path | None = None, keep: int | None = None) -> BinaryIO:
    """Open a file that several processes may append to, such as a log; it is made where it is missing.

    Args:
        root: a folder above it, below which nothing may be a link.
        keep: bytes that it may have, see `cut_beginning`.

    Raises:
        OSError: it cannot be written, or is no regular file.
    """
    with _folder_of(path, root) as folder:
        try:
            descriptor = _open(path.name, os.O_RDWR | os.O_APPEND, folder)
        except FileNotFoundError:
            descriptor = os.open(path.name, os.O_RDWR | os.O_APPEND | _NEW, 0o666, dir_fd=folder)
    file = os.fdopen(descriptor, "a+b", buffering=0)
    if keep is not None:
        cut_beginning(file, keep)
    return file


def cut_beginning(file: BinaryIO, keep: int) -> None:
    """Cut a file open for appending, where it is longer than `keep` bytes, down to the last tenth of these."""
    if (size := file.seek(0, os.SEEK_END)) > keep:
        file.seek(size - keep // 10)
        tail = file.read(keep // 10)
        file.truncate(0)
        file.write(b"(the beginning was cut off)\n" + tail)


def cut_torn_line(path: Path, *, root: Path | None = None) -> int:
    """Cut off a last line that a power loss or a full disk left unfinished. Returns the bytes cut.

    Raises:
        OSError: it cannot be written, or is no regular file.
    """
    try:
        with _folder_of(path, root) as folder:
            file = os.fdopen(_open(path.name, os.O_RDWR, folder), "r+b")
    except FileNotFoundError:
        return 0
    with file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
    return size - end


def make_folder(path: Path) -> None:
    """Make a folder and those above it, so that a power loss does not take them back.

    Raises:
        OSError: it cannot be made.
    """
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        descriptor = os.open(one.parent, _FOLDER)
        try:
            sync_folder(descriptor)
        finally:
            os.close(descriptor)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def move(path: Path, to: Path) -> None:
    """Give a file or a folder another name in the same folder.

    Raises:
        OSError: that is not possible.
    """
    with _folder_of(path, None) as folder:
        os.rename(path.name, to.name, src_dir_fd=folder, dst_dir_fd=folder)
        sync_folder(folder)


def sync_folder(descriptor: int) -> None:
    """Wait until the names in an open folder are on the disk; a file system that has no such thing is let be."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def open_file(path: Path, *, limit: int, root: Path | None = None) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        limit: bytes that it may have at most.
        root: a folder above it, below which nothing may be a link.

    Raises:
        OSError: it is not there, a link, a device, a pipe, or too large.
    """
    with _folder_of(path, root) as folder:
        descriptor = _open(path.name, os.O_RDONLY, folder, follow=root is None)
    size = os.fstat(descriptor).st_size
    if size > limit:
        os.close(descriptor)
        raise OSError(errno.EFBIG, f"it has {size:,} bytes; at most {limit:,} are read")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, *, limit: int, root: Path | None = None) -> bytes:
    """The content of a regular file.

    Args, Raises: as `open_file`.
    """
    with open_file(path, limit=limit, root=root) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than the {limit:,} bytes that are read")
    return content


def parse_json(text: bytes | str) -> Any:
    """JSON within bounds: UTF-8, of bounded depth; what stands for no number (NaN, Infinity) is None.

    A lone surrogate, which no file and no terminal takes, becomes the text of its escape.

    Raises:
        ValueError: it is not JSON, or nested too deeply; says which.
    """
    try:
        value = json.loads(text if isinstance(text, str) else text.decode("utf-8"), parse_constant=lambda _: None)
        too_deep = _deeper(value, MAX_JSON_DEPTH)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except RecursionError:
        too_deep = True
    if too_deep:
        raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} deep")
    return printable(value)


def read_json(path: Path, *, limit: int, root: Path | None = None) -> Any:
    """The content of a JSON file.

    Args: as `open_file`.

    Raises:
        FileNotFoundError: it is not there.
        RequestError: it cannot be read.
    """
    try:
        return parse_json(read_bytes(path, limit=limit, root=root))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise RequestError(f"{path}: not readable as JSON ({error})") from None


def printable(value: Any) -> Any:
    """The same value, with the text of its escape in place of each lone surrogate."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [printable(one) for one in value]
    if isinstance(value, dict):
        return {printable(key): printable(one) for key, one in value.items()}
    return value


def _deeper(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_deeper(one, levels - 1) for one in inner if isinstance(one, dict | list))


@contextlib.contextmanager
def _folder_of(path: Path, root: Path | None, *, create: bool = False) -> Iterator[int]:
    """Descriptor of the folder in which a file lies; no link below `root` is followed on the way to it."""
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


def _create(name: str, folder: int) -> int:
    return os.open(name, os.O_WRONLY | _NEW, 0o666, dir_fd=folder)


def _open(name: str, flags: int, folder: int, *, follow: bool = False) -> int:
    """Open an existing regular file; what else it may be neither blocks nor is opened for writing."""
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    with _links_named(name, folder):
        descriptor = os.open(name, flags, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


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
