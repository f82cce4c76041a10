"""Infer: the work of classifying test images with the model that a cell's arm left."""

from __future__ import annotations

import dataclasses
import traceback
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.cost import trace
from bench.data.domain import load_domain
from bench.errors import JouletuneError
from bench.models.staged import Staged
from bench.suite.work import Infer as InferSpec
from bench.training.decision import (
    Decision,
    calibration_error,
    confidences,
    fit_temperature,
    published_threshold,
    threshold,
)
from bench.training.task import Ledger, Task
from bench.work.adapt import Adapt
from bench.work.stage import Stage, WithHead

if TYPE_CHECKING:
    from bench.runtimes.parity import Parity


class Infer(Adapt):
    """As `Adapt`, which comes before the window; what is measured is a pass over images in batches."""

    phase = "infer"

    def warm_up(self) -> None:
        """Adapt the model, hand it to its runtime, decide when its part answers, and classify a batch."""
        super().warm_up()
        super().execute()
        spec = self._cell.work
        assert isinstance(spec, InferSpec)
        self._inferring = spec
        test = self._split.test
        wanted = test[torch.arange(spec.images).remainder(len(test)).numpy()]
        images = self._images(load_domain(self._folder), wanted).x
        self._batches = images.split(spec.batch)
        self._running: nn.Module | None = None
        self._stage: Stage | None = None
        self._runtime: dict[str, Any] | None = None
        self.model.eval()
        if spec.ratio is not None:
            self._stage = self._staged(spec, images[: len(test)])
        elif spec.runtime != "torch":
            self._running = self._handed_over(spec, images[: len(test)])
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
        if self._stage is not None:
            return _Answers(self._stage)
        return self._running or self.model

    def figures(self) -> dict[str, Any]:
        """As of `Adapt`; multiply-accumulates are those of the images classified."""
        n_images = sum(map(len, self._batches))
        self._task.ledger = {self.phase: Ledger(forward=n_images)}
        exits = self._exits() if self._stage is not None else None
        found = super().figures() | {"n_images": n_images, "runtime": self._runtime, "exits": exits}
        if exits is not None and exits["part_macs"] is not None:
            resumed = round((1 - exits["realised_of_window"]) * n_images)
            macs = n_images * exits["part_macs"] + resumed * exits["rest_macs"]
            found |= {"train_macs": macs, "phase_macs": {self.phase: macs}}
        return found

    def _staged(self, spec: InferSpec, images: Tensor) -> Stage:
        """The model in two parts, in its runtime, with the threshold that the suite's ratio asks for."""
        model = self.model
        assert isinstance(model, Staged)
        assert isinstance(self._task, Task)
        stage = Stage(WithHead(model).eval(), model.rest, Decision(0.0))
        if spec.runtime != "torch":
            stage = self._in_runtime(spec, model, stage, images)
        domain = load_domain(self._folder)
        part, _ = stage.both(self._task.val.x)
        temperature = fit_temperature(part, self._task.val.y.to(part.device)) if spec.temperature else 1.0
        if spec.confidences == "pool":  # without labels, and not seen by the heads
            part, _ = stage.both(self._images(domain, self._split.spare).x)
        sure = confidences(part, temperature)
        assert spec.ratio is not None
        quantile = threshold if spec.threshold == "quantile" else self._published
        self._sure_of = len(sure)
        return dataclasses.replace(stage, decision=Decision(quantile(sure, spec.ratio), temperature))

    def _published(self, sure: Tensor, ratio: float) -> float:
        return published_threshold(sure, ratio, self._cell.seed)

    def _in_runtime(self, spec: InferSpec, model: Staged, stage: Stage, images: Tensor) -> Stage:
        """Part and rest of the model as a net each in onnxruntime."""
        from bench.runtimes.onnx_model import OnnxModel
        from bench.runtimes.parity import of_logits

        with_head, passed = WithHead(model).eval(), []
        inputs = self._task.images[: spec.int8_images]
        with torch.no_grad():
            for x in inputs.split(64):
                passed.append(stage.part(x)[0])
        part, of_part = self._exported(spec, with_head, inputs, ("passed", "logits"))
        rest, of_rest = self._exported(spec, model.rest, torch.cat(passed), ("logits",))
        made = Stage(OnnxModel(part), OnnxModel(rest), stage.decision)
        ours, theirs = stage.both(images), made.both(images)
        self._runtime = of_part | {key: of_part[key] + of_rest[key] for key in ("bytes", "float_bytes")}
        for name, a, b in zip(("part", "full"), ours, theirs, strict=True):
            self._check(spec, of_logits(a, b), name)
        return made

    def _handed_over(self, spec: InferSpec, images: Tensor) -> nn.Module:
        """The whole model in onnxruntime, once it is near enough to what torch makes of it.

        Args:
            images: to compare both on.
        """
        from bench.runtimes.onnx_model import OnnxModel
        from bench.runtimes.parity import parity

        content, self._runtime = self._exported(spec, self.model, self._task.images[: spec.int8_images], ("logits",))
        made = OnnxModel(content)
        self._check(spec, parity(self.model, made, images), "full")
        return made

    def _exported(
        self, spec: InferSpec, net: nn.Module, inputs: Tensor, outputs: tuple[str, ...]
    ) -> tuple[bytes, dict[str, Any]]:
        """A net in ONNX, in int8 where that is the runtime, and facts for the record.

        Args:
            inputs: that int8 ranges are taken from.
        """
        from bench.runtimes.onnx_model import to_onnx, weight_bytes
        from bench.runtimes.quantise import METHOD, to_int8

        content = to_onnx(net, inputs.shape[1:], outputs)
        facts: dict[str, Any] = {"name": spec.runtime, "float_bytes": weight_bytes(content)}
        if spec.runtime == "onnx-int8":
            content = to_int8(content, inputs)
            facts |= {"calibration": METHOD, "calibration_images": len(inputs), "calibration_set": "training images"}
        return content, facts | {"bytes": weight_bytes(content)}

    def _check(self, spec: InferSpec, near: Parity, name: str) -> None:
        """Note how near a net in its runtime comes to torch.

        Raises:
            JouletuneError: they agree on fewer images than the suite asks for.
        """
        assert self._runtime is not None
        found = dataclasses.asdict(near)
        self._runtime |= {"part": found} if name == "part" else found
        if spec.min_agreement is not None and near.agreement < spec.min_agreement:
            raise JouletuneError(
                f"{spec.runtime} agrees with torch on {near.agreement:.3f} of {near.images} images ({name} model), "
                f"less than min_agreement ({spec.min_agreement:g}); min_agreement: null goes on"
            )

    def _exits(self) -> dict[str, Any]:
        """What the decision was, and what it came to on the images of the window and on all test images."""
        stage, spec = self._stage, self._inferring
        assert stage is not None
        test = self._images(load_domain(self._folder), self._split.test)
        labels = test.y.cpu()
        part, full = (logits.cpu() for logits in stage.both(test.x))
        stays = stage.decision.stays(part)
        _, window = stage.logits(self._batches)
        right = [logits.argmax(1) == labels for logits in (part, full)]
        sure, plain = confidences(part, stage.decision.temperature), confidences(part)
        return {
            "ratio": spec.ratio,
            "realised": float(stays.double().mean()),
            "realised_of_window": float(window.double().mean()),
            "threshold": stage.decision.threshold,
            "threshold_by": spec.threshold,
            "confidences_of": self._sure_of,
            "temperature": stage.decision.temperature,
            "accuracy_part": float(right[0].double().mean()),
            "accuracy_full": float(right[1].double().mean()),
            "calibration_error": calibration_error(sure, right[0]),
            "calibration_error_plain": calibration_error(plain, right[0]),
            "cut": getattr(self.model, "cut", None),
        } | self._macs(test.x[:1])

    def _macs(self, image: Tensor) -> dict[str, int | None]:
        """Multiply-accumulates of an image in the part with its head, and in the rest."""
        model = self.model
        assert isinstance(model, Staged)
        try:
            passed = model.front(image)
            part, rest = (
                trace(net, tuple(x.shape)).step([]).forward_macs
                for net, x in ((WithHead(model), image), (model.rest, passed))
            )
        except Exception:  # as in `cell_costs`
            traceback.print_exc()
            return {"part_macs": None, "rest_macs": None}
        return {"part_macs": part, "rest_macs": rest}

    @torch.no_grad()
    def _classify(self, batches: tuple[Tensor, ...]) -> None:
        if self._stage is not None:
            self._stage.logits(batches, self._beat)
            return
        model = self.answering
        model.eval()
        for x in batches:
            if self._running is None:
                self._task.logits(x, model)
            else:
                self._running(x)
            self._beat(0)


class _Answers(nn.Module):
    """What a stage answers, as a module."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] -> logits [N, n_classes]."""
        return self._stage.logits([x])[0]
