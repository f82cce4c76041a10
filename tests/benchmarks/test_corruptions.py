"""How long the corruptions of CIFAR-10's test images take: `pytest -m long tests/benchmarks` prints each.

All 15 at severity 5 must be made within three minutes on two cores.
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.catalog.datasets import ARCHIVED
from bench.data.corruptions import CORRUPTIONS, corrupt

pytestmark = pytest.mark.long

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
FIFTEEN = [name for name in CORRUPTIONS if (stem := name.removesuffix("-like")) in ARCHIVED and stem not in EXTRA]
LIMIT_S = 180.0


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (10_000, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_ten_thousand_images(benchmark: BenchmarkFixture, name: str) -> None:
    benchmark.pedantic(corrupt, args=(images(), name, 5, "cifar10"), rounds=1)


def test_ten_thousand_images_of_all_fifteen(benchmark: BenchmarkFixture) -> None:
    assert len(FIFTEEN) == 15
    clean = images()
    benchmark.pedantic(lambda: [corrupt(clean, name, 5, "cifar10") for name in FIFTEEN], rounds=1)
    assert benchmark.stats is not None
    assert benchmark.stats.stats.max < LIMIT_S
