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
    """Indices into the target domain. `train` is the front part of the pool, so smaller sizes are subsets of larger."""

    train: Index
    val: Index
    test: Index


def split_target(
    labels: Labels, *, n_train: int, fractions: tuple[float, float, float], label: str, seed: int
) -> Split:
    """Divide the target domain for one seed.

    Args:
        labels: int64 [N].
        n_train: labelled images to train on, out of the pool.
        fractions: pool, validation, test; they sum to 1.
        label: of the data, so that two datasets do not share a draw.
        seed: the cell's.

    Raises:
        ValueError: n_train is larger than the pool.
    """
    rng = np.random.default_rng([zlib.crc32(label.encode()), seed])
    order = interleave(labels, rng)
    n_pool = round(fractions[0] * len(order))
    n_val = round(fractions[1] * len(order))
    if n_train > n_pool:
        raise ValueError(f"{n_train} images to train on, but the pool has {n_pool} of {len(order)}")
    return Split(order[:n_train], order[n_pool : n_pool + n_val], order[n_pool + n_val :])


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
