"""The shifts of labels and of classes; those of pixels are in `bench.data.corruptions`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.catalog.datasets import Superclasses
from bench.data.images import Images, Labels

DEFAULT_SEVERITY = 5


def flip(labels: Labels, n_classes: int) -> Labels:
    """Output-level shift of TBFT and of surgical fine-tuning (Lee et al. 2023): y -> K - 1 - y."""
    return n_classes - 1 - labels


def permute(labels: Labels, permutation: tuple[int, ...]) -> Labels:
    """Output-level shift: label y becomes permutation[y]."""
    return np.asarray(permutation, np.int64)[labels]


def few_classes(n_classes: int) -> tuple[float, ...]:
    """The shares of a prior shift that names none: the first two fifths of the classes stay, two at least."""
    kept = max(2, round(0.4 * n_classes))
    return (1.0,) * kept + (0.0,) * (n_classes - kept)


def reweighted(labels: Labels, shares: tuple[float, ...]) -> npt.NDArray[np.int64]:
    """Which images a prior shift leaves, in their order.

    Args:
        labels: int64 [N].
        shares: of the images of each class, from 0 to 1; at least one stays where it is above 0. Those that stay are
            spread over the whole, so that it makes no difference how the images are sorted.

    Returns:
        Indices.
    """
    kept = []
    for label, share in enumerate(shares):
        members = np.flatnonzero(labels == label)
        n = min(len(members), max(1, round(share * len(members)))) if share else 0
        kept.append(members[np.linspace(0, len(members) - 1, n).round().astype(np.int64)] if n else members[:0])
    return np.sort(np.concatenate(kept))


def subpopulation(images: Images, superclasses: Superclasses) -> tuple[Images, Images]:
    """Feature-level shift in the manner of BREEDS (Santurkar et al. 2021).

    Args:
        images: labelled with fine classes.
        superclasses: superclass -> (source members, target members), by class name.

    Returns:
        Source and target, labelled with the superclass; their members differ.
    """
    number = {name: index for index, name in enumerate(images.classes)}
    parts = []
    for side in (0, 1):
        relabel = np.full(len(images.classes), -1, np.int64)
        for index, members in enumerate(superclasses.values()):
            for member in members[side]:
                relabel[number[member]] = index
        keep: npt.NDArray[np.int64] = np.flatnonzero(relabel[images.y] >= 0)
        parts.append(Images(images.x[keep], relabel[images.y[keep]], tuple(superclasses)))
    return parts[0], parts[1]
