"""Adapt: the work of adapting the source model to a cell's target images with the cell's arm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.catalog.methods import Loaded, Options, load_method
from bench.cost import cell_costs
from bench.data.domain import Domain, load_domain
from bench.data.splits import Index, Split, split_target
from bench.models.kept import keep
from bench.models.source import load_source_model
from bench.models.source_facts import load_source_facts
from bench.store.cache_dir import cache_dir
from bench.suite.cell import Cell
from bench.suite.suite import Suite
from bench.training.loop import Batchable, accuracy, to_tensors
from bench.training.task import ADAPT, Adapted, Spans, Task, UnlabelledTask

WARM_UP_IMAGES = 32
"""Enough to load every kernel; a whole batch of a large net would take longer than all else before the first step."""


class Adapt:
    """The work of one repeat: made, then `load`, `warm_up`, `execute` as often as the window needs, `figures`.

    Labels are in this process while a method adapts only where it gets them: for the others they are read before, to
    draw the split, and again afterwards, to count what is right.

    Args:
        base: the suite's folder.
        device: torch device that the model is adapted on.
        beat: called now and then while it is.

    Attributes:
        phase: of what is in no other.
        spans: phases of the window; who opens it calls `Spans.enter` and `Spans.close` with its times.
        idle: whether nothing is done, so that there is nothing to be measured.
    """

    phase = ADAPT

    def __init__(self, suite: Suite, cell: Cell, base: Path, device: str, beat: Callable[[int], None]) -> None:
        self._suite = suite
        self._cell = cell
        self._base = base
        self._beat = beat
        self._device = torch.device(device)
        self._spec = suite.tuning(cell)
        self._loaded = load_method(cell.arm.method)
        self._options = self._loaded.options(dict(cell.arm.options))
        self.idle = self._loaded.method.idle
        self.spans = Spans(torch.cuda.synchronize if self._device.type == "cuda" else lambda: None)

    def load(self, folder: Path, weights: Path, source_facts: Path | None = None, cut: str | None = None) -> None:
        """Read images and source model from the cache.

        Args:
            folder: of the prepared domain.
            weights: file of the source model's weights.
            source_facts: file of what methods may know of it.
            cut: path of the module behind which the model's part ends; None: it has no part.
        """
        if self._spec.threads is not None:
            torch.set_num_threads(self._spec.threads)
        torch.backends.cudnn.benchmark = False
        self._folder = folder
        domain = load_domain(folder)
        self._split = self._divide(domain)
        self._variant = domain.variant
        train = self._images(domain, self._split.train)
        val = self._images(domain, self._split.val) if self._loaded.method.labels == "needed" else None
        model = load_source_model(self._suite.model, domain, weights, self._base).to(self._device)
        self._task = make_task(
            self._loaded,
            model,
            train,
            val,
            block_map=self._suite.block_map,
            spec=self._spec,
            seed=self._cell.seed,
            n_classes=len(domain.target.classes),
            spans=self.spans,
            source_facts=load_source_facts(source_facts, self._device),
            cut=cut,
            beat=self._beat,
        )

    def warm_up(self) -> None:
        """Use each kernel, thread pool and allocator for the first time, which is not a part of what adapting costs."""
        task = self._task
        # what is compiled is compiled for the sizes of whole batches
        few = None if self._spec.compile else WARM_UP_IMAGES
        if isinstance(task, Task):
            train, val = task.train, task.val
            small = [Batchable(images.x[:few], images.y[:few]) for images in (train, val)]
            task.use(small[0], small[1], epochs=1)
            Adapt.execute(self)
            task.use(train, val)
        else:
            images = task.images
            task.images = images[:few]
            Adapt.execute(self)
            task.images = images
        task.reset()
        self.spans.clear()

    def execute(self) -> None:
        """Adapt the source model once, and wait until the device has done it."""
        self._task.begin()
        self._adapted = adapt(self._loaded, self._task, self._options)
        self.spans.synchronize()

    @property
    def model(self) -> nn.Module:
        """What classifies after the last execution."""
        return self._adapted.model or self._task.model

    @property
    def answering(self) -> nn.Module:
        """What the accuracy is taken of."""
        return self.model

    def keep(self, file: Path, folder: Path) -> None:
        """Write the model that the last execution left into the run folder. Call it before `figures`."""
        shape = tuple(self._task.images.shape[1:])
        keep(self.model, file, folder, self._cell, n_classes=self._task.n_classes, shape=shape)

    def figures(self) -> dict[str, Any]:
        """What the last execution reached and what it takes by arithmetic; names as in `WorkFigures`."""
        task, adapted = self._task, self._adapted
        test = self._images(load_domain(self._folder), self._split.test)
        tuner = task.tuner if isinstance(task, Task) else None
        after = accuracy(self.answering, test)
        task.model.load_state_dict(task.source_state)
        before = accuracy(task.model, test)
        tuned = any(account.tuned for account in task.ledger.values())
        if self._loaded.trained_form is not None and tuned:  # nothing but the arithmetic of a step follows
            self._loaded.trained_form(task.model, self._options)
        return {
            "n_train": len(self._split.train),
            "n_val": len(self._split.val),
            "n_test": len(test.x),
            "trained_parameters": adapted.trained_parameters,
            "accuracy_before": before,
            "accuracy_after": after,
            "best_epoch": adapted.best_epoch,
            "epochs_run": adapted.epochs_run,
            "steps": adapted.steps,
            "levers": tuner.levers if tuner is not None else task.levers,
            "cache_mb": tuner.cache_mb if tuner is not None else None,
            "cache_note": (tuner.note or None) if tuner is not None else None,
            "data_variant": self._variant,
            "labels": self._loaded.method.labels,
            # plain values, or an error that names what is none
            "facts": json.loads(json.dumps(dict(adapted.facts), allow_nan=False)) or None,
            **cell_costs(task.model, task.images, self._spec, task.ledger, len(self._split.val)),
        }

    def _divide(self, domain: Domain) -> Split:
        """The images to train on, to validate and to test with; of several shifts in a row those of the first."""
        suite, cell = self._suite, self._cell
        labels = domain.target.y[: len(domain.target.y) // len(cell.data.parts)]
        return split_target(
            labels,
            n_train=cell.n_train(len(labels)) if cell.train_size else 0,
            fractions=(suite.split.pool, suite.split.val, suite.split.test),
            label=cell.data.label,
            seed=cell.seed,
            own=domain.own_split if suite.split.official else None,
        )

    def _images(self, domain: Domain, part: Index) -> Batchable:
        return to_tensors(domain.target.take(part), self._device, self._suite.model.pixels)


def make_task(
    loaded: Loaded, model: nn.Module, train: Batchable, val: Batchable | None, **shared: Any
) -> UnlabelledTask:
    """The task of a method: with labels only where it needs them.

    Args:
        val: None where it does not.
        shared: as `UnlabelledTask` takes it.
    """
    if loaded.method.labels == "needed":
        assert val is not None
        return Task(model, train, val, scratch=cache_dir(), **shared)
    return UnlabelledTask(model, train.x, **shared)


def adapt(loaded: Loaded, task: UnlabelledTask, options: Options) -> Adapted:
    """Let a method adapt a task's model.

    Raises:
        TypeError: it gives back something else than an Adapted.
    """
    adapted = loaded.adapt(task, options)
    if not isinstance(adapted, Adapted):
        raise TypeError(f"method {loaded.method.name!r} returned {type(adapted).__name__}; expected an Adapted")
    return adapted
