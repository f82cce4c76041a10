"""The run folder: what a kill, a power loss, a second process or a full disk leave is whole lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.catalog.paper import reference_dir
from bench.errors import JouletuneError, RequestError, RunFolderBusyError
from bench.store.durable import write_atomic
from bench.store.manifest import Manifest, SuiteText
from bench.store.record import SCHEMA, UNITS, Record
from bench.store.run_dir import RunDir

ROOT = Path(__file__).resolve().parents[3]
Make = Callable[..., Record]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    return folder


def repeats(run: RunDir) -> list[int]:
    return [record["repeat"] for record in run.records()]


# -- records ----------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was(run: RunDir, make_record: Make) -> None:
    record = make_record(error="größe \u2028 \n 'x'", flags=("short-window",), energy_net_j=-0.25)
    run.append(record)
    assert run.cells_path.read_bytes().count(b"\n") == 1
    (read,) = run.records()
    assert Record(**(read | {name: tuple(read[name]) for name in ("flags", "levers", "energy_terms")})) == record
    assert read["schema"] == SCHEMA
    assert read["energy_gross_j"] is None


def test_appending_rewrites_nothing(run: RunDir, make_record: Make) -> None:
    run.append(make_record(repeat=0))
    first = run.cells_path.read_bytes()
    run.append(make_record(repeat=1))
    assert run.cells_path.read_bytes().startswith(first)
    assert repeats(run) == [0, 1]


def test_each_line_is_synced_before_append_returns(
    run: RunDir, make_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synced.append(run.cells_path.read_bytes())

    monkeypatch.setattr(os, "fsync", fsync)
    run.append(make_record())
    assert synced == 2 * [run.cells_path.read_bytes()]  # the line, and the folder that has a new name in it
    synced.clear()
    run.append(make_record(repeat=1))
    assert synced == [run.cells_path.read_bytes()]


def test_an_error_with_bytes_that_are_no_text_is_kept(run: RunDir, make_record: Make) -> None:
    run.append(make_record(status="failed", error=os.fsdecode(b"photos/caf\xe9.png: not a readable image")))
    (read,) = run.records()
    assert os.fsencode(read["error"]) == b"photos/caf\xe9.png: not a readable image"


def test_no_file_is_no_record(tmp_path: Path) -> None:
    assert RunDir(tmp_path / "none").records() == []
    assert RunDir(tmp_path / "none").repair() == 0


# -- torn lines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b"{", b'{"schema": 1, "cell_id": "x"', b"x" * 200_000], ids=["one", "half", "long"])
def test_a_torn_line_does_not_count_and_is_cut_off(run: RunDir, make_record: Make, torn: bytes) -> None:
    run.append(make_record(repeat=0))
    run.append(make_record(repeat=1))
    whole = run.cells_path.read_bytes()
    run.cells_path.write_bytes(whole + torn)
    assert repeats(run) == [0, 1]
    assert run.repair() == len(torn)
    assert run.cells_path.read_bytes() == whole
    run.append(make_record(repeat=2))
    assert repeats(run) == [0, 1, 2]


def test_wherever_it_is_torn(run: RunDir, make_record: Make) -> None:
    run.append(make_record(repeat=0))
    first = len(run.cells_path.read_bytes())
    run.append(make_record(repeat=1))
    whole = run.cells_path.read_bytes()
    for end in {*range(0, len(whole), 37), first - 1, first, first + 1, len(whole) - 1, len(whole)}:
        run.cells_path.write_bytes(whole[:end])
        expected = whole[: 0 if end < first else first if end < len(whole) else end]
        assert run.repair() == end - len(expected)
        assert run.cells_path.read_bytes() == expected


def test_a_file_that_is_torn_from_its_start(run: RunDir) -> None:
    run.cells_path.write_bytes(b"y" * 150_000)
    assert run.records() == []
    assert run.repair() == 150_000
    assert run.cells_path.read_bytes() == b""


@pytest.mark.parametrize(
    "line",
    ["nonsense", "5", "[1]", "null", "{}", '{"schema": 1}', "\\xff\\xfe", '{"schema": 1, "cell_id": "x", "repeat": 0}'],
)
def test_a_line_that_is_no_record_is_named(run: RunDir, make_record: Make, line: str) -> None:
    run.append(make_record())
    content = line.encode().decode("unicode_escape").encode("latin-1") if "\\x" in line else line.encode()
    run.cells_path.write_bytes(run.cells_path.read_bytes() + content + b"\n")
    with pytest.raises(RequestError, match="line 2 is not a record"):
        run.records()


def test_a_line_of_a_later_version_is_named(run: RunDir, make_record: Make) -> None:
    line = json.loads(make_record().to_json()) | {"schema": SCHEMA + 1}
    run.cells_path.write_text(json.dumps(line) + "\n")
    with pytest.raises(RequestError, match=f"line 1 has schema {SCHEMA + 1}, this version reads {SCHEMA}; upgrade"):
        run.records()


# -- one run at a time ------------------------------------------------------------------------------

HOLD = """
import sys
from bench.store import RunDir
with RunDir(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(run: RunDir) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_second_process_is_refused_and_told_who(run: RunDir, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(RunFolderBusyError, match=f"process {holder.pid}") as refused, run.locked():
        pass
    assert refused.value.exit_status == 2


def test_a_kill_leaves_no_lock(run: RunDir, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with run.locked():
        assert (run.path / ".lock").read_text() == str(os.getpid())


def test_the_lock_ends_with_its_block(run: RunDir) -> None:
    with pytest.raises(KeyError), run.locked():
        raise KeyError
    with run.locked():
        pass


def test_a_folder_that_cannot_be_made_is_an_error_of_the_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match="cannot write there"), RunDir(tmp_path / "file" / "run").locked():
        pass
    with pytest.raises(RequestError, match="cannot write there"), RunDir(tmp_path / ("x" * 300)).locked():
        pass


@pytest.mark.parametrize(
    ("path", "says"), [("file", "is a file"), ("file/run", "is a file"), ("x" * 300, "File name too long")]
)
def test_a_path_that_cannot_become_a_run_folder(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match=says):
        RunDir(tmp_path / path).check_usable()
    RunDir(tmp_path / "deep" / "run").check_usable()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_blank_folder_is_what_a_killed_start_leaves(run: RunDir) -> None:
    with run.locked():
        run.log_path.write_text("x")
        run.traces_dir.mkdir()
        (run.path / ".manifest.json.1.tmp").write_text("{")
    assert run.is_blank()
    (run.path / "thesis.docx").write_text("x")
    assert not run.is_blank()


# -- whole files ------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    write_atomic(path, "old")
    write_atomic(path, "größe")
    assert path.read_text(encoding="utf-8") == "größe"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomic(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JouletuneError, match=r"file\.json: cannot write \(No space left on device\)"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(JouletuneError, match="cannot write"):
        write_atomic(tmp_path / "file" / "x.json", "new")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no mount here: {error}")
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_whole_lines(tiny_disk: Path, make_record: Make) -> None:
    run = RunDir(tiny_disk)
    written = 0

    def fill() -> None:
        nonlocal written
        while written < 1000:
            run.append(make_record(repeat=written))
            written += 1

    with pytest.raises(JouletuneError, match=r"No space left on device.*finished repeats are safe"):
        fill()
    assert 10 < written < 100
    assert run.cells_path.read_bytes().endswith(b"\n")
    assert repeats(run) == list(range(written))
    # nor is a manifest lost
    (tiny_disk / "manifest.json").write_text("")
    with pytest.raises(JouletuneError, match="cannot write"):
        run.write_manifest(Manifest(git_commit="y" * 100_000))
    assert run.manifest_path.read_text() == ""
    run.cells_path.unlink()
    run.append(make_record())
    assert repeats(run) == [0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_link_is_not_written_through(run: RunDir, make_record: Make) -> None:
    run.cells_path.symlink_to("/dev/full")
    with pytest.raises(JouletuneError, match=r"cells\.jsonl: cannot write \(it is a link"):
        run.append(make_record())


def test_a_write_cut_short_is_taken_back(run: RunDir, make_record: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run.append(make_record(repeat=0))
    whole = run.cells_path.read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: real(descriptor, line[:20]))
    with pytest.raises(JouletuneError, match="No space left on device"):
        run.append(make_record(repeat=1))
    assert run.cells_path.read_bytes() == whole


def test_a_folder_that_is_gone(run: RunDir, make_record: Make) -> None:
    run.path.rmdir()
    with pytest.raises(JouletuneError, match=r"cells\.jsonl: cannot write"):
        run.append(make_record())


# -- manifest and others ----------------------------------------------------------------------------


def test_manifest(run: RunDir) -> None:
    assert run.read_manifest() is None
    manifest = Manifest(suite=SuiteText(title="größe"), versions={"torch": "2.1"})
    run.write_manifest(manifest)
    assert run.read_manifest() == manifest


@pytest.mark.parametrize("content", ["", "{", "[1]", "5"])
def test_a_manifest_that_cannot_be_read(run: RunDir, content: str) -> None:
    run.manifest_path.write_text(content)
    with pytest.raises(RequestError, match=r"manifest\.json: .*--fresh starts the run anew"):
        run.read_manifest()


def test_existing_wants_a_run(tmp_path: Path, run: RunDir, make_record: Make) -> None:
    with pytest.raises(RequestError, match="not a run folder"):
        RunDir.existing(tmp_path)
    run.append(make_record())
    assert RunDir.existing(run.path).path == run.path


def test_published_tables_are_found() -> None:
    assert (reference_dir() / "tbft_accuracy.csv").is_file()


# -- what a record may hold -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"accuracy_after": 1.01}, {"accuracy_after": -0.01}, {"accuracy_before": 50.0},
        {"accuracy_after": float("nan")}, {"energy_gross_j": float("nan")}, {"energy_net_j": float("inf")},
        {"train_time_s": float("-inf")},
        {"train_size": float("nan")}, {"status": "done"}, {"status": "OK"}, {"repeat": -1}, {"grade": "D"},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_that_no_repeat_can_have(make_record: Make, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        make_record(**change)


@pytest.mark.parametrize(
    "change",
    [
        *({"accuracy_after": value} for value in (0.0, 1.0, None)),
        *({"status": status} for status in ("ok", "failed", "timeout")),
        {"energy_net_j": -3.5},
        {"grade": "X"},
    ],
    ids=str,
)
def test_values_at_the_edge_are_fine(make_record: Make, change: dict[str, object]) -> None:
    assert json.loads(make_record(**change).to_json())[next(iter(change))] == next(iter(change.values()))


def test_an_unknown_field_is_refused_and_nothing_changes_later(make_record: Make) -> None:
    with pytest.raises(TypeError, match="joules"):
        make_record(joules=3)
    with pytest.raises(AttributeError):
        make_record().repeat = 3  # type: ignore[misc]


def test_a_line_has_every_field_of_the_contract(make_record: Make) -> None:
    contract = """
        schema cell_id repeat status error dataset shift level train_size n_train blocks seed method
        accuracy_before accuracy_after epochs_run steps train_time_s energy_gross_j energy_net_j energy_u_j idle_power_w
        source source_kind grade flags peak_rss_mb started_at
    """
    names = set(contract.split())
    assert names <= set(json.loads(make_record().to_json()))
    assert names <= set(UNITS)
    assert UNITS["energy_net_j"] == "J"
