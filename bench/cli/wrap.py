"""The command wrap: measure any other command."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import text
from bench.errors import RequestError, show

if TYPE_CHECKING:
    from bench.store.record import Record

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--name", metavar="NAME", help="What the records call it.  [default: the program's name]")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: results/wrap/NAME-TIME]")
@click.option(
    "--source", default="auto", show_default=True, metavar="NAME", help="Energy source; see `jouletune sources`."
)
@click.option(
    "--per",
    metavar="UNIT=N",
    help="Joules per unit instead of per run: a number, e.g. tokens=1234, or a regular expression with one group that "
    "finds it in a line of the output, e.g. tokens='([0-9]+) tokens'.",
)
@click.option("--repeats", type=click.IntRange(1, 1000), default=1, show_default=True, help="Windows to measure.")
@click.option(
    "--min-window",
    type=click.FloatRange(0, 86_400),
    default=0.0,
    show_default=True,
    help="Run it again within a window until that is so long, s; 0: once.",
)
@click.option(
    "--idle", type=click.FloatRange(0, 3600), default=30.0, show_default=True, help="Length of idle baselines, s."
)
@click.option(
    "--guard", type=click.FloatRange(0, 60), default=2.0, show_default=True, help="Quiet before and after, s."
)
@click.option(
    "--cooldown", type=click.FloatRange(0, 3600), default=120.0, show_default=True,
    help="Longest wait between two windows for the device to cool down, s.",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def wrap(
    command: tuple[str, ...],
    name: str | None,
    out: Path | None,
    source: str,
    per: str | None,
    **how: Any,
) -> int:
    """Measure the joules of COMMAND and of every process that it starts.

    Its output, input, signals and exit status are passed on as they are; what jouletune prints goes to stderr. The
    records go to a run folder, for `report`, `compare`, `history` and `export`; --out continues one, with more repeats
    or with other commands under other names.
    """
    from bench.run.wrapped import Wrapped, stamp
    from bench.suite.suite import EnergySpec
    from bench.work.command import Command, Per

    work = Command(command, None if per is None else Per.parse(per))
    chosen = name or re.sub(r"[^a-z0-9._-]+", "-", Path(command[0]).name.lower()).strip("._-")[:64] or "command"
    if not NAME.fullmatch(chosen):
        raise RequestError(f"--name {show(chosen)}: expected a-z, 0-9, '.', '_', '-', at most 64 characters")
    energy = EnergySpec(
        repeats=how["repeats"],
        min_window_s=how["min_window"],
        idle_s=how["idle"],
        guard_s=how["guard"],
        cooldown_s=how["cooldown"],
    )
    folder = out or Path("results") / "wrap" / f"{chosen}-{stamp()}"
    wrapped = Wrapped(work, name=chosen, out=folder, source=source, energy=energy)

    def say(line: str) -> None:
        if not how["quiet"]:
            text.echo(line, err=True)

    say(f"energy: {wrapped.meter.choice.why}")
    ended = None
    with contextlib.closing(wrapped.records()) as records:
        for record, last in records:
            ended = last
            say(_line(record))
    say(f"records: {folder}; `jouletune report {folder}` makes tables, figures and a page")
    assert ended is not None, "at least one repeat, or an error"
    if ended.signal is not None:
        _end_alike(ended.signal)
    return ended.status or 0


def _line(record: Record) -> str:
    """A repeat in one line."""
    figures = [f"{record.train_time_s:.4g} s" if record.train_time_s is not None else ""]
    if record.energy_gross_j is not None and record.grade != "X":
        net = "" if record.energy_net_j is None else f", net {_j(record.energy_net_j, record.energy_net_u_j)}"
        figures.insert(0, f"{_j(record.energy_gross_j, record.energy_u_j)}{net}")
    each = f" for each of {record.units:g} {record.unit}" if record.units else ""
    times = f", {record.executions} runs" if (record.executions or 1) > 1 else ""
    grade = f", grade {record.grade}" if record.grade else ""
    flags = f" ({', '.join(record.flags)})" if record.flags else ""
    error = f"; {record.error}" if record.error else ""
    return f"{record.arm} #{record.repeat}: {', '.join(filter(None, figures))}{each}{times}{grade}{flags}{error}"


def _j(value_j: float, u_j: float | None) -> str:
    size, unit = text.joule_scale(value_j)
    interval = "" if u_j is None else f" \N{PLUS-MINUS SIGN} {u_j / size:.2g}"
    return f"{value_j / size:.4g}{interval} {unit}"


def _end_alike(number: int) -> None:
    """End by the signal that ended the command, without a core of our own."""
    import resource

    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
