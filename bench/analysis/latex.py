r"""Tables as LaTeX that fit: `\input` one in an article of one or of two columns.

Each is a `table*`, as wide as the page, or a `table` where it fits a column. Arms that do not fit beside each other
stand in a second block below the first. Needs booktabs and siunitx.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from bench.analysis.tables import Entry, Grid
from bench.text import shown

_CHARACTERS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "µ": r"$\mu$",
    "<": r"$<$",
    ">": r"$>$",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # at the start of a row LaTeX would take it for the option of the line break before it
    "*": "{*}",
} | {character: f"\\{character}" for character in "&%$#_{}"}

_PAGE_PT, _COLUMN_PT = 340.0, 196.0
"""Widths of the text of an `article` of 10 pt: its page in one column, and a column of two."""

_SIZES = ((r"\footnotesize", 4.4), (r"\scriptsize", 3.95))
"""Sizes of letters, and how wide one is at most on average, pt."""

_GAP_PT = 6.0
"""Between two columns: twice \\tabcolsep as set in the table."""

LINES = 46
"""Lines of one float; a longer table goes on in the next."""


def escape_latex(text: str) -> str:
    """Escape text so that LaTeX prints it as it stands; on one line."""
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    return "".join(_CHARACTERS.get(character, character) for character in shown(text))


def breakable(text: str) -> str:
    """Escape text, and let a long word of it break behind its joints."""
    return re.sub(r"(?<=[-.:/_,;=+])(?=\w)", r"\\allowbreak{}", escape_latex(text))


def to_latex(grid: Grid) -> str:
    r"""Format the grid as floats to \input."""
    size, em, parts = _layout(grid)
    parts_pt = [sum(_widths(grid, part, em)) for part in parts]
    wide = max(parts_pt) > _COLUMN_PT
    floats = _floats(grid, LINES // len(parts) - 4)
    made = [r"% needs \usepackage{booktabs,siunitx}"]
    for number, rows in enumerate(floats, start=1):
        made += _float(grid, rows, size=size, parts=parts, wide=wide, number=number)
    return "\n".join([*made, ""])


def _floats(grid: Grid, lines: int) -> list[list[tuple[Entry, ...]]]:
    """Divide the rows, so that each part, with a line and a half above each data label, has at most so many lines."""
    made: list[list[tuple[Entry, ...]]] = [[]]
    used, before = 0.0, None
    for row in grid.rows:
        cost = 1.0 if row[0] == before else 2.5
        if made[-1] and used + cost > lines:
            made.append([])
            used, cost = 0.0, 2.5
        made[-1].append(row)
        used, before = used + cost, row[0]
    return made


def _float(
    grid: Grid, rows: Sequence[tuple[Entry, ...]], *, size: str, parts: list[list[int]], wide: bool, number: int
) -> list[str]:
    environment = "table*" if wide else "table"
    again = f" (continued, {number})" if number > 1 else ""
    note = "" if number > 1 else f" {breakable(grid.note)}"
    label = f"tab:{grid.name}" + (f"-{number}" if number > 1 else "")
    lines = [
        rf"\begin{{{environment}}}",
        r"  \centering",
        r"  \sisetup{separate-uncertainty, detect-weight, detect-inline-weight = math}",
        r"  \setlength{\tabcolsep}{3pt}",
        rf"  \caption{{{escape_latex(grid.title)}{again}.{note}}}",
        rf"  \label{{{label}}}",
        f"  {size}",
    ]
    for columns in parts:
        lines += _tabular(grid, rows, columns)
    return [*lines, rf"\end{{{environment}}}"]


def _tabular(grid: Grid, rows: Sequence[tuple[Entry, ...]], columns: list[int]) -> list[str]:
    """A tabular of some of the figures' columns. The data is a line of its own above its rows."""
    words = _words(grid)
    head = [*words, *columns]
    lines = [
        rf"  \begin{{tabular}}{{{'l' * len(words)}{'r' * len(columns)}}}",
        r"    \toprule",
        "    " + " & ".join(_head(grid.header[column]) for column in head) + r" \\",
    ]
    levelled = grid.header[1] == "Level"
    for (data, level), part in groupby(rows, key=lambda row: (row[0].text, row[1].text if levelled else "")):
        name = f"{data} ({level})" if re.search(r"\w", level) else data
        lines.append(r"    \midrule")
        lines.append(
            rf"    \multicolumn{{{len(head)}}}{{@{{}}{'l' if len(name) <= _NAME else _BOX}}}{{{breakable(name)}}} \\"
        )
        lines += ["    " + " & ".join(_cell(row[column], column >= grid.labels) for column in head) + r" \\"
                  for row in part]  # fmt: skip
    return [*lines, r"    \bottomrule", r"  \end{tabular}\par\smallskip"]


def _head(text: str) -> str:
    """A heading; an addition to the name of an arm stands below it."""
    above, _, below = text.partition(" by ")
    return rf"\shortstack[r]{{{escape_latex(above)}\\by {escape_latex(below)}}}" if below else escape_latex(text)


def _words(grid: Grid) -> list[int]:
    """The label columns beside the figures; data and level stand above."""
    return list(range(2 if grid.header[1] == "Level" else 1, grid.labels))


_NAME = 30
_BOX = r"p{0.97\linewidth}"
"""Characters of a data label that stand on one line, and the box in which a longer one breaks."""

_NUMBER = re.compile(r"(?<![\w.])([-+\N{MINUS SIGN}]?\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?(?![\w.])")


def _cell(entry: Entry, figure: bool) -> str:
    text = _numbers(entry.text) if figure else escape_latex(entry.text)
    text = rf"{{\bfseries {text}}}" if entry.best else text
    return text + (r"$^\dagger$" if entry.target else "")


def _numbers(text: str) -> str:
    r"""Escape a text, with its numbers in siunitx's \num."""
    made, end = [], 0
    for found in _NUMBER.finditer(text):
        value = found[1].replace("\N{MINUS SIGN}", "-")
        options = "[print-implicit-plus]" if value.startswith("+") else ""
        spread = f" +- {found[2]}" if found[2] else ""
        made += [_escaped(text[end : found.start()]), rf"\num{options}{{{value.removeprefix('+')}{spread}}}"]
        end = found.end()
    return "".join([*made, _escaped(text[end:])])


def _widths(grid: Grid, columns: Sequence[int], em_pt: float) -> list[float]:
    """Widths of the label columns that are shown and of these, pt."""
    shown_columns = [*_words(grid), *columns]
    longest = [
        max(
            *map(len, re.split(" (?=by )", grid.header[column])),
            *(len(row[column].text) + 2 * row[column].target for row in grid.rows),
        )
        for column in shown_columns
    ]
    return [em_pt * characters + _GAP_PT for characters in longest]


def _layout(grid: Grid) -> tuple[str, float, list[list[int]]]:
    """Size of the letters, their width, and the columns of each block below the other."""
    figures = list(range(grid.labels, len(grid.header)))
    for size, em_pt in _SIZES:
        if sum(_widths(grid, figures, em_pt)) <= _PAGE_PT:
            return size, em_pt, [figures]
    size, em_pt = _SIZES[0]
    each = dict(zip(figures, _widths(grid, figures, em_pt)[len(_words(grid)) :], strict=True))
    room = _PAGE_PT - sum(_widths(grid, [], em_pt))
    parts: list[list[int]] = [[]]
    for column in figures:
        if parts[-1] and sum(each[one] for one in parts[-1]) + each[column] > room:
            parts.append([])
        parts[-1].append(column)
    return size, em_pt, parts
