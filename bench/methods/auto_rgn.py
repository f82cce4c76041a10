"""Auto-RGN: every tensor at a learning rate in proportion to its relative gradient norm, |g| / |theta|."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from bench.methods import Adapted, Method, Options, Task
from bench.suite.spec import Positive

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class AutoRgnOptions(Options):
    """Attributes:
    form: `paper`: gradient of all training images, the optimiser keeps its state; `released`: mean ratio over the
        first `batches` batches, normalisation layers are left out, the optimiser is new in every epoch.
    batches: of the released form.
    lr: of the tensor with the largest ratio; null: the suite's.
    """

    form: Literal["paper", "released"] = "paper"
    batches: Annotated[int, Field(ge=1, le=10_000)] = 5
    lr: Positive | None = None


METHOD = Method(
    name="auto-rgn",
    about="tunes every tensor, at a rate by its relative gradient norm, taken anew before each epoch",
    labels="needed",
    options=AutoRgnOptions,
    cite="arXiv 2210.11466",
)


def adapt(task: Task, options: AutoRgnOptions) -> Adapted:
    """Tune with rates lr x RGN_i / max RGN."""
    from bench.training.gradients import batch_gradients, mean_gradient, relative_norms
    from bench.training.layers import by_block, scales_and_shifts

    released = options.form == "released"
    left_out = {id(parameter) for parameter in scales_and_shifts(task.model)} if released else set()
    parameters = [parameter for parameter in task.model.parameters() if id(parameter) not in left_out]
    shares: list[float] = []

    def ratios() -> Tensor:
        if not released:
            return relative_norms(mean_gradient(task, parameters, task.batch_size), parameters)
        of_batches = batch_gradients(task, parameters, task.batch_size, options.batches)
        found = [relative_norms(gradients, parameters) for _, gradients in of_batches]
        return sum(found[1:], found[0]) / len(found)

    def set_rates(epoch: int, optimizer: torch.optim.Optimizer) -> None:
        with task.phase("select"):
            found = ratios()
            shares[:] = (found / found.max().clamp(min=1e-30)).tolist()
            if released:
                optimizer.state.clear()
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                group["lr"] = share * group.setdefault("full_lr", group["lr"])

    outcome = task.tune(parameters, lr=options.lr, before_epoch=set_rates)
    return Adapted.by_tuning(outcome, parameters, rate_shares=by_block(task.model, task.block_map, parameters, shares))
