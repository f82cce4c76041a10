"""The command line: the commands and the entry point. Imports what `--help` needs; each command imports the rest."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import click

from bench import __version__
from bench.cli import (
    advise,
    battery,
    blocks,
    completion,
    firmware,
    fleet,
    load,
    meters,
    methods,
    output,
    read,
    run,
    target,
    wrap,
)
from bench.errors import INTERRUPTED, JouletuneError, RequestError
from bench.text import echo


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, invoke_without_command=True
)
@click.version_option(__version__, prog_name="jouletune")
@click.pass_context
def cli(context: click.Context) -> None:
    """Measure which part of a model to fine-tune on this device: the accuracy it gives and the joules it costs.

    \b
    Start with:   jouletune run quickstart
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        return
    try:
        Path.cwd()
    except OSError as error:
        raise RequestError(f"the current folder is not there any more ({error.strerror}); change to another") from None


for command in (run.run, wrap.wrap, run.list_suites, run.validate, methods.methods, meters.sources, run.fetch,
                read.report, read.compare, read.export, read.verify, load.load, meters.meter, meters.calibrate,
                read.history, battery.battery, meters.health, blocks.blocks, target.target, fleet.fleet,
                firmware.firmware, advise.advise, completion.completion):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Run the command line, and exit: what goes wrong for a known reason is one line on stderr, never a traceback."""
    output.install()
    sys.exit(output.finish(_exit_status()))


def _short_of(error: Exception) -> str | None:
    """Name what the surroundings of a process did not grant it; None for any other error, which is ours."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or "failed to map" in str(error):
        return "out of memory; close other programs, or raise the limit (`ulimit -v`)"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many open files; raise the limit (`ulimit -n`)"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{str(error.filename)[:80]}...: too long for a path"
    return None


def _exit_status() -> int:
    """Run the command that the arguments name, print its error, and return its exit status."""
    try:
        status = cli.main(prog_name="jouletune", standalone_mode=False)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "jouletune"
        echo(f"error: {' '.join(error.format_message().split())} (see `{command} --help`)", err=True)
        return RequestError.exit_status
    except JouletuneError as error:
        echo(f"error: {error}", err=True)
        return error.exit_status
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (MemoryError, OSError, ImportError) as error:
        reason = _short_of(error)
        if reason is None:
            raise
        echo(f"error: {reason}", err=True)
        return RequestError.exit_status
    return status if isinstance(status, int) else 0
