"""Campaign: run the cells of a suite as a caller asks for them, e.g. a test session, in the order of the plan."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from bench.errors import JouletuneError
from bench.run.plan import Repeat
from bench.run.runner import RunOptions, opened
from bench.run.session import Session
from bench.store.run_dir import RunDir
from bench.suite.load import LoadedSuite


class Campaign:
    """One run folder, filled as cells are asked for.

    The plan interleaves the repeats of all cells, so that a drift affects them alike. `finish` keeps that order: it
    runs all repeats up to the last one of the cell that is asked for.

    Args:
        loaded: the suite.
        options: their `cells` are the ids that will be asked for.
        console: for the progress.
    """

    def __init__(self, loaded: LoadedSuite, options: RunOptions, console: Console) -> None:
        self.loaded = loaded
        self.options = options
        self.folder = RunDir(options.out)
        self._console = console
        self._stack = contextlib.ExitStack()
        self._session: Session | None = None
        self._pending: deque[Repeat] = deque()
        self._retry = options.retry
        self._complete = False
        self._error: JouletuneError | None = None

    @property
    def begun(self) -> bool:
        """Whether there is anything in the folder."""
        return self.folder.cells_path.is_file()

    def finish(self, cell_id: str) -> list[dict[str, Any]]:
        """Run the missing repeats of a cell. Returns all of its records, oldest first.

        Raises:
            RequestError: the run cannot begin: wrong data, another run in the folder.
            JouletuneError: the energy source does not open, the disk is full; every later call says so too.
        """
        while not self._complete:
            self.begin()
            if not any(repeat.cell.cell_id == cell_id for repeat in self._pending):
                break
            self._next()
        return [record for record in self.folder.records([]) if record["cell_id"] == cell_id]

    def begin(self) -> None:
        """Lock the folder and open the energy source, unless that is done.

        Raises:
            RequestError, JouletuneError: see `finish`.
        """
        if self._error is not None:
            raise self._error
        if self._complete or self._session is not None:
            return
        # what failed before this campaign is tried once more, what fails in it is not
        options = dataclasses.replace(self.options, retry=self._retry)
        with self._closed_by_errors():
            session = self._stack.enter_context(opened(self.loaded, options, self._console))
            self._retry = False
            self._pending = deque(session.plan.pending)
            if self._pending:
                self._session = self._stack.enter_context(session)
        self._rest()

    def _next(self) -> None:
        assert self._session is not None
        with self._closed_by_errors():
            repeat = self._pending.popleft()
            if not self._session.skip(repeat):
                self._session.run(repeat)
            if not self._pending:
                self._session.end()
        self._rest()

    def _rest(self) -> None:
        if not self._pending:
            self._complete = True
            self.close()

    @contextlib.contextmanager
    def _closed_by_errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if isinstance(error, JouletuneError):
                self._error = error
            # whoever opened the folder must see the error: a wrong request leaves no folder behind
            with contextlib.suppress(type(error)):
                self._stack.__exit__(type(error), error, error.__traceback__)
            self.close()
            raise

    def close(self, *, finished: bool = False) -> None:
        """Release the energy source and the folder; `finish` may be called again. Safe to call twice.

        Args:
            finished: take the idle baseline after the last repeat first, which its net joules depend on.
        """
        session, self._session = self._session, None
        if session is not None and finished:
            with contextlib.suppress(JouletuneError):
                session.end()
        self._pending.clear()
        self._stack.close()


def unmeasured(loaded: LoadedSuite) -> LoadedSuite:
    """Make the suite execute each cell once, without windows and idle baselines, to test cells and not to measure."""
    energy = loaded.suite.energy.model_copy(
        update={"repeats": 1, "min_window_s": 0.0, "idle_s": 0.0, "guard_s": 0.0, "cooldown_s": 0.0}
    )
    return dataclasses.replace(loaded, suite=loaded.suite.model_copy(update={"energy": energy}))
