"""The plug-in in a project of its own, installed as a wheel, with pytest-benchmark and pytest-xdist beside it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SUITE = """
name: tiny
model: {name: resnet8, width: 4, source_train: {epochs: 1}}
data: [{dataset: digits, shift: [noise, flip]}]
train_size: [40]
blocks: [fc, full]
seeds: [0]
train: {epochs: 1, batch_size: 16, lr: 0.01, threads: 1}
energy: {repeats: 2, min_window_s: 0.05, idle_s: 0.3, guard_s: 0, cooldown_s: 0}
timeout_s: 60
"""

CELLS = [f"tiny::digits-{shift}/n=40/{blocks}/s=0" for shift in ("noise", "flip") for blocks in ("fc", "full")]

BROKEN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.body = nn.Linear(64, 16)
        self.head = nn.Linear(16, n_classes)

    def forward(self, x):
        if self.training and not self.head.weight.requires_grad:
            raise ValueError("no luck")
        return self.head(self.body(x[:, 0].flatten(1)).relu())

def build(n_classes):
    return Net(n_classes)
"""

OWN = """
import pytest

def test_plain():
    assert True

@pytest.mark.joules(repeats=3, min_window_s=0.3, idle_s=0.3, guard_s=0)
def test_sum(benchmark, joules):
    benchmark.pedantic(sum, args=(range(100),), rounds=3)
    assert joules(sum, range(100)) == 4950

@pytest.mark.joules(repeats=3, min_window_s=0.2, idle_s=0, guard_s=0)
def test_alone(joules):
    assert joules(sum, range(100)) == 4950

def test_never_called(joules):
    pass

def no_luck():
    raise ValueError("no luck")

@pytest.mark.joules(repeats=3, min_window_s=0.1, idle_s=0, guard_s=0)
def test_raises(benchmark, joules):
    benchmark.pedantic(sum, args=(range(100),), rounds=3)
    with pytest.raises(ValueError):
        joules(no_luck)
"""

GATED = """
import pytest

@pytest.mark.joules(repeats=3, min_window_s=0.2, idle_s=0, guard_s=0, max_j=1e-12)
def test_too_much(joules):
    joules(sum, range(100))

@pytest.mark.joules(repeats=3, min_window_s=0.2, idle_s=0.2, guard_s=0, max_j=1e6, against="nothing-yet.json")
def test_within(joules):
    assert (joules.mean, joules.interval, joules.net, joules.grade) == (None, None, None, None)
    joules(sum, range(100))
    if joules.enabled:
        assert joules.interval[0] < joules.mean < joules.interval[1] < 1
        assert joules.net < joules.mean
        assert joules.grade == "C"
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's repository: a suite, tests, and nothing of ours."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    (tmp_path / "tiny.yaml").write_text(SUITE)
    (tmp_path / "test_own.py").write_text(OWN)
    return tmp_path


@pytest.fixture
def pytest_there(installed: Any, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs pytest in the project, as its console script."""
    cache = str(tmp_path_factory.getbasetemp() / "plugin-cache")

    def run(*arguments: str, program: str = "pytest") -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = installed.run(
            program, *arguments, cwd=project, JOULETUNE_CACHE=cache, COLUMNS="120", OMP_NUM_THREADS="1"
        )
        return done

    return run


def records(project: Path) -> list[dict[str, Any]]:
    (folder,) = (project / "results" / "pytest").iterdir()
    assert re.fullmatch(r"tiny-\d{8}T\d{6}", folder.name)
    return [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]


def outcome(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.strip().splitlines()[-1]


def test_marker_fails_what_is_proven_and_warns_of_what_cannot_be_checked(pytest_there: Run, project: Path) -> None:
    (project / "test_gated.py").write_text(GATED)
    done = pytest_there("test_gated.py", "--joules-source", "simulated")
    assert "1 failed, 1 passed, 1 warning" in done.stdout
    assert re.search(r"J a call, 95 % interval .* of 3 windows: more than max_j=1e-12 J", done.stdout)
    assert "were not checked: against=nothing-yet.json" in done.stdout
    assert "too_much" in done.stdout[done.stdout.index("joules and accuracies") :]
    off = pytest_there("test_gated.py", "--benchmark-disable")
    assert "2 passed" in off.stdout


# -- opt-in --------------------------------------------------------------------------------------------


def test_a_plain_pytest_is_untouched(pytest_there: Run, project: Path, installed: Any) -> None:
    """No import of ours, of torch or of pandas; a `bench` of the user's own stays the user's."""
    (project / "bench").mkdir()
    (project / "bench" / "__init__.py").write_text("MINE = 1\n")
    (project / "test_own.py").write_text(
        "import sys\nimport bench\n\ndef test_it():\n    assert bench.MINE == 1\n"
        "    assert 'jouletune_pytest' in sys.modules\n"
        "    assert not {'torch', 'pandas', 'numpy', 'pydantic', 'hardware'} & set(sys.modules)\n"
    )
    for program, arguments in (("pytest", ()), ("python", ("-m", "pytest"))):
        done = pytest_there(*arguments, "-p", "no:hypothesispytest", program=program)
        assert "1 passed" in outcome(done), done.stdout + done.stderr
        assert "jouletune" not in done.stdout.replace("plugins: jouletune", "").split("collected")[1]
    assert sorted(path.name for path in project.iterdir() if not path.name.startswith((".", "__"))) == [
        "bench", "pytest.ini", "test_own.py", "tiny.yaml",
    ]  # fmt: skip
    hidden = pytest_there("-m", "pytest", "--suite", "tiny.yaml", program="python")
    assert hidden.returncode == 4
    assert "hidden by one of the same name" in hidden.stderr
    code = "import sys, bench.pytest_plugin.plugin; print('torch' in sys.modules)"
    assert installed.python(code) == "False"


def test_wrong_requests_are_one_line(pytest_there: Run, project: Path) -> None:
    requests = {
        "did you mean 'quickstart'?": ["--suite", "quikstart"],
        "nowhere.yaml: no such file": ["--suite", "nowhere.yaml"],
        "'tiny' is given already": ["--suite", "tiny.yaml", "--suite", "tiny.yaml"],
        "--suite-cells 'x*' matches none of the suite's 4 cells": ["--suite", "tiny.yaml", "--suite-cells", "x*"],
        "unknown energy source 'foo'": ["--suite", "tiny.yaml", "--joules-source", "foo"],
        "needs the plug-in pytest-benchmark": ["--suite", "tiny.yaml", "-p", "no:benchmark"],
    }
    # in one process: starting six takes longer than what they do
    code = "import pytest, sys\nfor given in %r: print('status', int(pytest.main(given)), file=sys.stderr)"
    done = pytest_there("-c", code % list(requests.values()), program="python")
    said = [line for line in done.stderr.splitlines() if line]
    assert len(said) == 2 * len(requests), done.stderr
    for words, line, status in zip(requests, said[::2], said[1::2], strict=True):
        assert words in line
        assert status == "status 4"
    assert not (project / "results").exists()


def test_collect_only_and_k_measure_nothing(pytest_there: Run, project: Path) -> None:
    listed = pytest_there("--suite", "tiny.yaml", "--collect-only", "-q").stdout.splitlines()
    assert listed[: len(CELLS)] == CELLS
    some = pytest_there("--suite", "tiny.yaml", "--collect-only", "-q", "-k", "flip and n40 and not fc").stdout
    assert some.splitlines()[0] == CELLS[3]
    assert "1/4 tests collected" in some
    shipped = pytest_there("--suite", "quickstart", "--collect-only", "-q", "--suite-cells", "*flip/n=0.1/fc/*").stdout
    assert shipped.splitlines()[:3] == [f"quickstart::digits-flip/n=0.1/fc/s={seed}" for seed in range(3)]
    beside = pytest_there("--suite", "tiny.yaml", "--collect-only", "-q", "test_own.py").stdout
    assert "test_own.py::test_plain" in beside
    assert CELLS[0] in beside
    assert not (project / "results").exists()


# -- measuring -----------------------------------------------------------------------------------------


def after_baseline(runs: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Windows lie after the first idle baseline of their session, by the monotonic clock they share."""
    (sessions,) = (run["sessions"] for name, run in runs.items() if name != "tiny")
    first, *_ = (one["started_mono_s"] for one in sessions[own["records"][0]["session"]]["idle"])
    assert all(first < line["started_mono_s"] for line in own["records"])
    return own


def test_cells_and_own_functions_are_measured(pytest_there: Run, project: Path) -> None:
    both = ("--suite", "tiny.yaml", "test_own.py", "--joules-source", "simulated")
    done = pytest_there(*both, "--benchmark-json=a.json", "--benchmark-save=night", "-v")
    assert "9 passed" in outcome(done), done.stdout + done.stderr
    assert "Benchmark fixture was not used" not in done.stdout
    assert "not measured" not in done.stdout
    for cell in CELLS:
        assert re.search(rf"^{re.escape(cell)} (\n.*)*PASSED", done.stdout, flags=re.M), done.stdout

    rows = records(project)
    assert len(rows) == 8
    assert {(row["status"], row["source"], row["grade"]) for row in rows} == {("ok", "simulated", "C")}
    order = [(row["repeat"], row["cell_id"]) for row in rows]
    assert [repeat for repeat, _ in order] == sorted(repeat for repeat, _ in order), "repeats must be interleaved"
    passed = re.findall(r"^(tiny::\S+)", done.stdout, flags=re.M)
    assert [f"tiny::{cell}" for repeat, cell in order if repeat == 1] == list(dict.fromkeys(passed))

    table = done.stdout[done.stdout.index("joules and accuracies") :]
    for cell in CELLS:
        assert re.search(rf"^{re.escape(cell.removeprefix('tiny::'))} .*\d +C$", table, flags=re.M), table
    assert re.search(r"^test_own.py::test_sum .*3 +C$", table, flags=re.M)
    assert "benchmark 'digits-flip/n=40': 2 tests" in done.stdout

    content = json.loads((project / "a.json").read_text())
    by_name = {one["fullname"]: one for one in content["benchmarks"]}
    assert set(by_name) == {*CELLS, *(f"test_own.py::test_{name}" for name in ("sum", "alone", "raises"))}
    cell = by_name[CELLS[0]]
    mine = [row for row in rows if f"tiny::{row['cell_id']}" == CELLS[0]]
    assert cell["stats"]["data"] == pytest.approx([row["train_time_s"] for row in mine])
    assert cell["params"] == {"data": "digits-noise", "train_size": 40, "arm": "fc", "variant": "", "seed": 0}
    info = cell["extra_info"]
    assert info["accuracy_after"] == mine[0]["accuracy_after"]
    assert (info["grade"], info["source"], info["energy_repeats"]) == ("C", "simulated", 2)
    assert info["energy_gross_j"] == pytest.approx(sum(row["energy_gross_j"] for row in mine) / 2, rel=1e-6)
    assert info["records"] == mine
    assert len(content["jouletune"]["runs"]["tiny"]["sessions"][0]["idle"]) >= 2
    own = after_baseline(content["jouletune"]["runs"], by_name["test_own.py::test_sum"]["extra_info"])
    assert own["energy_repeats"] == 3
    # 5 W while it works, however long that is; without quiet around them, windows lose a sample at each end
    assert own["energy_gross_j"] == pytest.approx(5 * own["time_s"], rel=0.25)
    assert "records" not in by_name["test_own.py::test_raises"]["extra_info"]

    (stored,) = (project / ".benchmarks").rglob("0001_night.json")
    compared = pytest_there("compare", "a.json", str(stored), "--group-by=fullname", program="pytest-benchmark")
    assert compared.returncode == 0, compared.stderr
    assert compared.stdout.count("digits-flip/n=40/full/s=0") >= 2
    in_session = pytest_there("test_own.py", "-k", "sum", "--joules-source", "simulated", "--benchmark-compare")
    assert in_session.returncode == 0, in_session.stdout
    assert "test_sum (NOW)" in in_session.stdout
    assert "test_sum (0001_night)" in in_session.stdout
    (folder,) = (project / "results" / "pytest").iterdir()
    ours = pytest_there("compare", "a.json", str(folder), program="jouletune")
    assert ours.returncode == 0, ours.stderr
    assert "joules: 4 not enough data" in ours.stdout
    report = pytest_there("report", str(folder), program="jouletune")
    assert report.returncode == 0, report.stderr
    assert (folder / "report.html").is_file()


def test_joules_without_benchmark_has_the_times_of_its_windows(pytest_there: Run, project: Path) -> None:
    asked = ("-k", "alone or never", "--joules-source", "simulated", "--benchmark-json=a.json")
    done = pytest_there("test_own.py", *asked)
    assert re.fullmatch(r"=+ 2 passed, 3 deselected in .*", outcome(done)), "and no warning"
    (alone,) = json.loads((project / "a.json").read_text())["benchmarks"]
    times = [one["train_time_s"] for one in alone["extra_info"]["records"]]
    assert alone["stats"]["data"] == pytest.approx(times)
    assert all(time_s < 0.01 for time_s in times), "of one call, not of a window"


def test_a_cell_that_fails_is_a_failed_test_and_the_same_folder_goes_on(pytest_there: Run, project: Path) -> None:
    (project / "mymodel.py").write_text(BROKEN)
    (project / "odd.yaml").write_text(
        SUITE.replace("name: tiny", "name: odd")
        .replace(
            "model: {name: resnet8, width: 4, source_train: {epochs: 1}}",
            "model: {name: 'mymodel:build', source_train: {epochs: 1}, blocks: {body: [body], fc: [head]}}",
        )
        .replace("[noise, flip]", "flip")
        .replace("[fc, full]", "[body, fc]")
    )
    asked = ("--suite", "odd.yaml", "--suite-out", "out", "--joules-source", "none", "--benchmark-json=a.json")
    done = pytest_there(*asked)
    assert done.returncode == 1
    assert "1 failed, 1 passed" in outcome(done)
    failure = done.stdout[done.stdout.index("= FAILURES =") :]
    assert "digits-flip/n=40/body/s=0 #0: failed: ValueError: no luck" in failure
    assert "Traceback" not in done.stdout + done.stderr
    assert [one["name"] for one in json.loads((project / "a.json").read_text())["benchmarks"]] == [
        "digits-flip/n=40/fc/s=0"
    ]
    lines = (project / "out" / "cells.jsonl").read_text().splitlines()
    assert len(lines) == 4

    # a folder that was named goes on: what is finished stays, what failed is tried once more
    again = pytest_there(*asked)
    assert "1 failed, 1 passed" in outcome(again)
    assert (project / "out" / "cells.jsonl").read_text().splitlines()[:4] == lines
    assert len((project / "out" / "cells.jsonl").read_text().splitlines()) == 6
    (project / "odd.yaml").write_text((project / "odd.yaml").read_text().replace("lr: 0.01", "lr: 0.02"))
    refused = pytest_there(*asked)
    assert "train.lr 0.01 -> 0.02" in refused.stdout
    assert "2 failed" in outcome(refused)
    assert "warning" not in outcome(refused)
    assert "Traceback" not in refused.stdout + refused.stderr


def test_disabled_benchmarks_and_xdist_execute_once_and_measure_nothing(pytest_there: Run, project: Path) -> None:
    asked = ("--suite", "tiny.yaml", "test_own.py", "--joules-source", "simulated", "--suite-cells", "*flip*")
    disabled = pytest_there(*asked, "--benchmark-disable")
    assert "7 passed" in outcome(disabled), disabled.stdout
    assert "warning" not in outcome(disabled)
    assert "nothing was measured: --benchmark-disable" in disabled.stdout
    assert "`joules` measured nothing, 4 tests that use it were executed once: --benchmark-disable." in disabled.stdout
    parallel = pytest_there(*asked, "-n", "2")
    assert "7 passed" in outcome(parallel), parallel.stdout + parallel.stderr
    assert "nothing was measured: under xdist every worker would measure all joules" in parallel.stdout
    assert "4 tests that use it were executed once: under xdist every worker would measure" in parallel.stdout
    own = pytest_there("test_own.py", "-n", "2", "-k", "alone")
    assert "1 test that uses it was executed once: under xdist" in own.stdout, "where no suite loads the plug-in"
    assert not (project / "results").exists()
    skipped = pytest_there(*asked, "--benchmark-skip")
    assert "1 passed, 6 skipped" in outcome(skipped), skipped.stdout
