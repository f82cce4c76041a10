"""The page of `jouletune sources`: sources that can measure here, that lack permission, need a name or are absent."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

import click

from bench.text import shown
from hardware.registry import SOURCES
from hardware.source import Found, NoPermission, NotFound, Probe

Probes = Sequence[tuple[str, Probe]]

MAX_WIDTH = 100
MADE_UP = ("simulated", "replay", "none")
"""They measure nothing and work everywhere."""

EXAMPLES = {"um24c": "um25c:/dev/rfcomm0", "tc66": "tc66:/dev/ttyACM0", "csv": "csv:/dev/ttyUSB0?baud=115200"}


def page(probes: Probes, ports: str, *, width: int | None = None) -> str:
    """Format the page, with ANSI colours, which `click.echo` removes where the output is no terminal.

    Args:
        probes: of `hardware.probe_all`.
        ports: the serial ports of this host in words.
        width: columns; None: those of the terminal, `MAX_WIDTH` at most.
    """
    columns = min(width or shutil.get_terminal_size((80, 24)).columns, MAX_WIDTH)
    measuring = [(name, probe) for name, probe in probes if name not in MADE_UP]
    found = [(name, probe.why) for name, probe in measuring if isinstance(probe, Found)]
    barred = [(name, probe.how_to_fix) for name, probe in measuring if isinstance(probe, NoPermission)]
    missing = [(name, probe.reason) for name, probe in measuring if isinstance(probe, NotFound)]
    to_name = [name for name, _ in missing if name in SOURCES and SOURCES[name].argument == "PORT"]
    absent = [(name, reason) for name, reason in missing if name not in to_name]
    lines = _section("Can measure here", "green", found, columns)
    if not found:
        lines += _section("Nothing can measure here", "red", [], columns)
    lines += _section("Here, but not readable yet", "yellow", barred, columns)
    if to_name:
        lines += _heading("On a port, so it has to be named", "yellow")
        lines += _wrapped(", ".join(to_name), columns, "  ")
        examples = [example for name, example in EXAMPLES.items() if name in to_name]
        if examples:
            lines += _wrapped(f"e.g. --source {'  or  '.join(examples)}", columns, "  ")
        lines += [*_wrapped(ports, columns, "  "), ""]
    lines += _section("Not here", "red", absent, columns)
    made_up = [(name, getattr(probe, "why", getattr(probe, "reason", ""))) for name, probe in probes if name in MADE_UP]
    lines += _section("Measure nothing, work everywhere", "cyan", made_up, columns)
    others = [name for name, _ in probes if name not in SOURCES]
    plugged = ", ".join(others) if others else "none installed"
    lines += _wrapped(f"Sources of other packages (entry points jouletune.sources): {plugged}.", columns)
    lines += _wrapped(_automatic(probes), columns)
    lines += _wrapped("Try one with `jouletune meter NAME`; all of them: docs/sources.md.", columns)
    return "\n".join(lines)


def _automatic(probes: Probes) -> str:
    """A sentence with the source that `auto` takes for training on the CPU."""
    known = dict(probes)
    for name, entry in SOURCES.items():
        if entry.auto_for & {"*", "cpu"} and isinstance(known.get(name), Found):
            return f"Without --source a run on the CPU takes {name}."
    return "A run needs --source here: nothing was found that `auto` could take; 'none' measures accuracy only."


def _section(title: str, colour: str, rows: Sequence[tuple[str, str]], columns: int) -> list[str]:
    if not rows:
        # "Nothing can measure here" stands alone; other sections without rows are left out
        return [*_heading(title, colour), ""] if title.startswith("Nothing") else []
    indent = max(len(name) for name, _ in rows) + 4
    if indent > columns // 3:  # a plug-in with a long name
        indent = 6
    lines = _heading(title, colour)
    for name, text in rows:
        first = f"  {shown(name)}".ljust(indent)
        if len(first) > indent:
            lines += [first, *_wrapped(text, columns, " " * indent)]
            continue
        wrapped = _wrapped(text, columns, " " * indent)
        lines += [first + (wrapped[0][indent:] if wrapped else ""), *wrapped[1:]]
    return [*lines, ""]


def _heading(title: str, colour: str) -> list[str]:
    return [click.style(title, fg=colour, bold=True)]


def _wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    # long words are commands and paths, which must stay whole to be copied
    return textwrap.wrap(
        shown(" ".join(text.split())),
        columns,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
