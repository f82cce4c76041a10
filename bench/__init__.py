"""suite.yaml -> Suite -> cells -> one fresh process per cell, under an energy sampler -> results/RUN/cells.jsonl
-> analysis -> figures and report.
"""

import sys

if sys.argv[:1] == ["-m"] and "bench.cli" in sys.orig_argv and not __file__.startswith(f"{sys.path[0]}/"):
    # `python -m bench.cli` puts the current folder first; a typing.py or click.py in it is not the library
    del sys.path[0]

from typing import TYPE_CHECKING  # from the path as it is now

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import torch

__version__ = "0.1.0"


def load(*runs: "Path | str") -> "pd.DataFrame":
    """The repeats of one or more runs, one row each: `bench.load("results/quickstart")`.

    Columns are the fields of a record (docs/contracts.md; accuracies are fractions, energies J, not measured is nan;
    `flags` and `levers` joined by ';', `options`, `facts`, `phases` and `phase_macs` as JSON, without `energy_terms`;
    `arm`, what is compared, is filled in where a run lacks it) and `run` (name of its folder), `role` (single, set,
    full, method), `target` (the block the shift calls for), `ok` (finished) and `measured` (its joules count). Net
    joules are between the idle baselines on both sides.

    Args:
        runs: run folders, files of pytest-benchmark, or `paper` for the published tables.

    Raises:
        bench.errors.RequestError: nothing could be read. What else is damaged is left out, with a UserWarning.
    """
    from bench.analysis.export import load_frame

    return load_frame(*runs)


def load_model(run: "Path | str", cell: str, *, repeat: int | None = None) -> "torch.nn.Module":
    """Load the model that a cell's arm left: `bench.load_model("results/x", "digits-noise/n=40/fc/s=0")`.

    Args:
        run: folder of a run with `--keep-models`.
        cell: id of the cell.
        repeat: which; None: the newest that was kept.

    Returns:
        A module on the CPU in evaluation mode. It takes images [N, C, H, W] as the suite's `model.pixels` has them,
        and gives logits [N, n_classes].

    Raises:
        bench.errors.RequestError: no such cell; its model was not kept, changed since, or cannot be built here.
    """
    from bench.models.kept import load_model as load_kept

    return load_kept(run, cell, repeat=repeat)[0]
