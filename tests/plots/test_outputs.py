"""Which files of a folder a report may replace or remove."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import JouletuneError, RequestError
from plots import outputs
from plots.outputs import LIST, check_folder, write_files

FIRST = {"report.html": b"one", "summary.csv": b"a,b\n", "figures/pareto.png": b"1", "figures/pareto-2.png": b"2"}
SECOND = {"report.html": b"two", "summary.csv": b"a,b\n", "figures/pareto.png": b"3", "tables/energy.md": b"|"}


def held(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the list; a link as what it names."""
    return {
        str(path.relative_to(folder)): bytes(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.name != LIST and (path.is_symlink() or path.is_file())
    }


def test_what_only_the_former_report_had_goes_and_the_rest_stays(tmp_path: Path) -> None:
    others = {"tables/energy_budget.tex": b"mine", "tables/shares.md": b"mine", "figures/pareto-3.png": b"mine"}
    for name, content in others.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    write_files(tmp_path, FIRST)
    assert held(tmp_path) == FIRST | others
    write_files(tmp_path, SECOND)
    assert held(tmp_path) == SECOND | others
    assert set(json.loads((tmp_path / LIST).read_text())) == set(SECOND)


@pytest.mark.parametrize("name", ["summary.csv", "figures/pareto.png"])
@pytest.mark.parametrize("once", [False, True], ids=["never-reported", "changed-since"])
def test_a_foreign_file_in_the_way_leaves_all_as_it_was(tmp_path: Path, name: str, once: bool) -> None:
    if once:
        write_files(tmp_path, FIRST)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"mine")
    before = held(tmp_path)
    with pytest.raises(RequestError, match=f"{name}: no report wrote this file"):
        write_files(tmp_path, SECOND)
    assert held(tmp_path) == before


def test_a_file_that_was_changed_is_not_removed(tmp_path: Path) -> None:
    write_files(tmp_path, FIRST)
    (tmp_path / "figures/pareto-2.png").write_bytes(b"mine now")
    write_files(tmp_path, SECOND)
    assert held(tmp_path) == SECOND | {"figures/pareto-2.png": b"mine now"}


@pytest.mark.parametrize("name", ["summary.csv", "report.html", "figures", "tables", LIST])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    target = outside / "target"
    if name in ("figures", "tables"):
        target.mkdir()
        (target / "energy.md").write_bytes(b"mine")
    else:
        target.write_bytes(b"mine")
    (folder / name).symlink_to(target)
    before = held(tmp_path)
    with pytest.raises(RequestError, match=r"link|not the list"):
        write_files(folder, SECOND)
    assert held(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"../../victim": ["0"]}', '{"cells.jsonl": ["0"]}', '{"report.html": 7}', '{"/etc/passwd": []}'],
)
def test_a_list_that_is_none_is_in_the_way(tmp_path: Path, content: str) -> None:
    (tmp_path / LIST).write_text(content)
    with pytest.raises(RequestError, match="not the list of a report's files"):
        write_files(tmp_path, FIRST)
    assert held(tmp_path) == {}


def test_a_report_of_a_version_without_a_list_is_replaced(tmp_path: Path) -> None:
    page = b"<!DOCTYPE html>\n<meta " + outputs._OLD_PAGE + b" 'none'\">"
    (tmp_path / "figures").mkdir()
    for name, content in (FIRST | {"report.html": page}).items():
        (tmp_path / name).write_bytes(content)
    write_files(tmp_path, SECOND)
    assert held(tmp_path) == SECOND | {"figures/pareto-2.png": b"2"}  # what nothing names as a report's own is kept


def test_a_kill_in_between_leaves_nothing_foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, FIRST)
    calls = 0

    def killed(write: Callable[..., None], at: int) -> Callable[..., None]:
        def call(*args: object, **more: object) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                raise KeyboardInterrupt
            write(*args, **more)

        return call

    for at in range(1, 8):
        calls = 0
        wanted = (FIRST, SECOND)[at % 2]
        with monkeypatch.context() as patch:
            patch.setattr(outputs, "write_atomic", killed(outputs.write_atomic, at))
            patch.setattr(outputs, "remove_file", killed(outputs.remove_file, at))
            try:
                write_files(tmp_path, wanted)
            except KeyboardInterrupt:
                write_files(tmp_path, (FIRST, SECOND)[(at + 1) % 2])
        write_files(tmp_path, wanted)
        assert held(tmp_path) == wanted


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("a file where a folder should be")
    with pytest.raises(JouletuneError, match="cannot write"):
        write_files(tmp_path, FIRST)
    assert held(tmp_path) == {"figures": b"a file where a folder should be"}


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_full_disk_leaves_a_new_folder_as_it_was(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/own.txt").write_text("mine")
    calls, write = 0, outputs.write_atomic

    def full(*args: Any, **more: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise JouletuneError("no space left")
        write(*args, **more)

    monkeypatch.setattr(outputs, "write_atomic", full)
    for folder in ("mine", "new"):
        calls = 0
        with pytest.raises(JouletuneError, match="no space left"):
            write_files(tmp_path / folder, FIRST)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["mine", "mine/own.txt"]


def test_a_file_in_place_of_the_folder_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    check_folder(tmp_path / "a/b")
    check_folder(tmp_path)
    for name in ("file", "file/below"):
        with pytest.raises(RequestError, match="file is not a folder; choose another --out"):
            check_folder(tmp_path / name)


@pytest.mark.parametrize(("command", "name"), [("compare", "compare.csv"), ("history", "history.md")])
def test_a_comparison_and_a_history_replace_only_what_they_wrote(tmp_path: Path, command: str, name: str) -> None:
    first = {f"{command}.csv": b"a,b\n1,2\n", f"{command}.md": b"# one\n"}
    write_files(tmp_path, first, command)
    write_files(tmp_path, first | {name: b"a,b\n3,4\n"}, command)
    assert (tmp_path / name).read_bytes() == b"a,b\n3,4\n"
    (tmp_path / name).write_text("my own\n")
    with pytest.raises(RequestError, match=f"no {command} wrote this file"):
        write_files(tmp_path, first, command)
    assert (tmp_path / name).read_text() == "my own\n"


def test_tables_of_a_version_without_a_list_are_replaced_and_those_of_others_not(tmp_path: Path) -> None:
    files = {"compare.csv": b"a,b\n1,2\n", "compare.md": b"# one\n"}
    for header, ours in (("a,b", True), ("x,y", False)):
        folder = tmp_path / header
        folder.mkdir()
        (folder / "compare.csv").write_text(f"{header}\n0,0\n")
        if ours:
            write_files(folder, files, "compare")
        else:
            with pytest.raises(RequestError, match="no compare wrote this file"):
                write_files(folder, files, "compare")
        assert (folder / "compare.md").exists() is ours


def test_the_page_of_a_history_leaves_its_tables(tmp_path: Path) -> None:
    write_files(tmp_path, {"history.csv": b"a\n", "history.md": b"a\n"}, "history")
    write_files(tmp_path, {"history.html": b"<html>"}, "history")
    assert {path.name for path in tmp_path.iterdir()} == {
        "history.csv", "history.md", "history.html", "history-files.json"
    }  # fmt: skip
    write_files(tmp_path, {"history.csv": b"b\n"}, "history")
