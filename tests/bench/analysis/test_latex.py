"""LaTeX of a report: it compiles in an article of one and of two columns, and nothing sticks out."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.analysis import analyse, from_records, load
from bench.analysis.latex import to_latex
from bench.analysis.tables import Entry, Grid, grids
from bench.read.results import Results
from bench.store.run_dir import RunDir
from plots.report import write_report
from tests.bench.analysis.test_answers import run

MAX_OVERFULL_PT = 5.0

needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")


def many_arms() -> Results:
    """Nine arms with long names, data with a long name and characters that LaTeX reads otherwise, joules and theory."""
    arms = {f"block{n}": (60.0 + n, 1234.5 + n) for n in range(1, 6)} | {"fc": (70.0, 987.6), "full": (90.0, 4321.0)}
    lines: list[dict[str, Any]] = []
    for data in ("cifar10-a_very-long-label-of-data-that-does-not-fit-50%-of-a-column&more", "digits"):
        for size in (0.1, 0.2):
            lines += run(arms, data=data, size=size, seeds=3, energy_net_j=11.0, train_macs=1_000_000)
    lines += [line | {"method": "tent(steps=10,lr=0.00025)"} for line in run({"full": (91.0, 100.0)}, data="digits")]
    return from_records(lines, "50% of A_B & C")


def compile_both(folder: Path) -> list[str]:
    """Lines of the logs that say something is wrong, of one column and of two."""
    found = []
    for job, text in (("two", r"\input{main.tex}"), ("one", r"\def\onecolumnarticle{}\input{main.tex}")):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"-jobname={job}", text]
        result = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
        log = (folder / f"{job}.log").read_text(encoding="latin-1").replace("\n", " ")
        assert result.returncode == 0, log[-1500:]
        found += [
            width for width in re.findall(r"Overfull \\[hv]box \(([\d.]+)pt", log) if float(width) > MAX_OVERFULL_PT
        ]
        found += re.findall(r"Float too large for page by ([\d.]+)pt", log)
    return found


@needs_latex
@pytest.mark.parametrize(
    "results", [many_arms, pytest.param(lambda: load("paper"), marks=pytest.mark.long)], ids=["many arms", "paper"]
)
def test_a_paper_compiles_and_nothing_sticks_out(results: Callable[[], Results], tmp_path: Path) -> None:
    found = results()
    write_report(found, RunDir(tmp_path), for_paper=True)
    names = {path.name for path in (tmp_path / "paper").iterdir()}
    assert {"main.tex", "methods.tex", "references.bib", "accuracy.pdf", "accuracy-column.pdf"} <= names
    assert compile_both(tmp_path / "paper") == []


def test_figures_of_a_paper_have_its_widths_and_no_title(tmp_path: Path) -> None:
    write_report(from_records(run({"fc": (70.0, 2.0), "full": (80.0, 6.0)})), RunDir(tmp_path), for_paper=True)
    for name, width_in in (("accuracy-column", 3.4), ("accuracy", 7.0)):
        content = (tmp_path / "paper" / f"{name}.pdf").read_bytes()
        assert re.search(rb"/MediaBox \[ 0 0 (\S+)", content)[1] == f"{72 * width_in:g}".encode()  # type: ignore[index]
        assert b"STIX" in content
        assert b"DejaVu" not in content
    caption = (tmp_path / "paper" / "accuracy.tex").read_text()
    assert r"\caption{Accuracy by tuned block. Mean accuracy" in caption


def test_a_table_that_fits_a_column_is_one_and_theory_has_a_column_of_its_own() -> None:
    rows = ((Entry("digits"), Entry("input"), Entry("10 %"), Entry("74.7 ± 3.9", True, True)),)
    grid = Grid(name="x", title="T", header=("Data", "Level", "Train size", "fc"), labels=3, rows=rows, note="n.")
    text = to_latex(grid)
    assert r"\begin{table}" in text
    assert r"{\bfseries \num{74.7 +- 3.9}}$^\dagger$" in text
    results = many_arms()
    wide = {one.name: one for one in grids(results, analyse(results))}
    assert r"\begin{table*}" in to_latex(wide["accuracy"])
    saving = wide["energy_saving"]
    assert saving.header[3:5] == ("block1", "block1 by MACs")
    assert not any("theory" in entry.text for row in saving.rows for entry in row)


def test_the_methods_paragraph_and_bibtex_are_of_the_manifest() -> None:
    from bench.analysis.methods_text import bibtex, methods_text
    from bench.store.manifest import EnergySource, Manifest

    manifest = Manifest(jouletune="1.2.3", git_commit="abc", created_at="2026-05-01", seeds=[0, 1, 2],
                        source=EnergySource(name="um25c", kind="power", covers=("board",)))  # fmt: skip
    results = Results(many_arms().records, (manifest,), "t", ("r",))
    text, entries = methods_text(results, analyse(results)), bibtex(results)
    assert "jouletune~1.2.3" in text
    assert "3 seeds (0, 1, 2)" in text
    assert "um25c, a power meter" in text
    for cited in re.findall(r"\\cite\{(\w+)\}", text):
        assert re.search(rf"@\w+\{{{cited},", entries)
    assert "commit abc" in entries
    assert entries.count("{") == entries.count("}")
