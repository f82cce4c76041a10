"""suite.yaml -> Suite -> cells: what a user wants to run, checked before anything runs.

`load_suite` reads a file or a shipped suite; `Suite.cells` is its matrix.
"""

from bench.suite.cell import Cell
from bench.suite.data_axis import DataSpec
from bench.suite.load import LoadedSuite, load_suite, shipped_suites
from bench.suite.model import ModelSpec
from bench.suite.suite import EnergySpec, SplitSpec, Suite
from bench.suite.training import TuneSpec

__all__ = [
    "Cell",
    "DataSpec",
    "EnergySpec",
    "LoadedSuite",
    "ModelSpec",
    "SplitSpec",
    "Suite",
    "TuneSpec",
    "load_suite",
    "shipped_suites",
]
