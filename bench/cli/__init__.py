"""The command line: one module per group of commands, and `main`, its entry point."""

import sys

if sys.argv[:1] == ["-m"] and not __file__.startswith(f"{sys.path[0]}/"):
    # `python -m bench.cli` puts the current folder first; a yaml.py or click.py in it is not the library
    del sys.path[0]

from bench.cli.commands import cli, main  # after the path is set

__all__ = ["cli", "main"]
