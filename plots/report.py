"""Write a report: figures, tables, summary.csv and one HTML page that holds it all."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.analysis import Analysis, Results, analyse, motivation
from bench.analysis.formats import summary_csv, to_latex, to_markdown
from bench.analysis.tables import Grid, accuracy_grid, grids
from bench.analysis.variant_tables import variant_grids
from bench.compare import Comparison
from bench.store.durable import write_atomic
from bench.store.run_dir import RunDir
from plots import accuracy_bars, beside_paper, energy_saving, pareto
from plots.drawing.style import Saved, save
from plots.page.report_page import Content, render
from plots.page.trace_data import collect

FIGURES = (accuracy_bars, energy_saving, pareto)
"""One module per figure, in the order of the page; each draws [] where the results hold nothing for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaths:
    """What a report wrote.

    Attributes:
        html: the page.
        summary: summary.csv, one row per cell.
        figures: PNG and SVG of each.
        tables: Markdown and LaTeX of each.
        damage: sentences on what could not be read, as the page has them.
    """

    html: Path
    summary: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    damage: tuple[str, ...]


def write_report(
    results: Results, run_dir: RunDir, analysis: Analysis | None = None, comparisons: Sequence[Comparison] = ()
) -> ReportPaths:
    """Write the report into a run folder, or any folder; each file is replaced as a whole.

    Args:
        results: of one or more runs, or of the published tables.
        run_dir: where to write; need not hold a run.
        analysis: of the same results, if it is there already.
        comparisons: with other runs or the published tables, for the page; the latter are drawn too.

    Raises:
        JouletuneError: a file cannot be written.
    """
    analysis = analysis or analyse(results)
    tables = [*grids(results, analysis), *variant_grids(results)]
    if results.published:
        tables.append(_motivation_grid())
    drawings = [drawn for module in FIGURES for drawn in module.draw(results, analysis)]
    drawings += [drawn for comparison in comparisons for drawn in beside_paper.draw(comparison)]
    figures = [save(drawn, run_dir.figures_dir) for drawn in drawings]
    table_paths = _write_tables(tables, run_dir.tables_dir)
    write_atomic(run_dir.summary_path, summary_csv(analysis))
    content = Content(
        results=results,
        analysis=analysis,
        figures=figures,
        grids=tables,
        traces=collect(results),
        comparisons=comparisons,
        files=_files(run_dir, table_paths),
    )
    write_atomic(run_dir.report_path, render(content))
    figure_paths = tuple(path for figure in figures for path in (figure.png, figure.svg))
    _remove_stale(run_dir, figures, tables)
    return ReportPaths(
        html=run_dir.report_path,
        summary=run_dir.summary_path,
        figures=figure_paths,
        tables=tuple(table_paths),
        damage=(*results.damage, *content.traces.damage),
    )


def _motivation_grid() -> Grid:
    grid = accuracy_grid(analyse(motivation()))
    return dataclasses.replace(grid, name="motivation", title="Accuracy with noise put into one block")


def _write_tables(tables: list[Grid], folder: Path) -> list[Path]:
    paths = []
    for grid in tables:
        for ending, text in (("md", to_markdown(grid)), ("tex", to_latex(grid))):
            path = folder / f"{grid.name}.{ending}"
            write_atomic(path, text)
            paths.append(path)
    return paths


def _files(run_dir: RunDir, tables: list[Path]) -> list[tuple[str, str]]:
    links = [(path.name, f"{path.parent.name}/{path.name}") for path in tables]
    return [("summary.csv: one row per cell", run_dir.summary_path.name), *links]


def _remove_stale(run_dir: RunDir, figures: list[Saved], tables: list[Grid]) -> None:
    """Delete what an earlier report left and this one lacks, e.g. page 3 of a figure that now has two."""
    names = "|".join([*(module.__name__.rpartition(".")[2] for module in FIGURES), r"beside_paper_\w+"])
    ours = re.compile(
        rf"(?:{names})(?:-\d+)?\.(?:png|svg)|(?:accuracy|energy\w*|motivation|variants|shares)\.(?:md|tex)"
    )
    kept = {figure.name for figure in figures} | {grid.name for grid in tables}
    for folder in (run_dir.figures_dir, run_dir.tables_dir):
        for path in folder.glob("*.*") if folder.is_dir() else ():
            if ours.fullmatch(path.name) and path.stem not in kept:
                path.unlink(missing_ok=True)
