"""Training: how a board trains the heads that an arm asks for. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import RequestError
from bench.suite.arm import FIXED
from bench.suite.cell import Cell
from bench.suite.suite import Suite

IDLE_METHOD = "none"
HEADS = "heads"


@dataclass(frozen=True, slots=True)
class Training:
    """How a board trains its heads: epochs of plain SGD, an example at a time.

    Attributes:
        both: the head of the part, too.
    """

    epochs: int
    rate: float
    decay: float
    both: bool


def training_of(suite: Suite, cell: Cell) -> Training | None:
    """How a cell's arm trains on a board; None where it does not train.

    Raises:
        RequestError: the board cannot do what it asks for.
    """
    arm, spec = cell.arm, suite.tuning(cell)
    options = dict(arm.options)
    if arm.method == IDLE_METHOD:
        return None
    if arm.method == HEADS:
        if options.get("solver", "lbfgs") != "sgd" or options.get("batch", 16) != 1:
            raise RequestError(f"{arm.label}: a board trains heads by SGD, one example a step: solver: sgd, batch: 1")
        return Training(int(options.get("epochs", 20)), float(options.get("lr", 0.1)), 0.0, both=True)
    if arm.method == FIXED and tuple(options["blocks"]) == ("fc",):
        if spec.batch_size != 1 or spec.momentum or spec.optimizer != "sgd":
            raise RequestError("train: a board trains by plain SGD: batch_size: 1, momentum: 0, optimizer: sgd")
        return Training(spec.epochs, spec.lr, spec.weight_decay, both=False)
    raise RequestError(f"{arm.label}: a board runs fc, heads and none; on this machine it runs with --target local")
