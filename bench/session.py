"""Session: one command's share of a run, from the idle baseline before its first repeat to the one after its last."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from rich.console import Console

import hardware
from bench import manifest as manifests
from bench.data.catalog import DATASETS
from bench.errors import CellFailedError, JouletuneError, RequestError
from bench.isolation import CellTimeoutError, Launcher
from bench.plan import Plan, Repeat
from bench.prepare import prepare
from bench.progress import RunProgress
from bench.protocol import GO, RELEASE, CellJob, Evaluated, PrepareDone, PrepareJob, Progress, Ready, Trained
from bench.record import Record
from bench.store import RunDir
from bench.suite_file import LoadedSuite
from bench.worker import run_cell
from hardware import device


class Session:
    """Runs the pending repeats of a plan, each in a process of its own, and keeps each record as it ends.

    Args:
        loaded: the suite.
        torch_device: that trains.
        folder: locked by the caller.
        manifest: of the run; gets an entry for this session.
        plan: what to do.
        sampler: not yet started.
        console: for the progress.
    """

    def __init__(
        self,
        loaded: LoadedSuite,
        torch_device: str,
        *,
        folder: RunDir,
        manifest: dict[str, Any],
        plan: Plan,
        sampler: hardware.Sampler,
        console: Console,
    ) -> None:
        self._suite = loaded.suite
        self._base = loaded.base
        self._torch_device = torch_device
        self._folder = folder
        self._manifest = manifest
        self._plan = plan
        self._sampler = sampler
        self._console = console
        self._launcher = Launcher(folder.log_path)
        self._entry: dict[str, Any] = {"started_at": manifests.now(), "idle": [], "ended_at": None}

    def execute(self) -> bool:
        """Do all pending repeats. Returns False when a person stopped it."""
        begun = False
        try:
            with _terminate_is_interrupt():
                self._prepared = self._prepare()
                self._sampler.start()
                if not self._manifest["sessions"]:
                    # some meters say what they are only once they are open
                    self._manifest["source"] |= self._sampler.source.info.to_dict()
                self._manifest["sessions"].append(self._entry)
                begun = True
                facts = {label: one.facts for label, one in self._prepared.prepared.items() if one.facts}
                if facts:
                    self._manifest.setdefault("noise", {}).update(facts)
                self._start_c = device.snapshot().temperature_c
                self._folder.write_manifest(self._manifest)
                done = self._plan.wanted - len(self._plan.pending)
                with RunProgress(self._console, "repeats", self._plan.wanted, done) as progress:
                    for repeat in self._plan.pending:
                        if self._sampler.idle_due():
                            self._measure_idle(progress)
                        cooled_s = self._cool_down(progress)
                        progress.now(f"{repeat.cell.cell_id} #{repeat.number}")
                        self._folder.append(self._one(repeat, progress, cooled_s))
                        progress.step()
                    self._measure_idle(progress)
        except KeyboardInterrupt:
            return False
        except hardware.HardwareError as error:
            raise JouletuneError(str(error)) from None
        finally:
            self._sampler.stop()
            if begun:
                self._entry["ended_at"] = manifests.now()
                with contextlib.suppress(JouletuneError):  # a full disk has been reported by then, and better
                    self._folder.write_manifest(self._manifest)
        return True

    def _prepare(self) -> PrepareDone:
        """Data and source models, made in a process of their own so that the parent stays small and still."""
        points = {repeat.cell.data.label: repeat.cell.data for repeat in self._plan.pending}
        job = PrepareJob(self._suite, tuple(points.values()), self._base, self._torch_device)
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

    def _one(self, repeat: Repeat, progress: RunProgress, cooled_s: float | None) -> Record:
        """One repeat in a fresh process. Whatever goes wrong in it becomes its record."""
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        cell = repeat.cell
        spec = self._suite.tuning(cell)
        job = CellJob(self._suite, cell, self._prepared.prepared[cell.data.label], self._base, self._torch_device)
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
            result = window.close(
                t0_s=trained.t0_s,
                t1_s=trained.t1_s,
                executions=trained.executions,
                idle=self._sampler.idle_baseline,
            )
            child.send(RELEASE)
            evaluated = child.receive(Evaluated, deadline_s=deadline_s)
            measured = _figures(trained, evaluated, result)
            if not DATASETS[cell.data.dataset].labelled:
                measured |= {"accuracy_before": None, "accuracy_after": None, "best_epoch": None}
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
            target_block=cell.data.target_block,
            noise_sigma=self._prepared.prepared[cell.data.label].facts.get("sigma"),
            data=cell.data.label,
            train_size=cell.train_size,
            blocks=cell.blocks_label,
            seed=cell.seed,
            method="fixed",
            model=self._suite.model.name,
            bn_mode=spec.bn_mode,
            engine=spec.engine,
            variant=cell.variant_label,
            device=self._prepared.device_name,
            source=self._sampler.source.info.name,
            started_at=started_at,
            cooldown_s=cooled_s,
            **measured,
        )

    def _measure_idle(self, progress: RunProgress) -> None:
        if self._suite.energy.idle_s > 0 and self._sampler.source.info.kind != "none":
            progress.now(f"idle baseline, {self._suite.energy.idle_s:g} s")
            baseline = self._sampler.measure_idle(self._suite.energy.idle_s)
            self._entry["idle"].append(dataclasses.asdict(baseline))
            self._folder.write_manifest(self._manifest)  # net joules need both sides of a repeat, also after a kill

    def _cool_down(self, progress: RunProgress) -> float | None:
        """Wait until the device is as cool as it was at first; None where it has no thermometer."""
        if self._start_c is None or self._suite.energy.cooldown_s == 0:
            return None
        progress.now("cooling down")
        return hardware.cool_down(self._start_c, limit_s=self._suite.energy.cooldown_s).waited_s


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
        "energy_terms": tuple(dataclasses.asdict(term) for term in result.terms),
        "band_s": result.band_s,
        "lost_fraction": result.lost_fraction,
        "longest_gap_s": result.longest_gap_s,
        "own_counter_j": result.cross_check.counter_j if result.cross_check else None,
        "own_integral_j": result.cross_check.integral_j if result.cross_check else None,
        **_environment(result),
    }


def _environment(result: hardware.EnergyResult) -> dict[str, Any]:
    """The state of the device around the work."""
    before, after = result.env_before, result.env_after
    if before is None or after is None:
        return {}
    return {
        "temperature_before_c": before.temperature_c,
        "temperature_after_c": after.temperature_c,
        "frequency_before_hz": before.frequency_hz,
        "frequency_after_hz": after.frequency_hz,
        "governor": after.governor,
        "throttle_before": before.throttle,
        "throttle_after": after.throttle,
    }


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
