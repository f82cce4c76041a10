"""Task: what a method is given to adapt a model with, and Adapted: what it gives back. Imports no torch by itself."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.catalog.models import BlockMap
    from bench.suite.training import BnMode, EngineSpec
    from bench.training.loop import Batchable, Loss, Outcome
    from bench.training.partial import Partial, Plan
    from bench.training.tuner import Tuner

ADAPT = "adapt"
"""The phase of all work that a method puts into no other."""

MAX_SPANS = 10_000
"""Changes of phase that are noted in one window; beyond it no phase of the window has joules."""

T = TypeVar("T")
Span = tuple[str, float, float]
"""Phase, start and end on CLOCK_MONOTONIC in s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """What a method did.

    Attributes:
        model: that classifies from now on; None: the task's.
        facts: what was chosen and why, plain values for the record.
        epochs_run: passes over the training images; None where there is no such thing.
        best_epoch: the one kept, from 1; 0: none was better than the source model; None: nothing was chosen.
        steps: optimiser steps.
        trained_parameters: how many parameters could change.
    """

    model: nn.Module | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    epochs_run: int | None = None
    best_epoch: int | None = None
    steps: int = 0
    trained_parameters: int = 0

    @classmethod
    def by_tuning(cls, outcome: Outcome, parameters: Iterable[nn.Parameter], **facts: Any) -> Adapted:
        """After `Task.tune` of these parameters."""
        return cls(
            facts=facts,
            epochs_run=outcome.epochs_run,
            best_epoch=outcome.best_epoch,
            steps=outcome.steps,
            trained_parameters=sum(parameter.numel() for parameter in parameters),
        )


class Spans:
    """The phases of a window, one after the other without gaps.

    Args:
        synchronize: waits until the device has done what it was given.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self.synchronize = synchronize
        self._done: list[Span] = []
        self._name: str | None = None
        self._since_s = 0.0
        self.overflown = False

    @property
    def now(self) -> str | None:
        """The phase that runs; None before the first."""
        return self._name

    def enter(self, name: str, at_s: float | None = None) -> None:
        """End the phase that runs and begin another; nothing where it is the same."""
        if name == self._name:
            return
        self.close(at_s)
        self._name = name

    def close(self, at_s: float | None = None) -> None:
        """End the phase that runs.

        Args:
            at_s: when; None: now.
        """
        if at_s is None:
            self.synchronize()
            at_s = time.monotonic()
        if self._name is not None:
            if len(self._done) < MAX_SPANS:
                self._done.append((self._name, self._since_s, at_s))
            else:
                self.overflown = True
        self._name, self._since_s = None, at_s

    def take(self) -> tuple[Span, ...]:
        """The spans so far; none where there were too many of them to be kept."""
        return () if self.overflown else tuple(self._done)

    def clear(self) -> None:
        """Forget everything, as after a warm-up."""
        self._done, self._name, self.overflown = [], None, False


@dataclass(frozen=True, slots=True)
class Tuned:
    """Epochs of a fine-tuning in which the same parameters had a gradient.

    Attributes:
        names: of these parameters.
        shares: name and share of those of which only some channels had one.
        cached: whether activations were kept.
        first: whether these are the fine-tuning's first epochs.
    """

    names: frozenset[str]
    shares: tuple[tuple[str, float], ...]
    epochs: int
    cached: bool
    first: bool


@dataclass(slots=True)
class Ledger:
    """What was run in a phase of one adaptation, to be priced in multiply-accumulates after the window.

    Attributes:
        forward: images that ran through the net without a gradient.
        steps: images of which a gradient was taken, by the names of the parameters that had one.
        macs: multiply-accumulates of algebra outside of the net, such as a head solved in closed form.
        tuned: parts of fine-tunings.
    """

    forward: int = 0
    macs: int = 0
    steps: dict[frozenset[str], int] = field(default_factory=dict)
    tuned: list[Tuned] = field(default_factory=list)


class UnlabelledTask:
    """A model to be adapted to images without labels.

    Attributes:
        model: on the device, with the weights of the source model; to be changed in place.
        images: [N, C, H, W], the training images; none of a stream, whose batches arrive one by one.
        block_map: the model's blocks.
        source_facts: what was shipped with the model, by name: tensors by the name of a parameter.
        seed: of the cell.
        generator: on the CPU, the same at the start of each adaptation.
        n_classes: outputs of the model.
        cut: path of the module behind which the model's part ends; None: it has no part.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        *,
        block_map: BlockMap,
        spec: EngineSpec,
        seed: int,
        n_classes: int,
        spans: Spans | None = None,
        source_facts: Mapping[str, Mapping[str, Tensor]] = MappingProxyType({}),
        cut: str | None = None,
        beat: Callable[[int], None] = lambda _: None,
    ) -> None:
        import torch

        from bench.training.tuner import passes_of, settle

        self.model = model
        self.images = images
        self.block_map = block_map
        self.source_facts = source_facts
        self.seed = seed
        self.n_classes = n_classes
        self.cut = cut
        self.generator = torch.Generator()
        self.spans = spans or Spans()
        self.ledger: dict[str, Ledger] = {}
        self._beat = beat
        self._spec = spec
        levers = settle(model, spec)
        self.levers = tuple(name for name in levers.names(None) if name in ("channels_last", "keep_memory"))
        self._passes = passes_of(levers)
        self._source_state = {name: value.clone() for name, value in model.state_dict().items()}
        self._held = contextlib.ExitStack()

    def begin(self) -> None:
        """Start an adaptation: as `reset`, with nothing accounted yet."""
        self.reset()
        self.ledger = {}

    def reset(self) -> None:
        """Put the source model's weights back and the random numbers to their start; leave what is held."""
        import torch

        self._held.close()
        torch.manual_seed(self.seed)
        self.generator.manual_seed(self.seed)
        self.model.load_state_dict(self._source_state)

    def hold(self, context: contextlib.AbstractContextManager[T]) -> T:
        """Enter a context that is left at the next `reset`: what a method needs from one batch of a stream to the next.

        Returns:
            What the context gives.
        """
        return self._held.enter_context(context)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what is done meanwhile to a phase of its own, with its own joules."""
        before = self.spans.now or ADAPT
        self.spans.enter(name)
        try:
            yield
        finally:
            self.spans.enter(before)

    @property
    def source_state(self) -> Mapping[str, Tensor]:
        """The source model's state dict."""
        return self._source_state

    def batches(self, size: int, *, shuffle: bool = True) -> Iterator[Tensor]:
        """The training images [N, C, H, W] in batches of nearly equal size, at most `size` and at least two images."""
        import torch

        n = len(self.images)
        order = torch.randperm(n, generator=self.generator) if shuffle else torch.arange(n)
        for index in order.tensor_split(max(1, min(-(-n // size), n // 2))):
            yield self.images[index.to(self.images.device)]

    def logits(self, x: Tensor, model: nn.Module | None = None) -> Tensor:
        """What the model, or a copy of it, makes of images: [N, C, H, W] -> [N, n_classes]."""
        self._account.forward += len(x)
        return self._passes.logits(model or self.model, x)

    def backward(self, loss: Tensor, images: int, model: nn.Module | None = None) -> None:
        """Take the gradient of a loss that came from so many images by `logits`."""
        loss.backward()
        self.count_steps(images, model)
        self._beat(0)

    def count_steps(self, images: int, model: nn.Module | None = None) -> None:
        """Note that the gradient of what has requires_grad was taken, of so many images that ran by `logits`."""
        self._account.forward -= images  # a step contains its forward pass
        self.count_images(images, model)

    def count_forward(self, images: int) -> None:
        """Note that so many images ran through the net other than by `logits`."""
        self._account.forward += images

    def count_images(self, images: int, model: nn.Module | None = None) -> None:
        """The same for images that did not run by `logits`."""
        names, account = self._with_gradient(model), self._account
        account.steps[names] = account.steps.get(names, 0) + images

    def count_macs(self, macs: int) -> None:
        """Note multiply-accumulates of algebra outside of the net."""
        self._account.macs += macs

    @property
    def lr(self) -> float:
        """The suite's learning rate for this arm."""
        return self._spec.lr

    @property
    def batch_size(self) -> int:
        """The suite's batch size for this arm."""
        return self._spec.batch_size

    def _with_gradient(self, model: nn.Module | None = None) -> frozenset[str]:
        named = (model or self.model).named_parameters()
        return frozenset(name for name, parameter in named if parameter.requires_grad)

    @property
    def _account(self) -> Ledger:
        return self.ledger.setdefault(self.spans.now or ADAPT, Ledger())


class Task(UnlabelledTask):
    """A model to be adapted to labelled images.

    Attributes:
        train: training images and their labels.
        val: validation images and theirs.
    """

    def __init__(self, model: nn.Module, train: Batchable, val: Batchable, *, scratch: Path, **shared: Any) -> None:
        super().__init__(model, train.x, **shared)
        self.train = train
        self.val = val
        self.tuner: Tuner | None = None
        self._epochs: int | None = None
        self._scratch = scratch
        self._tuners: dict[tuple[str | int | None, ...], Tuner] = {}

    def use(self, train: Batchable, val: Batchable, epochs: int | None = None) -> None:
        """Take other images, and epochs at most, as for a warm-up."""
        self.train, self.images, self.val, self._epochs = train, train.x, val, epochs

    def tune(
        self,
        parameters: list[nn.Parameter],
        *,
        lr: float | None = None,
        epochs: int | None = None,
        loss: Loss | None = None,
        before_epoch: Callable[[int, torch.optim.Optimizer], None] | None = None,
        bn_mode: BnMode | None = None,
        partial: Partial | None = None,
        plan: Callable[[int], Plan] | None = None,
    ) -> Outcome:
        """Fine-tune these parameters by the suite's protocol and engine; the epoch that validates best is kept.

        Args:
            parameters: of the model; all others are frozen.
            lr: in place of the protocol's.
            epochs: likewise.
            loss: (logits, labels) -> mean over the images; None: cross-entropy. Validation takes cross-entropy always.
            before_epoch: called with the epoch's number, from 1, and the optimiser, which has a group per parameter
                then; it may set the groups' rates.
            bn_mode: in place of the protocol's, as where a method has settled BatchNorm's statistics before.
            partial: the net's convolutions, where some of their channels alone are to be trained.
            plan: from the epoch's number, from 1, to those channels; called before each epoch, and free to freeze other
                parameters. Needed with `partial`.

        Raises:
            RequestError: the suite asks for a cache, or for a closed form, that these parameters rule out.
        """
        from bench.training.tuner import Tuner

        key = (bn_mode, *sorted(map(id, parameters)))
        if key not in self._tuners:
            spec = self._spec if bn_mode is None else self._spec.model_copy(update={"bn_mode": bn_mode})
            self._tuners[key] = Tuner(self.model, parameters, spec, self._scratch)
        self.tuner = self._tuners[key]
        epochs = min(filter(None, (epochs, self._epochs)), default=None)
        trained: list[tuple[frozenset[str], tuple[tuple[str, float], ...]]] = []

        def note() -> tuple[frozenset[str], tuple[tuple[str, float], ...]]:
            shares = dict(partial.shares) if partial is not None else {}
            return self._with_gradient() | {*shares}, tuple(item for item in shares.items() if item[1] < 1)

        def on_epoch(epoch: int) -> None:
            trained.append(note())
            self._beat(epoch)

        outcome = self.tuner.fine_tune(
            self.train, self.val, seed=self.seed, epochs=epochs, lr=lr, loss=loss, before_epoch=before_epoch,
            on_epoch=on_epoch, partial=partial, plan=plan,
        )  # fmt: skip
        # a closed form has no epochs
        parts = [(what, len([*same])) for what, same in itertools.groupby(trained)] or [(note(), 0)]
        cached = self.tuner.cache_mb is not None
        self._account.tuned += [
            Tuned(names, shares, n, cached, number == 0) for number, ((names, shares), n) in enumerate(parts)
        ]
        return outcome
