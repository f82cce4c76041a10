"""Infer: the work of classifying test images with the model that a cell's arm left."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.domain import load_domain
from bench.errors import JouletuneError
from bench.suite.work import Infer as InferSpec
from bench.training.task import Ledger
from bench.work.adapt import Adapt


class Infer(Adapt):
    """As `Adapt`, which comes before the window; what is measured is a pass over images in batches."""

    phase = "infer"

    def warm_up(self) -> None:
        """Adapt the model, hand it to its runtime, and classify a batch."""
        super().warm_up()
        super().execute()
        spec = self._cell.work
        assert isinstance(spec, InferSpec)
        test = self._split.test
        wanted = test[torch.arange(spec.images).remainder(len(test)).numpy()]
        images = self._images(load_domain(self._folder), wanted).x
        self._batches = images.split(spec.batch)
        self._running: nn.Module | None = None
        self._runtime: dict[str, Any] | None = None
        if spec.runtime != "torch":
            self._hand_over(spec, images[: len(test)])
        self.idle = False
        self.spans.clear()
        self._classify(self._batches[:1])

    def execute(self) -> None:
        """Classify the images once, and wait until the device has done it."""
        self._classify(self._batches)
        self.spans.synchronize()

    @property
    def answering(self) -> nn.Module:
        """The model in its runtime."""
        return self._running or self.model

    def figures(self) -> dict[str, Any]:
        """As of `Adapt`; multiply-accumulates are those of the images classified."""
        n_images = sum(map(len, self._batches))
        self._task.ledger = {self.phase: Ledger(forward=n_images)}
        return super().figures() | {"n_images": n_images, "runtime": self._runtime}

    def _hand_over(self, spec: InferSpec, images: Tensor) -> None:
        """Let onnxruntime run the model, once it is near enough to what torch makes of it.

        Args:
            images: to compare both on.

        Raises:
            JouletuneError: they agree on fewer images than the suite asks for.
        """
        from bench.runtimes.onnx_model import OnnxModel, to_onnx, weight_bytes
        from bench.runtimes.parity import parity
        from bench.runtimes.quantise import METHOD, to_int8

        model = self.model.eval()
        content = to_onnx(model, images.shape[1:])
        facts: dict[str, Any] = {"name": spec.runtime, "float_bytes": weight_bytes(content)}
        if spec.runtime == "onnx-int8":
            ranges = self._task.images[: spec.int8_images]
            content = to_int8(content, ranges)
            facts |= {"calibration": METHOD, "calibration_images": len(ranges), "calibration_set": "training images"}
        self._running = OnnxModel(content)
        near = parity(model, self._running, images)
        self._runtime = facts | {"bytes": weight_bytes(content)} | dataclasses.asdict(near)
        if spec.min_agreement is not None and near.agreement < spec.min_agreement:
            raise JouletuneError(
                f"{spec.runtime} agrees with torch on {near.agreement:.3f} of {near.images} images, less than "
                f"min_agreement ({spec.min_agreement:g}); min_agreement: null goes on"
            )

    @torch.no_grad()
    def _classify(self, batches: tuple[Tensor, ...]) -> None:
        model = self.answering
        model.eval()
        for x in batches:
            if self._running is None:
                self._task.logits(x, model)
            else:
                self._running(x)
            self._beat(0)
