"""Blocks of a model: select what trains and freeze the rest, by exact module path or by a pattern with `*`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from torch import nn

from bench.catalog.models import FULL, BlockMap, BlockSet
from bench.errors import RequestError, nearest
from bench.models.build import build_model
from bench.models.staged import check_cut
from bench.suite.data_axis import image_shape
from bench.suite.suite import Suite


def check_blocks(model: nn.Module, block_map: BlockMap) -> None:
    """Check that every block exists in the model and that no parameter is in two.

    Raises:
        RequestError: a module path that the model does not have, a block without parameters, or an overlap.
    """
    owner: dict[int, str] = {}
    for block in block_map:
        parameters = block_parameters(model, block_map, block)
        if not parameters:
            raise RequestError(f"model.blocks.{block}: has no parameters to tune")
        for parameter in parameters:
            other = owner.setdefault(id(parameter), block)
            # patterns may overlap: that is how the released script of TBFT selects
            if other != block and not any("*" in path for name in (block, other) for path in block_map[name]):
                raise RequestError(f"model.blocks.{block}: shares parameters with {other}")


def check_model(suite: Suite, base: Path) -> None:
    """Build the model for each form of the suite's data, with fresh weights, and check its blocks.

    Args:
        base: the suite's folder.

    Raises:
        RequestError: the model cannot be built, or as `check_blocks`.
    """
    for n_classes, channels, size in dict.fromkeys(map(image_shape, suite.data)):
        model = build_model(suite.model, n_classes=n_classes, in_channels=channels, image_size=size, base=base)
        check_blocks(model, suite.block_map)
        check_cut(model, suite.block_map, suite.model.cut)


def block_parameters(model: nn.Module, block_map: BlockMap, block: str) -> list[nn.Parameter]:
    """The parameters of one block, each once: those of its modules; those whose name a path with a `*` matches.

    Raises:
        RequestError: a module path that the model does not have, or a module without parameters.
    """
    found: dict[int, nn.Parameter] = {}
    for path in block_map[block]:
        if "*" in path:
            named = model.named_parameters()
            found |= {id(parameter): parameter for name, parameter in named if fnmatchcase(name, path)}
            continue
        try:
            module = model.get_submodule(path)
        except AttributeError:
            names = [name for name, _ in model.named_modules() if name]
            raise RequestError(
                f"model.blocks.{block}: the model has no module {path!r}; {nearest(path, names)}"
            ) from None
        own = {id(parameter): parameter for parameter in module.parameters()}
        if not own:
            raise RequestError(f"model.blocks.{block}: has no parameters to tune in {path!r}")
        found |= own
    return list(found.values())


def train_only(model: nn.Module, block_map: BlockMap, blocks: BlockSet) -> list[nn.Parameter]:
    """Freeze all but a block set; what is frozen has requires_grad False, so no gradient is computed for it.

    Returns:
        The parameters that train, in the model's order.
    """
    if blocks == (FULL,):
        chosen = {id(parameter) for parameter in model.parameters()}
    else:
        chosen = {id(p) for block in blocks for p in block_parameters(model, block_map, block)}
    trained = []
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
        if id(parameter) in chosen:
            trained.append(parameter)
    return trained
