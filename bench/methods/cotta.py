"""CoTTA: a student that follows the mean prediction of its own slow average, and now and then forgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, Predictor, UnlabelledTask
from bench.suite.spec import Positive

if TYPE_CHECKING:
    from torch import Tensor


class CottaOptions(Options):
    """Attributes:
    epochs: passes over the images.
    batch: images of a step.
    lr: of Adam.
    average: share of the teacher that stays at each step.
    restore: share of the student's weights that go back to the source's at each step.
    views: versions of an image whose predictions the teacher averages, where the source model is unsure of the batch.
    unsure: mean confidence of the source model below which it is.
    mirror: whether views may be mirrored, which must not change the class.
    """

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    batch: Annotated[int, Field(ge=2, le=100_000)] = 64
    lr: Positive = 1e-3
    average: Annotated[float, Field(ge=0, lt=1)] = 0.999
    restore: Annotated[float, Field(ge=0, le=1)] = 0.01
    views: Annotated[int, Field(ge=1, le=1024)] = 32
    unsure: Annotated[float, Field(ge=0, le=1)] = 0.92
    mirror: bool = True


METHOD = Method(
    name="cotta",
    about="follows the averaged predictions of a slow average of itself, restoring a few weights at each step",
    labels="unused",
    options=CottaOptions,
    cite="arXiv 2203.13591",
)


def adapt(task: UnlabelledTask, options: CottaOptions) -> Adapted:
    """Take steps on the cross-entropy to the teacher; the teacher answers in the end."""
    from bench.training.layers import batch_statistics

    step = _Step(task, options)
    for _ in range(options.epochs):
        with batch_statistics(task.model, keep=False), batch_statistics(step.teacher):
            for x in task.batches(options.batch):
                step(x)
    return Adapted(
        model=step.teacher,
        epochs_run=options.epochs,
        steps=step.steps,
        trained_parameters=sum(p.numel() for p in task.model.parameters()),
        facts={"averaged_batches": step.averaged},
    )


def online(task: UnlabelledTask, options: CottaOptions) -> Predictor:
    """Give the teacher's predictions of a batch, by its own statistics, then take the step, as published."""
    from bench.training.layers import batch_statistics

    step = _Step(task, options)
    task.hold(batch_statistics(task.model, keep=False))
    task.hold(batch_statistics(step.teacher, keep=False))
    return step


class _Step:
    """The step of a batch; called, it gives the teacher's predictions before it.

    Attributes:
        teacher: slow average of the model.
        steps: that were taken.
        averaged: batches of which the teacher averaged several views.
    """

    def __init__(self, task: UnlabelledTask, options: CottaOptions) -> None:
        import copy

        import torch

        from bench.training.layers import freeze_but

        self._task, self._options = task, options
        self.teacher, self._source = copy.deepcopy(task.model), copy.deepcopy(task.model)
        freeze_but(self.teacher, ())
        freeze_but(self._source, ())
        self._source.eval()
        parameters = list(task.model.parameters())
        freeze_but(task.model, parameters)
        self._optimizer = torch.optim.Adam(parameters, lr=options.lr)
        self.steps = self.averaged = 0

    def __call__(self, x: Tensor) -> Tensor:
        from bench.training.entropy import cross_entropies
        from bench.training.layers import follow, restore

        task, options = self._task, self._options
        target = self._target(x)
        loss = cross_entropies(task.logits(x), target).mean()
        self._optimizer.zero_grad()
        task.backward(loss, len(x))
        self._optimizer.step()
        follow(self.teacher, task.model, options.average)
        restore(task.model, task.source_state, options.restore, task.generator)
        self.steps += 1
        return target

    def _target(self, x: Tensor) -> Tensor:
        """The teacher's logits; the mean over views of the images where the source model is unsure of the batch."""
        import torch

        from bench.training.augment import augment
        from bench.training.layers import batch_statistics, statistics_unkept

        task, options, teacher = self._task, self._options, self.teacher
        with torch.no_grad():
            target = task.logits(x, teacher)
            with batch_statistics(self._source, keep=False):
                confidence = task.logits(x, self._source).softmax(1).max(1).values.mean()
            if confidence >= options.unsure:
                return target
            self.averaged += 1
            with statistics_unkept(teacher):
                views = [
                    task.logits(augment(x, task.generator, mirror=options.mirror), teacher)
                    for _ in range(options.views)
                ]
            return torch.stack(views).mean(0)
