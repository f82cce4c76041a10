"""`python -m bench.cli` is `jouletune`."""

from bench.cli.commands import main

main()
