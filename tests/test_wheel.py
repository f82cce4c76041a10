"""The wheel holds all that a checkout holds: built, installed elsewhere, and used there."""

from __future__ import annotations

import json
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from setuptools import find_packages

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = ("bench", "hardware", "plots", "suites")
MODULES = ("jouletune_pytest.py",)
SHIPPED = sorted(path.name for path in (ROOT / "suites").glob("*.yaml"))
TABLES = sorted(path.name for path in (ROOT / "results" / "reference").glob("*.csv"))

TINY = """
name: tiny
title: The smallest suite that trains
model: {name: resnet8, source_train: {epochs: 1}}
data:
  - {dataset: digits, shift: noise}
train_size: [0.1]
blocks: [block1, fc]
seeds: [0]
train: {epochs: 2, batch_size: 64}
energy: {repeats: 1, min_window_s: 0, idle_s: 0, guard_s: 0}
"""

# -- without a build -----------------------------------------------------------------------------------


def test_every_folder_with_code_is_packed() -> None:
    """setuptools leaves out a folder without `__init__.py`, or beyond the patterns, and gives no warning."""
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert find.pop("namespaces") is False
    files = [path for top in TOP_LEVEL for path in (ROOT / top).rglob("*.py")]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in files}
    assert sorted(find_packages(str(ROOT), **find)) == sorted(folders)


# -- with one ------------------------------------------------------------------------------------------


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    stem = "-".join(wheel.name.split("-")[:2])
    assert {name.split("/")[0] for name in names} == {*TOP_LEVEL, *MODULES, f"{stem}.data", f"{stem}.dist-info"}
    code = {str(path.relative_to(ROOT)) for top in TOP_LEVEL for path in (ROOT / top).rglob("*.py")}
    typed = {f"{top}/py.typed" for top in TOP_LEVEL if (ROOT / top / "py.typed").is_file()}
    tables = {str(path.relative_to(ROOT)) for path in (ROOT / "bench").rglob("*.csv")}
    page = {path for path in (ROOT / "plots" / "page").rglob("*") if path.suffix in {".js", ".css", ".html"}}
    assert {path.suffix for path in page} == {".js", ".css", ".html"}
    pages = {str(path.relative_to(ROOT)) for path in page}
    assert code | typed | tables | pages | {f"{stem}.dist-info/licenses/LICENSE"} <= set(names)


def test_imports_come_from_the_wheel(installed: Any) -> None:
    for name in TOP_LEVEL:
        file = installed.python(f"import {name}; print({name}.__file__)")
        assert Path(file).is_relative_to(installed.prefix)
    code = "from importlib.metadata import distribution; print(distribution('jouletune').locate_file(''))"
    assert Path(installed.python(code)).is_relative_to(installed.prefix)


def test_published_tables_are_found(installed: Any) -> None:
    found = Path(installed.python("from bench.catalog.paper import reference_dir; print(reference_dir())"))
    assert found.is_relative_to(installed.prefix)
    assert sorted(path.name for path in found.iterdir()) == TABLES
    assert "tbft_accuracy.csv" in TABLES


def test_shipped_suites_are_there(installed: Any) -> None:
    code = "from importlib.resources import files; print(*sorted(f.name for f in files('suites').iterdir()))"
    there = [name for name in installed.python(code).split() if name.endswith(".yaml")]
    assert there == SHIPPED
    assert SHIPPED


def test_help_and_ls_answer(installed: Any) -> None:
    help_text = installed.run("jouletune", "--help")
    assert (help_text.returncode, help_text.stderr) == (0, "")
    for command in ("run", "ls", "validate", "sources", "report", "compare", "fetch"):
        assert command in help_text.stdout
    listing = installed.run("jouletune", "ls")
    assert (listing.returncode, listing.stderr) == (0, "")
    for name in SHIPPED:
        assert name.removesuffix(".yaml") in listing.stdout


def test_a_tiny_suite_runs(installed: Any) -> None:
    (installed.cwd / "tiny.yaml").write_text(TINY)
    done = installed.run("jouletune", "run", "tiny.yaml", "--out", "out", "--source", "simulated")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (installed.cwd / "out" / "cells.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(record["status"], record["source"]) for record in records] == [("ok", "simulated")] * 2
    assert {record["cell_id"] for record in records} == {
        "digits-noise/n=0.1/block1/s=0",
        "digits-noise/n=0.1/fc/s=0",
    }
    assert str(installed.prefix) not in (installed.cwd / "out" / "cells.jsonl").read_text()


def test_install_into_a_target_folder_finds_the_tables(
    wheel: Path, tmp_path: Path, run_elsewhere: Callable[..., Any]
) -> None:
    """`pip install --target` puts data files elsewhere than the wheel's own file list says."""
    command = ["-m", "pip", "install", "--no-deps", "--no-index", "--target", str(tmp_path / "t"), str(wheel)]
    done = run_elsewhere(sys.executable, *command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    code = "import sys; sys.path.insert(0, 't'); from bench.catalog.paper import reference_dir as found"
    done = run_elsewhere(
        sys.executable, "-I", "-c", f"{code}; print(*sorted(p.name for p in found().iterdir()))", cwd=tmp_path
    )
    assert done.stdout.split() == TABLES, done.stderr
