"""The command line: one module per group of commands, and `main`, its entry point."""

from bench.cli.commands import cli, main

__all__ = ["cli", "main"]
