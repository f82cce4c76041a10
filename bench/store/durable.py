"""Files of a run folder: written, appended to and repaired so that no kill, power loss or full disk damages them.

`hardware.files` reads and writes single files, within bounds and without following links below `root`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from bench.errors import JouletuneError, RequestError
from hardware.files import create_in, folder_of, open_in, read_bytes, sync_folder, written_whole

MAX_JSON_DEPTH = 64
"""Objects and lists within each other, in a JSON file of a run folder."""

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, None}


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
        RequestError: nothing can be written under that name.
        JouletuneError: the disk is full or fails. Either way, what stood there before is whole.
    """
    try:
        with written_whole(path, root=root) as file:
            write(file)
    except OSError as error:
        if error.errno in _OF_THE_DISK:
            raise JouletuneError(
                f"{path}: cannot write ({error.strerror}); free space or choose another --out"
            ) from error
        raise RequestError(f"{path}: cannot write ({error.strerror}); choose another --out") from error


def remove_file(path: Path, *, root: Path) -> None:
    """Remove a file below a folder; one that is gone already is no error.

    Raises:
        JouletuneError: it cannot be removed, or a link below `root` leads to it.
    """
    try:
        with contextlib.suppress(FileNotFoundError), folder_of(path, root) as folder:
            os.unlink(path.name, dir_fd=folder)
            sync_folder(folder)
    except OSError as error:
        raise JouletuneError(f"{path}: cannot remove ({error.strerror})") from error


def append_line(path: Path, line: bytes, *, root: Path | None = None) -> None:
    """Append a line and wait for the disk, or leave the file as it was.

    Raises:
        OSError: the disk is full or gone, or a link is in the way.
    """
    with folder_of(path, root) as folder:
        try:
            descriptor, new = open_in(folder, path.name, os.O_WRONLY | os.O_APPEND), False
        except FileNotFoundError:
            descriptor, new = create_in(folder, path.name), True
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
    with folder_of(path, root) as folder:
        try:
            descriptor = open_in(folder, path.name, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            descriptor = create_in(folder, path.name, os.O_RDWR | os.O_APPEND)
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
        with folder_of(path, root) as folder:
            file = os.fdopen(open_in(folder, path.name, os.O_RDWR), "r+b")
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


def move(path: Path, to: Path) -> None:
    """Give a file or a folder another name in the same folder.

    Raises:
        OSError: that is not possible.
    """
    with folder_of(path, None) as folder:
        os.rename(path.name, to.name, src_dir_fd=folder, dst_dir_fd=folder)
        sync_folder(folder)


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


def json_sha256(content: Any) -> str:
    """Hash plain values by their JSON, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
