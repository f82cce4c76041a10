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
PAIRS = 40
TRAIN = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
from bench.models.resnet import ResNet
n, channels, size, steps = {"small": (1, 1, 8, 60), "paper": (4, 3, 32, 12)}[sys.argv[2]]
model = ResNet(n, n_classes=10, in_channels=channels, image_size=size)
x, y = torch.rand(32, channels, size, size), torch.arange(32) % 10
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
for _ in sys.stdin:
    start_s = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    print(time.perf_counter() - start_s, flush=True)
"""


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


@contextlib.contextmanager
def measuring(source: str) -> Iterator[None]:
    sampler = Sampler(choose(source).source)
    sampler.start()
    yield
    sampler.stop()


@contextlib.contextmanager
def draining(port: Path) -> Iterator[None]:
    reader = subprocess.Popen(["cat", str(port)], stdout=subprocess.DEVNULL)
    time.sleep(0.3)
    yield
    reader.kill()
    reader.wait(10)


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
@pytest.mark.parametrize(("net", "threads"), [("small", 1), ("small", 2), ("paper", 2)])
def test_a_training_step_with_and_without_the_sampler(net: str, threads: int, tmp_path: Path) -> None:
    """A ResNet-8 on 8x8 images, or the paper's ResNet-26 on 32x32.

    One process trains all the time, so that nothing but the sampler differs between two neighbouring spans.

    The simulated meter runs on the same machine in both; without the sampler `cat` reads its port, so that the meter's
    own cost, which a real one would not have here, is the same.
    """
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(threads), net],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert trainer.stdin is not None
    assert trainer.stdout is not None

    def train_s() -> float:
        assert trainer.stdin is not None
        assert trainer.stdout is not None
        trainer.stdin.write("\n")
        trainer.stdin.flush()
        return float(trainer.stdout.readline())

    ratios = []
    with instrument("csv", 0.1, tmp_path / "csv") as source:
        train_s()
        for i in range(PAIRS):
            times_s = {}
            # in turn first and second, so that a drift of the machine does not count for one of them
            for sampled in (True, False) if i % 2 else (False, True):
                with measuring(source) if sampled else draining(tmp_path / "csv"):
                    times_s[sampled] = train_s()
            ratios.append(times_s[True] / times_s[False] - 1)
    trainer.stdin.close()
    trainer.wait(10)
    ordered = sorted(ratios)
    # the order statistics that hold the median with 95 %: n / 2 -+ 1.96 sqrt(n) / 2
    reach = 0.98 * len(ordered) ** 0.5
    low, high = ordered[int(len(ordered) / 2 - reach)], ordered[min(int(len(ordered) / 2 + reach), len(ordered) - 1)]
    median = 100 * statistics.median(ratios)
    print(f"\ntraining {net} on {threads} threads with the sampler: median of {PAIRS} pairs {median:+.2f} %")
    print(f"95 % interval of the median {100 * low:+.2f} to {100 * high:+.2f} %")
