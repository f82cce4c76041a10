"""What the runner adds to a cell: its training under `jouletune run` against the same training in a bare process.

python -m pytest -m long -s tests/benchmarks/test_harness_overhead.py

The cells take about ten seconds. Both ways use the same data, model and seed, one after the other, in turn first and
second. Prints figures; asserts no times, since other programs run too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.analysis.statistics import paired_log_ratio

ROOT = Path(__file__).parents[2]
PAIRS = 10
SUITE = """\
name: overhead
model: {name: resnet8}
data: [{dataset: digits, shift: flip}]
train_size: [0.5]
blocks: [full]
seeds: [0]
train: {epochs: 220, patience: null, threads: 1}
energy: {repeats: 1, min_window_s: 0, idle_s: 0, guard_s: 0.5}
"""
BARE = """
import sys, time
from pathlib import Path
import torch
from bench.blocks import train_only
from bench.data.domain import load_domain, make_domain
from bench.data.splits import split_target
from bench.models.source import load_source_model, make_source_model
from bench.suite_file import load_suite
from bench.train import fine_tune, to_tensors

torch.set_num_threads(1)
loaded = load_suite(sys.argv[1])
suite, (cell,) = loaded.suite, loaded.suite.cells()
device = torch.device("cpu")
domain = load_domain(make_domain(cell.data, lambda done, total: None))
weights = make_source_model(suite.model, domain, loaded.base, device, lambda done, total: None)
split = split_target(domain.target.y, n_train=cell.n_train(len(domain.target.y)), fractions=(0.7, 0.15, 0.15),
                     label=cell.data.label, seed=cell.seed)
train, val = (to_tensors(domain.target.take(part), device) for part in (split.train, split.val))
model = load_source_model(suite.model, domain, weights, loaded.base)
parameters = train_only(model, suite.block_map, cell.blocks)
fine_tune(model, parameters, train, val, suite.tuning(cell).once(), seed=cell.seed)
model.load_state_dict(torch.load(weights, weights_only=True))
torch.manual_seed(cell.seed)
start_s = time.perf_counter()
fine_tune(model, parameters, train, val, suite.tuning(cell), seed=cell.seed)
print(time.perf_counter() - start_s)
"""


def bare_s(suite: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(suite)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def under_the_runner_s(suite: Path, source: str) -> dict[str, float]:
    out = suite.parent / "run"
    command = [sys.executable, "-m", "bench.cli", "run", str(suite), "--out", str(out), "--source", source, "--fresh"]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    record: dict[str, float] = json.loads((out / "cells.jsonl").read_text())
    return record


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("source", ["simulated", "codecarbon"])
def test_a_cell_under_the_runner_and_bare(source: str, tmp_path: Path) -> None:
    suite = tmp_path / "overhead.yaml"
    suite.write_text(SUITE)
    under_the_runner_s(suite, source)  # trains the source model
    pairs = []
    for i in range(PAIRS):
        if i % 2:
            bare, record = bare_s(suite), under_the_runner_s(suite, source)
        else:
            record, bare = under_the_runner_s(suite, source), bare_s(suite)
        pairs.append((record["train_time_s"], bare, record["startup_s"]))
    ratio = paired_log_ratio([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    assert ratio.mean is not None
    assert ratio.lo is not None
    assert ratio.hi is not None
    print(
        f"\n{source}: a cell of {sum(pair[1] for pair in pairs) / PAIRS:.1f} s takes {100 * (ratio.mean - 1):+.2f} % "
    )
    print(
        f"under the runner, 95 % interval {100 * (ratio.lo - 1):+.2f} to {100 * (ratio.hi - 1):+.2f} %, {PAIRS} pairs"
    )
    print(f"process start to first step: at most {max(pair[2] for pair in pairs):.2f} s, outside the window")
