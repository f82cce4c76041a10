"""Check a user's model and time a few steps before a run, each in a process of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.catalog.methods import load_method
from bench.catalog.models import BlockSet
from bench.process.child import Parent
from bench.process.messages import Checked, Timed
from bench.process.prepare import usable_device
from bench.suite.arm import Arm
from bench.suite.suite import Suite
from bench.suite.training import EngineSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

STEP_S = 0.05
"""Wanted duration of a timed step: it has as many images, of its batch at most, as take about so long."""

FEW = 8
"""Images to warm up with, and to find out by how many more are worth their time."""

MORE = 8
"""Epochs after the first of a fine-tuning with a cache; together they take long enough to be told from the first."""

TRIES = 4
"""Number of times a step is timed. The shortest counts: other load only adds to it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The properties that determine the duration of a step; cells that share them are timed once.

    Attributes:
        shape: classes, channels and pixels of a side.
        blocks: that are tuned; every parameter for a method that chooses them itself, which is the most it can cost.
        spec: how, with the default of everything that makes no difference to the time of a step.
        images: of a batch; fewer than the batch size where a cell trains on fewer.
        arm: of a method that gets no labels, which is timed itself; None: fine-tuning as `spec` says.
        stream: whether it predicts and adapts to one batch after the other.
    """

    shape: tuple[int, int, int]
    blocks: BlockSet
    spec: EngineSpec
    threads: int | None
    images: int
    arm: Arm | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class AheadJob:
    """Check the model of a suite, or time kinds of its steps.

    Attributes:
        base: the suite's folder.
        device: of torch.
    """

    suite: Suite
    base: Path
    device: str
    kinds: tuple[Kind, ...] = ()


def check(parent: Parent) -> None:
    """Entry point of the process that checks device, model code and blocks. Answered by Checked, or Failed."""
    from bench.models.blocks import check_model
    from bench.models.build import users_code
    from bench.runtimes.check import check_runtimes

    job: AheadJob = parent.job
    usable_device(job.device)
    check_model(job.suite, job.base)
    check_runtimes(job.suite, job.base, job.device)
    parent.send(Checked(users_code(job.suite.model, job.base)))


def time_kinds(parent: Parent) -> None:
    """Entry point of the process that times steps. Answered by a Timed for each kind of the job, or Failed."""
    job: AheadJob = parent.job
    device, _ = usable_device(job.device)
    for kind in job.kinds:
        parent.send(time_steps(kind, job.suite, job.base, device))


def time_steps(kind: Kind, suite: Suite, base: Path, device: torch.device) -> Timed:
    """Time a kind of step on random images: fine-tune for one epoch, with a cache for nine too, and evaluate.

    A method that gets no labels adapts to the images once, as its options say; `step_s` is then all that it does with
    an image.

    Raises:
        RequestError: the model cannot be built, or this machine cannot do what the kind asks for.
    """
    import torch

    from bench.models.blocks import train_only
    from bench.models.build import build_model
    from bench.training.loop import Batchable, mean_loss
    from bench.training.tuner import Tuner, check_levers

    if kind.threads is not None:
        torch.set_num_threads(kind.threads)
    n_classes, channels, size = kind.shape
    model = build_model(suite.model, n_classes=n_classes, in_channels=channels, image_size=size, base=base).to(device)
    check_levers(model, kind.spec, device)

    def images(n: int) -> Batchable:
        pixels = torch.rand(n, channels, size, size, device=device)
        return Batchable(pixels, torch.arange(n, device=device) % n_classes)

    def shortest_s(execute: Callable[[], object]) -> float:
        times = []
        for _ in range(TRIES):
            started_s = time.perf_counter()
            execute()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - started_s)
        return min(times)

    def enough(timed_s: float) -> int:
        return min(kind.images, max(few, int(few * STEP_S / timed_s)))

    few = min(FEW if kind.arm is None else FEW // 2, kind.images)  # a method may look at many views of an image
    if kind.arm is not None:
        adapted = _adapting(kind, kind.arm, suite, model)

        def adapt_s(n: int) -> float:
            return shortest_s(adapted(images(n).x))

        n = enough(few_s := adapt_s(few))
        step_s = few_s / few if n == few else adapt_s(n) / n
        return Timed(0.0, step_s, shortest_s(lambda: mean_loss(model, images(n))) / n)
    parameters = train_only(model, suite.block_map, kind.blocks)
    with tempfile.TemporaryDirectory() as scratch:
        tuner = Tuner(model, parameters, kind.spec, Path(scratch))

        def epochs_s(batch: Batchable, epochs: int) -> float:
            return shortest_s(lambda: tuner.fine_tune(batch, batch, seed=0, epochs=epochs))

        n = enough(epochs_s(images(few), 1))
        batch = images(n)
        once_s = epochs_s(batch, 1)
        cached = tuner.cache_mb is not None
        longer_s = epochs_s(batch, 1 + MORE) if cached else 0.0
        forward_s = shortest_s(lambda: mean_loss(model, batch)) / n
    if not cached:
        return Timed(0.0, max(once_s / n - forward_s, forward_s), forward_s)
    # of what is left to do in an epoch, a step is about three forward passes, an evaluation is one
    pass_s = max(0.0, longer_s - once_s) / MORE / (4 * n)
    return Timed(forward_s, 3 * pass_s, pass_s)


def _adapting(kind: Kind, arm: Arm, suite: Suite, model: nn.Module) -> Callable[[Tensor], Callable[[], None]]:
    """Make a function that lays out the adaptation of a model to images, [N, C, H, W], by a method without labels."""
    import torch

    from bench.models.source_facts import FACTS
    from bench.training.task import UnlabelledTask
    from bench.work.adapt import adapt

    loaded = load_method(arm.method)
    options = loaded.options(dict(arm.options))
    shared: dict[str, Any] = {"block_map": suite.block_map, "spec": kind.spec, "seed": 0, "n_classes": kind.shape[0]}

    def lay_out(x: Tensor) -> Callable[[], None]:
        labels = torch.zeros(
            len(x), dtype=torch.int64, device=x.device
        )  # which they are makes no difference to the time
        facts = {name: FACTS[name](model, x, labels) for name in loaded.method.source_facts}
        task = UnlabelledTask(model, x, source_facts=facts, **shared)

        def execute() -> None:
            task.begin()
            if kind.stream and loaded.online is not None:
                loaded.online(task, options)(x)
            else:
                adapt(loaded, task, options)

        return execute

    return lay_out
