"""The commands on a suite: run, ls, validate, fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench import text
from bench.cli import read
from bench.errors import INTERRUPTED, RequestError, nearest


@click.command()
@click.argument("suite")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: results/SUITE]")
@click.option(
    "--source", default="auto", show_default=True, metavar="NAME", help="Energy source; see `jouletune sources`."
)
@click.option(
    "--device", default="cpu", show_default=True, metavar="DEVICE", help="Torch device that trains, e.g. cuda."
)
@click.option("--cells", metavar="GLOB", help="Only cells whose id matches, e.g. 'digits-*/fc/*'.")
@click.option("--repeats", type=click.IntRange(min=1), help="Run at most N repeats of each cell.", metavar="N")
@click.option("--dry-run", is_flag=True, help="Print the repeats that would run, and stop.")
@click.option("--fresh", is_flag=True, help="Rename the run in the folder, and start a new one.")
@click.option("--retry", is_flag=True, help="Run again the repeats that failed, timed out or have grade X.")
def run(suite: str, out: Path | None, dry_run: bool, **options: Any) -> int:
    """Run the repeats of SUITE that the run folder lacks. SUITE is a shipped name or a path.

    Ctrl-C or a kill loses the running repeat only; the same command continues the run.
    """
    from bench.suite.load import load_suite

    loaded = load_suite(suite)
    if options["repeats"] is not None and options["repeats"] > loaded.suite.energy.repeats:
        raise RequestError(f"--repeats {options['repeats']} is more than the suite's {loaded.suite.energy.repeats}")
    folder = out if out is not None else Path("results") / loaded.suite.name
    if dry_run:
        return _dry_run(loaded.suite, folder, **options)
    from bench.run.runner import RunOptions, run_suite

    console = text.console()
    result = run_suite(loaded, RunOptions(out=folder, **options), console)
    if result.interrupted:
        text.echo(f"stopped; {result.finished} repeats are finished, the same command goes on", err=True)
        return INTERRUPTED
    read.write_report_of([folder], folder, console)
    if result.unmeasured:
        text.echo(f"{result.unmeasured} repeats without usable joules (grade X); --retry measures them again", err=True)
    if result.failed:
        text.echo(f"{result.failed} repeats failed, see {folder / 'cells.jsonl'}; --retry runs them again", err=True)
    return 1 if result.failed else 0


@click.command("ls")
@click.argument("name", required=False)
def list_suites(name: str | None) -> None:
    """List the shipped suites, or print the suite NAME, to copy and change."""
    from bench.suite.load import load_suite, shipped_suites

    names = shipped_suites()
    if name is not None:
        if name not in names:
            raise RequestError(f"no suite is called {name!r}; {nearest(name, names)}")
        text.echo(*names[name].read_text(encoding="utf-8").splitlines())
        return
    width = max(map(len, names))
    for known in names:
        suite = load_suite(known).suite
        text.echo(f"{known:{width}}  {len(suite.cells()):4} cells x {suite.energy.repeats}  {suite.title}")


@click.command()
@click.argument("suite")
def validate(suite: str) -> None:
    """Check SUITE, print its cells and an estimate of its time."""
    from bench.suite.estimate import suite_seconds
    from bench.suite.load import load_suite

    checked = load_suite(suite).suite
    cells = checked.cells()
    text.echo(*(cell.cell_id for cell in cells))
    seconds = suite_seconds(checked, cells)
    takes = "no estimate of the time for this model" if seconds is None else f"roughly {text.duration(seconds)} here"
    text.echo(f"{checked.name}: {len(cells)} cells x {checked.energy.repeats} repeats, {takes}", err=True)


@click.command()
@click.argument("name", required=False)
def fetch(name: str | None) -> None:
    """Download the dataset or checkpoint NAME, or list what can be downloaded."""
    from bench.data import fetch as downloads

    if name is None:
        for known, about in downloads.fetchable().items():
            text.echo(f"{known:14} {about}")
        return
    text.echo(f"{name}: {downloads.fetch(name, text.console())}")


def _dry_run(suite: Any, folder: Path, *, cells: str | None, repeats: int | None, retry: bool, **_: Any) -> int:
    """Print the repeats that a command would run, in their order."""
    from bench.run.plan import make_plan
    from bench.store.run_dir import RunDir

    plan = make_plan(suite, RunDir(folder).records(), cells=cells, repeats=repeats, retry=retry)
    for repeat in plan.pending:
        text.echo(f"{repeat.cell.cell_id} #{repeat.number}")
    text.echo(f"{len(plan.pending)} of {plan.wanted} repeats would run -> {folder}", err=True)
    return 0
