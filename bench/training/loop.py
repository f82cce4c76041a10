"""The fine-tuning loop of one cell, as published: best epoch by validation loss, early stopping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bench.data.images import Images
from bench.errors import JouletuneError
from bench.suite.training import EVAL_BATCH, TrainSpec
from bench.training.augment import changer, keep


@dataclass(frozen=True, slots=True, eq=False)
class Batchable:
    """Images [N, C, H, W], or what a net's front part made of them, and labels int64 [N], on the device that trains.

    Attributes:
        x: float32; a half-precision cache holds float16.
        views: further versions of x, used in turn with it, an epoch each.
    """

    x: Tensor
    y: Tensor
    views: tuple[Tensor, ...] = ()

    def of_epoch(self, epoch: int) -> Tensor:
        """The images that an epoch, counted from 1, learns from."""
        return (self.x, *self.views)[(epoch - 1) % (1 + len(self.views))]


@dataclass(frozen=True, slots=True, eq=False)
class Passes:
    """How images run through a net. None of it changes the protocol.

    Attributes:
        micro_batch: images at once while training, their gradients summed; None: the whole batch.
        eval_batch: images at once in evaluation.
        channels_last: order of values in memory, of batches as of the net.
        bfloat16: activations in 8 significant bits.
        forward: what computes the net's output in its place (a compiled form of it); None: the net itself.
    """

    micro_batch: int | None = None
    eval_batch: int = EVAL_BATCH
    channels_last: bool = False
    bfloat16: bool = False
    forward: Callable[[Tensor], Tensor] | None = None

    def logits(self, model: nn.Module, x: Tensor) -> Tensor:
        """[N, ...] -> float32 [N, n_classes]."""
        x = x.float()
        if self.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        run = self.forward or model
        if not self.bfloat16:
            return run(x)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return run(x).float()


PLAIN = Passes()

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits [N, n_classes], labels [N]) -> their mean loss."""

BeforeEpoch = Callable[[int, torch.optim.Optimizer], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one fine-tuning did. `best_epoch` counts from 1, 0 where no loss was finite and the source model was kept;
    losses are means per image, one per epoch."""

    epochs_run: int
    best_epoch: int
    steps: int
    val_losses: tuple[float, ...]


def to_tensors(images: Images, device: torch.device, pixel_range: str = "signed") -> Batchable:
    """uint8 [N, H, W, C] -> float32 [N, C, H, W]: `signed`, from -1 to 1 (mean 0.5 and deviation 0.5, as published for
    CIFAR-10), or `unit`, from 0 to 1."""
    pixels = torch.from_numpy(np.array(images.x.transpose(0, 3, 1, 2), order="C"))
    x = pixels.to(device).float().div_(127.5)
    x = x.sub_(1) if pixel_range == "signed" else x.div_(2)
    return Batchable(x, torch.from_numpy(np.array(images.y)).to(device))


def fine_tune(
    model: nn.Module,
    parameters: list[nn.Parameter],
    train: Batchable,
    val: Batchable,
    spec: TrainSpec,
    *,
    seed: int,
    passes: Passes = PLAIN,
    loss: Loss = F.cross_entropy,
    before_epoch: BeforeEpoch | None = None,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Tune `parameters` on `train`; leave the model with the state of the epoch that validates best.

    Args:
        model: what is frozen in it may have requires_grad False, which saves its gradients.
        spec: protocol.
        seed: draws the order of the batches and, with spec.augment, the changes to the images.
        loss: that is trained; validation takes cross-entropy.
        before_epoch: called before each epoch with its number, from 1, and the optimiser, which then has a group for
            each parameter.
        on_epoch: called after each epoch with its number, from 1.
    """
    generator = torch.Generator().manual_seed(seed)
    if spec.bn_mode == "adapt_once_then_eval":
        adapt_batchnorm(model, train.x, spec.batch_size, passes)
    change = keep if train.views else changer(spec.augment, train.x)
    optimizer = make_optimizer(parameters if before_epoch is None else [{"params": [p]} for p in parameters], spec)
    best_loss, best_epoch, best_state = float("inf"), 0, _snapshot(model)
    losses: list[float] = []
    steps = 0
    for epoch in range(1, spec.epochs + 1):
        if before_epoch is not None:
            before_epoch(epoch, optimizer)
        set_train_mode(model, spec.bn_mode, parameters)
        images = Batchable(train.of_epoch(epoch), train.y)
        steps += train_epoch(
            model, optimizer, images, spec.batch_size, generator, change=change, passes=passes, loss=loss,
            rate=partial(spec.rate, epoch),
        )  # fmt: skip
        losses.append(mean_loss(model, val, passes))
        if losses[-1] < best_loss:
            best_loss, best_epoch, best_state = losses[-1], epoch, _snapshot(model)
        on_epoch(epoch)
        if spec.patience is not None and epoch - best_epoch >= spec.patience:
            break
    model.load_state_dict(best_state)
    return Outcome(len(losses), best_epoch, steps, tuple(losses))


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Batchable,
    batch_size: int,
    generator: torch.Generator,
    *,
    change: Callable[[Tensor, torch.Generator], Tensor] = keep,
    passes: Passes = PLAIN,
    loss: Loss = F.cross_entropy,
    rate: Callable[[int, int], float] = lambda step, steps: 1.0,
) -> int:
    """One pass over the training images in a fresh order, each batch [N, C, H, W] changed before it is learned from.

    Args:
        model: in the training mode that it is to have.
        rate: from the number of a step, from 0, and the steps of an epoch to a factor of the optimiser's rates.

    Returns:
        The optimiser steps taken.
    """
    steps, batches = 0, -(-len(train.x) // batch_size)
    bases = [group["lr"] for group in optimizer.param_groups]
    for index in torch.randperm(len(train.x), generator=generator).split(batch_size):
        if len(index) < 2 <= batch_size:
            continue  # a batch of one that is left over has too little variance for BatchNorm to normalise by
        factor = rate(steps, batches)
        for group, base in zip(optimizer.param_groups, bases, strict=True):
            group["lr"] = base * factor
        chosen = index.to(train.x.device)
        images, labels = change(train.x[chosen], generator), train.y[chosen]
        optimizer.zero_grad(set_to_none=True)
        size = passes.micro_batch or len(index)
        for x, y in zip(images.split(size), labels.split(size), strict=True):
            # each part weighs by its images, so that the gradients add up to those of the whole batch's mean
            (loss(passes.logits(model, x), y) * (len(x) / len(index))).backward()
        optimizer.step()
        steps += 1
    for group, base in zip(optimizer.param_groups, bases, strict=True):
        group["lr"] = base
    return steps


def make_optimizer(
    parameters: list[nn.Parameter] | list[dict[str, list[nn.Parameter]]], spec: TrainSpec
) -> torch.optim.Optimizer:
    """The optimiser of a protocol.

    Args:
        parameters: those that it moves, or groups of them.
    """
    if spec.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=spec.lr, weight_decay=spec.weight_decay)
    return torch.optim.SGD(parameters, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay)


def set_train_mode(model: nn.Module, bn_mode: str, parameters: list[nn.Parameter]) -> None:
    """Set training mode; BatchNorm that does not train by `bn_mode` uses its running statistics.

    Args:
        parameters: those that are tuned.
    """
    model.train()
    if bn_mode == "train":
        return
    tuned = {id(parameter) for parameter in parameters} if bn_mode == "train_tuned" else set()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not any(id(p) in tuned for p in module.parameters()):
            module.eval()


@torch.no_grad()
def adapt_batchnorm(model: nn.Module, x: Tensor, batch_size: int, passes: Passes = PLAIN) -> None:
    """Replace BatchNorm's running statistics by those of x [N, C, H, W] (AdaBN, Li et al. 2017).

    Taken as the mean over batches of nearly equal size, so that a small last one does not weigh as much as the others.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # cumulative mean over the batches
    model.train()
    for batch in x.tensor_split(-(-len(x) // max(2, batch_size))):
        if len(batch) > 1:
            passes.logits(model, batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


@torch.no_grad()
def mean_loss(model: nn.Module, data: Batchable, passes: Passes = PLAIN) -> float:
    """Mean cross-entropy per image, in evaluation mode."""
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=data.x.device)
    for x, y in zip(data.x.split(passes.eval_batch), data.y.split(passes.eval_batch), strict=True):
        total += F.cross_entropy(passes.logits(model, x), y, reduction="sum").double()
    return float(total) / len(data.x)


@torch.no_grad()
def accuracy(model: nn.Module, data: Batchable) -> float:
    """Fraction of images classified right, in evaluation mode.

    Raises:
        JouletuneError: the model's output is not finite, and its largest value no class.
    """
    model.eval()
    right, broken = torch.zeros((2,), dtype=torch.int64, device=data.x.device)
    for x, y in zip(data.x.split(EVAL_BATCH), data.y.split(EVAL_BATCH), strict=True):
        logits = model(x)
        right += (logits.argmax(1) == y).sum()
        broken += (~logits.isfinite()).any(1).sum()
    if broken:
        raise JouletuneError(f"the model's output is not finite for {int(broken)} of {len(data.x)} images")
    return int(right) / len(data.x)


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
