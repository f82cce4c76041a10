"""Small nets and tasks that the tests of methods share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.catalog.methods import load_method
from bench.suite.training import EngineSpec
from bench.training.loop import Batchable
from bench.training.task import Adapted, Task, UnlabelledTask

CLASSES = 3
BLOCK_MAP = {"block1": ("stem", "norm1"), "block2": ("body", "norm2"), "fc": ("fc",)}


class Net(nn.Module):
    """Two convolutions with a norm each, pooled, and a linear head: [N, 2, 6, 6] -> [N, 3]."""

    def __init__(self, norm: str = "batch") -> None:
        super().__init__()
        made = nn.BatchNorm2d if norm == "batch" else lambda n: nn.GroupNorm(2, n)
        self.stem, self.norm1 = nn.Conv2d(2, 4, 3, padding=1), made(4)
        self.body, self.norm2 = nn.Conv2d(4, 6, 3, padding=1), made(6)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.stem(x)))
        x = torch.relu(self.norm2(self.body(x)))
        return self.fc(x.mean((2, 3)))


def images(n: int, seed: int = 0) -> Batchable:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % CLASSES
    x = torch.randn(n, 2, 6, 6, generator=generator) + y[:, None, None, None] * torch.tensor([0.5, -0.3])[:, None, None]
    return Batchable(x, y)


class Lab:
    """Makes small tasks and runs methods on them.

    Attributes:
        Net, images: of this module.
    """

    Net = staticmethod(Net)
    images = staticmethod(images)

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def task(
        self,
        name: str,
        *,
        model: nn.Module | None = None,
        train: Batchable | None = None,
        seed: int = 0,
        source_facts: Any = None,
        **spec: Any,
    ) -> Any:
        """A task as a method is given it: labelled or not, with keys of the protocol replaced."""
        torch.manual_seed(1)
        model = model or Net()
        train = train or images(24)
        shared = {
            "block_map": BLOCK_MAP,
            "spec": EngineSpec.model_validate({"epochs": 2, "batch_size": 8, "lr": 0.05, **spec}),
            "seed": seed,
            "n_classes": CLASSES,
            "source_facts": source_facts or {},
        }
        if load_method(name).method.labels == "needed":
            return Task(model, train, images(12, seed=5), scratch=self._scratch, **shared)
        return UnlabelledTask(model, train.x, **shared)

    def run(self, name: str, task: UnlabelledTask, **options: Any) -> Adapted:
        """One adaptation by a method."""
        loaded = load_method(name)
        task.begin()
        adapted = loaded.adapt(task, loaded.options(options))
        assert isinstance(adapted, Adapted)
        return adapted


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)
