"""Show the progress of a run. It is redrawn on events alone, so that the parent sleeps while a child trains."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from bench.errors import JouletuneError
from bench.store.record import Record
from bench.text import duration, shown
from hardware import FATAL, FLAGS

LINE_EVERY_S = 15.0
"""Without a terminal a bar cannot be redrawn; then one line says how far it is, this often."""


class _TimeLeft(ProgressColumn):
    """Show the time left, from the mean duration of what this command has done, without earlier commands."""

    def render(self, task: Task) -> Text:
        left_s = task.fields.get("left_s")
        return Text("" if left_s is None else f"{duration(left_s)} left", style="cyan")


class RunProgress:
    """A bar on a terminal, lines elsewhere. Use as a context manager.

    Args:
        total: everything that the command asks for.
        done: of that, finished before.
    """

    def __init__(self, console: Console, what: str, total: int, done: int = 0) -> None:
        self._console = console
        self._what = what
        self._total = total
        self._done = self._before = done
        self._now = ""
        self._start_s = self._line_s = time.monotonic()
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _TimeLeft(),
            TextColumn("{task.fields[now]}", markup=False, style="dim"),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bars.add_task(what, total=total, completed=done, now="", left_s=None)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def now(self, what: str) -> None:
        """Show the current activity."""
        self._now = what
        self.show()

    def to(self, done: int) -> None:
        """Set the number of finished items."""
        self._done = done
        if not self._console.is_terminal and (time.monotonic() - self._line_s >= LINE_EVERY_S or done == self._total):
            self._line_s = time.monotonic()
            left = self._left_s()
            tail = f", {duration(left)} left" if left else ""
            self._console.print(f"{self._what}: {done}/{self._total}{tail}")
        self.show()

    def step(self) -> None:
        """Count one more finished item."""
        self.to(self._done + 1)

    def _left_s(self) -> float | None:
        finished = self._done - self._before
        if not finished:
            return None
        return (time.monotonic() - self._start_s) / finished * (self._total - self._done)

    def show(self) -> None:
        """Redraw the bar."""
        if self._console.is_terminal:
            self._bars.update(self._task, completed=self._done, left_s=self._left_s(), now=self._now, refresh=True)


ALIKE = 5
"""So many cells at the start of a session that fail for the same reason end it."""


class Notice:
    """Print at once that a repeat failed, or that its energy source gives no usable joules any more.

    Args:
        log: file with what the processes of the repeats printed.
    """

    def __init__(self, console: Console, log: Path) -> None:
        self._console = console
        self._log = log
        self._lost = False
        self._reasons: dict[str, set[str]] = {}
        self._finished = False

    def show(self, record: Record) -> None:
        """Print why a repeat failed, and when joules end or come back.

        Raises:
            JouletuneError: the first cells of the session all failed for the same reason.
        """
        if record.status == "ok":
            self._finished = True
            self._show_grade(record)
            return
        cells = self._reasons.setdefault(str(record.error), set())
        if not cells:
            self._print(f"{record.cell_id} #{record.repeat} {record.status}: {record.error}; see {self._log}")
        cells.add(record.cell_id)
        if not self._finished and len(self._reasons) == 1 and len(cells) == ALIKE:
            raise JouletuneError(
                f"the first {ALIKE} cells all failed alike: {record.error}; their output is in {self._log}. "
                "Once it is mended, the same command with --retry runs them again"
            )

    def _show_grade(self, record: Record) -> None:
        """Print when usable joules end, and when they come back: the user may be able to plug the source in."""
        if record.grade is None or (record.grade == "X") == self._lost:
            return
        self._lost = record.grade == "X"
        where = f"{record.cell_id} #{record.repeat}"
        reasons = [record.error] if record.error else [FLAGS[flag] for flag in record.flags if flag in FATAL]
        text = f"no usable joules since {where}: {'; '.join(reasons)}" if self._lost else f"joules again since {where}"
        self._print(f"{record.source}: {text}", style="yellow" if self._lost else "")

    def _print(self, text: str, style: str = "red") -> None:
        self._console.print(shown(text), style=style, highlight=False, markup=False, soft_wrap=True)
