"""Session: one command's share of a run, from the idle baseline before its first repeat to the one after its last."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Self

from rich.console import Console

import hardware
from bench.catalog.datasets import DATASETS
from bench.errors import CellFailedError, JouletuneError, RequestError
from bench.process.launcher import CellTimeoutError, Launcher
from bench.process.messages import (
    GO,
    RELEASE,
    CellJob,
    Message,
    PrepareDone,
    PrepareJob,
    Progress,
    Ready,
    Trained,
)
from bench.process.prepare import prepare
from bench.run.decided import Decisions
from bench.run.metering import Meter
from bench.run.outcome import NO_ACCURACY, cell_fields, unmeasured, window_fields
from bench.run.plan import Plan, Repeat
from bench.run.progress import Notice, RunProgress
from bench.run.resume import add_fingerprints, fingerprints
from bench.store.manifest import Manifest
from bench.store.record import Record, WorkFigures
from bench.store.run_dir import RunDir
from bench.suite.data_axis import DataSpec
from bench.suite.load import LoadedSuite
from bench.targets.local import LOCAL, Local
from bench.targets.target import Running, Target


class Session:
    """Run the pending repeats of a plan, each in a process of its own, and write each record as it ends.

    `execute` runs them all, in the plan's order. A caller that acts between two of them enters the session as a context
    manager, calls `run` for each, and `end` after the last.

    Args:
        loaded: the suite.
        torch_device: that trains.
        folder: locked by the caller.
        manifest: of the run; gets an entry for this session.
        plan: what to do.
        meter: not yet open.
        console: for the progress.
        control_h: hours between two measurements of the control workload; None: it is not measured.
        keep_models: whether each repeat's adapted model is written into the folder.
        target: where the repeats run; None: on this machine.
    """

    def __init__(
        self,
        loaded: LoadedSuite,
        torch_device: str,
        *,
        folder: RunDir,
        manifest: Manifest,
        plan: Plan,
        meter: Meter,
        console: Console,
        keep_models: bool = False,
        control_h: float | None = None,
        target: Target | None = None,
    ) -> None:
        self._loaded = loaded
        self._suite = loaded.suite
        self._keep_models = keep_models
        self._target = target or Local()
        self._control_every_s = None if control_h is None else 3600 * control_h
        self._control_at_s = -math.inf
        self._torch_device = torch_device
        self.folder = folder
        self._manifest = manifest
        self.plan = plan
        self._meter = meter
        self._console = console
        self._launcher = Launcher(folder.log_path)
        self._open = contextlib.ExitStack()
        self._notice = Notice(console, folder.log_path)
        self._child: Running | None = None
        self._decisions: Decisions | None = None

    def execute(self) -> bool:
        """Run all pending repeats. Returns False when it was interrupted."""
        try:
            with terminate_is_interrupt(), self:
                for repeat in self.plan.pending:
                    if not self.skip(repeat):
                        self.run(repeat)
                self.end()
        except KeyboardInterrupt:
            return False
        return True

    def __enter__(self) -> Self:
        """Make data and source models ready, open the energy source.

        Raises:
            RequestError: the request turns out to be wrong; nothing was written.
            JouletuneError: the source does not open, the disk is full.
        """
        try:
            self._open.enter_context(_child_stops_too(self))
            self._prepared = self._prepare()
            prepared = self._prepared.prepared
            add_fingerprints(self._manifest, fingerprints(self._prepared), self.folder.path)
            self._meter.open(self._manifest)
            self._manifest.noise |= {label: one.facts for label, one in prepared.items() if one.facts}
            self._manifest.training |= {label: one.training for label, one in prepared.items() if one.training}
            self._start_c = self._target.look().temperature_c
            self.folder.write_manifest(self._manifest)
            self._decisions = self._decide() if self._suite.energy.stop else None
            done = self.plan.wanted - len(self.plan.pending)
            self._progress = self._open.enter_context(RunProgress(self._console, "repeats", self.plan.wanted, done))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, repeat: Repeat) -> Record:
        """Run one pending repeat in a process of its own, and write its record to the disk.

        Before it, measure an idle baseline where one is due, and wait until the device has cooled down.

        Raises:
            JouletuneError: the disk is full, or the first repeats of the session all failed alike.
        """
        progress = self._progress
        self._measure_idle(if_due=True)
        self._measure_control(if_due=True)
        cooled_s = self._cool_down(progress)
        progress.now(f"{repeat.cell.cell_id} #{repeat.number}")
        record = self._one(repeat, progress, cooled_s)
        self.folder.append(record)
        if self._decisions:
            self._decisions.add(dataclasses.asdict(record))
        progress.step()
        self._notice.show(record)
        return record

    def skip(self, repeat: Repeat) -> bool:
        """Leave out a repeat whose case is decided, where the suite asks for that, and say so in the manifest."""
        facts = self._decisions.skips(repeat) if self._decisions else None
        if facts is None:
            return False
        known = self._manifest.sessions[-1].decided
        if facts not in known:
            known.append(facts)
            self._console.print(
                f"{facts['case']}: decided after {facts['repeats']} repeats ({' < '.join(facts['order'])})",
                soft_wrap=True,
            )
        self._progress.step()
        return True

    def end(self) -> None:
        """Take the idle baseline after the last repeat."""
        self._measure_control()
        self._measure_idle()

    def signal_child(self, number: int) -> None:
        """Send a signal to the process of the repeat that runs now, if one does."""
        if self._child is not None:
            self._child.signal(number)

    def _stop(self) -> None:
        self._open.close()
        if self._meter.is_open:
            self._meter.close()
            self._manifest.sessions[-1].records = self.folder.records_end()
            with contextlib.suppress(JouletuneError):  # a full disk has been reported by then, and better
                self.folder.write_manifest(self._manifest)

    def _decide(self) -> Decisions:
        """Judge the cases of this command's cells by the records that there are."""
        records = list(self.folder.records([]))
        ids = {repeat.cell.cell_id for repeat in self.plan.pending} | {record["cell_id"] for record in records}
        cells = [cell for cell in self._suite.cells() if cell.cell_id in ids]
        decisions = Decisions(cells, self._suite.energy.repeats)
        for record in records:
            decisions.add(record)
        return decisions

    def _prepare(self) -> PrepareDone:
        """Make data and source models ready in another process, which keeps this one small."""
        # another board's device is not here, and training a source model on it would take too long
        here = self._torch_device if self._target.name == LOCAL else "cpu"
        done = prepare_data(self._launcher, self._loaded, self.plan, here, self._console)
        return self._target.prepare(done, self._suite, self._loaded.base, self._torch_device)

    def _one(self, repeat: Repeat, progress: RunProgress, cooled_s: float | None) -> Record:
        """Run one repeat in a fresh process, and make its record, also of a failure."""
        started_at, started_s = datetime.now(UTC).isoformat(timespec="milliseconds"), time.monotonic()
        cell, sampler, job = repeat.cell, self._meter.sampler, self._job(repeat)
        deadline_s = started_s + self._suite.timeout_s
        child: Running | None = None
        window: hardware.Window | None = None
        measured: dict[str, Any] = {}
        try:
            child = self._child = self._target.start(self._launcher, job)
            child.receive(Ready, deadline_s=deadline_s)
            ready_s = time.monotonic()
            # repeats begin at any phase of the meter, so that what a rhythm of the work hides from it differs
            time.sleep(random.uniform(0.0, min(sampler.source.info.period_s, 1.0)))
            window = sampler.open_window(repeat.file_name, self._suite.energy.guard_s)
            guarded_s = time.monotonic() - ready_s
            child.send(GO)
            trained = child.receive(Trained, deadline_s=deadline_s, on_other=lambda _: progress.show())
            if not ready_s <= trained.t0_s <= trained.t1_s <= time.monotonic():
                raise CellFailedError("the process sent times that lie outside its window")
            result = window.close(
                t0_s=trained.t0_s,
                t1_s=trained.t1_s,
                executions=trained.executions,
                idle=sampler.idle_baseline,
                spans=trained.spans,
                rhythm=trained.rhythm,
                edge_u_s=trained.edge_u_s,
                clock_jumped=trained.clock_jumped,
            )
            result = unmeasured(result) if cell.is_idle else result
            child.send(RELEASE)
            evaluated = child.receive(WorkFigures, deadline_s=deadline_s)
            measured = dataclasses.asdict(evaluated) | window_fields(result)
            if not DATASETS[cell.data.dataset].labelled:
                measured |= NO_ACCURACY
            measured["startup_s"] = trained.t0_s - child.started_s - guarded_s
            outcome: dict[str, Any] = {"status": "ok"} | self._kept(job)
        except CellTimeoutError:
            error = f"not done after {self._suite.timeout_s:g} s; its process group was killed"
            outcome = {"status": "timeout", "error": error}
        except (CellFailedError, RequestError) as failure:
            outcome = {"status": "failed", "error": str(failure)}
        except BaseException:
            if child is not None:
                child.kill()
            raise
        finally:
            self._child = None
            if child is not None:
                child.close()
            if window is not None:
                window.cancel()
        outcome |= {
            "repeat": repeat.number,
            "source": sampler.source.info.name,
            "session": len(self._manifest.sessions) - 1,
            "started_at": started_at,
            "started_mono_s": started_s,
            "cooldown_s": cooled_s,
        }
        if measured.get("trace"):
            outcome["trace_sha256"] = self.folder.trace_sha256(measured["trace"])
        return Record(**cell_fields(self._suite, cell, self._prepared), **(measured | outcome))

    def _job(self, repeat: Repeat) -> CellJob:
        """What the process of a repeat is to do."""
        cell = repeat.cell
        prepared = self._prepared.prepared[cell.data.label]
        window_s = hardware.window_needed_s(self._meter.sampler.source.info, self._suite.energy.min_window_s)
        job = CellJob(
            self._suite, cell, prepared, self._loaded.base, self._torch_device, window_s, repeat=repeat.number
        )
        if not self._keep_models:
            return job
        file = self.folder.models_dir / f"{repeat.file_name}.safetensors"
        return dataclasses.replace(job, keep=file, folder=self.folder.path)

    def _kept(self, job: CellJob) -> dict[str, Any]:
        """The fields of a record that name the model that its repeat left."""
        if job.keep is None:
            return {}
        return {"model_file": job.keep.name, "model_sha256": self.folder.model_sha256(job.keep.name)}

    def _measure_idle(self, *, if_due: bool = False) -> None:
        self._progress.now(f"idle baseline, {self._suite.energy.idle_s:g} s")
        if self._meter.measure_idle(self._suite.energy.idle_s, if_due=if_due):
            session = self._manifest.sessions[-1]
            trace = session.idle[-1].trace_file
            if trace is not None and (sha256 := self.folder.trace_sha256(trace)):
                session.traces[trace] = sha256
            self.folder.write_manifest(self._manifest)  # net joules need both sides of a repeat, also after a kill

    def _measure_control(self, *, if_due: bool = False) -> None:
        """Measure the control workload at the start, every so many hours and at the end, where it is wanted."""
        every_s, now_s = self._control_every_s, time.monotonic()
        if every_s is None or (if_due and now_s - self._control_at_s < every_s):
            return
        self._progress.now("control workload")
        self._control_at_s = now_s
        warning = self._meter.measure_control()
        self.folder.write_manifest(self._manifest)
        if warning:
            self._console.print(warning, soft_wrap=True)

    def _cool_down(self, progress: RunProgress) -> float | None:
        """Wait until the device is as cool as it was at first; None where it has no thermometer."""
        if self._start_c is None or self._suite.energy.cooldown_s == 0:
            return None
        progress.now("cooling down")
        limit_s = self._suite.energy.cooldown_s
        return hardware.cool_down(self._start_c, limit_s=limit_s, look=self._target.look).waited_s


def prepare_data(
    launcher: Launcher, loaded: LoadedSuite, plan: Plan, torch_device: str, console: Console
) -> PrepareDone:
    """Make the data and source models of a plan's pending repeats ready, in a process of their own.

    Raises:
        RequestError: data or model turn out to be wrong, with file and line where a key of the suite is.
        JouletuneError: the process failed.
    """
    points = {repeat.cell.data.label: repeat.cell.data for repeat in plan.pending}
    with _PREPARING:
        key = (loaded.suite.digest(), loaded.base, tuple(points), torch_device)
        done = (_PREPARED or {}).get(key) or _prepared(launcher, loaded, points, torch_device, console)
        if _PREPARED is not None:
            _PREPARED[key] = done
        return done


_PREPARING = threading.Lock()
"""The threads of a fleet share one process that forks."""

_PREPARED: dict[tuple[object, ...], PrepareDone] | None = None


@contextlib.contextmanager
def prepared_once() -> Iterator[None]:
    """Make data and source models of a suite ready once for all sessions of this process, meanwhile."""
    global _PREPARED  # noqa: PLW0603  # one process, one fleet
    _PREPARED = {}
    try:
        yield
    finally:
        _PREPARED = None


def _prepared(
    launcher: Launcher, loaded: LoadedSuite, points: dict[str, DataSpec], torch_device: str, console: Console
) -> PrepareDone:
    child = launcher.start(prepare, PrepareJob(loaded.suite, tuple(points.values()), loaded.base, torch_device))
    bars: dict[str, RunProgress] = {}
    with contextlib.ExitStack() as stack:

        def show(message: Message) -> None:
            if isinstance(message, Progress):
                if message.what not in bars:
                    stack.close()
                    bars[message.what] = stack.enter_context(RunProgress(console, message.what, message.total))
                bars[message.what].to(message.done)

        try:
            done = child.receive(PrepareDone, on_other=show)
        except CellTimeoutError as error:
            raise RequestError(f"could not make data and source model ready: {error}") from None
        except CellFailedError as error:
            raise JouletuneError(f"could not make data and source model ready: {error}") from None
        except RequestError as error:
            raise loaded.with_line(error) from None
        except BaseException:
            child.kill()
            raise
    child.close()
    return done


@contextlib.contextmanager
def _handling(number: int, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle a signal meanwhile. Outside the main thread nothing changes: whoever called us keeps its own ways."""
    try:
        before = signal.signal(number, handler)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, before)


def terminate_is_interrupt() -> AbstractContextManager[None]:
    """Let SIGTERM end a run as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    return _handling(signal.SIGTERM, interrupt)


def _child_stops_too(session: Session) -> AbstractContextManager[None]:
    """Let Ctrl-Z stop the child as well, which is in a session of its own, and let it go on with this process.

    It would train on while nothing is measured, and end outside its window. The window is of grade X all the same.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        session.signal_child(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        session.signal_child(signal.SIGCONT)

    return _handling(signal.SIGTSTP, stop)
