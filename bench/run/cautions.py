"""Say before a run starts what will weaken its figures: few test images, and a machine that does other work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from bench.catalog.datasets import DATASETS
from bench.data.locate import image_counts
from bench.data.splits import sizes
from bench.errors import RequestError
from bench.suite.data_axis import DataSpec
from bench.suite.suite import Suite

FEW_IMAGES = 200
"""Test images below which a caution is given: an accuracy of 80 % is then known to 5.5 points at best."""

BUSY_SHARE = 0.25
"""Share of the cores that others may use, by the load average of the last minute, without a caution."""


def cautions(suite: Suite, data: Iterable[DataSpec], *, measures: bool) -> list[str]:
    """List what a user should know before a run starts, a sentence each.

    Args:
        data: what it runs on.
        measures: whether joules are measured on this machine, which other programs disturb.
    """
    return [*_few_images(suite, data), *(_busy() if measures else ())]


def _few_images(suite: Suite, data: Iterable[DataSpec]) -> Iterator[str]:
    if suite.split.official:
        return  # how many are set apart for the test is known once they are read
    for spec in {one.label: one for one in data}.values():
        if not (DATASETS[spec.dataset].classes is None or spec.target):
            continue  # the images of a known dataset are enough
        try:
            _, target = image_counts(spec)
        except RequestError:
            continue  # who needs them refuses
        n_test = sizes(target, (suite.split.pool, suite.split.val, suite.split.test))[2]
        if 0 < n_test < FEW_IMAGES:
            half = 196 * (0.8 * 0.2 / n_test) ** 0.5
            yield (
                f"{spec.label}: {n_test} test images, so one is {100 / n_test:.1f} points, and an accuracy is known to "
                f"about ±{half:.0f} points; more images in the target tell arms apart that lie closer"
            )


def _busy() -> Iterator[str]:
    """Caution about other load. The average of a minute holds what this user ran just before, too."""
    try:
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
    except OSError:
        return
    if load > BUSY_SHARE * cores:
        yield (
            f"the machine is busy: load average {load:.1f} of the last minute on {cores} cores. Joules and times will "
            "hold what else runs; stop it, or wait (`jouletune health` checks)"
        )
