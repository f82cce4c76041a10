"""The command line. Imports only what `--help` needs; each command brings in its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bench import __version__, meters, nightly, reading
from bench.errors import JouletuneError, RequestError, nearest

INTERRUPTED = 130


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, invoke_without_command=True
)
@click.version_option(__version__, prog_name="jouletune")
@click.pass_context
def cli(context: click.Context) -> None:
    """Which part of a model should be tuned on a device, what accuracy does it give, and how many joules does it cost?

    \b
    Start with:   jouletune run quickstart
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.argument("suite")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: results/SUITE]")
@click.option(
    "--source", default="auto", show_default=True, metavar="NAME", help="Energy source; see `jouletune sources`."
)
@click.option(
    "--device", default="cpu", show_default=True, metavar="DEVICE", help="Torch device that trains, e.g. cuda."
)
@click.option("--cells", metavar="GLOB", help="Only cells whose id matches, e.g. 'digits-*/fc/*'.")
@click.option("--repeats", type=click.IntRange(min=1), help="At most so many repeats of each cell, for a first look.")
@click.option("--dry-run", is_flag=True, help="Print what would run, and stop.")
@click.option("--fresh", is_flag=True, help="Set an old run in the folder aside and start anew.")
@click.option("--retry", is_flag=True, help="Run again what failed, timed out or has grade X.")
def run(suite: str, out: Path | None, dry_run: bool, **options: Any) -> int:
    """Run every cell of SUITE that the run folder lacks; SUITE is a shipped name or a path.

    Ctrl-C or a kill loses the running repeat only; the same command goes on.
    """
    from bench.suite_file import load_suite

    loaded = load_suite(suite)
    if options["repeats"] is not None and options["repeats"] > loaded.suite.energy.repeats:
        raise RequestError(f"--repeats {options['repeats']} is more than the suite's {loaded.suite.energy.repeats}")
    folder = out if out is not None else Path("results") / loaded.suite.name
    if dry_run:
        return _dry_run(loaded.suite, folder, **options)
    from rich.console import Console

    from bench.runner import RunOptions, run_suite

    console = Console()
    result = run_suite(loaded, RunOptions(out=folder, **options), console)
    if result.interrupted:
        click.echo(f"stopped; {result.finished} repeats are finished, the same command goes on", err=True)
        return INTERRUPTED
    reading.write_report_of([folder], folder, console)
    if result.unmeasured:
        click.echo(
            f"{result.unmeasured} repeats without usable joules (grade X); --retry measures them again", err=True
        )
    if result.failed:
        click.echo(f"{result.failed} repeats failed, see {folder / 'cells.jsonl'}; --retry runs them again", err=True)
    return 1 if result.failed else 0


@cli.command("ls")
@click.argument("name", required=False)
def list_suites(name: str | None) -> None:
    """List the suites that come with jouletune; with NAME, print that one, to copy and change."""
    from bench.suite_file import load_suite, shipped_suites

    names = shipped_suites()
    if name is not None:
        if name not in names:
            raise RequestError(f"no suite is called {name!r}; {nearest(name, names)}")
        click.echo(names[name].read_text(encoding="utf-8"), nl=False)
        return
    width = max(map(len, names))
    for known in names:
        suite = load_suite(known).suite
        click.echo(f"{known:{width}}  {len(suite.cells()):4} cells x {suite.energy.repeats}  {suite.title}")


@cli.command()
@click.argument("suite")
def validate(suite: str) -> None:
    """Check a suite, print its cells and how long it may take."""
    from bench.estimate import suite_seconds
    from bench.progress import duration
    from bench.suite_file import load_suite

    checked = load_suite(suite).suite
    cells = checked.cells()
    click.echo("\n".join(cell.cell_id for cell in cells))
    seconds = suite_seconds(checked, cells)
    takes = "no estimate of the time for this model" if seconds is None else f"roughly {duration(seconds)} here"
    click.echo(f"{checked.name}: {len(cells)} cells x {checked.energy.repeats} repeats, {takes}", err=True)


@cli.command()
def sources() -> None:
    """Say what can measure energy here, what cannot and why, and how to mend it."""
    import hardware
    from bench.source_page import page
    from hardware.sources.link import candidates

    click.echo(page(hardware.probe_all(), candidates()))


@cli.command()
@click.argument("name", required=False)
def fetch(name: str | None) -> None:
    """Download a dataset or a checkpoint ahead of a run; without NAME, list what there is."""
    from rich.console import Console

    from bench import fetch as downloads

    if name is None:
        for known, about in downloads.fetchable().items():
            click.echo(f"{known:14} {about}")
        return
    click.echo(f"{name}: {downloads.fetch(name, Console())}")


cli.add_command(reading.report)
cli.add_command(reading.compare)
cli.add_command(reading.export)
cli.add_command(meters.meter)
cli.add_command(meters.calibrate)
cli.add_command(nightly.history)
cli.add_command(meters.health)


def _dry_run(suite: Any, folder: Path, *, cells: str | None, repeats: int | None, retry: bool, **_: Any) -> int:
    """Print the repeats that a command would run, in their order."""
    from bench.plan import make_plan
    from bench.store import RunDir

    plan = make_plan(suite, RunDir(folder).records(), cells=cells, repeats=repeats, retry=retry)
    for repeat in plan.pending:
        click.echo(f"{repeat.cell.cell_id} #{repeat.number}")
    click.echo(f"{len(plan.pending)} of {plan.wanted} repeats would run -> {folder}", err=True)
    return 0


def main() -> None:
    """Entry point: what goes wrong for a known reason is one line on stderr and an exit status, never a traceback."""
    try:
        status = cli.main(standalone_mode=False)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "jouletune"
        click.echo(f"error: {' '.join(error.format_message().split())} (see `{command} --help`)", err=True)
        sys.exit(RequestError.exit_status)
    except JouletuneError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_status)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as in `jouletune ls | head -1`
        sys.stderr.close()
        sys.exit(0)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
