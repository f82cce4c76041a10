"""The runner: every repeat of a plan in a process of its own, under one energy sampler, each kept as it ends."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

import hardware
from bench import manifest as manifests
from bench.data.locate import locate
from bench.errors import CellFailedError, JouletuneError, RequestError
from bench.isolation import CellTimeoutError, Launcher
from bench.models.released import locate_checkpoint
from bench.plan import Plan, Repeat, make_plan, select_cells
from bench.prepare import prepare
from bench.progress import RunProgress
from bench.protocol import GO, RELEASE, CellJob, Evaluated, PrepareDone, PrepareJob, Progress, Ready, Trained
from bench.record import Record
from bench.store import RunDir
from bench.suite_file import LoadedSuite
from bench.worker import run_cell

IDLE_EVERY_S = 900.0
"""A baseline older than this is taken again: rooms and boards change temperature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a command line adds to a suite. See `jouletune run --help`."""

    out: Path
    source: str = "auto"
    device: str = "cpu"
    cells: str | None = None
    repeats: int | None = None
    fresh: bool = False
    retry: bool = False


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. `failed` counts the repeats in the folder, among those asked for, that are not ok."""

    finished: int
    failed: int
    interrupted: bool


def run_suite(loaded: LoadedSuite, options: RunOptions, console: Console) -> RunResult:
    """Run every repeat that the folder lacks.

    Raises:
        RequestError: the request is wrong, the data is missing, or the folder holds another run; nothing was written.
        JouletuneError: the disk is full, or the energy source does not open.
    """
    suite = loaded.suite
    cells = select_cells(suite, options.cells)
    for data in {cell.data.label: cell.data for cell in cells}.values():
        locate(data)
    if suite.model.checkpoint is not None:
        locate_checkpoint(suite.model.checkpoint)
    folder = RunDir(options.out)
    folder.check_usable()
    known = None if options.fresh else folder.read_manifest()
    # a run goes on with the source it began with; `auto` must not find another one half-way
    wanted = known["source"]["name"] if known and options.source == "auto" else options.source
    try:
        choice = hardware.choose(wanted, device=options.device)
    except hardware.HardwareError as error:
        raise RequestError(str(error)) from None
    fresh_manifest = manifests.make_manifest(loaded, choice, torch_device=options.device)
    _check_folder(folder, known, fresh_manifest, fresh=options.fresh)
    if options.fresh:
        _set_aside(folder, console)
    with folder.locked():
        folder.repair()
        plan = make_plan(suite, folder.records(), cells=options.cells, repeats=options.repeats, retry=options.retry)
        _announce(loaded, plan, choice, folder, console)
        sampler = hardware.Sampler(choice.source, folder.traces_dir)
        manifest = known or fresh_manifest
        run = _Run(loaded, options, folder=folder, manifest=manifest, plan=plan, sampler=sampler, console=console)
        try:
            interrupted = not run.execute() if plan.pending else False
        except RequestError:
            folder.remove_if_blank()  # a request that turns out to be wrong leaves nothing behind
            raise
        after = make_plan(suite, folder.records(), cells=options.cells, repeats=options.repeats, retry=False)
    return RunResult(after.wanted - len(after.pending), after.failed_before, interrupted)


class _Run:
    """One session of a run: from the idle baseline before its first repeat to the one after its last."""

    def __init__(
        self,
        loaded: LoadedSuite,
        options: RunOptions,
        *,
        folder: RunDir,
        manifest: dict[str, Any],
        plan: Plan,
        sampler: hardware.Sampler,
        console: Console,
    ) -> None:
        self._suite = loaded.suite
        self._base = loaded.base
        self._options = options
        self._folder = folder
        self._manifest = manifest
        self._plan = plan
        self._sampler = sampler
        self._console = console
        self._launcher = Launcher(folder.log_path)
        self._idle: hardware.IdleBaseline | None = None
        self._idle_at_s = 0.0
        self._session: dict[str, Any] = {"started_at": manifests.now(), "idle": [], "ended_at": None}

    def execute(self) -> bool:
        """Do all pending repeats. Returns False when a person stopped it."""
        begun = False
        try:
            with _terminate_is_interrupt():
                self._prepared = self._prepare()
                self._sampler.start()
                self._manifest["sessions"].append(self._session)
                begun = True
                self._folder.write_manifest(self._manifest)
                done = self._plan.wanted - len(self._plan.pending)
                with RunProgress(self._console, "repeats", self._plan.wanted, done) as progress:
                    for repeat in self._plan.pending:
                        self._refresh_idle(progress)
                        progress.now(f"{repeat.cell.cell_id} #{repeat.number}")
                        self._folder.append(self._one(repeat, progress))
                        progress.step()
                    self._measure_idle(progress)
        except KeyboardInterrupt:
            return False
        except hardware.HardwareError as error:
            raise JouletuneError(str(error)) from None
        finally:
            self._sampler.stop()
            if begun:
                self._session["ended_at"] = manifests.now()
                with contextlib.suppress(JouletuneError):  # a full disk has been reported by then, and better
                    self._folder.write_manifest(self._manifest)
        return True

    def _prepare(self) -> PrepareDone:
        """Data and source models, made in a process of their own so that the parent stays small and still."""
        points = {repeat.cell.data.label: repeat.cell.data for repeat in self._plan.pending}
        job = PrepareJob(self._suite, tuple(points.values()), self._base, self._options.device)
        child = self._launcher.start(prepare, job)
        bars: dict[str, RunProgress] = {}
        with contextlib.ExitStack() as stack:

            def show(message: object) -> None:
                if isinstance(message, Progress):
                    if message.what not in bars:
                        stack.close()
                        bars[message.what] = stack.enter_context(
                            RunProgress(self._console, message.what, message.total)
                        )
                    bars[message.what].to(message.done)

            try:
                done = child.receive(PrepareDone, on_other=show)
            except CellFailedError as error:
                raise JouletuneError(f"could not make data and source model ready: {error}") from None
            except BaseException:
                child.kill()
                raise
        child.close()
        return done

    def _one(self, repeat: Repeat, progress: RunProgress) -> Record:
        """One repeat in a fresh process. Whatever goes wrong in it becomes its record."""
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        cell = repeat.cell
        job = CellJob(self._suite, cell, self._prepared.prepared[cell.data.label], self._base, self._options.device)
        deadline_s = time.monotonic() + self._suite.timeout_s
        child = self._launcher.start(run_cell, job)
        window: hardware.Window | None = None
        measured: dict[str, Any] = {}
        try:
            child.receive(Ready, deadline_s=deadline_s)
            ready_s = time.monotonic()
            window = self._sampler.open_window(_file_name(repeat), self._suite.energy.guard_s)
            guarded_s = time.monotonic() - ready_s
            child.send(GO)
            trained = child.receive(Trained, deadline_s=deadline_s, on_other=lambda _: progress.life())
            result = window.close(t0_s=trained.t0_s, t1_s=trained.t1_s, executions=trained.executions, idle=self._idle)
            child.send(RELEASE)
            evaluated = child.receive(Evaluated, deadline_s=deadline_s)
            measured = _figures(trained, evaluated, result)
            measured["startup_s"] = trained.t0_s - child.started_s - guarded_s
            child.close()
            status, error = "ok", result.error
        except CellTimeoutError:
            status, error = "timeout", f"not done after {self._suite.timeout_s:g} s; its process group was killed"
        except (CellFailedError, RequestError) as failure:
            status, error = "failed", str(failure)
        except BaseException:
            child.kill()
            raise
        finally:
            if window is not None:
                window.cancel()
        return Record(
            cell_id=cell.cell_id,
            repeat=repeat.number,
            status=status,  # type: ignore[arg-type]  # one of the literals, by the lines above
            error=error,
            dataset=cell.data.dataset,
            shift=cell.data.shift,
            level=cell.data.level,
            data=cell.data.label,
            train_size=cell.train_size,
            blocks=cell.blocks_label,
            seed=cell.seed,
            method="fixed",
            model=self._suite.model.name,
            bn_mode=self._suite.train.bn_mode,
            device=self._prepared.device_name,
            source=self._sampler.source.info.name,
            started_at=started_at,
            **measured,
        )

    def _refresh_idle(self, progress: RunProgress) -> None:
        if self._idle is None or time.monotonic() - self._idle_at_s > IDLE_EVERY_S:
            self._measure_idle(progress)

    def _measure_idle(self, progress: RunProgress) -> None:
        if self._suite.energy.idle_s > 0:
            progress.now(f"idle baseline, {self._suite.energy.idle_s:g} s")
            self._idle = self._sampler.measure_idle(self._suite.energy.idle_s)
            self._session["idle"].append(
                {
                    "started_at": self._idle.started_at,
                    "duration_s": self._idle.duration_s,
                    "power_w": self._idle.power_w,
                    "u_power_w": self._idle.u_power_w,
                }
            )
        self._idle_at_s = time.monotonic()


def _figures(trained: Trained, evaluated: Evaluated, result: hardware.EnergyResult) -> dict[str, Any]:
    """The measured part of a record."""
    return {
        **{name: getattr(evaluated, name) for name in Evaluated.__slots__},
        "train_time_s": (trained.t1_s - trained.t0_s) / trained.executions,
        "executions": trained.executions,
        "energy_gross_j": result.energy_gross_j,
        "energy_net_j": result.energy_net_j,
        "energy_u_j": result.energy_u_j,
        "energy_net_u_j": result.energy_net_u_j,
        "idle_power_w": result.idle_power_w,
        "source_kind": result.source_kind,
        "grade": result.grade,
        "flags": result.flags,
        "trace": result.trace_file,
    }


def _check_folder(folder: RunDir, known: dict[str, Any] | None, new: dict[str, Any], *, fresh: bool) -> None:
    """Refuse a folder that is not ours or holds another run, before anything is written to it."""
    if known is not None:
        manifests.check_same(known, new, folder.path)
    elif folder.path.is_dir() and not folder.manifest_path.exists() and not folder.is_blank():
        raise RequestError(f"{folder.path}: not empty and not a run's folder; choose another --out")


def _set_aside(folder: RunDir, console: Console) -> None:
    """Give the old run another name. Nothing finished is ever deleted."""
    if not folder.manifest_path.exists():
        return
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    aside = folder.path.with_name(f"{folder.path.name}.{stamp}")
    with folder.locked():
        folder.path.rename(aside)
    console.print(f"the old run is now {aside}", highlight=False)


def _announce(loaded: LoadedSuite, plan: Plan, choice: hardware.Choice, folder: RunDir, console: Console) -> None:
    suite = loaded.suite
    title = f" ({suite.title})" if suite.title else ""
    finished = plan.wanted - len(plan.pending)
    resumed = f", {finished} of them finished before" if finished else ""
    console.print(f"[bold]{suite.name}[/]{title}: {plan.wanted} repeats{resumed} -> {folder.path}", highlight=False)
    console.print(f"energy: {choice.why}", highlight=False)


def _file_name(repeat: Repeat) -> str:
    return f"{repeat.cell.cell_id.replace('/', '_')}_r{repeat.number}"


@contextlib.contextmanager
def _terminate_is_interrupt() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: whoever called us keeps its own ways
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
