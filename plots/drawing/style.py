"""Style of all figures: colours, sizes, settings of matplotlib; and rendering to PNG and SVG."""

from __future__ import annotations

import io
import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from bench.analysis.findings import arm_order
from bench.store.durable import write_atomic
from bench.text import shown, without_folders

INK = "#1b1f24"
MUTED = "#5b6570"
GRID = "#dfe3e8"
PAPER = "#ffffff"
"""Colours that do not stand for data. A page replaces them in the SVG by its own, light or dark."""

BLOCK_COLOURS = {"block1": "#0072b2", "block2": "#56b4e9", "block3": "#009e73", "fc": "#e69f00"}
"""Colours told apart with every kind of colour vision (Okabe and Ito 2008)."""

FULL_COLOUR = "#7a7f87"
OTHER_COLOURS = (
    *("#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#b8a800"),
    *("#332288", "#44aa99", "#aa4499", "#999933", "#882255"),
)
MAX_ARMS = 40
"""Arms that one figure draws: more cannot be told apart."""

MAX_SIZES = 24
"""Train sizes of one label that a figure draws."""

PNG_DPI = 150
WIDTH_IN = 7.2
"""Full text width; a lone panel takes half."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure with its name and its description in words.

    Attributes:
        name: file name without ending.
        figure: the figure itself.
        alt: what it shows, in words, for those who cannot see it.
        title, caption: what stands above and below it.
        body: (left, bottom, right, top) of the rest, in inches.
    """

    name: str
    figure: Figure
    alt: str
    title: str = ""
    caption: str = ""
    body: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A figure rendered.

    Attributes:
        png, svg: with title and caption.
        bare: SVG without them, for a page that has them as text.
        alt: what it shows, in words.
        width_in: its width.
    """

    name: str
    png: bytes
    svg: str
    bare: str
    alt: str
    title: str
    caption: str
    width_in: float

    def files(self) -> dict[str, bytes]:
        """Return the contents by file name."""
        return {f"{self.name}.png": self.png, f"{self.name}.svg": self.svg.encode()}


def drawable(blocks: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the rows of the first arms, and train sizes of each label, and the caption's sentence on the others."""
    arms = arm_order(blocks)
    sizes = blocks[["data", "train_size"]].drop_duplicates()
    kept = sizes[sizes.groupby("data")["train_size"].rank() <= MAX_SIZES]
    more = ((len(arms) - MAX_ARMS, "arms"), (len(sizes) - len(kept), "train sizes"))
    left_out = " and ".join(f"{number} more {noun}" for number, noun in more if number > 0)
    if not left_out:
        return blocks, ""
    # an inner merge keeps the order of the rows, and numbers them anew
    return blocks[blocks["arm"].isin(arms[:MAX_ARMS])].merge(kept), f"{left_out} are in the tables only. "


def arms_of(blocks: pd.DataFrame) -> list[tuple[str, str]]:
    """Return (arm, role) of each arm of a table, in the order of tables."""
    roles = dict(zip(blocks["arm"], blocks["role"], strict=True))
    return [(arm, roles[arm]) for arm in arm_order(blocks)]


def noun(arms: Iterable[tuple[str, str]]) -> str:
    """Word for the arms in a title: blocks, unless a method is among them."""
    return "arm" if any(role == "method" for _, role in arms) else "tuned block"


def colours(arms: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a colour per arm label: the paper's blocks have fixed ones, others take the next free one in order."""
    arms = list(arms)
    fixed = {"full": FULL_COLOUR, "average": INK}
    named = {arm: fixed.get(role) or BLOCK_COLOURS.get(arm) for arm, role in arms}
    free = itertools.cycle([colour for colour in OTHER_COLOURS if colour not in named.values()] or OTHER_COLOURS)
    return {arm: colour or next(free) for arm, colour in named.items()}


def turns(palette: Mapping[str, str]) -> dict[str, int]:
    """Return how many arms before it have an arm's colour: those that share one differ in shape or hatching."""
    seen: Counter[str] = Counter()
    made = {}
    for arm, colour in palette.items():
        made[arm] = seen[colour]
        seen[colour] += 1
    return made


def context(*, serif: bool = False) -> AbstractContextManager[None]:
    """Apply the settings of all figures while drawing and rendering.

    Args:
        serif: letters like Times, as most journals set their text.
    """
    return mpl.rc_context(
        {
            "font.family": ["STIXGeneral"] if serif else ["DejaVu Sans"],
            "font.size": 8.0,
            "axes.titlesize": 8.5,
            "axes.titleweight": "bold",
            "axes.labelsize": 8.0,
            "axes.edgecolor": MUTED,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.facecolor": PAPER,
            "axes.linewidth": 0.7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "grid.color": GRID,
            "grid.linewidth": 0.7,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "xtick.labelsize": 7.5,
            "ytick.labelsize": 7.5,
            "xtick.major.width": 0.7,
            "ytick.major.width": 0.7,
            "text.color": INK,
            "text.parse_math": False,  # a $ in a label is a $
            "legend.frameon": False,
            "legend.fontsize": 7.5,
            "figure.facecolor": PAPER,
            "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
            "svg.fonttype": "none",  # text stays text: small, searchable, read aloud
            "svg.hashsalt": "jouletune",  # the same figure gives the same file
        }
    )


def public(text: object) -> str:
    """Make foreign text safe to draw: control characters become visible, folders of absolute paths are left out."""
    return without_folders(shown(text))


def new_figure(width_in: float, height_in: float) -> Figure:
    """Make a figure outside pyplot's global list."""
    figure = Figure(figsize=(width_in, height_in))
    FigureCanvasAgg(figure)
    return figure


def render(drawn: Drawn) -> Rendered:
    """Render a figure as PNG (150 dpi) and SVG."""
    png = io.BytesIO()
    with context(), warnings.catch_warnings():
        # a label in a script that the font lacks shows boxes in the PNG; the SVG has the text itself
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")
        drawn.figure.savefig(png, format="png", dpi=PNG_DPI)
        svg = _svg(drawn)
        outside = [text for text in drawn.figure.texts if text.get_gid() in OUTSIDE]
        for text in outside:
            text.set_visible(False)
        bare = _svg(drawn, drawn.body) if outside and drawn.body else svg
        for text in outside:
            text.set_visible(True)
    width_in = drawn.figure.get_figwidth()
    return Rendered(drawn.name, png.getvalue(), svg, bare, drawn.alt, drawn.title, drawn.caption, width_in)


OUTSIDE = ("title", "caption")
"""Ids of the texts that a page has beside the figure."""


def _svg(drawn: Drawn, body: tuple[float, float, float, float] | None = None) -> str:
    svg = io.StringIO()
    part = None if body is None else Bbox.from_extents(*body)
    drawn.figure.savefig(svg, format="svg", metadata={"Date": None, "Title": drawn.name}, bbox_inches=part)
    return shown(svg.getvalue(), keep="\n")  # what XML cannot hold may be in the name of an arm


def render_pdf(drawn: Drawn) -> bytes:
    """Render a figure of a paper as PDF, its letters like Times."""
    pdf = io.BytesIO()
    with context(serif=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")
        drawn.figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    return pdf.getvalue()


def save(drawn: Drawn, folder: Path) -> list[Path]:
    """Write NAME.png and NAME.svg, each as a whole.

    Raises:
        JouletuneError: the disk is full or the folder cannot be written.
    """
    files = render(drawn).files()
    for name, content in files.items():
        write_atomic(folder / name, content)
    return [folder / name for name in files]
