"""Tune a block set that the suite names. TBFT is this too, with the block that the shift's level calls for."""

from __future__ import annotations

from torch import nn

from bench.catalog.models import BlockMap
from bench.models.blocks import train_only
from bench.suite.suite import Cell


def choose(cell: Cell, model: nn.Module, block_map: BlockMap) -> list[nn.Parameter]:
    """Freeze all that the cell does not tune. Returns the parameters that train."""
    return train_only(model, block_map, cell.blocks)
