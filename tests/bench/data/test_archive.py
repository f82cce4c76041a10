"""Archives and images made by others: verified whole, limited before they are read, one line for what is wrong."""

from __future__ import annotations

import gzip
import io
import os
import resource
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import archive as archives
from bench.data.archive import read_images, read_members
from bench.data.images import FORMATS, MAX_PIXELS, MAX_PIXELS_COSTLY, decode
from bench.errors import RequestError

ROOT = Path(__file__).resolve().parents[3]


def quiet(done: int, total: int) -> None:
    assert 0 <= done <= total


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(file, "PNG")
    return file.getvalue()


def content(*extra: tarfile.TarInfo, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of four images, with other members before the last."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for number in range(4):
            if number == 3:
                for member in extra:
                    tar.addfile(member)
            info = tarfile.TarInfo(f"train/c{number % 2}/{number}.png")
            info.size = len(picture(number))
            tar.addfile(info, io.BytesIO(picture(number)))
    return file.getvalue()


def read(path: Path) -> list[tuple[int, str, int]]:
    sides = read_images(path, lambda parts: (0, parts[1]), None, quiet)
    return [(int(image[0, 0, 0]), name, len(sides[1])) for _, name, image in sides[0]]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_whole_archive_is_read_in_the_order_of_names(
    tmp_path: Path, form: int, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "a.tar").write_bytes(pack(content(form=form)))
    names = ["train/c0/0.png", "train/c0/2.png", "train/c1/1.png", "train/c1/3.png"]
    assert read(tmp_path / "a.tar") == [(int(name[9]), name, 0) for name in names]


def test_every_flipped_byte_of_a_header_is_found(tmp_path: Path) -> None:
    whole = content()
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        headers = [member.offset for member in tar]
    for header in headers:
        for at in (0, 50, 100, 124, 130, 148, 156, 257, 345, 500):
            damaged = bytearray(whole)
            damaged[header + at] ^= 1
            (tmp_path / "a.tar").write_bytes(damaged)
            with pytest.raises(RequestError, match=r"a\.tar: "):
                read(tmp_path / "a.tar")


def test_every_flipped_byte_of_a_gzipped_archive_is_found_or_harmless(tmp_path: Path) -> None:
    whole = gzip.compress(content())
    (tmp_path / "a.tar").write_bytes(whole)
    images = read(tmp_path / "a.tar")
    refused = 0
    for at in range(len(whole)):
        (tmp_path / "a.tar").write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            assert read(tmp_path / "a.tar") == images  # gzip's date and system
        except RequestError:
            refused += 1
    assert refused >= len(whole) - 20


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_cut_archive_is_found_wherever_it_is_cut(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    whole = pack(content())
    end = -(-len(content().rstrip(b"\0")) // 512) * 512
    for at in range(0, len(whole), 64):
        if pack is bytes and at >= end + 512:
            continue  # within the end marker, after all content
        (tmp_path / "a.tar").write_bytes(whole[:at])
        with pytest.raises(RequestError, match=r"a\.tar: "):
            read(tmp_path / "a.tar")


def info(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, size, link
    return member


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (info("train/c0/l.png", tarfile.SYMTYPE, link="/etc/passwd"), "is a link"),
        (info("train/c0/l.png", tarfile.LNKTYPE, link="train/c0/0.png"), "is a link"),
        (info("train/c0/f.png", tarfile.FIFOTYPE), "is a link, a device"),
        (info("train/c0/d.png", tarfile.CHRTYPE), "is a link, a device"),
        (info("/etc/x.png"), "leads out of the archive"),
        (info("train/../../x.png"), "leads out of the archive"),
        (info("train/c0/big.png", size=9_000_000_000), r"has 9,000,000,000 bytes; the limit is 64,000,000"),
    ],
)
def test_a_member_that_is_refused(tmp_path: Path, member: tarfile.TarInfo, says: str) -> None:
    size, member.size = member.size, 0
    whole = content(member, form=tarfile.GNU_FORMAT)
    if size:  # a header alone: 9 GB are not written
        member.size = size
        header = member.tobuf(tarfile.GNU_FORMAT)
        member.size = 0
        whole = whole.replace(member.tobuf(tarfile.GNU_FORMAT), header)
    (tmp_path / "a.tar").write_bytes(whole)
    with pytest.raises(RequestError, match=says):
        read(tmp_path / "a.tar")


def test_too_many_members_and_too_large_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar").write_bytes(content())
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    with pytest.raises(RequestError, match="over 3 members"):
        read(tmp_path / "a.tar")
    monkeypatch.undo()
    long = content(info("train/c0/" + "n" * 900), form=tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(long)
    monkeypatch.setattr(archives, "MAX_BYTES", 600)
    with pytest.raises(RequestError, match=r"a header of 1,024 bytes; the limit is 600"):
        list(read_members(tmp_path / "a.tar", quiet, max_bytes=10_000))


def test_a_gzip_bomb_after_the_end_marker_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(gzip.compress(content() + bytes(200_000_000), 1))
    started = time.monotonic()
    with pytest.raises(RequestError, match="after its end marker"):
        read(tmp_path / "a.tar")
    assert time.monotonic() - started < 2


# -- single images -----------------------------------------------------------------------------------------


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(pwned) print\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_postscript_is_not_opened_whatever_it_is_called(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(EPS)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(RequestError, match=rf"{name}: not a readable image; expected one of PNG, JPEG"):
        decode(tmp_path / name, tmp_path / name, 8)
    assert "EPS" not in FORMATS


def blank_png(width: int, height: int) -> bytes:
    """A greyscale PNG of zeros, packed row by row so that no image of that size is ever made."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    rows = b"".join([*(packer.compress(bytes(1 + width)) for _ in range(height)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(1, 2_000_000), (2_000_000, 1), (3, 4_000_000)])
def test_a_thin_image_is_cut_before_it_is_resized(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "thin.png").write_bytes(blank_png(*size))
    code = (
        "import resource, sys; from pathlib import Path; from bench.data.images import decode\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "path = Path(sys.argv[1]); assert decode(path, path, 224).shape == (224, 224, 3)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "thin.png")],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert int(done.stdout) < 300_000  # kB


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    side = 20_000  # 400 million pixels in 400 kB; Pillow itself refuses it
    (tmp_path / "big.png").write_bytes(blank_png(side, side))
    with pytest.raises(RequestError, match=r"big\.png: not a readable image|the limit is"):
        decode(tmp_path / "big.png", tmp_path / "big.png", 8)
    (tmp_path / "large.png").write_bytes(blank_png(10_000, MAX_PIXELS // 10_000 + 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RequestError, match=r"large\.png: 10000 x 2501 pixels; the limit is 25,000,000"):
        decode(tmp_path / "large.png", tmp_path / "large.png", 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize(("form", "pixels"), [("WEBP", MAX_PIXELS_COSTLY), ("PNG", MAX_PIXELS), ("JPEG", MAX_PIXELS)])
def test_the_largest_image_takes_at_most_300_mb(form: str, pixels: int, tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from PIL import Image\n"
        "import os; from bench.data.images import decode\n"
        "path, form, side = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])\n"
        "if os.fork() == 0:\n"
        "    exif = Image.Exif(); exif[0x112] = 6; more = {'exif': exif.tobytes()}\n"
        "    Image.new('RGB' if form == 'JPEG' else 'RGBA', (side, side)).save(path, form, **more); os._exit(0)\n"
        "os.wait(); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert decode(path, path, 8).shape == (8, 8, 3)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "image"), form, str(int(pixels**0.5))],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert int(done.stdout) < 300_000  # kB


def test_formats_whose_decoders_cost_more_have_a_lower_limit(tmp_path: Path) -> None:
    side = int(MAX_PIXELS_COSTLY**0.5) + 1
    Image.new("RGB", (side, side)).save(tmp_path / "x.webp", method=0)
    (tmp_path / "x.ppm").write_bytes(b"P3 %d %d 1 0" % (side, side))
    for name in ("x.webp", "x.ppm"):
        with pytest.raises(RequestError, match=f"{name}: {side} x {side} pixels; the limit is 5,000,000"):
            decode(tmp_path / name, tmp_path / name, 8)


def test_common_shapes_are_resized_as_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for width, height in ((500, 375), (16, 256), (33, 32), (8, 8)):
        pixels = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        pixels.save(tmp_path / "x.png")
        scale = 32 / min(width, height)
        size = (max(32, round(width * scale)), max(32, round(height * scale)))
        whole = pixels.resize(size, Image.Resampling.BILINEAR)
        left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
        expected = np.asarray(whole.crop((left, top, left + 32, top + 32)))
        assert np.array_equal(decode(tmp_path / "x.png", tmp_path / "x.png", 32), expected)


def test_an_image_that_is_in_an_archive_twice_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for shade in (0, 1):
            member = info("train/c0/0.png", size=len(picture(shade)))
            tar.addfile(member, io.BytesIO(picture(shade)))
    (tmp_path / "a.tar").write_bytes(file.getvalue())
    with pytest.raises(RequestError, match=r"train/c0/0\.png is in it twice"):
        read(tmp_path / "a.tar")
