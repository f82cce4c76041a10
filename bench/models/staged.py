"""Staged: a model with a head of its own behind a part of it, which may answer before the rest has run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bench.catalog.models import BlockMap
from bench.errors import RequestError, nearest
from bench.training.cut import CutError, cut_after
from bench.training.layers import linear_head


def pooled(x: Tensor) -> Tensor:
    """The mean over the map: [N, C, H, W] -> [N, C]; a vector as it is."""
    return x.mean((2, 3)) if x.dim() == 4 else x


class PartHead(nn.Module):
    """The part's classifier: mean over the map, then a linear layer."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """What passes at the cut, [N, C, H, W] or [N, C] -> logits [N, n_classes]."""
        logits: Tensor = self.linear(pooled(x))
        return logits


class Staged(nn.Module):
    """A model whose part can answer. Called, it gives the full model's logits.

    Args:
        net: the full model.
        cut: path of the module behind which the part ends.
        part: head of the part.

    Attributes:
        front: images [N, C, H, W] -> what passes at the cut.
        rest: that -> logits of the full model [N, n_classes]. It resumes: nothing before the cut runs again.
    """

    def __init__(self, net: nn.Module, cut: str, part: PartHead) -> None:
        super().__init__()
        self.net, self.cut, self.part = net, cut, part
        parts = cut_after(net, cut)
        # both are the net's own modules: registered, each would be in the state twice
        object.__setattr__(self, "front", parts.front)
        object.__setattr__(self, "rest", parts.rest)
        self.register_buffer("cut_path", torch.tensor([*cut.encode()], dtype=torch.uint8))

    front: nn.Module
    rest: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] -> logits [N, n_classes] of the full model."""
        logits: Tensor = self.net(x)
        return logits

    def train(self, mode: bool = True) -> Staged:
        """Set the mode of the parts too, which share the net's modules and have a flag of their own."""
        super().train(mode)
        self.front.train(mode)
        self.rest.train(mode)
        return self


def cut_path(model: nn.Module, block_map: BlockMap, cut: int | str) -> str:
    """The path of the module behind which a part ends.

    Args:
        cut: number of the last block in it, of the list `blocks` of the model where it has one, else of its block map;
            or the name of a block, or a path.

    Raises:
        RequestError: there is no such block, or the model cannot be cut behind it.
    """
    blocks = getattr(model, "blocks", None)
    if isinstance(cut, int):
        if isinstance(blocks, nn.ModuleList | nn.Sequential):
            paths = [f"blocks.{n}" for n in range(len(blocks) - 1)]
        else:
            paths = [modules[-1] for modules in block_map.values()][:-1]
        if not 1 <= cut <= len(paths):
            raise RequestError(f"model.cut: {cut} is behind the last block; expected 1 to {len(paths)}")
        found = paths[cut - 1]
    elif cut in block_map:
        found = block_map[cut][-1]
    else:
        found = cut
    names = [name for name, _ in model.named_modules() if name]
    if found not in names:
        raise RequestError(f"model.cut: the model has no block {cut!r}; {nearest(str(cut), [*block_map, *names])}")
    if linear_head(model) is None:
        raise RequestError("model.cut: the model does not end in a linear layer, which a part's head is set beside")
    try:
        parts = cut_after(model, found)
    except CutError as error:
        raise RequestError(f"model.cut: {cut!r}: {error}") from None
    if not any(node.op not in ("placeholder", "output") for node in parts.rest.graph.nodes):
        raise RequestError(f"model.cut: {cut!r}: nothing is left behind it")
    return found


def check_cut(model: nn.Module, block_map: BlockMap, cut: int | str | None) -> None:
    """Check that the cut that a suite names exists; `auto` and none are not looked at.

    Raises:
        RequestError: as `cut_path`.
    """
    if cut not in (None, "auto"):
        assert cut is not None
        cut_path(model, block_map, cut)


@contextlib.contextmanager
def outputs_of(model: nn.Module, *paths: str) -> Iterator[dict[str, Tensor]]:
    """See meanwhile what the modules at these paths gave in the last forward pass, pooled, [N, C]."""
    seen: dict[str, Tensor] = {}

    def watch(path: str) -> torch.utils.hooks.RemovableHandle:
        return model.get_submodule(path).register_forward_hook(lambda _, __, out: seen.__setitem__(path, pooled(out)))

    handles = [watch(path) for path in paths]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
