"""Infer: the work of classifying test images with the model that a cell's arm left."""

from __future__ import annotations

from typing import Any

import torch

from bench.data.domain import load_domain
from bench.suite.work import Infer as InferSpec
from bench.training.task import Ledger
from bench.work.adapt import Adapt


class Infer(Adapt):
    """As `Adapt`, which comes before the window; what is measured is a pass over images in batches."""

    phase = "infer"

    def warm_up(self) -> None:
        """Adapt the model, and classify a batch."""
        super().warm_up()
        super().execute()
        spec = self._cell.work
        assert isinstance(spec, InferSpec)
        test = self._split.test
        wanted = test[torch.arange(spec.images).remainder(len(test)).numpy()]
        self._batches = self._images(load_domain(self._folder), wanted).x.split(spec.batch)
        self.idle = False
        self.spans.clear()
        self._classify(self._batches[:1])

    def execute(self) -> None:
        """Classify the images once, and wait until the device has done it."""
        self._classify(self._batches)
        self.spans.synchronize()

    def figures(self) -> dict[str, Any]:
        """As of `Adapt`; multiply-accumulates are those of the images classified."""
        n_images = sum(map(len, self._batches))
        self._task.ledger = {self.phase: Ledger(forward=n_images)}
        return super().figures() | {"n_images": n_images}

    @torch.no_grad()
    def _classify(self, batches: tuple[torch.Tensor, ...]) -> None:
        model = self.model
        model.eval()
        for x in batches:
            self._task.logits(x, model)
            self._beat(0)
