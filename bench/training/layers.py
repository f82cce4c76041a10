"""The layers of a net that methods act on: normalisation and its statistics, biases, the linear head."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.catalog.methods import Need
from bench.catalog.models import BlockMap

if TYPE_CHECKING:
    from bench.training.task import UnlabelledTask

NORMALISING = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def batchnorms(model: nn.Module) -> list[_BatchNorm]:
    """Layers that normalise by a batch and keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


def scales_and_shifts(model: nn.Module, within: Iterable[nn.Module] | None = None) -> list[nn.Parameter]:
    """Scale and shift of every normalisation layer, in the model's order.

    Args:
        within: only of layers below these modules; None: of all.
    """
    wanted = None if within is None else {id(layer) for module in within for layer in module.modules()}
    layers = [m for m in model.modules() if isinstance(m, NORMALISING) and (wanted is None or id(m) in wanted)]
    return [p for layer in layers for p in (layer.weight, layer.bias) if isinstance(p, nn.Parameter)]


def biases(model: nn.Module) -> list[nn.Parameter]:
    """Every parameter that is called `bias`."""
    return [p for name, p in model.named_parameters() if name.rpartition(".")[2] == "bias"]


def linear_head(model: nn.Module) -> nn.Linear | None:
    """The last module, where it is a linear layer with a bias that gives the logits; None otherwise."""
    last = list(model.modules())[-1]
    return last if isinstance(last, nn.Linear) and last.bias is not None else None


def lacks(model: nn.Module, need: Need) -> str | None:
    """What a model lacks of what a method needs, in words; None if it has it."""
    found: dict[Need, tuple[object, str]] = {
        "BatchNorm": (batchnorms(model), "no BatchNorm with running statistics"),
        "normalisation": (scales_and_shifts(model), "no normalisation layer with a scale or a shift"),
        "biases": (biases(model), "no bias"),
        "convolutions": ([m for m in model.modules() if type(m) is nn.Conv2d], "no two-dimensional convolution"),
        "linear head": (linear_head(model), "no linear layer with a bias at its end"),
    }
    has, words = found[need]
    return None if has else words


def freeze_but(model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Let only these parameters have a gradient."""
    chosen = {id(parameter) for parameter in parameters}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
        parameter.grad = None


@contextlib.contextmanager
def batch_statistics(model: nn.Module, *, keep: bool = True) -> Iterator[None]:
    """Let BatchNorm normalise by the batch meanwhile.

    The model is in training mode for BatchNorm and in evaluation mode for all else, and wholly so afterwards.

    Args:
        keep: make the mean over the batches the running statistics; otherwise they stay as they are.
    """
    layers = batchnorms(model)
    before = [(layer.momentum, layer.track_running_stats) for layer in layers]
    model.eval()
    for layer in layers:
        layer.train()
        layer.track_running_stats = keep
        if keep:
            layer.reset_running_stats()
            layer.momentum = None  # cumulative mean over the batches
    try:
        yield
    finally:
        for layer, (momentum, tracks) in zip(layers, before, strict=True):
            layer.momentum, layer.track_running_stats = momentum, tracks
        model.eval()


def each_batch(task: UnlabelledTask, step: Callable[[Tensor], object], *, epochs: int, batch: int) -> int:
    """Call a step with each batch of each pass; BatchNorm normalises by it, and keeps the last pass's statistics.

    Returns:
        How many batches there were.
    """
    batches = 0
    for _ in range(epochs):
        with batch_statistics(task.model):
            for x in task.batches(batch):
                step(x)
                batches += 1
    return batches


@contextlib.contextmanager
def head_inputs(head: nn.Linear) -> Iterator[list[Tensor]]:
    """Collect meanwhile what reaches the head, a tensor [N, n_features] for each call of it."""
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def by_block(
    model: nn.Module, block_map: BlockMap, parameters: list[nn.Parameter], values: list[float]
) -> dict[str, float]:
    """Mean of a value per tensor over the tensors of each block, each tensor with equal weight, to four digits.

    What belongs to no block stands under `rest`.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, list[float]] = {}
    for parameter, value in zip(parameters, values, strict=True):
        name = names[id(parameter)]
        owners = (block for block, paths in block_map.items() if any(_covers(path, name) for path in paths))
        found.setdefault(next(owners, "rest"), []).append(value)
    return {block: round(sum(found[block]) / len(found[block]), 4) for block in [*block_map, "rest"] if block in found}


def _covers(path: str, name: str) -> bool:
    """Whether a path of a block map, of a module or with a `*`, means the parameter of this name."""
    return fnmatchcase(name, path) if "*" in path else name.startswith(f"{path}.") or name == path


def lower_blocks(model: nn.Module, block_map: BlockMap) -> list[nn.Module]:
    """The modules of all blocks but the head and the one before it."""
    return [model.get_submodule(path) for block in [*block_map][:-2] for path in block_map[block] if "*" not in path]


@contextlib.contextmanager
def statistics_unkept(model: nn.Module) -> Iterator[None]:
    """Within `batch_statistics`: let the batches of a moment not count for the running statistics."""
    layers = batchnorms(model)
    before = [layer.track_running_stats for layer in layers]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer, tracks in zip(layers, before, strict=True):
            layer.track_running_stats = tracks


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, share: float) -> None:
    """Move the parameters of a model's average towards the model: share x average + (1 - share) x model."""
    for old, new in zip(average.parameters(), model.parameters(), strict=True):
        old.mul_(share).add_(new, alpha=1 - share)


@torch.no_grad()
def restore(model: nn.Module, source: Mapping[str, Tensor], share: float, generator: torch.Generator) -> None:
    """Set a random share of the parameters' elements back to the source's.

    Args:
        source: state dict.
        generator: on the CPU.
    """
    for name, parameter in model.named_parameters():
        mask = (torch.rand(parameter.shape, generator=generator) < share).to(parameter.device)
        parameter.copy_(torch.where(mask, source[name], parameter))
