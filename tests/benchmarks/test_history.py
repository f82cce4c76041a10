"""How long a year's history takes: `pytest -m long tests/benchmarks/test_history.py -s` prints the times.

365 nights of 200 cells, five repeats each, as run folders. A new night must be added within 2 s, from the start of the
command to its last line, and the page built within 20 s. It writes 1 GB under the temporary folder.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.history.index import NAME

ROOT = Path(__file__).resolve().parents[2]
ADD_LIMIT_S, PAGE_LIMIT_S = 2.0, 20.0
SIZE_LIMIT = 15e6
ADDED = 3
"""Nights added one by one, of which the fastest counts: the others say how busy the machine was."""

SUITE = {
    "data": [{"dataset": "digits", "shift": ["noise", "blur"], "severity": [1, 2, 3, 4, 5]}],
    "train_size": [0.1, 0.2, 0.3, 40],
    "blocks": ["block1", "block2", "block3", "fc", "full"],
    "seeds": [0],
    "energy": {"repeats": 5, "min_window_s": 0, "idle_s": 0, "guard_s": 0, "cooldown_s": 0},
}
TERMS = tuple(
    {"name": name, "gross_j": 0.12345, "net_j": 0.0543, "basis": "stated by the maker"}
    for name in ("gain", "offset", "resolution", "edges", "sampling", "idle", "clock")
)


def write_nights_of_a_year(nights: Any, numbers: range) -> None:
    """Noise of 1 % a night, a season of 2 %, a step of 5 % in a tenth of the cells and one that is taken back."""
    for night in numbers:
        logs = 0.01 * np.random.default_rng(night).standard_normal(200) + 0.02 * math.sin(night / 58)
        logs[:20] += 0.05 * (night >= 250)
        logs[20:25] += 0.08 * (100 <= night < 130)
        nights.write(
            night,
            joules=lambda cell, logs=logs: math.exp(logs[cell]),
            accuracy=lambda cell, night=night: 0.8 - 0.03 * (cell == 199 and night >= 300),
            manifest={"versions.torch": "2.9.0" if night < 250 else "2.10.0"},
            record={"energy_terms": TERMS, "flags": ("short_idle",), "trace": "traces/0000-digits-noise.csv.gz"},
        )


def timed(*arguments: object) -> tuple[float, float, str]:
    """Wall time and processor time of the command as a process of its own, and what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", "history", *map(str, arguments)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    wall_s, after = time.perf_counter() - start, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return wall_s, cpu_s, done.stdout


def measure(nights: Any, n: int, adds: int) -> tuple[list[float], float, int]:
    """Seconds of each added night and of the page, and its size in bytes."""
    cells = len(nights.loaded.suite.cells())
    write_nights_of_a_year(nights, range(n))
    first_s, *_ = timed(nights.root)
    added = []
    for night in range(n, n + adds):
        write_nights_of_a_year(nights, range(night, night + 1))
        *seconds, said = timed(nights.root)
        added.append(seconds)
        assert f"{night + 1} nights" in said
        assert f"{cells} conditions" in " ".join(said.split())
    page_s, page_cpu_s, _ = timed(nights.root, "--html")
    size = (nights.root / "history.html").stat().st_size
    print(
        f"\n{n} nights x {cells} cells: first look {first_s:.1f} s; a night added "
        f"{', '.join(f'{wall_s:.2f} s ({cpu_s:.2f} s of processor time)' for wall_s, cpu_s in added)}; "
        f"page {page_s:.1f} s ({page_cpu_s:.1f} s), {size / 1e6:.1f} MB; "
        f"index {(nights.root / NAME).stat().st_size / 1e6:.1f} MB"
    )
    return [wall_s for wall_s, _ in added], page_s, size


def test_a_few_nights_go_the_same_way(write_nights: Callable[..., Any], tmp_path: Path) -> None:
    nights = write_nights(tmp_path, **SUITE | {"train_size": [0.1], "blocks": ["fc", "full"]})
    added, page_s, size = measure(nights, n=12, adds=1)
    assert added[0] > 0
    assert page_s > 0
    assert size > 1e6


@pytest.mark.long
def test_a_year(write_nights: Callable[..., Any], tmp_path: Path) -> None:
    added, page_s, size = measure(write_nights(tmp_path, **SUITE), n=365, adds=ADDED)
    assert min(added) <= ADD_LIMIT_S
    assert page_s <= PAGE_LIMIT_S
    assert size <= SIZE_LIMIT
