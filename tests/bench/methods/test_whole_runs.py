"""Arms of many methods through whole runs: ids, records, tables, a method that fails, one of another package."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import bench

SUITE: dict[str, Any] = {
    "name": "arms",
    "model": {"name": "resnet8", "width": 4, "source_train": {"epochs": 2}},
    "data": [{"dataset": "digits", "shift": "noise"}],
    "train_size": [40],
    "seeds": [0],
    "train": {"epochs": 2, "batch_size": 16, "lr": 0.01, "threads": 1},
    "energy": {"repeats": 1, "min_window_s": 0, "idle_s": 0.1, "guard_s": 0, "cooldown_s": 0},
}
THEIRS = """
from bench.methods import Adapted, Method, Options, Task

class TwoOptions(Options):
    fail: bool = False

METHOD = Method(name="theirs", about="fails where it is told to", labels="needed", options=TwoOptions)

def adapt(task, options):
    if options.fail:
        raise ValueError("as it was told")
    task.tune(list(task.model.fc.parameters()))
    return Adapted(facts={"mine": 1})
"""


def jouletune(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from bench.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def package(folder: Path, code: str) -> dict[str, str]:
    """Install a package with one method below a folder; the environment that finds it."""
    info = folder / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "theirs.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[jouletune.methods]\ntheirs = theirs\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(Path(bench.__file__).parents[1])])}


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]


def write(folder: Path, **changes: Any) -> None:
    (folder / "s.yaml").write_text(yaml.safe_dump(SUITE | changes, sort_keys=False))


def test_arms_of_all_kinds_run_and_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, methods=["full", "none", "tent", {"random": {"count": [1, 2]}}, {"eata": {"margin": 1.0}}])
    done = jouletune(tmp_path, "run", "s.yaml", "--out", "r", "--source", "simulated")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {record["arm"]: record for record in records(tmp_path / "r")}
    assert [*sorted(found)] == ["eata(margin=1.0)", "full", "none", "random", "random(count=2)", "tent"]
    assert found["random(count=2)"]["cell_id"] == "digits-noise/n=40/random(count=2)/s=0"
    assert len(found["random(count=2)"]["facts"]["blocks"]) == 2
    assert found["random"]["options"] == {"count": 1}
    assert found["full"]["options"] is None
    assert found["full"]["blocks"] == "full"
    assert found["tent"]["blocks"] == ""
    assert {arm: record["labels"] for arm, record in found.items()} == {
        "full": "needed", "random": "needed", "random(count=2)": "needed",
        "none": "unused", "tent": "unused", "eata(margin=1.0)": "unused",
    }  # fmt: skip
    assert (found["tent"]["best_epoch"], found["tent"]["epochs_run"], found["tent"]["steps"]) == (None, 1, 1)
    # nothing was done, so nothing was measured, and that is no fault of the meter's
    none = found["none"]
    assert (none["energy_gross_j"], none["grade"], none["flags"]) == (None, None, ["no_work"])
    assert none["accuracy_after"] == none["accuracy_before"]
    assert "unmeasured" not in done.stderr
    assert "grade X" not in done.stderr
    again = jouletune(tmp_path, "run", "s.yaml", "--out", "r", "--source", "simulated", "--retry")
    assert again.returncode == 0
    assert len(records(tmp_path / "r")) == 6
    frame = jouletune(tmp_path, "export", "r", "--out", "x.csv")
    assert frame.returncode == 0
    header, *lines = (tmp_path / "x.csv").read_text().splitlines()
    assert {"arm", "options", "facts", "phases", "labels"} <= set(header.split(","))
    assert len(lines) == 6
    summary = jouletune(tmp_path, "report", "r")
    assert summary.returncode == 0
    rows = (tmp_path / "r" / "summary.csv").read_text()
    assert rows.count("random(count=2)") >= 1
    page = (tmp_path / "r" / "report.html").read_text()
    assert "random(count=2)" in page


def test_what_cannot_act_on_the_net_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        "from torch import nn\n"
        "def net(n_classes, in_channels):\n"
        "    stem = nn.Conv2d(in_channels, 4, 3)\n"
        "    return nn.Sequential(stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n_classes))\n"
    )
    model = {"name": "plain:net", "blocks": {"block1": ["0"], "fc": ["3"]}, "source_train": {"epochs": 1}}
    for method, reason in (("adabn", "no BatchNorm"), ("tent", "no normalisation layer")):
        write(tmp_path, model=model, methods=["full", method])
        done = jouletune(tmp_path, "run", "s.yaml", "--out", "r", "--source", "none")
        assert done.returncode == 2
        assert f"{method}: plain:net has {reason}" in done.stderr
        assert not (tmp_path / "r").exists()


def test_a_method_that_raises_fails_its_cell_only(tmp_path: Path) -> None:
    environment = package(tmp_path / "site", THEIRS)
    write(tmp_path, methods=["fc", {"theirs": {"fail": [True, False]}}])
    done = jouletune(tmp_path, "run", "s.yaml", "--out", "r", "--source", "none", **environment)
    assert done.returncode == 1
    found = {record["arm"]: record for record in records(tmp_path / "r")}
    assert {arm: record["status"] for arm, record in found.items()} == {
        "fc": "ok", "theirs": "ok", "theirs(fail=true)": "failed",
    }  # fmt: skip
    assert found["theirs(fail=true)"]["error"] == "ValueError: as it was told"
    assert found["theirs"]["facts"] == {"mine": 1}
    listed = jouletune(tmp_path, "methods", **environment)
    assert "theirs fails where it is told to" in " ".join(listed.stdout.split())
    assert "needs labels; fail: false; theirs" in listed.stdout


def test_a_package_that_does_not_import_is_one_line(tmp_path: Path) -> None:
    environment = package(tmp_path / "site", "import nothing_of_this_name\n")
    write(tmp_path, methods=["theirs"])
    done = jouletune(tmp_path, "run", "s.yaml", "--out", "r", **environment)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: s.yaml:")
    assert "theirs does not load (ModuleNotFoundError" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "r").exists()
    listed = jouletune(tmp_path, "methods", **environment)
    assert listed.returncode == 0
    assert "theirs cannot be used: method 'theirs': theirs does not load" in " ".join(listed.stdout.split())
    assert "tent" in listed.stdout


@pytest.mark.parametrize("name", ["auto-rgn", "none", "nonsense"])
def test_what_a_method_offers(tmp_path: Path, name: str) -> None:
    done = jouletune(tmp_path, "methods", name)
    if name == "nonsense":
        assert done.returncode == 2
        assert "'nonsense' is not a method" in done.stderr
        return
    assert done.returncode == 0
    assert done.stdout.startswith(name)
    if name == "auto-rgn":
        assert "form: paper, batches: 5, lr: null" in done.stdout
        assert "  batches: of the released form." in done.stdout


def test_the_method_of_the_docs_runs_from_a_package(tmp_path: Path) -> None:
    text = (Path(bench.__file__).parents[1] / "docs/methods.md").read_text()
    blocks = dict(re.findall(r"```(toml|python)\n(.*?)```", text, re.DOTALL))
    assert len([line for line in blocks["python"].splitlines() if line.strip()]) <= 40
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    (source / "pyproject.toml").write_text(blocks["toml"])
    (source / "jouletune_tail.py").write_text(blocks["python"])
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run([*command, "--target", str(site), str(source)], check=True, capture_output=True)
    environment = {"PYTHONPATH": os.pathsep.join([str(site), str(Path(bench.__file__).parents[1])])}
    write(tmp_path, methods=[{"tail": {"share": [0.25, 0.9]}}])
    done = jouletune(tmp_path, "run", "s.yaml", "--out", "r", "--source", "simulated", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {record["arm"]: record for record in records(tmp_path / "r")}
    assert {*found} == {"tail", "tail(share=0.9)"}
    assert found["tail"]["facts"]["tensors"] < found["tail(share=0.9)"]["facts"]["tensors"]
    assert {*found["tail"]["phases"]} == {*found["tail"]["phase_macs"]} | {"select"} == {"select", "adapt"}
    wrong = jouletune(tmp_path, "validate", "s.yaml")  # without the package
    assert wrong.returncode == 2
    assert "'tail' is neither a method nor a block" in wrong.stderr


def test_a_run_does_not_go_on_with_other_code_of_a_method(tmp_path: Path) -> None:
    environment = package(tmp_path / "site", THEIRS)
    write(tmp_path, methods=["theirs"])
    first = jouletune(tmp_path, "run", "s.yaml", "--out", "r", "--source", "none", **environment)
    assert first.returncode == 0, first.stderr
    content = json.loads((tmp_path / "r" / "manifest.json").read_text())
    assert [*content["fingerprints"]["methods"]] == ["theirs"]
    write(tmp_path, methods=["theirs"], seeds=[0, 1])
    (tmp_path / "site" / "theirs.py").write_text(THEIRS + "\nOTHER = 1\n")
    done = jouletune(tmp_path, "run", "s.yaml", "--out", "r", "--source", "none", **environment)
    assert done.returncode == 2
    assert "the code of method theirs changed" in done.stderr
    assert len(records(tmp_path / "r")) == 1
    (tmp_path / "site" / "theirs.py").write_text(THEIRS)
    assert jouletune(tmp_path, "run", "s.yaml", "--out", "r", "--source", "none", **environment).returncode == 0
    assert len(records(tmp_path / "r")) == 2
