"""Tuner: fine-tunes one cell's model with the levers of its engine, by the protocol of `bench.training.loop`."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import RequestError
from bench.suite.training import EngineSpec, Levers, resolve
from bench.training import activations
from bench.training.augment import Change, changer
from bench.training.closed_form import solve
from bench.training.cut import Cut, CutError, cut, varies
from bench.training.loop import (
    Batchable,
    BeforeEpoch,
    Loss,
    Outcome,
    Passes,
    adapt_batchnorm,
    fine_tune,
    set_train_mode,
)
from bench.training.memory import keep_freed_memory
from bench.training.partial import Partial, Plan


class Tuner:
    """Made once per process, used for every fine-tuning of the cell in it.

    Args:
        model: on the device that trains.
        parameters: those that are tuned; all others are frozen while they are.
        spec: not refused by `bench.suite.training.refusal`.
        scratch: folder for a cache on disk.
    """

    def __init__(self, model: nn.Module, parameters: list[nn.Parameter], spec: EngineSpec, scratch: Path) -> None:
        self._model = model
        self._parameters = parameters
        self._spec = spec
        self._scratch = scratch
        self._levers = settle(model, spec)
        if self._draws():  # images that run in other company would draw other numbers
            self._levers = dataclasses.replace(self._levers, micro_batch=None)
        self._kept: str | None = None
        self._kept_mb: float | None = None
        self.note = ""
        self._cut = self._cut_model() if self._levers.cache != "off" or self._levers.head == "closed_form" else None
        self._passes = passes_of(self._levers)
        self._compiled: dict[int, Callable[[Tensor], Tensor]] = {}

    @property
    def levers(self) -> tuple[str, ...]:
        """What was saved in the last fine-tuning."""
        return self._levers.names(self._kept)

    @property
    def cache_mb(self) -> float | None:
        """Size of the activations that the last fine-tuning kept, in MB; None where it kept none."""
        return self._kept_mb

    def fine_tune(
        self,
        train: Batchable,
        val: Batchable,
        *,
        seed: int,
        epochs: int | None = None,
        lr: float | None = None,
        loss: Loss | None = None,
        before_epoch: BeforeEpoch | None = None,
        on_epoch: Callable[[int], None] = lambda _: None,
        partial: Partial | None = None,
        plan: Callable[[int], Plan] | None = None,
    ) -> Outcome:
        """As `bench.training.loop.fine_tune`, which does the work.

        Args:
            epochs, lr: in place of the spec's.
            partial, plan: as in `bench.training.task.Task.tune`.

        Raises:
            RequestError: the cache that the spec requires is not possible, or a part of the net cannot be compiled.
        """
        tuned = {id(parameter) for parameter in self._parameters}
        for parameter in self._model.parameters():
            wanted = id(parameter) in tuned if self._levers.truncated else parameter.is_floating_point()
            parameter.requires_grad_(wanted)
        changes = {key: value for key, value in (("epochs", epochs), ("lr", lr)) if value is not None}
        spec = self._spec.model_copy(update=changes)
        if spec.augment and spec.views is not None:
            train = _changed(train, spec.views, seed, changer(spec.augment, train.x))
            spec = spec.model_copy(update={"augment": False})  # done; what is kept of them must not be changed again
        if spec.bn_mode == "adapt_once_then_eval" and self._cut is not None:
            adapt_batchnorm(self._model, train.x, spec.batch_size, self._passes)
            spec = spec.model_copy(update={"bn_mode": "eval"})  # done; the rest alone must not do it again
        part: nn.Module = self._model
        if self._cut is not None:
            where = self._place(self._cut, train, val, spec)
            self._kept = where
            if where is not None:
                part = self._cut.rest
                train, val = (self._through(self._cut.front, data, where) for data in (train, val))
            if self._levers.head == "closed_form":
                return solve(self._head(self._cut), train, val)
        with contextlib.ExitStack() as stack:
            if partial is not None and plan is not None:
                if self._levers.compiled:
                    raise RequestError("train.compile: a method that trains channels of a convolution is not compiled")
                stack.enter_context(partial.active())
                before_epoch = _following(partial, plan, before_epoch)
            return fine_tune(
                part,
                self._parameters,
                train,
                val,
                spec,
                seed=seed,
                passes=self._with_forward(part),
                loss=loss or F.cross_entropy,
                before_epoch=before_epoch,
                on_epoch=on_epoch,
            )

    def _cut_model(self) -> Cut | None:
        try:
            return cut(self._model, self._parameters)
        except CutError as error:
            self.note = f"no activations are kept: {error}"
            self._must_not(self.note)
            return None

    def _place(self, parts: Cut, train: Batchable, val: Batchable, spec: EngineSpec) -> str | None:
        """Where the front part's output goes, None where it is not kept."""
        set_train_mode(self._model, spec.bn_mode, self._parameters)
        moving = varies(parts.front)
        parts.front.eval()
        if moving is not None:
            self.note = f"no activations are kept: {moving} gives another output each time"
            self._must_not(self.note)
            return None
        shape = train.x.shape[1:]
        n_images = len(train.x) * (1 + len(train.views)) + len(val.x)
        needed_mb = activations.size_mb(parts.front, shape, n_images)
        where, self.note = activations.place(self._levers.cache, needed_mb, self._spec.cache_mb, self._scratch)
        if where is None:
            self._must_not(self.note)
        self._kept_mb = None if where is None else needed_mb / (2 if where == "half" else 1)
        return where

    def _must_not(self, why: str) -> None:
        if self._levers.head == "closed_form":
            raise RequestError(f"train.head 'closed_form': {why}")
        if self._levers.cache not in ("auto", "off"):
            raise RequestError(f"train.cache {self._levers.cache!r}: {why}")

    def _head(self, parts: Cut) -> nn.Linear:
        """The layer to be solved, which must be all that comes after the features.

        Raises:
            RequestError: it is not.
        """
        last = _last_layer(self._model)
        rest = [node for node in parts.rest.graph.nodes if node.op not in ("placeholder", "output")]
        if len(rest) != 1 or rest[0].op != "call_module" or parts.rest.get_submodule(str(rest[0].target)) is not last:
            raise RequestError("train.head: 'closed_form' needs a last block that is one linear layer and no more")
        return last

    def _through(self, front: nn.Module, data: Batchable, where: str) -> Batchable:
        versions = [activations.compute(front, x, where, self._passes, self._scratch) for x in (data.x, *data.views)]
        return Batchable(versions[0], data.y, tuple(versions[1:]))

    def _with_forward(self, part: nn.Module) -> Passes:
        if not self._levers.compiled:
            return self._passes
        if id(part) not in self._compiled:
            self._compiled[id(part)] = torch.compile(part)
        return dataclasses.replace(self._passes, forward=self._compiled[id(part)])

    def _draws(self) -> bool:
        """Whether the net drops values at random, or looks at the whole batch even where BatchNorm is held."""
        held = [module for module in self._model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        self._model.train()
        for module in held:
            module.eval()
        return varies(self._model) is not None


def _following(partial: Partial, plan: Callable[[int], Plan], before: BeforeEpoch | None) -> BeforeEpoch:
    """What is called before each epoch, so that it trains what the plan says."""

    def follow(epoch: int, optimizer: torch.optim.Optimizer) -> None:
        if before is not None:
            before(epoch, optimizer)
        partial.follow(plan(epoch), optimizer)

    return follow


def settle(model: nn.Module, spec: EngineSpec) -> Levers:
    """The levers of a cell, with those put into effect that concern the process and the model as a whole."""
    levers = resolve(spec, next(model.parameters()).device.type)
    if levers.keep_memory and not keep_freed_memory():
        levers = dataclasses.replace(levers, keep_memory=False)
    if levers.channels_last:
        model.to(memory_format=torch.channels_last)
    return levers


def passes_of(levers: Levers) -> Passes:
    """How images run through a net with these levers."""
    return Passes(
        micro_batch=levers.micro_batch,
        eval_batch=levers.eval_batch,
        channels_last=levers.channels_last,
        bfloat16=levers.bfloat16,
    )


def check_levers(model: nn.Module, spec: EngineSpec, device: torch.device) -> None:
    """Check that this machine and this model support a spec.

    Raises:
        RequestError: with the reason.
    """
    if spec.compile and device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise RequestError("train.compile: torch.compile needs a C++ compiler here (on Debian: apt install g++)")
    if spec.precision == "bfloat16" and device.type == "cpu" and not _computes_bfloat16(_cpu_flags()):
        raise RequestError(
            "train.precision: this processor does not compute with bfloat16 (it would be slower and cost more); "
            "use float32"
        )
    if spec.head == "closed_form":
        _last_layer(model)


def _last_layer(model: nn.Module) -> nn.Linear:
    layers = [module for module in model.modules() if isinstance(module, nn.Linear) and module.bias is not None]
    if not layers or list(model.modules())[-1] is not layers[-1]:
        raise RequestError("train.head: 'closed_form' needs a model that ends in a linear layer with a bias")
    return layers[-1]


def _changed(train: Batchable, views: int, seed: int, change: Change) -> Batchable:
    generator = torch.Generator().manual_seed(seed)
    made = [change(train.x, generator) for _ in range(views)]
    return Batchable(made[0], train.y, tuple(made[1:]))


def _cpu_flags() -> set[str]:
    try:
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    words = next((line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features"))), "")
    return set(words.split())


def _computes_bfloat16(flags: set[str]) -> bool:
    """AVX-512 or AMX on x86, the BF16 extension on ARM."""
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
