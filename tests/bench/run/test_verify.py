"""`jouletune verify`: a run against the hashes that were taken while it ran."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from bench.history import history
from bench.history.index import NAME, Index, Stamp
from bench.process.messages import Prepared, PrepareDone
from bench.run import verify
from bench.run.runner import RunOptions, run_suite
from bench.store.run_dir import RunDir
from bench.suite.load import LoadedSuite

DONE = PrepareDone({}, "cpu", None)


@pytest.fixture
def folder(loaded: LoadedSuite, without_work: object, tmp_path: Path) -> RunDir:
    out = tmp_path / "run"
    run_suite(loaded, RunOptions(out=out, source="simulated"), Console(quiet=True))
    return RunDir(out)


@pytest.fixture
def checked(
    folder: RunDir, loaded: LoadedSuite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, bool | None]]:
    """Name of each check -> what it found, with data and weights whose hashes are given."""
    labels = [point.label for point in loaded.suite.data]

    def check(data: str = "d", weights: str = "w") -> dict[str, bool | None]:
        done = dataclasses.replace(DONE, prepared={name: Prepared(Path(), Path(), data, weights) for name in labels})
        monkeypatch.setattr(verify, "_prepared", lambda *_: done)
        return {one.what: one.right for one in verify.check(folder, tmp_path / "log")}

    return check


def test_a_run_as_it_was_written(checked: Callable[..., dict[str, bool | None]]) -> None:
    assert checked() == {
        "manifest": True, "records": True, "record hashes": True, "traces": None, "code": True, "data": True,
        "weights": True,
    }  # fmt: skip


def test_what_changed_is_named(folder: RunDir, checked: Callable[..., dict[str, bool | None]]) -> None:
    assert checked(data="other")["data"] is False
    assert checked(weights="other")["weights"] is False
    content = folder.cells_path.read_text()
    folder.cells_path.write_text(content.replace('"accuracy_after": 0.5', '"accuracy_after": 0.6', 1))
    assert (checked()["records"], checked()["record hashes"]) == (True, False)
    folder.cells_path.write_text(content.replace('"repeat": 0', '"repeat": "x"', 1))
    assert checked()["records"] is False
    folder.cells_path.write_text(content + content.splitlines()[0] + "\n")
    assert (checked()["records"], checked()["record hashes"]) == (True, True)  # lines that came later
    folder.manifest_path.write_text("{")
    assert checked()["manifest"] is False


@pytest.fixture
def trace(folder: RunDir) -> Path:
    folder.traces_dir.mkdir()
    path = folder.traces_dir / "t.csv.gz"
    path.write_bytes(b"as it was")
    lines = folder.cells_path.read_text().splitlines(keepends=True)
    sha256 = folder.trace_sha256("t.csv.gz")
    lines[0] = lines[0].replace('"trace": null', '"trace": "t.csv.gz"').replace(
        '"trace_sha256": null', f'"trace_sha256": "{sha256}"'
    )  # fmt: skip
    folder.cells_path.write_text("".join(lines))
    return path


def test_a_trace_that_changed_is_named(trace: Path, checked: Callable[..., dict[str, bool | None]]) -> None:
    assert checked()["traces"] is True
    trace.write_bytes(b"as it was not")
    assert checked()["traces"] is False
    trace.unlink()
    assert checked()["traces"] is False


def test_the_line_on_the_index_says_what_it_lacks(folder: RunDir) -> None:
    index, name = Index.open(folder.path.parent / NAME, chosen=False), folder.path.name
    assert index.lacks(name, Stamp.of(folder)) == f"no {NAME} beside the run; `jouletune history` writes one"
    history([folder.path])
    index = Index.open(index.path, chosen=False)
    assert index.lacks(name, Stamp.of(folder)) == ""
    assert f"{NAME} beside the run does not name it" in index.lacks("other", Stamp.of(folder))
    folder.manifest_path.write_text(folder.manifest_path.read_text() + "\n")
    assert "was written before the run changed" in index.lacks(name, Stamp.of(folder))
