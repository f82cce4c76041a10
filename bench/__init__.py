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
