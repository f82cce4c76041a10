"""Multiply-accumulates and bytes of a whole fine-tuning, for its record."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bench.cost.follow import trace
from bench.cost.step import Cost
from bench.suite.training import EngineSpec
from bench.training.closed_form import solve_macs
from bench.training.task import Ledger


def fine_tuning_macs(
    cost: Cost,
    *,
    batch: int,
    epochs: int,
    n_train: int,
    n_val: int,
    n_views: int = 0,
    n_adapt: int = 0,
    cached: bool = False,
) -> int:
    """MACs of a fine-tuning with a validation after every epoch.

    Args:
        cost: of a step on `batch` images.
        epochs: that were run.
        n_train: images that were trained on in each.
        n_val: images validated on.
        n_views: further versions of the training images that a cache keeps.
        n_adapt: images that BatchNorm's statistics were first taken from.
        cached: whether the frozen part of training and validation images is computed once.
    """
    forward, frozen = cost.forward_macs / batch, (cost.frozen_macs / batch if cached else 0.0)
    step = cost.macs / batch
    once = (n_train + n_views + n_val) * frozen + n_adapt * forward
    return round(once + epochs * (n_train * (step - frozen) + n_val * (forward - frozen)))


def cell_costs(
    model: nn.Module, images: Tensor, spec: EngineSpec, ledger: Mapping[str, Ledger], n_val: int
) -> dict[str, Any]:
    """The cost fields of a cell's record; all None where the model cannot be traced.

    Args:
        model: that was adapted.
        images: training images, [N, C, H, W].
        spec: protocol and engine.
        ledger: what was run in each phase.
        n_val: validation images.

    Returns:
        `phase_macs` by phase, `train_macs` of all; `step_macs` and `step_bytes` of a step on a full batch, as the last
        one was, None where none was taken.
    """
    batch = min(spec.batch_size, len(images))
    try:
        followed = trace(model, (batch, *images.shape[1:]))
    except Exception:  # a user's own module: its cost is a remark in the record, not a reason to lose the repeat
        traceback.print_exc()
        return dict.fromkeys(("forward_macs", "step_macs", "step_bytes", "train_macs", "phase_macs"))
    per_image = followed.step([]).forward_macs / batch
    n_views = len(images) * ((spec.views or 1) - 1)
    phases: dict[str, int] = {}
    last: Cost | None = None
    for phase, account in ledger.items():
        macs = account.forward * per_image + account.macs
        for names, n_images in account.steps.items():
            last = followed.step(names)
            macs += n_images * last.macs / batch
        for part in account.tuned:
            last = followed.step(part.names, dict(part.shares))
            solved = spec.head == "closed_form"
            macs += fine_tuning_macs(
                last,
                batch=batch,
                epochs=0 if solved else part.epochs,
                # a batch of one that is left over is not trained on
                n_train=len(images) - (len(images) % batch == 1 and not solved),
                n_val=n_val,
                n_views=n_views,
                n_adapt=len(images) if part.first and spec.bn_mode == "adapt_once_then_eval" else 0,
                cached=part.cached,
            )
            macs += solve_macs(_head(model), len(images) + n_views, n_val) if solved else 0
        phases[phase] = round(macs)
    return {
        "forward_macs": int(per_image),
        "step_macs": last.macs if last is not None else None,
        "step_bytes": last.bytes if last is not None else None,
        "train_macs": sum(phases.values()),
        "phase_macs": phases,
    }


def _head(model: nn.Module) -> nn.Linear:
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
