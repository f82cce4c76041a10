"""Auto-SNR: only the tensors whose gradient has a high signal-to-noise ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from bench.methods import Adapted, Method, Options, Task
from bench.suite.spec import Positive

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RELEASED_THRESHOLD = 0.95


class AutoSnrOptions(Options):
    """Attributes:
    form: `paper`: mean^2 / variance of the gradient over the images, brought to 0..1 by the least and the largest;
        `released`: variance over the output channels of the batch's gradient, compared as it is, mean over the first
        `batches` batches.
    threshold: what a tensor must reach; the released form has 0.95 where this is null, the paper's 0.1.
    batches: of the released form.
    lr: null: the suite's.
    """

    form: Literal["paper", "released"] = "paper"
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    batches: Annotated[int, Field(ge=1, le=10_000)] = 5
    lr: Positive | None = None


METHOD = Method(
    name="auto-snr",
    about="tunes the tensors whose gradient is steady over the images, chosen anew before each epoch",
    labels="needed",
    options=AutoSnrOptions,
    cite="arXiv 2210.11466",
)


def adapt(task: Task, options: AutoSnrOptions) -> Adapted:
    """Tune with rate lr where the ratio reaches the threshold, and 0 elsewhere."""
    from bench.training.gradients import batch_gradients, released_signal_to_noise, sample_moments, signal_to_noise
    from bench.training.layers import by_block

    released = options.form == "released"
    threshold = options.threshold if options.threshold is not None else RELEASED_THRESHOLD if released else 0.1
    parameters = list(task.model.parameters())
    kept: list[float] = []

    def ratios() -> Tensor:
        if released:
            of_batches = batch_gradients(task, parameters, task.batch_size, options.batches)
            found = [released_signal_to_noise(gradients) for _, gradients in of_batches]
            return sum(found[1:], found[0]) / len(found)
        task.model.eval()
        moments = sample_moments(task.model, parameters, task.train)
        task.count_images(len(task.train.x))
        snr = signal_to_noise(moments)
        return (snr - snr.min()) / (snr.max() - snr.min()).clamp(min=1e-30)

    def set_rates(epoch: int, optimizer: torch.optim.Optimizer) -> None:
        with task.phase("select"):
            kept[:] = (ratios() >= threshold).double().tolist()
            for group, share in zip(optimizer.param_groups, kept, strict=True):
                group["lr"] = share * group.setdefault("full_lr", group["lr"])

    outcome = task.tune(parameters, lr=options.lr, before_epoch=set_rates)
    return Adapted.by_tuning(outcome, parameters, kept_shares=by_block(task.model, task.block_map, parameters, kept))
