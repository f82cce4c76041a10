"""The commands on other boards: target setup and, for the board's side, target serve."""

from __future__ import annotations

import click

from bench import text
from bench.errors import RequestError


@click.group()
def target() -> None:
    """Boards on which cells run, see docs/fleet.md."""


@target.command()
@click.argument("name", metavar="TARGET")
@click.option("--python", default="python3", show_default=True, metavar="PATH", help="Python there, 3.11 or later.")
@click.option("--no-index", is_flag=True, help="Fetch nothing: torch and the other packages are there already.")
def setup(name: str, python: str, no_index: bool) -> None:
    """Install this version of jouletune on TARGET, e.g. ssh:pi5, in an environment of its own."""
    from bench.targets.setup import setup as install
    from bench.targets.ssh import Ssh
    from bench.targets.target import target_of

    board = target_of(name)
    if not isinstance(board, Ssh):
        raise RequestError(f"{name}: expected ssh:HOST")
    text.echo(f"{name}: jouletune {install(board, python=python, index=not no_index)} answers there")


@target.command(hidden=True)
def serve() -> None:
    """Serve a run on another machine over standard input and output. `jouletune run --target` starts it over ssh."""
    from bench.targets.serve import main

    main()
