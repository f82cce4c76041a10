"""How long the command line takes to answer: `pytest -m long tests/benchmarks` prints it, nothing is asserted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = pytest.mark.long

BIG = f"""
name: big
model: {{name: resnet8}}
data:
  - {{dataset: digits, shift: [noise, blur, contrast], severity: [1, 2, 3, 4, 5]}}
  - {{dataset: digits, shift: flip}}
train_size: [0.1, 0.2, 0.3, 0.4, 0.5]
blocks: [block1, block2, block3, fc, full]
seeds: {list(range(25))}
"""


@pytest.mark.parametrize("args", [["--help"], ["ls"], ["validate", "quickstart"]], ids=" ".join)
def test_answers(benchmark: BenchmarkFixture, args: list[str]) -> None:
    command = [str(Path(sys.executable).with_name("jouletune")), *args]
    done = benchmark.pedantic(
        lambda: subprocess.run(command, capture_output=True, check=True), rounds=5, warmup_rounds=1
    )
    assert done.stdout


def test_validates_ten_thousand_cells(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text(BIG)
    command = [str(Path(sys.executable).with_name("jouletune")), "validate", str(tmp_path / "big.yaml")]
    done = benchmark.pedantic(
        lambda: subprocess.run(command, capture_output=True, check=True), rounds=5, warmup_rounds=1
    )
    assert done.stdout.count(b"\n") == 10_000
