"""Write a report: figures, tables, summary.csv and an HTML page that shows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.analysis import Analysis, Results, analyse, motivation
from bench.analysis.latex import to_latex
from bench.analysis.summary import summary_csv
from bench.analysis.tables import accuracy_grid, to_markdown
from bench.analysis.tables import grids as table_grids
from bench.analysis.variants import variant_grids
from bench.compare import Comparison
from bench.store.run_dir import RunDir
from plots import accuracy, beside_paper, energy_saving, pareto, phases
from plots.drawing.style import render
from plots.outputs import write_files
from plots.page.report_page import Content
from plots.page.report_page import render as render_page
from plots.page.trace_data import collect
from plots.paper import paper_files

FIGURES = (accuracy, energy_saving, phases, pareto)
"""Modules of the figures in the order of the page. Each returns [] for results it cannot draw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaths:
    """Paths of the files that a report wrote.

    Attributes:
        html: the page.
        summary: summary.csv, one row per cell.
        figures: PNG and SVG of each.
        tables: Markdown and LaTeX of each.
        damage: sentences on what could not be read; the page shows them too.
    """

    html: Path
    summary: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    damage: tuple[str, ...]


def write_report(
    results: Results,
    run_dir: RunDir,
    analysis: Analysis | None = None,
    comparisons: Sequence[Comparison] = (),
    *,
    for_paper: bool = False,
) -> ReportPaths:
    """Write the report into a run folder, or any folder, see `plots.outputs`.

    Args:
        results: of one or more runs, or of the published tables.
        run_dir: where to write; need not hold a run.
        analysis: of the same results, if it is there already.
        comparisons: with other runs or the published tables, for the page; the latter are drawn too.
        for_paper: also write paper/, see `plots.paper`.

    Raises:
        RequestError: a file that no report wrote is in the way.
        JouletuneError: a file cannot be written.
    """
    analysis = analysis or analyse(results)
    grids = [*table_grids(results, analysis), *variant_grids(results)]
    if results.published:
        motivated = accuracy_grid(analyse(motivation()))
        grids.append(dataclasses.replace(motivated, name="motivation", title="Accuracy with noise put into one block"))
    drawings = [drawn for module in FIGURES for drawn in module.draw(results, analysis)]
    drawings += [drawn for comparison in comparisons for drawn in beside_paper.draw(comparison)]
    figures = [render(drawn) for drawn in drawings]
    traces = collect(results)
    figure_files = {f"figures/{name}": content for figure in figures for name, content in figure.files().items()}
    table_files = {
        f"tables/{grid.name}.{ending}": _bytes(text(grid))
        for grid in grids
        for ending, text in (("md", to_markdown), ("tex", to_latex))
    }
    paper = paper_files(results, analysis, FIGURES, [grid.name for grid in grids]) if for_paper else {}
    links = [(name.removeprefix("tables/"), name) for name in table_files]
    content = Content(
        results=results,
        analysis=analysis,
        figures=figures,
        grids=grids,
        traces=traces,
        comparisons=comparisons,
        files=[("summary.csv: one row per cell", "summary.csv"), *links],
    )
    page_files = {"summary.csv": _bytes(summary_csv(analysis)), "report.html": _bytes(render_page(content))}
    write_files(run_dir.path, {**figure_files, **table_files, **paper, **page_files})
    return ReportPaths(
        html=run_dir.report_path,
        summary=run_dir.summary_path,
        figures=tuple(run_dir.path / name for name in figure_files),
        tables=tuple(run_dir.path / name for name in table_files),
        damage=(*results.damage, *traces.damage),
    )


def _bytes(text: str) -> bytes:
    """Encode as UTF-8. A lone surrogate, which the name of a folder may hold, becomes an escape such as `\\udcff`."""
    return text.encode("utf-8", "backslashreplace")
