"""How tables are written: Markdown, LaTeX (booktabs), and summary.csv with one row per cell."""

from __future__ import annotations

import re

import pandas as pd

from bench.analysis.findings import Analysis
from bench.analysis.tables import Entry, Grid

# -- Markdown and LaTeX ------------------------------------------------------------------------------


def to_markdown(grid: Grid) -> str:
    """The grid as a heading, a pipe table and its note."""

    def cell(entry: Entry) -> str:
        text = escape_markdown(entry.text)
        return (f"**{text}**" if entry.best else text) + (" †" if entry.target else "")

    rule = ["---"] * grid.labels + ["---:"] * (len(grid.header) - grid.labels)
    lines = [_pipes([escape_markdown(head) for head in grid.header]), _pipes(rule)]
    lines += [_pipes([cell(entry) for entry in row]) for row in grid.rows]
    return f"## {grid.title}\n\n" + "\n".join(lines) + f"\n\n{escape_markdown(grid.note)}\n"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it stands, HTML and table pipes included."""
    return re.sub(r"[\\`*_{}\[\]<>|#]", r"\\\g<0>", text)


def _pipes(cells: list[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "µ": r"$\mu$",
    "<": r"$<$",
    ">": r"$>$",
    "\n": " ",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(character, character) for character in text)


def to_latex(grid: Grid) -> str:
    """A booktabs table to \\input; needs \\usepackage{booktabs}."""

    def cell(entry: Entry) -> str:
        text = escape_latex(entry.text)
        return (rf"\textbf{{{text}}}" if entry.best else text) + (r"$^\dagger$" if entry.target else "")

    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape_latex(grid.title)}. {escape_latex(grid.note)}}}",
        rf"  \label{{tab:{grid.name}}}",
        rf"  \begin{{tabular}}{{{'l' * grid.labels}{'r' * (len(grid.header) - grid.labels)}}}",
        r"    \toprule",
        "    " + " & ".join(escape_latex(head) for head in grid.header) + r" \\",
        r"    \midrule",
    ]
    previous: tuple[Entry, ...] = ()
    for row in grid.rows:
        if previous and previous[0] != row[0]:
            lines.append(r"    \midrule")
        same = next((i for i in range(grid.labels) if previous[i : i + 1] != (row[i],)), grid.labels)
        shown = (*[Entry("")] * same, *row[same:])
        lines.append("    " + " & ".join(cell(entry) for entry in shown) + r" \\")
        previous = row
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""])


# -- summary.csv -------------------------------------------------------------------------------------

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
    """One row per cell with units in the names; not measured is empty."""
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
    """summary as text."""
    return summary(analysis).to_csv(index=False, lineterminator="\n")
