"""Tar archives, plain or gzipped, read in place and verified whole: headers, gzip's CRC and length, the end marker."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np

from bench.data.images import Images, Pixels, Progress, decode
from bench.errors import RequestError

MAX_MEMBERS = 2_000_000
"""ImageNet has 1.3 million images."""

MAX_BYTES = 64_000_000
"""Of an image in an archive, and of a header's data."""

MAX_PADDING = 1_000_000
"""Zeros after the end marker; tar pads to records of 10 kB, some programs to more."""

BLOCK = 512

Parts = tuple[str, ...]
"""The parts of a path in an archive."""

Key = TypeVar("Key", int, str)
Entry = tuple[Key, str, Pixels]


def read_members(
    archive: Path,
    progress: Progress,
    *,
    wanted: Callable[[Parts], bool] = lambda _: False,
    max_bytes: int = MAX_BYTES,
) -> Iterator[tuple[Parts, int, bytes]]:
    """The files of an archive in its order. What is wrong with it is raised at the latest after the last.

    Args:
        progress: called with bytes of the archive.
        wanted: whether the content of a path is read.
        max_bytes: of one file.

    Returns:
        Path (relative, without `..`), offset of the content in the unpacked archive, content or b"".

    Raises:
        RequestError: it is damaged or cut off, holds links, devices or paths that lead outside, or exceeds a limit.
    """
    try:
        total = archive.stat().st_size
        with archive.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            unpacked: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            with unpacked as stream, tarfile.open(fileobj=cast(BinaryIO, _Bounded(stream)), mode="r:") as tar:
                for number, member in enumerate(iter(tar.next, None), start=1):
                    vars(tar)["members"].clear()  # else every header stays in memory
                    path = PurePosixPath(member.name).parts
                    _check(member, path, number, max_bytes)
                    if member.isreg():
                        yield path, member.offset_data, _content(stream, member) if wanted(path) else b""
                        progress(raw.tell(), total)
                _check_end(stream, tar.offset)
                progress(total, total)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError) as error:
        raise RequestError(f"{archive}: not a readable archive ({error})") from None


def read_images(
    archive: Path,
    place: Callable[[Parts], tuple[int, Key] | None],
    image_size: int | None,
    progress: Progress,
) -> tuple[list[Entry[Key]], list[Entry[Key]]]:
    """The images of both sides of a shift, sorted by label and name whatever the archive's order.

    Args:
        place: from the parts of a path to side (0 or 1) and label; None for what is not read.
        image_size: as in `bench.data.images.read_tree`.

    Raises:
        RequestError: as `read_members`, or an image is not readable.
    """
    sides: tuple[list[Entry[Key]], list[Entry[Key]]] = ([], [])
    for path, _, content in read_members(archive, progress, wanted=lambda path: place(path) is not None):
        found = place(path)
        if found is not None:
            name = "/".join(path)
            sides[found[0]].append((found[1], name, decode(io.BytesIO(content), archive / name, image_size)))
    for entries in sides:
        entries.sort(key=lambda entry: entry[:2])
        twice = [name for (_, name, _), (_, before, _) in zip(entries[1:], entries, strict=False) if name == before]
        if twice:
            raise RequestError(f"{archive}: not a readable archive ({twice[0]} is in it twice)")
    return sides


def as_images(entries: list[Entry[int]], classes: tuple[str, ...]) -> Images:
    """Join the images of one side, whose labels number the classes."""
    labels = np.array([label for label, _, _ in entries], np.int64)
    return Images(np.stack([image for _, _, image in entries]), labels, classes)


def _content(stream: BinaryIO, member: tarfile.TarInfo) -> bytes:
    stream.seek(member.offset_data)
    content = stream.read(member.size)
    if len(content) < member.size:
        raise EOFError("cut off")
    return content


def _check(member: tarfile.TarInfo, path: Parts, number: int, max_bytes: int) -> None:
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise tarfile.ReadError(f"{member.name} is a link, a device or a sparse file; expected files and folders")
    if member.name.startswith("/") or ".." in path:
        raise tarfile.ReadError(f"{member.name} leads out of the archive")
    if member.size > max_bytes:
        raise tarfile.ReadError(f"{member.name} has {member.size:,} bytes; the limit is {max_bytes:,}")
    if number > MAX_MEMBERS:
        raise tarfile.ReadError(f"over {MAX_MEMBERS:,} members")


def _check_end(stream: BinaryIO, offset: int) -> None:
    """Where tarfile stops there must be the end marker, and nothing after it: it takes a damaged header for the end."""
    stream.seek(offset)
    rest = stream.read(MAX_PADDING + 1)  # up to gzip's checksum, which is compared there
    if len(rest) < BLOCK:
        raise tarfile.ReadError("cut off: it has no end marker")
    if rest.strip(b"\0"):
        raise tarfile.ReadError(f"damaged header at byte {offset:,}")
    if len(rest) > MAX_PADDING:
        raise tarfile.ReadError(f"over {MAX_PADDING:,} bytes after its end marker")


class _Bounded:
    """A stream for tarfile that refuses to read a header's data of any size into memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read

    def read(self, size: int) -> bytes:
        if size > MAX_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes; the limit is {MAX_BYTES:,}")
        return self._read(size)
