"""summary.csv: one row per cell, and any table as CSV that a spreadsheet reads as data."""

from __future__ import annotations

import pandas as pd

from bench.analysis.findings import Analysis
from bench.text import shown

_SUMMARY = {
    "accuracy_before": ("accuracy_before_percent", 100),
    "accuracy_after:mean": ("accuracy_percent", 100),
    "accuracy_after:sd": ("accuracy_sd_points", 100),
    "accuracy_after:lo": ("accuracy_lo95_percent", 100),
    "accuracy_after:hi": ("accuracy_hi95_percent", 100),
    "wilson_lo": ("accuracy_wilson_lo95_percent", 100),
    "wilson_hi": ("accuracy_wilson_hi95_percent", 100),
    "train_time_s:mean": ("train_time_s", 1),
    "train_time_s:sd": ("train_time_sd_s", 1),
    "joules_n": ("energy_repeats", 1),
    "energy_gross_j:mean": ("energy_gross_j", 1),
    "energy_gross_j:median": ("energy_gross_median_j", 1),
    "energy_gross_j:sd": ("energy_gross_sd_j", 1),
    "energy_gross_j:lo": ("energy_gross_lo95_j", 1),
    "energy_gross_j:hi": ("energy_gross_hi95_j", 1),
    "energy_u_j": ("energy_u_k2_j", 1),
    "energy_gain": ("energy_gain_u_percent", 100),
    "energy_net_j:mean": ("energy_net_j", 1),
    "energy_net_j:sd": ("energy_net_sd_j", 1),
    "saving_gross": ("saving_gross_percent", 100),
    "saving_theory": ("saving_theory_percent", 100),
    "forward_macs": ("forward_macs", 1),
    "step_macs": ("step_macs", 1),
    "step_bytes": ("step_bytes", 1),
    "train_macs": ("train_macs", 1),
}
"""Column of analysis.cells -> column of summary.csv and its factor."""


def summary(analysis: Analysis) -> pd.DataFrame:
    """Make the table of summary.csv: one row per cell, units in the names; not measured is empty."""
    cells = analysis.cells
    names = [
        "run",
        "cell_id",
        "data",
        "level",
        "model",
        "blocks",
        "method",
        "train_size",
        "n_train",
        "n_test",
        "seed",
    ]
    table = cells[[*names, "repeats", "ok", "failed", "timeout"]].copy()
    for source, (name, factor) in _SUMMARY.items():
        table[name] = cells[source] if factor == 1 else (cells[source] * factor).round(6)
    table[["source", "source_kind", "grade", "caveat"]] = cells[["source", "source_kind", "grade", "caveat"]]
    table[["n_train", "n_test"]] = table[["n_train", "n_test"]].astype("Int64")
    return table


def summary_csv(analysis: Analysis) -> str:
    """Format `summary` as CSV."""
    return to_csv(summary(analysis))


def to_csv(table: pd.DataFrame) -> str:
    """Format a table as CSV in which no text begins like a spreadsheet's formula: such a text gets an apostrophe.

    Numbers stay as they are, also those that stand in a column of texts. Control characters are written as visible
    escapes, but for tabs and newlines: a carriage return within a field would break its row.
    """
    return as_data(table, keep="\n\t").to_csv(index=False, lineterminator="\n")


def as_data(table: pd.DataFrame, *, keep: str) -> pd.DataFrame:
    """A copy of a table in which no text begins like a formula, and control characters but `keep` are escapes."""
    table = table.copy(deep=False)
    for name in table.columns[~table.dtypes.map(pd.api.types.is_numeric_dtype)]:
        texts = [text for text in table[name].unique() if isinstance(text, str)]
        plain = {text: shown(text, keep=keep) for text in texts}
        changed = {text: f"'{safe}" if _is_formula(safe) else safe for text, safe in plain.items()}
        if changed := {text: safe for text, safe in changed.items() if safe != text}:
            table[name] = table[name].replace(changed)
    return table


def _is_formula(text: str) -> bool:
    if not text.startswith(("=", "+", "-", "@", "\t", "\n")):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False
