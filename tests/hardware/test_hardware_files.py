"""FIFOs, devices, links and files without end are refused at once, and nothing is written through a link."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware import SourceUnavailableError
from hardware.calibration import profile
from hardware.calibration.profile import ProfileError
from hardware.files import read_bytes, written_whole
from hardware.measure import trace
from hardware.measure.trace import TraceFile, read_trace, write_trace
from hardware.sources import replay

SAMPLES = [(1.0, 2.0), (2.0, 3.0)]


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def endless(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("make", [fifo, endless, folder])
@pytest.mark.timeout(10)
def test_what_is_no_file_is_refused_at_once(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path / "t.csv.gz")
    with pytest.raises(OSError):  # noqa: PT011 - of a link ELOOP, of the others EINVAL or EISDIR
        read_trace(path)
    with pytest.raises(SourceUnavailableError, match="cannot read"):
        replay.load(path)
    with pytest.raises(ProfileError, match="cannot be read"):
        profile.load(path)


def test_a_trace_of_more_samples_than_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardware.measure.trace.MAX_SAMPLES", 1_000_000)
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b"t_mono_s,power_w\n")
        for start in range(0, 1_200_000, 200_000):
            stream.write("".join(f"{number},2\n" for number in range(start, start + 200_000)).encode())
    with pytest.raises(ValueError, match="more than 1 million samples"):
        read_trace(path)


@pytest.mark.timeout(30)
def test_a_file_that_unpacks_to_gigabytes_is_refused_at_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b"t_mono_s,power_w\n")
        for _ in range(210):
            stream.write(b"1,2\n" * 250_000)
    assert path.stat().st_size < 2_000_000
    with pytest.raises(ValueError, match="its times do not rise"):  # seen in the first block, the rest is not unpacked
        read_trace(path)
    with pytest.raises(SourceUnavailableError, match="longer than 20 MB"):
        replay.load(path)
    with pytest.raises(OSError, match="at most 1,000 are read"):
        read_bytes(path, limit=1000)


def test_a_trace_that_is_a_link_is_not_read_and_a_recording_may_be_one(tmp_path: Path) -> None:
    real = tmp_path / write_trace(tmp_path, "real", SAMPLES, column="power_w", facts={})
    link = tmp_path / "link.csv.gz"
    link.symlink_to(real)
    with pytest.raises(OSError):  # noqa: PT011 - ELOOP
        read_trace(link)
    assert replay.load(link) == SAMPLES


def test_no_trace_is_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder(tmp_path / "elsewhere")
    traces = tmp_path / "traces"
    traces.symlink_to(elsewhere)
    with pytest.raises(OSError):  # noqa: PT011 - ENOTDIR or ELOOP
        write_trace(traces, "t", SAMPLES, column="power_w", facts={})
    monkeypatch.setattr(trace, "FLUSH_S", 0.0)
    partial = TraceFile(traces, "t", column="power_w", facts={})
    partial.add(SAMPLES, 1.0)
    partial.drop()
    assert list(elsewhere.iterdir()) == []
    # nor through the name of a temporary file
    target = tmp_path / ".bashrc"
    target.write_text("mine")
    run = folder(tmp_path / "run")
    (run / f".t.csv.gz.{os.getpid()}.part").symlink_to(target)
    (run / ".t.csv.gz.part").symlink_to(target)
    assert write_trace(run, "t", SAMPLES, column="power_w", facts={}) == "t.csv.gz"
    assert target.read_text() == "mine"
    assert not (run / "t.csv.gz").is_symlink()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file"
    with contextlib.suppress(RuntimeError), written_whole(path) as file:
        file.write(b"half")
        raise RuntimeError("half-way")
    assert list(path.parent.iterdir()) == []
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd)))
    with written_whole(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    # the data before the name, the name before it counts as written
    assert [Path(name).name.split(".")[0] or "file" for name in synced] == ["file", "deep"]


def test_a_link_under_the_name_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "name").symlink_to(target)
    with written_whole(tmp_path / "name") as file:
        file.write(b"new")
    assert (target.read_text(), (tmp_path / "name").read_text()) == ("mine", "new")
