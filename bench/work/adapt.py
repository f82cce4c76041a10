"""Adapt: fine-tune the source model on a cell's target images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.cost import cell_costs
from bench.data.domain import load_domain
from bench.data.splits import split_target
from bench.methods import fixed
from bench.models.source import load_source_model
from bench.store.cache_dir import cache_dir
from bench.suite.suite import Cell, Suite
from bench.training.loop import Batchable, Outcome, accuracy, to_tensors
from bench.training.tuner import Tuner

WARM_UP_IMAGES = 32
"""Enough to load every kernel; a whole batch of a large net would take longer than all else before the first step."""


class Adapt:
    """The work of one repeat: made, then `load`, `warm_up`, `execute` as often as the window needs, `figures`.

    Args:
        base: the suite's folder.
        device: torch device that trains.
    """

    def __init__(self, suite: Suite, cell: Cell, base: Path, device: str) -> None:
        self._suite = suite
        self._cell = cell
        self._base = base
        self._device = torch.device(device)
        self._spec = suite.tuning(cell)

    def load(self, folder: Path, weights: Path) -> None:
        """Read images and source model from the cache.

        Args:
            folder: of the prepared domain.
            weights: file of the source model's weights.
        """
        suite, cell = self._suite, self._cell
        if self._spec.threads is not None:
            torch.set_num_threads(self._spec.threads)
        torch.backends.cudnn.benchmark = False
        self._domain = domain = load_domain(folder)
        self._split = split_target(
            domain.target.y,
            n_train=cell.n_train(len(domain.target.y)),
            fractions=(suite.split.pool, suite.split.val, suite.split.test),
            label=cell.data.label,
            seed=cell.seed,
        )
        self._train, self._val = self._images(self._split.train), self._images(self._split.val)
        self._model = load_source_model(suite.model, domain, weights, self._base).to(self._device)
        self._source_state = {name: value.clone() for name, value in self._model.state_dict().items()}
        self._parameters = fixed.choose(cell, self._model, suite.block_map)
        self._tuner = Tuner(self._model, self._parameters, self._spec, cache_dir())

    def warm_up(self) -> None:
        """Use each kernel, thread pool and allocator for the first time, which is not a part of what tuning costs."""
        # what is compiled is compiled for the sizes of whole batches
        few = None if self._spec.compile else WARM_UP_IMAGES
        train, val = (Batchable(images.x[:few], images.y[:few]) for images in (self._train, self._val))
        self._tuner.fine_tune(train, val, seed=self._cell.seed, epochs=1)
        self._model.load_state_dict(self._source_state)

    def execute(self, on_epoch: Callable[[int], None]) -> None:
        """Fine-tune the source model once, and wait until the device has done it.

        Args:
            on_epoch: called after each epoch with its number.
        """
        torch.manual_seed(self._cell.seed)
        self._model.load_state_dict(self._source_state)
        self._outcome: Outcome = self._tuner.fine_tune(self._train, self._val, seed=self._cell.seed, on_epoch=on_epoch)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def figures(self) -> dict[str, Any]:
        """What the last execution reached and what it takes by arithmetic; names as in Record."""
        test = self._images(self._split.test)
        after = accuracy(self._model, test)
        self._model.load_state_dict(self._source_state)
        cache_mb = self._tuner.cache_mb
        return {
            "n_train": len(self._train.x),
            "n_val": len(self._val.x),
            "n_test": len(test.x),
            "trained_parameters": sum(parameter.numel() for parameter in self._parameters),
            "accuracy_before": accuracy(self._model, test),
            "accuracy_after": after,
            "best_epoch": self._outcome.best_epoch,
            "epochs_run": self._outcome.epochs_run,
            "steps": self._outcome.steps,
            "levers": self._tuner.levers,
            "cache_mb": cache_mb,
            "cache_note": self._tuner.note or None,
            "data_variant": self._domain.variant,
            **cell_costs(
                self._model, self._train.x, self._spec, self._outcome.epochs_run, len(self._val.x),
                cached=cache_mb is not None,
            ),
        }  # fmt: skip

    def _images(self, part: Any) -> Batchable:
        return to_tensors(self._domain.target.take(part), self._device, self._suite.model.pixels)
