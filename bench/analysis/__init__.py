"""Analyse records: results -> accuracy, savings -> findings -> tables, sentences, the terminal.

`load` reads run folders or the published tables, `analyse` makes everything that tables and figures show.
"""

from bench.analysis.findings import Analysis, Headlines, analyse, arm_key, arm_order
from bench.read.results import Results, from_records, load, motivation

__all__ = [
    "Analysis",
    "Headlines",
    "Results",
    "analyse",
    "arm_key",
    "arm_order",
    "from_records",
    "load",
    "motivation",
]
