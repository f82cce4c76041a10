"""CoTTA: a student that follows the mean prediction of its own slow average, and now and then forgets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bench.methods import Adapted, Method, Options, UnlabelledTask
from bench.suite.spec import Positive


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
    import copy

    import torch

    from bench.training.augment import augment
    from bench.training.entropy import cross_entropies
    from bench.training.layers import batch_statistics, follow, freeze_but, restore, statistics_unkept

    student = task.model
    teacher, source = copy.deepcopy(student), copy.deepcopy(student)
    freeze_but(teacher, ())
    freeze_but(source, ())
    source.eval()
    parameters = list(student.parameters())
    freeze_but(student, parameters)
    optimizer, steps, averaged = torch.optim.Adam(parameters, lr=options.lr), 0, 0
    for _ in range(options.epochs):
        with batch_statistics(student, keep=False), batch_statistics(teacher):
            for x in task.batches(options.batch):
                with torch.no_grad():
                    target = task.logits(x, teacher)
                    with batch_statistics(source, keep=False):
                        confidence = task.logits(x, source).softmax(1).max(1).values.mean()
                    if confidence < options.unsure:
                        averaged += 1
                        with statistics_unkept(teacher):
                            views = [
                                task.logits(augment(x, task.generator, mirror=options.mirror), teacher)
                                for _ in range(options.views)
                            ]
                        target = torch.stack(views).mean(0)
                loss = cross_entropies(task.logits(x), target).mean()
                optimizer.zero_grad()
                task.backward(loss, len(x))
                optimizer.step()
                follow(teacher, student, options.average)
                restore(student, task.source_state, options.restore, task.generator)
                steps += 1
    return Adapted(
        model=teacher,
        epochs_run=options.epochs,
        steps=steps,
        trained_parameters=sum(p.numel() for p in parameters),
        facts={"averaged_batches": averaged},
    )
