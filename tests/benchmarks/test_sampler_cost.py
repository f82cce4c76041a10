"""What measuring costs the machine that is measured. Prints figures; asserts no times, since other programs run too.

python -m pytest -m long -s tests/benchmarks/test_sampler_cost.py
"""

from __future__ import annotations

import bisect
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import scipy.stats

from hardware import Sampler, choose

ROOT = Path(__file__).resolve().parents[2]
SPAN_S = 10.0
PAIRS = 200
TURN_S = 1.1
START_S = 5.0
"""For imports and first steps."""
# trains until it is told to end, and then says when each step ended
TRAIN = """
import signal, sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
from bench.models.resnet import ResNet
n, channels, size = {"small": (1, 1, 8), "paper": (4, 3, 32)}[sys.argv[2]]
model = ResNet(n, n_classes=10, in_channels=channels, image_size=size)
x, y = torch.rand(32, channels, size, size), torch.arange(32) % 10
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
told, ends_s = [], []
signal.signal(signal.SIGTERM, lambda *_: told.append(True))
while not told:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    ends_s.append(time.monotonic())
with open(sys.argv[3], "w") as file:
    print(*ends_s, file=file)
"""
# what `jouletune run` does while a cell trains
MEASURE = """
import sys, time
from pathlib import Path
from hardware import Sampler, choose
sampler = Sampler(choose(sys.argv[1]).source, Path(sys.argv[2]))
sampler.start()
window = sampler.open_window("training", guard_s=0.0)
print("open", flush=True)
time.sleep(1e6)
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
def training(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that trains until it is terminated."""
    process = subprocess.Popen([sys.executable, "-c", TRAIN, *arguments], cwd=ROOT)
    try:
        time.sleep(START_S)
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def stopped_sampler(source: str, traces: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with an open window that does nothing until it is sent SIGCONT."""
    command = [sys.executable, "-c", MEASURE, source, str(traces)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def stopped_reader(port: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`cat` on a port that the sampler has open, likewise."""
    descriptor = os.open(port, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
    settings = termios.tcgetattr(descriptor)
    # the sampler's driver lets an empty port return nothing, which `cat` takes for the end of the file
    settings[6][termios.VMIN] = 1
    termios.tcsetattr(descriptor, termios.TCSANOW, settings)
    os.close(descriptor)
    process = subprocess.Popen(["cat", str(port)], stdout=subprocess.DEVNULL)
    try:
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait()


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
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("net", "threads"), [("small", 1), ("small", 2), ("paper", 2)])
def test_a_training_step_with_and_without_the_sampler(net: str, threads: int, tmp_path: Path) -> None:
    """A ResNet-8 on 8x8 images, or the paper's ResNet-26 on 32x32.

    One process trains all the time. Beside it the sampler runs for a second, is stopped, `cat` runs for a second, and
    so on, now one and now the other first: nothing else differs between two neighbouring turns, and the machine has
    drifted little. Both read the port of a simulated meter, which runs on the same machine; so its own cost, which a
    real meter would not have here, is in both.

    What the sampler was due to do while it was stopped it does at the start of its turn, beside a step that belongs to
    no turn. So of its fetches, one a second of less than a millisecond, two of three count.
    """
    ends, port = tmp_path / "ends", tmp_path / "csv"
    turns: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with (
        training(str(threads), net, str(ends)) as trainer,
        instrument("csv", 0.1, port) as source,
        stopped_sampler(source, tmp_path) as sampler,
        stopped_reader(port) as reader,
    ):
        for i in range(PAIRS):
            for sampled in (True, False) if i % 2 else (False, True):
                process = sampler if sampled else reader
                start_s = time.monotonic()
                process.send_signal(signal.SIGCONT)
                time.sleep(TURN_S)
                process.send_signal(signal.SIGSTOP)
                turns[sampled].append((start_s, time.monotonic()))
        assert sampler.poll() is None
        assert reader.poll() is None
        trainer.terminate()
        trainer.wait(30)
    ends_s = [float(word) for word in ends.read_text().split()]
    pairs = [(step_s(ends_s, *on), step_s(ends_s, *off)) for on, off in zip(turns[True], turns[False], strict=True)]
    show(f"{net} on {threads} threads", pairs)


def step_s(ends_s: list[float], start_s: float, end_s: float) -> float | None:
    """Mean time of the steps that began and ended within a turn; None where the machine stalled so that none did."""
    first, last = bisect.bisect_left(ends_s, start_s), bisect.bisect_right(ends_s, end_s) - 1
    return (ends_s[last] - ends_s[first]) / (last - first) if last > first else None


def show(what: str, pairs: list[tuple[float | None, float | None]]) -> None:
    """Both of a pair's step times, with the sampler first."""
    ratios = sorted(sampled / plain - 1 for sampled, plain in pairs if sampled is not None and plain is not None)
    if len(ratios) < len(pairs):
        print(f"\n{len(pairs) - len(ratios)} pairs without a whole step are left out")
    # the order statistics that hold the median with 95 %: n / 2 -+ 1.96 sqrt(n) / 2
    reach = 0.98 * len(ratios) ** 0.5
    low, high = ratios[int(len(ratios) / 2 - reach)], ratios[min(int(len(ratios) / 2 + reach), len(ratios) - 1)]
    print(f"\ntraining {what} with the sampler: median of {len(ratios)} pairs {100 * statistics.median(ratios):+.2f} %")
    print(f"95 % interval of the median {100 * low:+.2f} to {100 * high:+.2f} %")
    # a cost that comes seldom is in the mean; a tenth of the pairs at each end, where the machine stalled, is not
    mean_low, mean_high = scipy.stats.mstats.trimmed_mean_ci(ratios, limits=(0.1, 0.1))
    mean = scipy.stats.trim_mean(ratios, 0.1)
    print(f"trimmed mean {100 * mean:+.2f} %, 95 % interval {100 * mean_low:+.2f} to {100 * mean_high:+.2f} %")
