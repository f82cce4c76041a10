"""Commands that read finished runs: report, compare, export, history. Each imports what it needs when it is called."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import text
from bench.errors import JouletuneError, RequestError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def _ci_options(command: Any) -> Any:
    """Add the options of a command whose verdicts a CI server shows."""
    junit = click.option(
        "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write verdicts as JUnit XML."
    )
    github = click.option("--github", is_flag=True, help="Print proven changes as annotations of GitHub's workflows.")
    return junit(github(command))


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--base",
    "bases",
    multiple=True,
    metavar="BASE",
    help="Also compare RUN with BASE, or with `paper`. May be given several times.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to.  [default: the run's own]")
@click.option(
    "--for-paper", is_flag=True, help="Also write paper/: figures as PDF, captions, methods and BibTeX for LaTeX."
)
def report(runs: tuple[str, ...], bases: tuple[str, ...], out: Path | None, for_paper: bool) -> None:
    """Write tables, figures and report.html of runs; `paper` stands for the published tables.

    RUN is a run folder or a file of pytest-benchmark. What cannot be read is named and left out.
    """
    from bench.catalog.paper import PUBLISHED
    from bench.store.benchmark_json import is_json
    from bench.store.fleet_dir import with_boards

    given, runs = runs, tuple(map(str, with_boards(runs)))
    if out is None and len(given) == 1 and runs != given:
        out = Path(given[0])  # a fleet's report stands in its own folder
    if out is None and (len(runs) > 1 or runs[0] == PUBLISHED or is_json(runs[0])):
        raise RequestError("--out is missing: several runs, the published tables and a file have no folder to write to")
    if bases and len(runs) > 1:
        raise RequestError(f"--base compares one run, not {len(runs)}; report each on its own")
    if out is not None:
        _check_out(out)
    write_report_of([*runs], out or Path(runs[0]), text.console(), bases, for_paper=for_paper)


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("base", metavar="BASE")
@click.option(
    "--fail-on", metavar="LIMITS", help="Exit 1 where a condition is worse by the limit, e.g. joules:5%,accuracy:1."
)
@click.option(
    "--margin", metavar="LIMITS", help="Changes that are too small to matter.  [default: joules:2%,accuracy:0.5]"
)
@click.option("--net", is_flag=True, help="Compare joules net of idle power instead of gross.")
@click.option("--across", is_flag=True, help="Compare even across devices, sources, grades, models and epochs.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for compare.csv, compare.md and, against `paper`, figures."
)
@_ci_options
@click.option("--only-changed", is_flag=True, help="List only conditions that are worse, better or differ.")
def compare(
    run: str, base: str, *, out: Path | None, only_changed: bool, junit: Path | None, github: bool, **options: Any
) -> int:
    """Compare RUN with BASE per condition; `paper`, `microt`, `neq-wacv24` and `trady` stand for published tables.

    Only a change beyond chance and margin is called better or worse. `not enough data` never fails a check.
    """
    from bench.compare import compare_named, make_rules, show

    if base == "microt":
        return _beside_microt(run)
    rules = make_rules(**options)  # a wrong option is refused before anything is read
    if out is not None:
        _check_out(out)
    status = 0
    for name, mine, other in _sides(run, base):
        if name:
            text.echo(f"board {name}")
        comparison = compare_named(mine, other, rules)
        written: list[Path] = []
        folder = out / name if out is not None else None
        if folder is not None:
            from plots.beside_paper import draw
            from plots.drawing.style import render

            figures = {file: content for drawn in draw(comparison) for file, content in render(drawn).files().items()}
            markdown = show.to_markdown(comparison, only_changed=only_changed)
            written += _write(folder, "compare", show.to_csv(comparison), markdown, figures)
        said_by = junit.with_name(f"{junit.stem}-{name}{junit.suffix}") if junit is not None and name else junit
        written += _tell_ci(f"{comparison.run} against {comparison.base}", show.cases(comparison), said_by, github)
        shown = show.terminal(comparison, only_changed=only_changed)
        ended = _finish(text.console(), shown, show.WIDTH, written, show.failing_sentence(comparison))
        status = max(status, ended)
    return status


def _beside_microt(run: str) -> int:
    """Print ratios and gains of a run beside those that MicroT published."""
    from bench.compare import load_run
    from bench.compare.with_microt import beside_microt, lines

    for line in lines(beside_microt(load_run(run))):
        text.echo(line)
    return 0


def _sides(run: str, base: str) -> list[tuple[str, str, str]]:
    """(board, run, base) of each comparison: one for each board that two fleets have in common, else one without.

    Raises:
        RequestError: only one of them is a fleet's, or they have no board in common.
    """
    from bench.store.fleet_dir import FleetDir

    fleets = [FleetDir(path) for path in (run, base)]
    if not any(fleet.is_one for fleet in fleets):
        return [("", run, base)]
    if not all(fleet.is_one for fleet in fleets):
        whole = next(fleet for fleet in fleets if fleet.is_one)
        raise RequestError(
            f"{whole.path}: a fleet's run is compared with another; name one board, {whole.board('BOARD')}"
        )
    mine, other = ({one.path.name: str(one.path) for one in fleet.runs()} for fleet in fleets)
    if not (both := [name for name in mine if name in other]):
        raise RequestError(f"{run} and {base}: no board in common")
    return [(name, mine[name], other[name]) for name in both]


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write: .csv, .parquet or .xlsx; with --to a folder.",
)
@click.option("--cells", is_flag=True, help="One row per cell, as summary.csv, instead of one per repeat.")
@click.option(
    "--to", type=click.Choice(["mlflow", "wandb", "boamps"]),
    help="Write each condition into the folder --out: MLflow's file store, offline runs of W&B, or BoAmps reports.",
)  # fmt: skip
@click.option(
    "--mlperf-tiny", is_flag=True, help="Write inferences of boards as MLPerf Tiny's runner does, into --out DIR."
)
def export(runs: tuple[str, ...], out: Path, cells: bool, to: str | None, mlperf_tiny: bool) -> None:
    """Write the records of runs as one table, one row per repeat. In Python: bench.load(RUN...).

    RUN is a run folder, a file of pytest-benchmark, or `paper`. What cannot be read is named and left out.
    """
    from bench.analysis import export as frame

    if mlperf_tiny and (cells or to is not None or out.is_file() or out.suffix in frame.WRITERS):
        raise RequestError("--mlperf-tiny writes into a folder; give --out DIR, no --cells and no --to")
    if to is not None:
        if cells or out.is_file() or out.suffix in frame.WRITERS:
            raise RequestError(f"--to {to} writes into a folder, one entry per condition; give --out DIR, no --cells")
    elif not mlperf_tiny:
        frame.check_target(out)
    from bench.store.fleet_dir import with_boards

    results = frame.load_every_field(*with_boards(runs))
    for sentence in results.damage:
        text.echo(f"warning: {sentence}", err=True)
    if mlperf_tiny:
        from bench.analysis import mlperf_tiny as tiny

        text.echo(f"{out}: {tiny.export(results, out)} conditions as MLPerf Tiny's runner writes them")
        return
    if to is not None:
        from bench.analysis import trackers

        text.echo(f"{out}: {trackers.export(results, to, out)} conditions for {to}")
        return
    rows = frame.export(results, out, cells=cells)
    text.echo(f"{out}: {rows} rows")


def write_report_of(
    runs: list[Any], out: Path, console: Any, bases: tuple[str, ...] = (), *, for_paper: bool = False
) -> None:
    """Tables, figures and page into a folder, and the table to the terminal."""
    from bench.analysis.findings import analyse
    from bench.analysis.terminal import terminal_table
    from bench.catalog.paper import PUBLISHED
    from bench.compare import compare, of_the_paper
    from bench.read.results import load
    from bench.store.run_dir import RunDir
    from plots.report import write_report

    results = load(*runs, skip_damaged=True)
    others = [load(base, skip_damaged=True) for base in bases]
    comparisons = [compare(results, other) for other in others]  # what is refused is refused before a file is written
    if PUBLISHED not in bases and of_the_paper(results):
        with contextlib.suppress(RequestError):  # it is an extra: a part of the suite may have nothing in common
            comparisons.append(compare(results, load(PUBLISHED)))
    damage = dict.fromkeys(sentence for one in (results, *others) for sentence in one.damage)
    results = dataclasses.replace(results, damage=tuple(damage))
    analysis = analyse(results)
    console.print(terminal_table(results, analysis))
    try:
        written = write_report(results, RunDir(out), analysis, comparisons=comparisons, for_paper=for_paper)
    except JouletuneError as error:
        names = " ".join(map(str, runs))
        raise type(error)(
            f"{error}. The records are safe: `jouletune report {names} --out DIR` writes the report elsewhere"
        ) from error
    for sentence in written.damage:
        text.echo(f"warning: {sentence}", err=True)
    text.echo(f"report: {written.html}")


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
def verify(run: Path) -> int:
    """Check RUN against the hashes taken while it ran: records, traces, model code, data, source weights and index.

    Exit status 1 where something changed or is damaged. What is not here to be checked is named. Data and weights are
    prepared as for a run, which takes as long where they are not in the cache; nothing is written into RUN.
    """
    import tempfile

    from bench.history.index import NAME, Index, Stamp
    from bench.run.health import Finding
    from bench.run.verify import check
    from bench.store.run_dir import RunDir

    folder = RunDir.existing(run)
    with tempfile.TemporaryDirectory() as scratch:
        wrong = []
        for found in check(folder, Path(scratch) / "worker.log"):
            text.echo(str(found))
            wrong += [found.what] if found.right is False else []
    index = Index.open(run.resolve().parent / NAME, chosen=False)
    lacks = index.lacks(run.resolve().name, Stamp.of(folder))
    text.echo(str(Finding("index", None if lacks else True, lacks or f"{NAME} beside the run has its summary")))
    if wrong:
        text.echo(f"{run} is not as it was written: {', '.join(wrong)}", err=True)
    return 1 if wrong else 0


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...")
@click.option(
    "--index",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File that keeps the summaries of runs.  [default: beside the runs]",
)
@click.option(
    "--like",
    metavar="RUN",
    help="Take the runs with the device, meter and suite of this one.  [default: the most frequent]",
)
@click.option("--across", is_flag=True, help="Take all runs, whatever device, meter and settings they have.")
@click.option("--partial", is_flag=True, help="Count runs with fewer repeats than their suite asks for.")
@click.option(
    "--margin", metavar="LIMITS", help="Changes that are too small to matter.  [default: joules:2%,accuracy:0.5]"
)
@click.option("--net", is_flag=True, help="Take joules net of idle power instead of gross.")
@click.option(
    "--fail-on",
    metavar="LIMITS",
    help="Exit 1 where a change for the worse by the limit stands, e.g. joules:5%,accuracy:1.",
)
@click.option("--since", metavar="DAY", help="Fail only on changes that began on this day or later, e.g. 2026-03-04.")
@click.option("--html", is_flag=True, help="Also write history.html, a page.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for history.csv, history.md and the page.")
@_ci_options
def history(folders: tuple[str, ...], out: Path | None, junit: Path | None, github: bool, **options: Any) -> int:
    """Find since which night a condition costs more or less, over many runs of one device.

    DIR is a run folder or a folder of run folders. An index beside the runs keeps what was read.
    Only a step beyond chance and margin is called a change.
    """
    from bench.store.fleet_dir import boards_below

    rules, options["since"] = _rules(**options)
    if out is not None:
        _check_out(out)
    boards = boards_below(folders)
    if not boards:
        return _history(folders, rules, out=out, junit=junit, github=github, **options)
    status = 0
    for board in boards:  # each is a device of its own
        text.echo(f"board {board}")
        file = junit.with_name(f"{junit.stem}-{board}{junit.suffix}") if junit is not None else None
        into = out / board if out is not None else None
        ended = _history(folders, rules, out=into, junit=file, github=github, board=board, **options)
        status = max(status, ended)
    return status


def _history(
    folders: tuple[str, ...], rules: Any, *, since: str | None, out: Path | None, junit: Path | None, github: bool,
    board: str | None = None, **options: Any,
) -> int:  # fmt: skip
    """Find, print and write the history of one device."""
    from bench.history import Choice, show
    from bench.history import history as history_of
    from bench.run.progress import RunProgress

    choice = Choice(like=options["like"], across=options["across"], partial=options["partial"], board=board)
    console = text.console()
    bars: list[RunProgress] = []

    def progress(done: int, total: int, name: str) -> None:
        if not bars:
            bars.append(RunProgress(console, "runs read", total).__enter__())
        bars[0].to(done)
        bars[0].now(name)

    try:
        found = history_of(folders, rules=rules, choice=choice, index_file=options["index"], progress=progress)
    finally:
        for bar in bars:
            bar.__exit__()
    written: list[Path] = []
    pages: dict[str, bytes] = {}
    if options["html"]:
        from plots.page.history_page import render, write_history

        if out is None:
            written.append(
                write_history(found, found.nights.home / (f"history-{board}.html" if board else "history.html"))
            )
        else:
            pages["history.html"] = _encoded(render(found))
    if out is not None:
        written += _write(out, "history", show.to_csv(found), show.to_markdown(found), pages)
    written += _tell_ci("history", show.cases(found, found.failing(since)), junit, github)
    short = show.failing_sentence(found.failing(since), found)
    return _finish(console, show.terminal(found), show.WIDTH, written, short)


def _tell_ci(name: str, cases: list[Any], junit: Path | None, github: bool) -> list[Path]:
    """Write verdicts as JUnit's XML, and print them as annotations of GitHub's; return the file.

    Raises:
        JouletuneError: the file cannot be written.
    """
    from bench.analysis import ci
    from bench.store.durable import write_atomic

    if github:
        text.echo(*ci.github(cases) or ["no annotation: no proven change"])
    if junit is None:
        return []
    write_atomic(junit, ci.junit(name, cases))
    return [junit]


def _check_out(folder: Path) -> None:
    from plots.outputs import check_folder

    check_folder(folder)


def _write(folder: Path, name: str, csv: str, markdown: str, more: dict[str, bytes]) -> list[Path]:
    """Write a table as CSV and as Markdown, and other files, into a folder.

    Raises:
        RequestError: a file of that name is there that the command did not write.
        JouletuneError: a file cannot be written.
    """
    from plots.outputs import write_files

    files = {f"{name}.csv": _encoded(csv), f"{name}.md": _encoded(markdown), **more}
    write_files(folder, files, name)
    return [folder / file for file in files]


def _encoded(text: str) -> bytes:
    """Encode as UTF-8. A lone surrogate, which the name of a folder may hold, becomes an escape such as `\\udcff`."""
    return text.encode("utf-8", "backslashreplace")


def _finish(console: Console, shown: RenderableType, width: int, written: list[Path], short: str) -> int:
    """Print a table, the files that were written, and what fell short; return the exit status."""
    console.width = min(console.width, width)
    console.print(shown)
    if written:
        text.echo("written: " + ", ".join(map(str, written)))
    if short:
        text.echo(short, err=True)
    return 1 if short else 0


def _rules(fail_on: str | None, margin: str | None, net: bool, across: bool, since: str | None, **_: Any) -> Any:
    """Make the rules and the day of the options, before anything is read.

    Raises:
        RequestError: an option is wrong.
    """
    from bench.compare import make_rules

    rules = make_rules(fail_on=fail_on, margin=margin, net=net, across=across)
    if since is not None:
        if fail_on is None:
            raise RequestError("--since says from when on to fail, so it needs --fail-on")
        try:
            since = date.fromisoformat(since).isoformat()
        except ValueError:
            raise RequestError(f"--since: expected a day such as 2026-03-04, not {since!r}") from None
    return rules, since
