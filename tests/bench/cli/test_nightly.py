"""The nightly recipe: the steps of the ready workflow, taken from its file and run, night after night."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bench.cli.commands import cli

ROOT = Path(__file__).resolve().parents[3]
WORKFLOW = ROOT / "docs" / "nightly-energy.yml"

SUITE = """
name: night
model: {name: "mymodel:build", source_train: {epochs: 1, batch_size: 256}, blocks: {body: [body], fc: [head]}}
data: [{dataset: digits, shift: noise}]
train_size: [64]
blocks: [fc]
seeds: [0]
train: {epochs: 1, batch_size: 8, lr: 0.01, threads: 1}
energy: {repeats: 5, min_window_s: 0, idle_s: 0.3, guard_s: 0, cooldown_s: 0}
timeout_s: 60
"""

MODEL = """
import time
from torch import nn

class Net(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.body = nn.Linear(64, 16)
        self.head = nn.Linear(16, n_classes)

    def forward(self, x):
        if self.training:
            time.sleep(DELAY)
        return self.head(self.body(x[:, 0].flatten(1)).relu())

def build(n_classes):
    return Net(n_classes)
"""

Step = dict[str, str]


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    """The workflow's own commands, without those that fetch and install."""
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["measure"]
    return [step for step in job["steps"] if "run" in step and step["name"] != "Install"]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A repository with a suite and a model, and `jouletune` on the path."""
    tools = tmp_path / "bin"
    tools.mkdir()
    script = tools / "jouletune"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bench.cli "$@"\n')
    script.chmod(0o755)
    (tmp_path / "night.yaml").write_text(SUITE)
    (tmp_path / "mymodel.py").write_text(MODEL.replace("DELAY", "0.02"))
    return tmp_path


def night(lab: Path, steps: list[Step], name: str) -> dict[str, int]:
    """Run the steps as a runner does: in order, those after a failure only if they say so. Status of each."""
    added, summary = lab / f"{name}.env", lab / f"{name}.md"
    added.touch()
    environment = {
        **os.environ,
        "PATH": f"{lab / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SUITE": "night.yaml",
        "SOURCE": "simulated",
        "NIGHTS": str(lab / "nights"),
        "GITHUB_ENV": str(added),
        "GITHUB_STEP_SUMMARY": str(summary),
        "HEALTH_OPTIONS": "--seconds 0.5 --max-busy 100",  # whoever runs the tests may use the machine
    }
    status: dict[str, int] = {}
    for step in steps:
        if any(status.values()) and "cancelled()" not in str(step.get("if", "")):
            continue
        # a test's nights are seconds apart: the date becomes a name
        command = step["run"].replace("$(date -u +%F)", name)
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", command],
            cwd=lab, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        status[step["name"]] = done.returncode
        environment |= dict(line.split("=", 1) for line in added.read_text().splitlines())
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0 or done.stderr, step
    return status


@pytest.mark.timeout(600)
def test_three_nights_with_a_regression_in_the_last(lab: Path, steps: list[Step]) -> None:
    nights = lab / "nights"
    fine = dict.fromkeys(["Tonight", "Health", "Measure", "Compare", "Remember", "Page"], 0)
    assert night(lab, steps, "monday") == fine
    assert (nights / "last-good").resolve() == nights / "monday"
    assert "<html" in (lab / "public" / "index.html").read_text()

    # two repeats of five prove nothing, even of a change this large, and that is no failure
    shutil.copytree(nights / "monday", nights / "tuesday", ignore=shutil.ignore_patterns(".lock"))
    lines = [json.loads(line) for line in (nights / "monday" / "cells.jsonl").read_text().splitlines()[:2]]
    for line in lines:
        line["energy_gross_j"] *= 2
    (nights / "tuesday" / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    no_run = [step for step in steps if step["name"] not in ("Health", "Measure", "Remember")]
    assert set(night(lab, no_run, "tuesday").values()) == {0}
    assert "not enough data" in (lab / "tuesday.md").read_text()

    (lab / "mymodel.py").write_text(MODEL.replace("DELAY", "0.06"))
    assert night(lab, steps, "wednesday") == {"Tonight": 0, "Health": 0, "Measure": 0, "Compare": 1, "Page": 0}
    assert (nights / "last-good").resolve() == nights / "monday"
    assert "worse" in (lab / "wednesday.md").read_text()


def test_the_page_and_the_workflow_say_the_same(steps: list[Step]) -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "docs" / "nightly.md").read_text(), flags=re.M | re.S)
    assert [block.strip() for block in blocks] == [step["run"].strip() for step in steps]


def test_the_workflow_does_not_run_by_itself() -> None:
    assert not (ROOT / ".github" / "workflows" / WORKFLOW.name).exists()


# -- health --------------------------------------------------------------------------------------------

Health = Callable[..., tuple[int, str]]


@pytest.fixture
def health(tmp_path: Path) -> Health:
    def check(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(
            cli, ["health", "--seconds", "0.3", "--max-busy", "100", *options], standalone_mode=False
        )
        assert done.exception is None, done.exception
        return done.return_value, done.output

    return check


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A run of this machine, whose idle power was 2 W."""
    from bench.run.surroundings import surroundings
    from bench.store.manifest import Session
    from hardware import IdleBaseline, choose

    facts = surroundings(choose("simulated"), torch_device="cpu")
    baseline = IdleBaseline(power_w=2.0, u_power_w=None, duration_s=30.0, n_samples=60, started_at="2025-01-01")
    facts.sessions = [Session(idle=[baseline, replace(baseline, power_w=None)])]
    (tmp_path / "manifest.json").write_text(json.dumps(facts.to_dict()))
    (tmp_path / "cells.jsonl").write_text("{}\n")
    return tmp_path


def test_a_quiet_device_is_fit(health: Health, earlier: Path) -> None:
    status, said = health("--source", "simulated", "--like", str(earlier))
    assert status == 0
    assert "FAIL" not in said
    assert "2 W in the earlier run" in said


def test_another_idle_power_is_not_fit(health: Health, earlier: Path) -> None:
    status, said = health("--source", "simulated?idle_w=2.2", "--like", str(earlier))
    assert status == 1
    assert re.search(r"FAIL +idle power +2\.2 .*2 W in the earlier run", said)
    assert "not fit to be measured: idle power" in said


def test_another_machine_is_not_fit(health: Health, earlier: Path) -> None:
    manifest = json.loads((earlier / "manifest.json").read_text())
    manifest["device"] |= {"cpu_model": "A76", "governor": "made up"}
    (earlier / "manifest.json").write_text(json.dumps(manifest))
    status, said = health("--source", "simulated", "--like", str(earlier))
    assert status == 1
    assert "not fit to be measured: machine, governor" in said
    (earlier / "manifest.json").write_text("{}")
    assert "manifest.json does not say which" in health("--source", "simulated", "--like", str(earlier))[1]


def test_a_source_that_gives_too_little_is_not_fit(health: Health, tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("t_s,power_w\n" + "".join(f"{n / 100},2\n" for n in range(5)))
    status, said = health("--source", f"replay:{tmp_path / 'short.csv'}")
    assert status == 1
    assert "FAIL  energy source" in said


def test_a_busy_processor_is_not_fit(health: Health) -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        status, said = health("--source", "simulated", "--max-busy", "1")
    finally:
        busy.kill()
        busy.wait()
    assert status == 1
    assert re.search(r"FAIL +processor +\d+\.\d% in use, at most 1\.0% allowed", said)
