"""Links in a run folder, as somebody else's may hold them: nothing is written, read or removed through them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from bench.cli.commands import cli
from bench.errors import JouletuneError
from bench.run.runner import RunOptions, run_suite
from bench.store.record import Record
from bench.suite.load import LoadedSuite
from plots.drawing import style

NAMES = (
    *(".lock", "cells.jsonl", "manifest.json", "worker.log", "summary.csv", "report.html"),
    *("traces", "tables", "figures", ".report-files.json"),
)
FOLDERS = ("traces", "tables", "figures")

pytestmark = pytest.mark.usefixtures("without_work")


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "PNG_DPI", 30)


@pytest.fixture
def folder(loaded: LoadedSuite, tmp_path: Path) -> Path:
    """A finished run under a folder of runs."""
    out = tmp_path / "runs" / "one"
    run_suite(loaded, RunOptions(out=out, source="none"), Console(quiet=True))
    return out


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Somebody's home, with a file and a folder of files of names as ours."""
    home = tmp_path / "home"
    (home / "papers").mkdir(parents=True)
    for name in ("notes", "papers/shares.md", "papers/energy.tex", "papers/pareto-2.png"):
        (home / name).write_text(f"mine: {name}\n")
    return home


def state(folder: Path) -> dict[str, object]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def in_place(folder: Path, name: str, victim: Path, kind: str) -> None:
    """Put a link in place of a name of the run folder."""
    path = folder / name
    if path.is_dir():
        path.rename(folder.parent.parent / f"was-{name}")
    else:
        path.unlink(missing_ok=True)
    targets = {"there": victim / ("papers" if name in FOLDERS else "notes"), "dangling": victim / "new"}
    path.symlink_to(targets[kind])


def failure(command: Callable[[], object]) -> BaseException | None:
    """What a command raised, or would have shown its user."""
    try:
        result = command()
    except JouletuneError as error:
        return error
    return getattr(result, "exception", None)


@pytest.mark.parametrize("kind", ["there", "dangling"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_leads_out_of_the_folder(
    loaded: LoadedSuite, folder: Path, victim: Path, *, name: str, kind: str
) -> None:
    before = state(victim)
    commands: list[Callable[[], object]] = [
        lambda: run_suite(loaded, RunOptions(out=folder, source="none", retry=True), Console(quiet=True)),
        lambda: CliRunner().invoke(cli, ["report", str(folder)], standalone_mode=False),
        lambda: CliRunner().invoke(cli, ["history", str(folder.parent)], standalone_mode=False),
        lambda: CliRunner().invoke(cli, ["export", str(folder), "--out", str(folder.parent.parent / "x.csv")]),
        lambda: run_suite(loaded, RunOptions(out=folder, source="none", fresh=True), Console(quiet=True)),
    ]
    for command in commands:
        if not os.path.lexists(folder / name) or not (folder / name).is_symlink():
            in_place(folder, name, victim, kind)
        raised = failure(command)
        assert raised is None or isinstance(raised, JouletuneError | SystemExit), raised
        assert state(victim) == before


def test_a_run_whose_lines_go_to_a_link_fails_and_writes_nothing(
    loaded: LoadedSuite, folder: Path, victim: Path, without_work: list[Record]
) -> None:
    (folder / "cells.jsonl").unlink()
    (folder / "cells.jsonl").symlink_to(victim / "notes")
    finished = len(without_work)
    with pytest.raises(JouletuneError, match=r"cells\.jsonl.*it is a link"):
        run_suite(loaded, RunOptions(out=folder, source="none"), Console(quiet=True))
    assert len(without_work) == finished


@pytest.mark.parametrize("name", ["history-index.jsonl", ".history-index.jsonl.lock"])
def test_an_index_that_is_a_link_is_left_alone(folder: Path, victim: Path, name: str) -> None:
    before = state(victim)
    (folder.parent / name).symlink_to(victim / "notes")
    done = CliRunner().invoke(cli, ["history", str(folder.parent)], standalone_mode=False)
    assert done.exception is None or isinstance(done.exception, JouletuneError)
    assert state(victim) == before


def test_a_damaged_record_costs_that_repeat_and_not_the_run(
    loaded: LoadedSuite, folder: Path, without_work: list[Record]
) -> None:
    lines = (folder / "cells.jsonl").read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace('"repeat": ', f'"repeat": {10**30}')
    lines[2] = lines[2].replace('"started_at"', '"began_at"')
    lines[3] = "nonsense\n"
    (folder / "cells.jsonl").write_text("".join(lines))
    finished = len(without_work)
    result = run_suite(loaded, RunOptions(out=folder, source="none"), Console(quiet=True))
    assert (len(without_work) - finished, result.finished, result.failed) == (3, len(lines), 0)


@pytest.mark.parametrize("name", ["manifest.json", "cells.jsonl", ".lock", "worker.log"])
def test_a_pipe_in_place_of_a_file_is_one_line(loaded: LoadedSuite, folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    for arguments in (["report", str(folder)], ["history", str(folder.parent)]):
        done = CliRunner().invoke(cli, arguments, standalone_mode=False)
        assert done.exception is None or isinstance(done.exception, JouletuneError), done.exception
    raised = failure(lambda: run_suite(loaded, RunOptions(out=folder, source="none"), Console(quiet=True)))
    assert raised is None or "not a regular file" in str(raised)
