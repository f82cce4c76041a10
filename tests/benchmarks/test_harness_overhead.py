"""What the runner adds to a cell: its training under `jouletune run` against the same training in a bare process.

python -m pytest -m long -s tests/benchmarks/test_harness_overhead.py

Two percent are far less than what one such cell differs from the next on a shared machine, for two reasons that both
have to be taken out. Its speed drifts by tens of percent within seconds: so both train at the same time but never at
once, every tenth of a second one is stopped with all its processes and the other goes on. And two processes that do
the same differ by several percent all their lives, by where in physical memory their pages happened to lie: so both
ask for huge pages, which leave less to chance (a cell's process gets them for what it allocates itself, not for what
its fork server had). `test_two_bare_processes` shows what scatter remains.

What the harness does by the clock, like reading its source, it does twice as often per second of training here, since
it is stopped half of the time: the figure is an upper bound.

Prints figures; asserts no times.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from bench.analysis.statistics import paired_log_ratio

ROOT = Path(__file__).resolve().parents[2]
PAIRS = 15
EPOCHS = 220
CELL_S = 10.0
TURN_S = 0.1
HUGE_PAGES = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824"
    ":glibc.malloc.trim_threshold=4294967295:glibc.malloc.top_pad=67108864"
}
SUITE = f"""\
name: overhead
model: {{name: resnet8}}
data: [{{dataset: digits, shift: flip}}]
train_size: [0.5]
blocks: [full]
seeds: [0]
train: {{epochs: {EPOCHS}, patience: null, threads: 1}}
energy: {{repeats: 1, min_window_s: 0, idle_s: 0, guard_s: 0.5}}
"""
# the same epochs over and over, and when each ended
BARE = """
import sys, time
import torch
from bench.models.blocks import train_only
from bench.data.domain import load_domain, make_domain
from bench.data.splits import split_target
from bench.models.source import load_source_model, make_source_model
from bench.suite.load import load_suite
from bench.training.loop import fine_tune, to_tensors

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
source = {name: value.clone() for name, value in model.state_dict().items()}
fine_tune(model, parameters, train, val, suite.tuning(cell).once(), seed=cell.seed)
with open(sys.argv[2], "w", buffering=1) as ends:
    while True:
        torch.manual_seed(cell.seed)
        model.load_state_dict(source)
        fine_tune(model, parameters, train, val, suite.tuning(cell), seed=cell.seed,
                  on_epoch=lambda _: print(time.monotonic(), file=ends))
"""
# the command line, which also says when the window of its cell opens, and at the end when the cell began and ended
HARNESS = """
import sys
import bench.run.session
from bench.cli import main
from hardware import Sampler
window, figures, open_window = sys.argv.pop(1), bench.run.session.figures, Sampler.open_window
def told_open(*arguments):
    open(window + ".open", "w").close()
    return open_window(*arguments)
def told(trained, *rest):
    with open(window, "w") as out:
        print(trained.t0_s, trained.t1_s, file=out)
    return figures(trained, *rest)
bench.run.session.figures, Sampler.open_window = told, told_open
main()
"""


class Turns:
    """Trees of processes, one of which runs at any time."""

    def __init__(self, *roots: subprocess.Popen[bytes]) -> None:
        self._roots = roots
        self._trees = [[root.pid] for root in roots]
        self._spans_s: list[list[tuple[float, float]]] = [[] for _ in roots]

    def take(self, number: int) -> None:
        """Let one tree run for a turn and then stop it."""
        start_s = time.monotonic()
        self._tell(number, signal.SIGCONT)
        time.sleep(TURN_S)
        self._tell(number, signal.SIGSTOP)
        self._spans_s[number].append((start_s, time.monotonic()))
        # to look for its processes takes some milliseconds, so not within its turn; those it has begun stop here
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self._roots[number].pid).children(recursive=True)
            self._trees[number] = [self._roots[number].pid, *(child.pid for child in children)]
            self._tell(number, signal.SIGSTOP)

    def had_s(self, number: int, t0_s: float, t1_s: float) -> float:
        """How long a tree ran between two moments."""
        return sum(max(0.0, min(t1_s, end) - max(t0_s, start)) for start, end in self._spans_s[number])

    def _tell(self, number: int, what: signal.Signals) -> None:
        for pid in self._trees[number]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)


@contextlib.contextmanager
def bare_training(suite: Path, ends: Path, pages: Mapping[str, str] = HUGE_PAGES) -> Iterator[subprocess.Popen[bytes]]:
    """A bare process in the midst of its epochs, stopped; `ends` takes the moment at which each ended."""
    command = [sys.executable, "-c", BARE, str(suite), str(ends)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | dict(pages))
    try:
        while not ends.exists() or not ends.read_text():
            time.sleep(0.1)
            assert process.poll() is None
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def harness_training(suite: Path, source: str, window: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run whose one cell is about to begin; `window` takes the moments of its first and its last step."""
    command = [sys.executable, "-c", HARNESS, str(window), *arguments(suite, source)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | HUGE_PAGES, stdout=subprocess.DEVNULL)
    try:
        while not Path(f"{window}.open").exists():
            time.sleep(0.01)
            assert process.poll() is None
        yield process
    finally:
        children = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait()


def arguments(suite: Path, source: str) -> list[str]:
    return ["run", str(suite), "--out", str(suite.parent / "run"), "--source", source, "--fresh"]


def epoch_s(turns: Turns, number: int, ends: Path, t0_s: float, t1_s: float) -> float:
    """Seconds per epoch of a bare process within a window."""
    within = [end_s for end_s in map(float, ends.read_text().split("\n")[:-1]) if t0_s <= end_s <= t1_s]
    return turns.had_s(number, within[0], within[-1]) / (len(within) - 1)


def two_bare(folder: Path, suite: Path, pages: Mapping[str, str]) -> tuple[float, float]:
    """Seconds per epoch of two equal processes."""
    ends = folder / "ends-0", folder / "ends-1"
    with bare_training(suite, ends[0], pages) as first, bare_training(suite, ends[1], pages) as second:
        turns = Turns(first, second)
        start_s = time.monotonic()
        while time.monotonic() < start_s + 2 * CELL_S:
            for number in (0, 1):
                turns.take(number)
        end_s = time.monotonic()
    return epoch_s(turns, 1, ends[1], start_s, end_s), epoch_s(turns, 0, ends[0], start_s, end_s)


def runner_and_bare(folder: Path, suite: Path, source: str) -> tuple[float, float]:
    """Seconds per epoch under the runner, within the window of one cell, and bare within the same."""
    ends, window = folder / "ends", folder / "window"
    with bare_training(suite, ends) as bare, harness_training(suite, source, window) as harness:
        turns = Turns(bare, harness)
        while not window.exists() or not window.read_text().endswith("\n"):
            for number in (0, 1):
                turns.take(number)
            assert bare.poll() is None
            assert harness.poll() is None
    t0_s, t1_s = map(float, window.read_text().split())
    return turns.had_s(1, t0_s, t1_s) / EPOCHS, epoch_s(turns, 0, ends, t0_s, t1_s)


def show(what: str, pairs: list[tuple[float, float]]) -> None:
    ratio = paired_log_ratio([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    assert ratio.mean is not None
    assert ratio.lo is not None
    assert ratio.hi is not None
    cell_s = EPOCHS * sum(pair[1] for pair in pairs) / len(pairs)
    scatter = statistics.stdev(first / second for first, second in pairs)
    print(f"\n{what}: a cell of {cell_s:.1f} s takes {100 * (ratio.mean - 1):+.2f} %,")
    print(f"95 % interval {100 * (ratio.lo - 1):+.2f} to {100 * (ratio.hi - 1):+.2f} %; {len(pairs)} pairs, whose")
    print(f"ratios have a standard deviation of {100 * scatter:.2f} %")


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("what", "pages"), [("huge pages", HUGE_PAGES), ("usual pages", {})])
def test_two_bare_processes(what: str, pages: Mapping[str, str], tmp_path: Path) -> None:
    show(f"bare against bare, {what}", [two_bare(*prepared(tmp_path, i), pages) for i in range(PAIRS)])


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("source", ["simulated", "codecarbon"])
def test_a_cell_under_the_runner_and_bare(source: str, tmp_path: Path) -> None:
    _, suite = prepared(tmp_path, -1)
    command = [sys.executable, "-m", "bench.cli", *arguments(suite, source)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    startup_s = json.loads((tmp_path / "run" / "cells.jsonl").read_text())["startup_s"]
    pairs = [runner_and_bare(*prepared(tmp_path, i), source) for i in range(PAIRS)]
    show(f"under the runner with {source} against bare", pairs)
    print(f"process start to first step: {startup_s:.2f} s, outside the window")


def prepared(tmp_path: Path, number: int) -> tuple[Path, Path]:
    """A folder of a pair's own, and the suite of all."""
    suite = tmp_path / "overhead.yaml"
    suite.write_text(SUITE)
    folder = tmp_path / f"pair-{number}"
    folder.mkdir()
    return folder, suite
