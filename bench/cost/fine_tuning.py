"""Multiply-accumulates and bytes of a whole fine-tuning, for its record."""

from __future__ import annotations

import traceback

from torch import Tensor, nn

from bench.cost.follow import step_of
from bench.cost.step import Cost
from bench.suite.training import EngineSpec
from bench.training.closed_form import solve_macs


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
    model: nn.Module, images: Tensor, spec: EngineSpec, epochs: int, n_val: int, *, cached: bool = False
) -> dict[str, int | None]:
    """The cost fields of a cell's record; all None where the model cannot be traced.

    Args:
        model: with requires_grad as it trained.
        images: that it trained on, [N, C, H, W].
        spec: how.
        epochs, n_val, cached: as `fine_tuning_macs`.
    """
    n_train = len(images)
    batch = min(spec.batch_size, n_train)
    try:
        cost = step_of(model, (batch, *images.shape[1:]))
    except Exception:  # a user's own module: its cost is a remark in the record, not a reason to lose the repeat
        traceback.print_exc()
        return dict.fromkeys(("forward_macs", "step_macs", "step_bytes", "train_macs"))
    solved = spec.head == "closed_form"
    n_views = n_train * ((spec.views or 1) - 1)
    train_macs = fine_tuning_macs(
        cost,
        batch=batch,
        epochs=0 if solved else epochs,
        # a batch of one that is left over is not trained on
        n_train=n_train - (n_train % batch == 1 and not solved),
        n_val=n_val,
        n_views=n_views,
        n_adapt=n_train if spec.bn_mode == "adapt_once_then_eval" else 0,
        cached=cached,
    )
    if solved:
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        train_macs += solve_macs(last, n_train + n_views, n_val)
    return {
        "forward_macs": cost.forward_macs // batch,
        "step_macs": cost.macs,
        "step_bytes": cost.bytes,
        "train_macs": train_macs,
    }
