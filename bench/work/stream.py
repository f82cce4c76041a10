"""Stream: the work of classifying test images as they arrive, and adapting to them without labels."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.cost import cell_costs
from bench.data.domain import load_domain
from bench.data.images import Labels
from bench.data.splits import Index
from bench.errors import JouletuneError
from bench.suite.work import Stream as StreamSpec
from bench.training.loop import accuracy
from bench.work.adapt import Adapt


class Stream(Adapt):
    """As `Adapt`, with the test images in batches, each predicted and adapted to, once."""

    phase = "stream"

    def load(self, folder: Path, weights: Path, source_facts: Path | None = None, cut: str | None = None) -> None:
        """As of `Adapt`, and lay out the stream; its labels are read again when all is predicted."""
        super().load(folder, weights, source_facts, cut)
        self.idle = False
        spec = self._cell.work
        assert isinstance(spec, StreamSpec)
        self._stream = spec
        domain = load_domain(folder)
        parts = self._cell.data.parts
        n_each = len(domain.target.y) // len(parts)
        seed = [zlib.crc32(self._cell.data.label.encode()), self._cell.seed]
        self._order = [
            number * n_each + arrange(domain.target.y[:n_each], self._split.test, spec, [*seed, number])
            for number in range(len(parts))
        ]
        self._parts = [in_batches(self._images(domain, order).x, spec.batch) for order in self._order]

    def warm_up(self) -> None:
        """Predict two batches, of which the second meets all that the first one made."""
        self._run([self._parts[0][:2]])
        self._task.reset()
        self.spans.clear()

    def execute(self) -> None:
        """Let the stream go by once, and wait until the device has done it."""
        self._predictions = self._run(self._parts)
        self.spans.synchronize()

    def figures(self) -> dict[str, Any]:
        """What was predicted right on the way, and what it takes by arithmetic; names as in `WorkFigures`."""
        task, domain = self._task, load_domain(self._folder)
        labels = [torch.from_numpy(np.array(domain.target.y[order])) for order in self._order]
        found = self._predictions.cpu().split([len(y) for y in labels])
        right = [int((one == y).sum()) for one, y in zip(found, labels, strict=True)]
        n_images, order = sum(map(len, labels)), np.concatenate(self._order)
        stepped = {name for account in task.ledger.values() for names in account.steps for name in names}
        costs = cell_costs(task.model, self._parts[0][0], self._spec, task.ledger, 0)
        task.reset()
        return {
            "n_train": 0,
            "n_val": 0,
            "n_test": n_images,
            "n_images": n_images,
            "trained_parameters": sum(p.numel() for name, p in task.model.named_parameters() if name in stepped),
            "accuracy_before": accuracy(task.model, self._images(domain, order)),
            "accuracy_after": sum(right) / n_images,
            "levers": task.levers,
            "data_variant": self._variant,
            "labels": self._loaded.method.labels,
            "stream": self._stream.model_dump(mode="json")
            | {
                "seed": self._cell.seed,
                "order_sha256": hashlib.sha256(order.astype("<i8").tobytes()).hexdigest(),
                "shifts": [
                    {"shift": shift, "images": len(y), "accuracy": n / len(y)}
                    for shift, y, n in zip(self._cell.data.parts, labels, right, strict=True)
                ],
            },
            **costs,
        }

    def _run(self, parts: list[tuple[Tensor, ...]]) -> Tensor:
        """Classes predicted of the images of these parts, [N], in the order in which they arrive."""
        task, online = self._task, self._loaded.online
        assert online is not None
        task.begin()
        predict, found = online(task, self._options), []
        for number, batches in enumerate(parts):
            if number and self._stream.reset:
                task.reset()
                predict = online(task, self._options)
            for x in batches:
                logits = predict(x)
                found.append(torch.where(logits.isfinite().all(1), logits.argmax(1), -1))
                self._beat(0)
        predictions = torch.cat(found)
        if (predictions < 0).any():
            raise JouletuneError(f"the model's output is not finite for {int((predictions < 0).sum())} images")
        return predictions


def arrange(labels: Labels, test: Index, spec: StreamSpec, seed: list[int]) -> Index:
    """The order in which test images arrive.

    Args:
        labels: int64 [N] of all images.
        test: numbers of the test images among them.
        seed: draws the classes that come, the images and their order.

    Returns:
        Some of `test`. In the order `classes` a class has `block` images in a row, then the next class has so many,
        and so on until all images are through.
    """
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.unique(labels[test]))[: spec.classes]
    order = rng.permutation(test[np.isin(labels[test], classes)])[: spec.images]
    if spec.order == "iid":
        return order
    of_class = [order[labels[order] == label] for label in classes]
    block = spec.block or max(map(len, of_class))
    rounds = range(0, max(map(len, of_class)), block)
    return np.concatenate([members[start : start + block] for start in rounds for members in of_class])


def in_batches(images: Tensor, size: int) -> tuple[Tensor, ...]:
    """Batches of so many images, the last one smaller; one image that is left over is in the batch before.

    A batch of one has too little variance for BatchNorm to normalise by.
    """
    batches: tuple[Tensor, ...] = images.split(size)
    if len(batches) > 1 and len(batches[-1]) < 2 <= size:
        batches = (*batches[:-2], torch.cat(batches[-2:]))
    return batches
