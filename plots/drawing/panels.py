"""Panels: one small chart per data label, laid out in pages with a title, a legend and a caption."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from plots.drawing.style import INK, MUTED, WIDTH_IN, Drawn, context, new_figure, public

COLUMNS = 3
PER_PAGE = 6
MAX_PAGES = 8
"""Pages of one figure. Further panels are left out; the tables hold them."""

_LEGEND_CHARACTERS, _CAPTION_CHARACTERS = 60, 1200
_PANEL_IN = 2.05
_GAP_X_IN, _GAP_OWN_IN, _GAP_Y_IN = 0.3, 0.48, 0.55
"""Between panels: sideways, sideways where each has figures at its axis, and one above the other."""

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
        own_range: whether each panel has a y axis of its own; else they share one, so that they can be compared.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    caption: str
    alt: str
    legend: Sequence[Artist]
    own_range: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the panels stand.

    Attributes:
        columns, per_page: panels side by side, and in a figure.
        widths_in: width of a figure of so many columns; `width_in` of any other.
        framed: with title and caption.
        serif: letters like Times.
    """

    columns: int = COLUMNS
    per_page: int = PER_PAGE
    width_in: float = WIDTH_IN
    widths_in: Mapping[int, float] = field(default_factory=dict)
    framed: bool = True
    serif: bool = False


FILE = Layout(widths_in={1: 4.4, 2: 5.8})
"""Of a file that is shown by itself: title and caption belong to it."""

PAPER_COLUMN = Layout(columns=1, per_page=3, width_in=3.4, framed=False, serif=True)
PAPER_PAGE = Layout(width_in=7.0, framed=False, serif=True)
"""Of a column, and of the whole width, of a paper in two columns."""


Paint = Callable[[Axes, str, pd.DataFrame], None]
"""Fills the axes of one data label with its rows."""


def draw_pages(chart: Chart, rows: pd.DataFrame, paint: Paint, layout: Layout = FILE) -> list[Drawn]:
    """Draw a panel for each label in the column `data`, in the order of the rows. Returns one Drawn per page."""
    labels = rows["data"].unique().tolist()
    drawable = rows[rows["data"].isin(labels[: layout.per_page * MAX_PAGES])]
    parts = {str(label): part for label, part in drawable.groupby("data", sort=False)}
    pages = [labels[start : start + layout.per_page] for start in range(0, len(labels), layout.per_page)]
    shown = pages[:MAX_PAGES]
    left_out = len(labels) - sum(map(len, shown))
    drawn = []
    for number, names in enumerate(shown, start=1):
        page = f" Page {number} of {len(shown)}." if len(shown) > 1 else ""
        more = f" {left_out} more shifts are in the tables only." if left_out and number == len(shown) else ""
        name = chart.name if number == 1 else f"{chart.name}-{number}"
        full = dataclasses.replace(chart, name=name, caption=chart.caption + page + more, alt=chart.alt + page)
        with context(serif=layout.serif):
            drawn.append(_page(full, {name: parts[name] for name in names}, paint, layout))
    return drawn


def _page(chart: Chart, parts: Mapping[str, pd.DataFrame], paint: Paint, layout: Layout) -> Drawn:
    """Lay out a figure in inches, so that letters and panels keep their size while the figure grows."""
    columns = min(layout.columns, len(parts))
    rows = math.ceil(len(parts) / columns)
    width = layout.widths_in.get(columns, layout.width_in)
    title = textwrap.wrap(public(chart.title), int(width * 11)) if layout.framed else []
    text = _cut(public(chart.caption), _CAPTION_CHARACTERS) if layout.framed else ""
    caption = textwrap.wrap(text, int(width * 19.5))
    legend_columns = _legend_columns(chart.legend, width)
    gap_x = _GAP_OWN_IN if chart.own_range else _GAP_X_IN
    top = 0.42 + _TITLE_IN * len(title) + _LEGEND_IN * math.ceil(len(chart.legend) / legend_columns)
    bottom = (0.56 if layout.framed else 0.44) + _CAPTION_IN * len(caption)
    height = top + bottom + rows * _PANEL_IN + (rows - 1) * _GAP_Y_IN
    figure = new_figure(width, height)
    panel_width = (width - _LEFT_IN - _RIGHT_IN - gap_x * (columns - 1)) / columns
    axes: list[Axes] = []
    for index, (label, part) in enumerate(parts.items()):
        row, column = divmod(index, columns)
        x = _LEFT_IN + column * (panel_width + gap_x)
        y = height - top - (row + 1) * _PANEL_IN - row * _GAP_Y_IN
        panel = figure.add_axes((x / width, y / height, panel_width / width, _PANEL_IN / height))
        axes.append(panel)
        paint(panel, label, part)
        panel.set_title(_cut(public(label), int(panel_width * 13.5)), loc="left", pad=5)
        panel.tick_params(labelleft=column == 0 or chart.own_range)
        if column == 0:
            panel.set_ylabel(chart.y_label)
        if index + columns >= len(parts):
            panel.set_xlabel(chart.x_label)
    low, high = min(panel.get_ylim()[0] for panel in axes), max(panel.get_ylim()[1] for panel in axes)
    for panel in axes if not chart.own_range else ():  # one range for the page, to be compared across its panels
        panel.set_ylim(low, high)
    for line, text in enumerate(title):
        figure.text(
            0.1 / width, 1 - (0.1 + _TITLE_IN * line) / height, text, size=10, weight="bold", va="top", gid="title"
        )
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
        figure.text(0.1 / width, y, text, size=6.8, color=MUTED, va="bottom", gid="caption")
    body = (0.0, _CAPTION_IN * len(caption), width, height - _TITLE_IN * len(title))
    return Drawn(chart.name, figure, chart.alt, chart.title, chart.caption, body)


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
