"""Panels: one small chart per data label, laid out in pages with a title, a legend and a caption."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plots.drawing.style import INK, MUTED, WIDTH_IN, Drawn, context, new_figure, public

COLUMNS = 3
PER_PAGE = 6
MAX_PAGES = 8
"""Pages of one figure. Further panels are left out; the tables hold them."""

_LEGEND_CHARACTERS, _CAPTION_CHARACTERS = 60, 1200
_PANEL_IN = 2.05
_GAP_X_IN, _GAP_Y_IN = 0.3, 0.55
_LEFT_IN, _RIGHT_IN = 0.62, 0.12
_TITLE_IN, _LEGEND_IN, _CAPTION_IN = 0.19, 0.19, 0.135
"""Heights of a line of the title, the legend and the caption."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Texts and legend around the panels of a figure.

    Attributes:
        name: file name without ending; pages after the first get a number.
        title: heading.
        x_label, y_label: with units.
        caption: n, spread, source and grade.
        alt: what the figure shows, in words.
        legend: handles, in reading order.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    caption: str
    alt: str
    legend: Sequence[Artist]


Paint = Callable[[Axes, str, pd.DataFrame], None]
"""Fills the axes of one data label with its rows."""


def draw_pages(chart: Chart, rows: pd.DataFrame, paint: Paint) -> list[Drawn]:
    """Draw a panel for each label in the column `data`, in the order of the rows. Returns one Drawn per page."""
    labels = rows["data"].unique().tolist()
    drawable = rows[rows["data"].isin(labels[: PER_PAGE * MAX_PAGES])]
    parts = {str(label): part for label, part in drawable.groupby("data", sort=False)}
    pages = [labels[start : start + PER_PAGE] for start in range(0, len(labels), PER_PAGE)]
    shown = pages[:MAX_PAGES]
    left_out = len(labels) - sum(map(len, shown))
    drawn = []
    for number, names in enumerate(shown, start=1):
        page = f" Page {number} of {len(shown)}." if len(shown) > 1 else ""
        more = f" {left_out} more shifts are in the tables only." if left_out and number == len(shown) else ""
        with context():
            figure = _page(
                dataclasses.replace(chart, caption=chart.caption + page + more),
                {name: parts[name] for name in names},
                paint,
            )
        drawn.append(Drawn(chart.name if number == 1 else f"{chart.name}-{number}", figure, chart.alt + page))
    return drawn


def _page(chart: Chart, parts: Mapping[str, pd.DataFrame], paint: Paint) -> Figure:
    """Lay out a figure in inches, so that letters and panels keep their size while the figure grows."""
    columns = min(COLUMNS, len(parts))
    rows = math.ceil(len(parts) / columns)
    width = {1: 4.4, 2: 5.8}.get(columns, WIDTH_IN)
    title = textwrap.wrap(public(chart.title), int(width * 11))
    caption = textwrap.wrap(_cut(public(chart.caption), _CAPTION_CHARACTERS), int(width * 19.5))
    legend_columns = _legend_columns(chart.legend, width)
    top = 0.42 + _TITLE_IN * len(title) + _LEGEND_IN * math.ceil(len(chart.legend) / legend_columns)
    bottom = 0.56 + _CAPTION_IN * len(caption)
    height = top + bottom + rows * _PANEL_IN + (rows - 1) * _GAP_Y_IN
    figure = new_figure(width, height)
    panel_width = (width - _LEFT_IN - _RIGHT_IN - _GAP_X_IN * (columns - 1)) / columns
    axes: list[Axes] = []
    for index, (label, part) in enumerate(parts.items()):
        row, column = divmod(index, columns)
        x = _LEFT_IN + column * (panel_width + _GAP_X_IN)
        y = height - top - (row + 1) * _PANEL_IN - row * _GAP_Y_IN
        panel = figure.add_axes((x / width, y / height, panel_width / width, _PANEL_IN / height))
        axes.append(panel)
        paint(panel, label, part)
        panel.set_title(_cut(public(label), int(panel_width * 13.5)), loc="left", pad=5)
        panel.tick_params(labelleft=column == 0)
        if column == 0:
            panel.set_ylabel(chart.y_label)
        if index + columns >= len(parts):
            panel.set_xlabel(chart.x_label)
    low, high = min(panel.get_ylim()[0] for panel in axes), max(panel.get_ylim()[1] for panel in axes)
    for panel in axes:  # one range for the page, so that bars can be compared across its panels
        panel.set_ylim(low, high)
    for line, text in enumerate(title):
        figure.text(0.1 / width, 1 - (0.1 + _TITLE_IN * line) / height, text, size=10, weight="bold", va="top")
    # matplotlib fills its columns first; the legend is to read along its rows
    handles = [handle for column in range(legend_columns) for handle in chart.legend[column::legend_columns]]
    figure.legend(
        handles=handles,
        labels=[_legend_label(handle) for handle in handles],
        loc="upper left",
        bbox_to_anchor=(0.02 / width, 1 - (0.1 + _TITLE_IN * len(title)) / height),
        ncols=legend_columns,
        handlelength=1.3,
        columnspacing=1.2,
        handletextpad=0.5,
        borderaxespad=0.2,
        labelcolor=INK,
    )
    for line, text in enumerate(caption, start=1):
        y = (0.06 + _CAPTION_IN * (len(caption) - line)) / height
        figure.text(0.1 / width, y, text, size=6.8, color=MUTED, va="bottom")
    return figure


def _legend_columns(legend: Sequence[Artist], width_in: float) -> int:
    """Number of columns: one row if it fits, else as many equal columns as fit."""
    widths = [0.45 + 0.068 * len(_legend_label(handle)) for handle in legend]
    if sum(widths) <= width_in - 0.1:
        return max(1, len(legend))
    return max(1, int((width_in - 0.1) / max(widths)))


def _legend_label(handle: Artist) -> str:
    """Label of a handle, with a space before an underscore: matplotlib leaves out labels that begin with one."""
    label = _cut(public(handle.get_label()), _LEGEND_CHARACTERS)
    return f" {label}" if label.startswith("_") else label


def _cut(text: str, characters: int) -> str:
    """Shorten a text in its middle. The beginning of a label names the data, its end the shift."""
    if len(text) <= characters:
        return text
    half = (characters - 1) // 2
    return f"{text[:half]}\N{HORIZONTAL ELLIPSIS}{text[half + 1 - characters :]}"
