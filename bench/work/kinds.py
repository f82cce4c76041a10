"""Kinds of work by what a cell asks for."""

from __future__ import annotations

from bench.suite.cell import Cell
from bench.suite.work import Infer as InferSpec
from bench.suite.work import Stream as StreamSpec
from bench.work.adapt import Adapt
from bench.work.infer import Infer
from bench.work.stream import Stream


def work_of(cell: Cell) -> type[Adapt]:
    """The class whose `load`, `warm_up`, `execute` and `figures` do a cell's work."""
    return {InferSpec: Infer, StreamSpec: Stream, type(None): Adapt}[type(cell.work)]
