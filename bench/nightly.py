"""The command that looks at many runs of one device: `history`."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import click

from bench.errors import RequestError


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...")
@click.option("--index", type=click.Path(path_type=Path), metavar="FILE", help="Where summaries are kept.")
@click.option("--like", metavar="RUN", help="The run whose device, meter and suite count.  [default: most runs']")
@click.option("--across", is_flag=True, help="Take all runs, whatever device, meter and settings they have.")
@click.option("--partial", is_flag=True, help="Count runs with fewer repeats than their suite asks for.")
@click.option("--margin", metavar="LIMITS", help="What is too small to matter.  [default: joules:2%,accuracy:0.5]")
@click.option("--net", is_flag=True, help="Joules net of idle power instead of gross.")
@click.option("--fail-on", metavar="LIMITS", help="Exit 1 where a change for the worse stands: joules:5%,accuracy:1.")
@click.option("--since", metavar="DAY", help="Fail only on changes that began on this day or later, e.g. 2026-03-04.")
@click.option("--html", is_flag=True, help="Also write history.html, a page.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for history.csv, history.md and the page.")
def history(folders: tuple[str, ...], out: Path | None, **options: Any) -> int:
    """Say since which night a cell costs more or less than it did, over many runs of one device.

    DIR is a run folder or a folder of run folders; what is read of a run is kept in an index beside it.
    Nothing is called a change that may be chance.
    """
    rules, since = _rules(**options)
    from rich.console import Console

    from bench.history import Choice, show
    from bench.history import history as history_of
    from bench.progress import RunProgress

    choice = Choice(like=options["like"], across=options["across"], partial=options["partial"])
    console = Console(highlight=False)
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
            bar.__exit__(None, None, None)
    written = [*show.write(found, out)] if out is not None else []
    if options["html"]:
        from plots.history import write_history

        written.append(write_history(found, (out or found.nights.home) / "history.html"))
    console.width = min(console.width, show.WIDTH)
    console.print(show.terminal(found))
    if written:
        console.print("written: " + ", ".join(map(str, written)), soft_wrap=True)
    failing = found.failing(since)
    if failing:
        click.echo(show.failing_sentence(failing, found), err=True)
    return 1 if failing else 0


def _rules(fail_on: str | None, margin: str | None, net: bool, across: bool, since: str | None, **_: Any) -> Any:
    """Rules and the day; a wrong option is told before anything is read.

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
