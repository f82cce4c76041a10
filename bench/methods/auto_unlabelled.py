"""Auto without labels: what statistics of layers alone can tell of a shift, and what can be done about that.

A shift at output level leaves every image as it is, and one at feature level nearly so: neither can be seen without
labels, in principle the one, in practice the other. What can be seen is a drift beyond that of a change of classes.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bench.catalog.shift_rule import DEFAULT
from bench.errors import JouletuneError
from bench.methods import Adapted, Method, Options, UnlabelledTask


class AutoUnlabelledOptions(Options):
    """Attributes:
    images: that are probed at most.
    drift: of early layers, in units of that of a change of classes, from which the input has shifted.
    """

    images: Annotated[int, Field(ge=2, le=100_000)] = 270
    drift: Annotated[float, Field(gt=0)] = DEFAULT.drift


METHOD = Method(
    name="auto-unlabelled",
    about="tells from layer statistics whether the input has shifted, and takes BatchNorm's from the images if so",
    labels="unused",
    source_facts=("layers",),
    options=AutoUnlabelledOptions,
    cite="docs/auto.md",
)

BLIND = "a shift at output or feature level cannot be seen without labels"


def adapt(task: UnlabelledTask, options: AutoUnlabelledOptions) -> Adapted:
    """Measure the drift; take the images' statistics where it is large."""
    import torch

    from bench.training.layers import batchnorms
    from bench.training.probes import first_drift, take_statistics

    images = task.images[: options.images]
    broken = int((~images.isfinite()).flatten(1).any(1).sum())
    if broken:
        raise JouletuneError(f"auto-unlabelled: {broken} of {len(images)} images have pixels that are not finite")
    task.model.eval()
    with task.phase("select"), torch.no_grad():
        found = first_drift(task, images)
    moved = f"early layers drift {found:.1f} times as far as a change of classes takes them"
    facts = {"probes": {"drift": round(found, 4)}}
    if found < options.drift:
        return Adapted(facts=facts | {"decision": "none", "reason": f"{moved}; {BLIND}", "kept": "source"})
    if not batchnorms(task.model) or len(images) < 2:
        lacks = "the net has no BatchNorm, so nothing can be done without labels"
        return Adapted(facts=facts | {"decision": "input", "reason": f"{moved}; {lacks}; {BLIND}", "kept": "source"})
    take_statistics(task, images)
    return Adapted(
        facts=facts | {"decision": "input", "reason": f"{moved}; {BLIND}", "kept": "statistics"}, epochs_run=1
    )
