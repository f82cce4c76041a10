"""Cells of a suite as tests, timed by pytest-benchmark and measured as by `jouletune run`; and the fixture `joules`.

`--suite` -> suites -> a SuiteFile with a CellItem per cell -> Campaign (the runner, a process per cell) -> records ->
pytest-benchmark's table and JSON, and a table of our own. `jouletune_pytest` registers JoulesPlugin when it is wanted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import os
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

import pytest
from rich.console import Console

import hardware
from bench.errors import JouletuneError, RequestError
from bench.pytest_plugin.gate import KEYS, Gate
from bench.pytest_plugin.items import CellItem, SuiteFile, replay_times
from bench.pytest_plugin.joules import Joules
from bench.pytest_plugin.report import Entry, summary_lines
from bench.run.campaign import Campaign, unmeasured
from bench.run.metering import Meter
from bench.run.plan import block_order, select_cells
from bench.run.runner import RunOptions, check
from bench.run.surroundings import surroundings
from bench.store.benchmark_json import KEY, section
from bench.store.manifest import Manifest
from bench.suite.load import LoadedSuite, load_suite
from bench.text import console, shown

OWN = "joules"
"""Name of the run that functions of one's own make up."""


class _Lines(io.TextIOBase):
    """A file that writes whole lines between the dots of pytest's progress, past its capturing."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__()
        self._config = config
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        plugins = self._config.pluginmanager
        reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
        if lines and reporter is not None and self._config.option.verbose >= 0:
            with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
                reporter.ensure_newline()
                for line in lines:
                    reporter.write_line(line.rstrip())
        return len(text)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder that several processes share."""
    with (folder / "jouletune.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class JoulesPlugin:
    """A test session's suites, campaigns and meter. One energy source is open at a time."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._source = str(config.getoption("joules_source"))
        self._device = str(config.getoption("joules_device"))
        self._suites: dict[str, LoadedSuite] = {}
        self._campaigns: dict[str, Campaign] = {}
        self._meter = Meter(self._source, self._device)
        self._own: Manifest | None = None
        self._idle_s = 0.0
        self._entries: list[Entry] = []
        self._unmeasured = 0
        self._stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self._finished = True

    @property
    def _parallel(self) -> bool:
        return "PYTEST_XDIST_WORKER" in os.environ or self._config.getoption("dist", "no") != "no"

    @property
    def _measures(self) -> bool:  # as pytest-benchmark decides it
        option = self._config.option
        return not self._parallel and (option.benchmark_enable or not option.benchmark_disable)

    # -- collection --------------------------------------------------------------------------------

    def load_suites(self) -> None:
        """Read what `--suite` names.

        Raises:
            pytest.UsageError: there is no such suite, or it could not run; nothing was collected.
        """
        if not self._config.pluginmanager.hasplugin("benchmark"):
            raise pytest.UsageError("--suite needs the plug-in pytest-benchmark, which is not loaded")
        glob = self._config.getoption("suite_cells")
        for wanted in self._config.getoption("suite"):
            try:
                loaded = load_suite(wanted)
                if glob is not None:
                    select_cells(loaded.suite, glob, "--suite-cells")
            except JouletuneError as error:
                raise pytest.UsageError(f"--suite {wanted}: {error}") from None
            if loaded.suite.name in self._suites:
                raise pytest.UsageError(f"--suite {wanted}: a suite called {loaded.suite.name!r} is given already")
            self._suites[loaded.suite.name] = loaded
        if self._config.args_source is not pytest.Config.ArgsSource.ARGS:
            self._config.args = []  # who asks for a suite does not ask for all tests around it

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            report.result = [*report.result, *(SuiteFile.of(collector, loaded) for loaded in self._suites.values())]
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Cells in the order in which they are finished, so that each test takes its own time."""
        if config.option.collectonly:
            return
        for loaded in self._suites.values():
            places = [at for at, item in enumerate(items) if self._is_cell_of(item, loaded)]
            ids = {items[at].name for at in places}
            last = block_order(loaded.suite, select_cells(loaded.suite, ids), loaded.suite.energy.repeats - 1)
            order = {cell.cell_id: rank for rank, cell in enumerate(last)}
            mine = sorted((items[at] for at in places), key=lambda item: order[item.name])
            for at, item in zip(places, mine, strict=True):
                items[at] = item

    def _is_cell_of(self, item: pytest.Item, loaded: LoadedSuite) -> bool:
        return isinstance(item, CellItem) and item.parent is not None and item.parent.name == loaded.suite.name

    # -- running -----------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Before the first test: is the data here, is the source usable, is the folder ours?"""
        option = session.config.option
        stops = session.testsfailed and not option.continue_on_collection_errors
        if option.collectonly or stops or (option.benchmark_skip and not option.benchmark_only):
            return
        for name, loaded in self._suites.items():
            ids = frozenset(item.name for item in session.items if self._is_cell_of(item, loaded))
            if not ids:
                continue
            options = RunOptions(
                out=self._folder(name), source=self._source, device=self._device, cells=ids, retry=True
            )
            if not self._measures:
                options = dataclasses.replace(options, source="none")
            try:
                check(loaded, options)
            except RequestError as error:
                raise pytest.UsageError(str(error)) from None
            self._campaigns[name] = Campaign(loaded, options, self._console())

    def finish(self, item: CellItem) -> list[dict[str, Any]]:
        """The records of a cell, from the run folder or measured now.

        Raises:
            JouletuneError: see `Campaign.finish`.
        """
        campaign = self._campaign(item)
        self._release(but=campaign)
        return campaign.finish(item.name)

    def execute(self, item: CellItem, base: Path) -> list[dict[str, Any]]:
        """The record of one bare execution, where benchmarks are disabled; it goes to a temporary folder.

        Raises:
            JouletuneError: see `Campaign.finish`.
        """
        self._unmeasured += 1
        loaded = unmeasured(self._campaign(item).loaded)
        out = base / "jouletune" / str(self._unmeasured)
        options = RunOptions(out=out, source="none", device=self._device, cells=[item.name])
        single = Campaign(loaded, options, console(quiet=True))
        try:
            # xdist's workers share the parent folder: one of them trains the source model, the others find it made
            with _locked(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base):
                single.begin()
            return single.finish(item.name)
        finally:
            single.close()

    def _campaign(self, item: CellItem) -> Campaign:
        assert item.parent is not None
        return self._campaigns[item.parent.name]

    def joules(self, item: pytest.Item, benchmark: Any) -> Joules:
        """Make what the fixture `joules` gives a test."""
        settings = {key: value for mark in [*item.iter_markers("joules")][::-1] for key, value in mark.kwargs.items()}
        where, _, name = item.nodeid.partition("::")
        limits = {key: settings.pop(key) for key in KEYS if key in settings}
        try:
            gate = Gate.of(limits, item.config.rootpath)
            return Joules(
                where,
                name,
                self._own_sampler if benchmark.enabled else None,
                settings,
                lambda records: gate.check(records, self._own or Manifest()),
            )
        except RequestError as error:
            pytest.fail(str(error), pytrace=False)

    def why_not(self) -> str:
        """Give the reason why nothing is measured in this session, where that is so."""
        if self._parallel:
            return "under xdist every worker would measure all joules; run without -n to measure"
        return "--benchmark-disable"

    def _own_sampler(self, idle_s: float) -> hardware.Sampler:
        """The sampler for functions of one's own, with an idle baseline that still holds.

        Raises:
            RequestError: the source is not known or not usable here.
            JouletuneError: it does not open.
        """
        __tracebackhide__ = True
        self._release(but=self._meter)
        if not self._meter.is_open:
            own = self._own or surroundings(self._meter.choice, torch_device=self._device)
            self._meter.open(own)
            self._own = own
        self._idle_s = idle_s
        self._meter.measure_idle(idle_s, if_due=True)
        return self._meter.sampler

    def note_joules(self, item: pytest.Item, joules: Joules, benchmark: Any) -> None:
        """Keep the joules of a test function; nothing where it measured none.

        pytest-benchmark gets the times of the windows where the test did not use its fixture.
        """
        # the number of the session tells which idle baselines are around them, by the monotonic clock
        session = len(self._own.sessions) - 1 if self._own else None
        records = [dataclasses.asdict(one) | {"session": session} for one in joules.records]
        if benchmark.stats is None:
            benchmark.skipped = not records  # else it warns that the fixture was not used, of a test that names none
            if records:
                replay_times(benchmark, records)
        if records:
            self.note(item.nodeid, OWN, records, benchmark.extra_info)

    def note(self, nodeid: str, run: str, records: list[dict[str, Any]], extra_info: dict[str, Any]) -> None:
        """Keep what a finished test found for the table and the JSON."""
        extra_info |= {"run": run, "records": records}
        self._entries.append(Entry(nodeid, run, records, extra_info))

    def _release(self, *, but: Campaign | Meter | None = None, finished: bool = True) -> None:
        """Close all energy sources but one: a port opens once, and joules of two windows would add up."""
        for campaign in self._campaigns.values():
            if campaign is not but:
                campaign.close(finished=finished)
        if self._meter is not but:
            if finished and self._meter.is_open:
                self._meter.measure_idle(self._idle_s)
            self._meter.close()

    def _folder(self, name: str) -> Path:
        given = self._config.getoption("suite_out")
        if given is None:
            return Path("results") / "pytest" / f"{name}-{self._stamp}"
        return Path(given) / name if len(self._suites) > 1 else Path(given)

    def _console(self) -> Console:
        return console(
            file=cast(IO[str], _Lines(self._config)),
            force_terminal=False,
            width=self._config.get_terminal_writer().fullwidth,
        )

    # -- the end -----------------------------------------------------------------------------------

    def pytest_keyboard_interrupt(self) -> None:
        self._finished = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, Any, Any]:
        """Before pytest-benchmark writes its file: the last idle baseline, and the figures that hang on it."""
        self._release(finished=self._finished)
        manifests = self._manifests()
        for entry in self._entries:
            entry.complete(manifests.get(entry.run, Manifest()))
        return (yield)

    def _manifests(self) -> dict[str, Manifest]:
        found = {
            name: campaign.folder.read_manifest() or Manifest()
            for name, campaign in self._campaigns.items()
            if campaign.begun
        }
        if self._own is not None:
            found[OWN] = self._own
        return found

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        if self._entries:
            output_json[KEY] = section(self._manifests())

    @pytest.hookimpl(tryfirst=True)  # a regression of pytest-benchmark's ends the summary with a traceback
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        folders = {name: campaign.folder.path for name, campaign in self._campaigns.items() if campaign.begun}
        lines = summary_lines(self._entries, self._manifests(), folders)
        idle = self._unmeasured or (self._suites and not self._measures)
        if idle and not self._config.option.collectonly:
            lines.append(f"Cells were executed once each, and nothing was measured: {self.why_not()}.")
        if lines:
            terminalreporter.section("joules and accuracies")
            for line in lines:
                terminalreporter.write_line(shown(line))
