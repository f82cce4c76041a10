"""Verdicts for CI: JUnit's XML, GitHub's annotations, only what changed, and the action in the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from click.testing import CliRunner, Result

from bench.analysis.ci import Case, github, junit
from bench.cli.commands import cli
from bench.store.manifest import Device, EnergySource, Manifest
from bench.store.record import Record
from bench.store.run_dir import RunDir

ROOT = Path(__file__).resolve().parents[3]
JOULES = {"fc": 1.10, "block1": 0.80, "block2": 1.0, "full": 1.0}
"""Arm -> its joules in RUN over those in BASE."""


def write_run(path: Path, factors: dict[str, float], make_record: Callable[..., Record]) -> Path:
    folder = RunDir(path)
    with folder.locked():
        folder.write_manifest(
            Manifest(schema=1, device=Device(board="b"), source=EnergySource(name="um25c", kind="power", scope="board"))
        )
        for arm, factor in factors.items():
            for repeat in range(5):
                joules = factor * (100 + (repeat * 7 + len(arm)) % 5 / 10)
                cell = {"cell_id": f"digits-flip/n=0.1/{arm}/s=0", "blocks": arm, "arm": arm, "seed": 0}
                folder.append(
                    make_record(
                        **cell, repeat=repeat, energy_gross_j=joules, grade="A", source="um25c", data="digits-flip"
                    )
                )
    return path


@pytest.fixture
def pair(tmp_path: Path, make_record: Callable[..., Record]) -> tuple[Path, Path]:
    run = write_run(tmp_path / "new", JOULES, make_record)
    return run, write_run(tmp_path / "old", dict.fromkeys(JOULES, 1.0), make_record)


def compare(pair: tuple[Path, Path], *options: str) -> Result:
    return CliRunner().invoke(cli, ["compare", *map(str, pair), *options], standalone_mode=False)


def test_junit_counts_failures_and_names_every_condition(pair: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "ci" / "junit.xml"
    done = compare(pair, "--junit", str(file), "--fail-on", "joules:5%", "--margin", "joules:2%")
    assert done.return_value == 1
    root = ET.fromstring(file.read_text(encoding="utf-8"))
    suite = root[0]
    assert suite.attrib["name"] == "new against old"
    joules = {one.attrib["name"].split()[-1]: one for one in suite if one.attrib["classname"] == "joules"}
    assert {*joules} == {*JOULES}
    assert {arm for arm, one in joules.items() if one.find("failure") is not None} == {"fc"}
    failure = joules["fc"].find("failure")
    assert failure is not None
    assert "+10.0" in failure.attrib["message"]
    assert "worse, n = 5" in failure.attrib["message"]
    assert (int(root.attrib["failures"]), int(root.attrib["tests"])) == (1, len(suite))
    assert int(root.attrib["skipped"]) == sum(one.find("skipped") is not None for one in suite)


def test_annotations_are_of_what_changed(pair: tuple[Path, Path]) -> None:
    lines = [line for line in compare(pair, "--github").output.splitlines() if line.startswith("::")]
    assert [line.split(" ")[0] for line in lines] == ["::warning", "::notice"]
    failing = compare(pair, "--github", "--fail-on", "joules:5%").output
    (error,) = [line for line in failing.splitlines() if line.startswith("::error")]
    assert error.startswith("::error title=joules%3A digits-flip")
    assert "+10.0" in error
    same = compare((pair[1], pair[1]), "--github").output
    assert "no annotation" in same
    assert "::" not in same


def test_only_changed_lists_no_other(pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = compare(pair, "--only-changed", "--out", str(tmp_path / "out"))
    assert "2 conditions without a proven change not listed" in done.output
    for text in (done.output, (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")):
        assert "fc" in text
        assert "block1" in text
        assert "block2" not in text
    assert "block2" in (tmp_path / "out" / "compare.csv").read_text(encoding="utf-8")
    assert "block2" in compare(pair).output


def test_foreign_names_cannot_forge_annotations_or_xml() -> None:
    case = Case(group="joules", name="x::error::\n::warning::a,b", outcome="failed", text="1%\r\n::error::no <b>\x00")
    (line,) = github([case])
    assert "\n" not in line
    assert line.startswith("::error title=joules%3A x%3A%3Aerror")
    assert "1%25" in line
    root = ET.fromstring(junit("a<b>\x1b", [case]))
    assert root[0].attrib["name"] == "a<b>\\x1b"


def test_history_tells_ci_too(tmp_path: Path, nights: Any) -> None:
    for day in range(24):
        nights.write(day, joules=lambda number, day=day: 1.15 if number == 0 and day >= 14 else 1.0)
    file = tmp_path / "history.xml"
    options = ("--fail-on", "joules:5%", "--junit", str(file), "--github")
    done = CliRunner().invoke(cli, ["history", str(nights.root), *options], standalone_mode=False)
    assert done.return_value == 1, done.output
    root = ET.fromstring(file.read_text(encoding="utf-8"))
    assert root.attrib["failures"] == "1"
    (error,) = [line for line in done.output.splitlines() if line.startswith("::error")]
    assert "title=joules%3A" in error


def test_action_compares_annotates_and_fails(pair: tuple[Path, Path], tmp_path: Path) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert action["runs"]["using"] == "composite"
    (step,) = [one for one in action["runs"]["steps"] if one.get("id") == "compare"]
    assert "${{" not in step["run"], "an input within a script is a command"
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "jouletune").write_text(f'#!/bin/sh\nexec {sys.executable} -m bench.cli "$@"\n', encoding="utf-8")
    (programs / "jouletune").chmod(0o755)
    given = {"RUN": str(pair[0]), "BASE": str(pair[1]), "FAIL_ON": "joules:5%", "OPTIONS": "--net", "OUT": "out"}
    assert {*step["env"]} == {*given}
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }  # fmt: skip

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step["run"]], cwd=tmp_path, env=environment | given | more,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = run(OPTIONS="")
    assert done.returncode == 1, done.stderr
    assert "::error title=joules%3A" in done.stdout
    assert (tmp_path / "output").read_text() == "junit=out/junit.xml\n"
    assert "new against old" in (tmp_path / "summary.md").read_text()
    assert run(OPTIONS="", FAIL_ON="").returncode == 0
    assert run(RUN="$(touch hacked)").returncode == 2
    assert not (tmp_path / "hacked").exists()
