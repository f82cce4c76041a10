r"""What a paper takes from a run: figures as PDF without a title, captions and tables as LaTeX, a methods paragraph.

`paper/main.tex` puts all of it together, as an example and as a check that it compiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from bench.analysis import Analysis, Results
from bench.analysis.latex import breakable
from bench.analysis.methods_text import bibtex, methods_text
from plots.drawing.panels import PAPER_COLUMN, PAPER_PAGE
from plots.drawing.style import Drawn, render_pdf

FOLDER = "paper"


def paper_files(
    results: Results, analysis: Analysis, modules: Sequence[ModuleType], tables: Sequence[str]
) -> dict[str, bytes]:
    """Make the files of `--for-paper`, by their path below the report's folder.

    Args:
        modules: of the figures.
        tables: names of the tables, which lie beside in tables/.
    """
    files: dict[str, bytes] = {}
    inputs: list[str] = []
    for module in modules:
        for ending, layout in (("-column", PAPER_COLUMN), ("", PAPER_PAGE)):
            for drawn in module.draw(results, analysis, layout):
                files[f"{FOLDER}/{drawn.name}{ending}.pdf"] = render_pdf(drawn)
                files[f"{FOLDER}/{drawn.name}{ending}.tex"] = _figure(drawn, ending).encode()
                if not ending:
                    inputs.append(f"{drawn.name}.tex")
    files[f"{FOLDER}/methods.tex"] = methods_text(results, analysis).encode()
    files[f"{FOLDER}/references.bib"] = bibtex(results).encode()
    files[f"{FOLDER}/main.tex"] = _main(inputs, tables).encode()
    return files


def _figure(drawn: Drawn, ending: str) -> str:
    environment, width = ("figure", r"\columnwidth") if ending else ("figure*", r"\textwidth")
    # drawn in 3.4 and 7 inches; a narrower column makes it, and its letters, a little smaller
    return "\n".join([
        rf"\begin{{{environment}}}",
        r"  \centering",
        rf"  \includegraphics[width={width}]{{{drawn.name}{ending}.pdf}}",
        rf"  \caption{{{breakable(drawn.title)}. {breakable(drawn.caption)}}}",
        rf"  \label{{fig:{drawn.name}}}",
        rf"\end{{{environment}}}",
        "",
    ])  # fmt: skip


def _main(figures: Sequence[str], tables: Sequence[str]) -> str:
    return "\n".join([
        r"\ifdefined\onecolumnarticle\documentclass{article}\else\documentclass[twocolumn]{article}\fi",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage{textcomp,graphicx,booktabs,siunitx}",
        r"\begin{document}",
        r"\section{Methods}",
        r"\input{methods.tex}",
        r"\section{Results}",
        *(rf"\input{{{name}}}" for name in figures),
        *(rf"\input{{../tables/{name}.tex}}" for name in tables),
        r"\bibliographystyle{plain}",
        r"\nocite{*}",
        r"\bibliography{references}",
        r"\end{document}",
        "",
    ])  # fmt: skip
