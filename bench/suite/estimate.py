"""A rough time for a suite before it runs, from the multiply-accumulates of its model. Imports no torch."""

from __future__ import annotations

import os

from bench.catalog.datasets import DATASETS
from bench.catalog.models import FULL
from bench.catalog.resnet_macs import forward_macs, frozen_macs, resnet_layers, step_macs
from bench.suite.data_axis import n_target
from bench.suite.suite import Cell, Suite
from bench.suite.training import EVAL_BATCH

MACS_PER_S_AND_CORE = 50e9
"""A desktop core on small convolutions, single precision. A Raspberry Pi 4's does about a tenth of it."""

LAYER_S = 1e-4
"""What a layer costs however small its work is: the interpreter, the dispatch, forward and backward."""


def suite_seconds(suite: Suite, cells: list[Cell]) -> float | None:
    """Seconds that all repeats of these cells may take on this machine; None where the model's cost is not known.

    An upper estimate: all epochs run. What a step costs follows from what the cell trains.
    """
    total = 2 * suite.energy.idle_s
    for cell in cells:
        seconds = _cell_seconds(suite, cell)
        if seconds is None:
            return None
        total += suite.energy.repeats * (max(seconds, suite.energy.min_window_s) + 2 * suite.energy.guard_s + 0.1)
    return total


def _cell_seconds(suite: Suite, cell: Cell) -> float | None:
    dataset = DATASETS[cell.data.dataset]
    images = n_target(cell.data)
    layers = resnet_layers(
        suite.model.name,
        width=suite.model.width,
        in_channels=dataset.channels,
        image_size=cell.data.image_size or dataset.image_size,
        n_classes=len(cell.data.members()) or cell.data.classes or len(dataset.classes or ()) or 10,
    )
    if layers is None or images is None:
        return None
    spec = suite.tuning(cell)
    # every gradient there is costs what full tuning does; so at most do blocks of the user's own
    blocks = (FULL,) if spec.engine == "reference" or suite.model.blocks is not None else cell.blocks
    n_train, n_val = cell.n_train(images), round(suite.split.val * images)
    frozen = frozen_macs(layers, blocks) if spec.engine == "fast" and spec.bn_mode != "train" else 0  # then kept
    each = spec.epochs * (n_train * (step_macs(layers, blocks) - frozen) + n_val * (forward_macs(layers) - frozen))
    macs = each + (n_train + n_val) * frozen
    steps = spec.epochs * (n_train / spec.batch_size + n_val / EVAL_BATCH)
    rate = MACS_PER_S_AND_CORE * (os.cpu_count() or 1)
    return macs / rate + steps * 2 * len(layers) * LAYER_S
