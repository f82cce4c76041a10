"""Seeded, stratified, disjoint splits: the same images for every block set of a seed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.data.images import Labels

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Indices into the target domain. `train` is the front part of the pool, so smaller sizes are subsets of larger;
    `spare` is the rest of the pool."""

    train: Index
    val: Index
    test: Index
    spare: Index


Own = tuple[int, int, int]
"""Images that a dataset sets apart itself, in this order: to train from, to validate (or 0) and to test with."""


def sizes(n: int, fractions: tuple[float, float, float], own: Own | None = None) -> tuple[int, int, int]:
    """Images in the pool, for validation and for the test.

    Args:
        n: images of the target domain.
        fractions: pool, validation, test; they sum to 1.
        own: the data's own parts, which stay; a validation part that it lacks is taken from its training images.
    """
    if own is None:
        pool, n_val = round(fractions[0] * n), round(fractions[1] * n)
        return pool, n_val, n - pool - n_val
    n_val = own[1] or round(own[0] * fractions[1] / (fractions[0] + fractions[1]))
    return own[0] - (0 if own[1] else n_val), n_val, own[2]


def split_target(
    labels: Labels,
    *,
    n_train: int,
    fractions: tuple[float, float, float],
    label: str,
    seed: int,
    own: Own | None = None,
) -> Split:
    """Divide the target domain for one seed.

    Args:
        labels: int64 [N].
        n_train: labelled images to train on, out of the pool.
        fractions: pool, validation, test; they sum to 1.
        label: of the data, so that two datasets do not share a draw.
        seed: the cell's.
        own: as in `sizes`; the test images are then the same for every seed.

    Raises:
        ValueError: n_train is larger than the pool.
    """
    rng = np.random.default_rng([zlib.crc32(label.encode()), seed])
    n_pool, n_val, _ = sizes(len(labels), fractions, own)
    order = interleave(labels if own is None else labels[: own[0]], rng)
    if own is not None:  # the parts follow each other
        order = np.concatenate([order, np.arange(own[0], len(labels))])
    if n_train > n_pool:
        raise ValueError(f"{n_train} images to train on, but the pool has {n_pool} of {len(order)}")
    return Split(order[:n_train], order[n_pool : n_pool + n_val], order[n_pool + n_val :], order[n_train:n_pool])


def interleave(labels: Labels, rng: np.random.Generator) -> Index:
    """An order of all indices in which every front part, and every piece, has the classes in proportion.

    Within a class of m images the j-th is put at (j + u) / m, with one u in [0, 1) drawn per class; sorting by that
    spreads each class evenly over the whole.
    """
    position = np.empty(len(labels), np.float64)
    for value in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == value))
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(position, kind="stable").astype(np.int64)
