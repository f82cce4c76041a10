"""What measuring costs the machine that is measured. Prints figures; asserts no times, since other programs run too.

python -m pytest -m long -s tests/benchmarks/test_sampler_cost.py
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware import Sampler, choose

ROOT = Path(__file__).parents[2]
SPAN_S = 10.0
PAIRS = 12
WORK = "import time\nt = time.perf_counter()\nfor i in range(20_000_000): pass\nprint(time.perf_counter() - t)"


@contextlib.contextmanager
def instrument(name: str, refresh_s: float, port: Path) -> Iterator[str]:
    """A simulated meter in a process of its own, whose cost is not ours; yields the name of the source."""
    command = [sys.executable, "-m", "hardware.instruments", name, "--refresh-s", str(refresh_s), "--link", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while not port.exists():
            time.sleep(0.01)
        yield f"{name}:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.long
@pytest.mark.parametrize(("name", "refresh_s"), [("um25c", 0.5), ("csv", 0.1), ("csv", 0.001)])
def test_share_of_a_core(name: str, refresh_s: float, tmp_path: Path) -> None:
    with instrument(name, refresh_s, tmp_path / name) as source:
        sampler = Sampler(choose(source).source)
        sampler.start()
        window = sampler.open_window("w", guard_s=0.0)
        start_s, cpu_s = time.monotonic(), time.process_time()
        time.sleep(SPAN_S)
        share = (time.process_time() - cpu_s) / (time.monotonic() - start_s)
        result = window.close(t0_s=start_s, t1_s=time.monotonic() - 0.001)
        sampler.stop()
    print(f"\n{name} at {1 / refresh_s:g} Hz: {100 * share:.2f} % of a core, {result.n_samples / SPAN_S:.0f} samples/s")
    assert result.n_samples > 0


@pytest.mark.long
def test_a_busy_loop_with_and_without_the_sampler(tmp_path: Path) -> None:
    def work_s() -> float:
        return float(subprocess.run([sys.executable, "-c", WORK], capture_output=True, check=True).stdout)

    ratios = []
    with instrument("csv", 0.1, tmp_path / "csv") as source:
        work_s()
        for i in range(PAIRS):
            times_s = {}
            # in turn first and second, so that a drift of the machine does not count for one of them
            for sampled in (True, False) if i % 2 else (False, True):
                sampler = Sampler(choose(source).source)
                if sampled:
                    sampler.start()
                times_s[sampled] = work_s()
                sampler.stop()
            ratios.append(times_s[True] / times_s[False] - 1)
    spread = statistics.stdev(ratios) / len(ratios) ** 0.5
    print(f"\nbusy loop with the sampler: {100 * statistics.median(ratios):+.2f} % (median of {PAIRS} pairs)")
    print(f"mean {100 * statistics.fmean(ratios):+.2f} %, standard error {100 * spread:.2f} %")
