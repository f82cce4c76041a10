"""The commands on many boards: fleet check and fleet run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import text
from bench.cli.run import complete_suite
from bench.errors import INTERRUPTED, RequestError

if TYPE_CHECKING:
    from bench.fleet.run import Row

BOARDS = click.option("--boards", multiple=True, metavar="TAG", help="Only boards with this tag or name; repeatable.")


CERTIFICATES = click.option(
    "--certificates", type=click.Path(path_type=Path), metavar="DIR", help="Folder of `jouletune fleet certificates`."
)


@click.group()
def fleet() -> None:
    """Many boards at once, see docs/fleet.md."""


@fleet.command()
@click.argument("inventory", type=click.Path(path_type=Path), default="inventory.yaml")
@BOARDS
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Length of the idle baseline; 0: none.",
)
def check(inventory: Path, boards: tuple[str, ...], seconds: float) -> int:
    """Look at all boards of INVENTORY at once: reachable, version, meter, idle power, temperature, disk."""
    from rich.table import Table
    from rich.text import Text

    from bench.fleet.inventory import load_inventory
    from bench.fleet.probe import share_a_meter
    from bench.fleet.run import states_of

    chosen = load_inventory(inventory).tagged(boards)
    states = states_of(chosen, idle_s=seconds)
    table = Table(box=None, pad_edge=False)
    for heading in ("board", "reached", "version", "meter", "idle", "temperature", "free", "problem"):
        table.add_column(heading, no_wrap=heading != "problem")
    for state in states:
        meter = " ".join(str(state.meter[key]) for key in ("model", "serial") if state.meter and state.meter.get(key))
        cells = (
            state.board.name,
            "no" if state.version is None else "yes",
            state.version or "",
            meter or (state.board.spec.source if state.meter is not None else ""),
            "" if state.idle_w is None else f"{state.idle_w:.3g} W",
            "" if state.temperature_c is None else f"{state.temperature_c:.0f} degC",
            "" if state.free_bytes is None else f"{state.free_bytes / 1e9:.1f} GB",
            state.problem or "",
        )
        table.add_row(*(Text(text.shown(cell)) for cell in cells))
    text.console().print(table)
    shared = share_a_meter(states)
    text.echo(*shared, err=True)
    return 1 if shared or any(state.problem for state in states) else 0


@fleet.command()
@click.argument("suite", shell_complete=complete_suite)
@click.option(
    "--inventory", type=click.Path(path_type=Path), default="inventory.yaml", show_default=True, metavar="FILE"
)
@BOARDS
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the fleet's run.  [default: results/SUITE-fleet]"
)
@click.option("--share", is_flag=True, help="Share the cells out among equal boards, in place of all on each.")
@click.option("--cells", metavar="GLOB", help="Only cells whose id matches.")
@click.option("--repeats", type=click.IntRange(min=1), metavar="N", help="Run at most N repeats of each cell.")
@click.option("--retry", is_flag=True, help="Run again the repeats that failed, timed out or have grade X.")
@click.option(
    "--scheduler", metavar="ADDRESS", help="Boards of the gateways of a scheduler of Dask, in place of an inventory."
)
@CERTIFICATES
def run(suite: str, inventory: Path, boards: tuple[str, ...], out: Path | None, **options: Any) -> int:
    """Run SUITE on all boards of an inventory at once, into one run folder for each.

    Ctrl-C or a kill loses the running repeats only; the same command goes on.
    """
    from bench.fleet.inventory import load_inventory
    from bench.fleet.run import Fleet, FleetOptions
    from bench.suite.load import load_suite

    loaded = load_suite(suite)
    scheduler, certificates = options.pop("scheduler"), options.pop("certificates")
    if scheduler is not None:
        from bench.fleet.scheduler import Scheduled

        if boards:
            raise RequestError("--boards chooses from an inventory; with --scheduler the gateways' boards are taken")
        wanted = FleetOptions(out=out or Path("results") / f"{loaded.suite.name}-fleet", **options)
        scheduled = Scheduled(loaded, wanted, text.console(), scheduler, certificates)
        return _end(scheduled.run(), scheduled.rows, wanted.out)
    chosen = load_inventory(inventory).tagged(boards)
    folder = out if out is not None else Path("results") / f"{loaded.suite.name}-fleet"
    console = text.console()
    made = Fleet(loaded, chosen, FleetOptions(out=folder, **options), console)
    problems = {name: problem for name, problem in made.check().items() if problem}
    if problems:
        text.echo(*(f"{name}: {problem}" for name, problem in problems.items()), err=True)
        raise RequestError(f"{len(problems)} of {len(chosen.boards)} boards are not ready; nothing was run")
    return _end(made.run(), made.rows, folder)


def _end(finished: bool, rows: dict[str, Row], folder: Path) -> int:
    """Print how far the boards came; return the exit status."""
    from bench.fleet.run import table_of

    text.console().print(table_of(rows))
    if not finished:
        text.echo("stopped; the same command goes on", err=True)
        return INTERRUPTED
    text.echo(f"jouletune report {folder}   shows the boards together")
    wrong = [row for row in rows.values() if row.state != "done" or row.failed]
    return 1 if wrong else 0


@fleet.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
def certificates(folder: Path) -> None:
    """Make the certificates of a fleet in DIR. Whoever has them may run code on its gateways."""
    from bench.fleet.certificates import FILES, make_certificates

    make_certificates(folder)
    ca, certificate, key = (folder / file for file in FILES)
    text.echo(
        f"copy {folder} over ssh to each gateway; the scheduler is started with",
        f"dask scheduler --protocol tls --tls-ca-file {ca} --tls-cert {certificate} --tls-key {key}",
    )


@fleet.command()
@click.argument("address", metavar="ADDRESS")
@click.option(
    "--inventory", type=click.Path(path_type=Path), default="inventory.yaml", show_default=True, metavar="FILE"
)
@BOARDS
@CERTIFICATES
@click.option(
    "--work", type=click.Path(path_type=Path), default="gateway", show_default=True, help="Folder for its runs."
)
def gateway(address: str, inventory: Path, boards: tuple[str, ...], certificates: Path | None, work: Path) -> None:
    """Offer the boards of an inventory, which hang on this machine, to the scheduler at ADDRESS."""
    from bench.fleet.certificates import security
    from bench.fleet.gateway import serve
    from bench.fleet.inventory import load_inventory

    chosen = load_inventory(inventory).tagged(boards)
    serve(address, security(address, certificates), chosen, work)
