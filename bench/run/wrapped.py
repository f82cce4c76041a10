"""Wrapped: measure a command of any kind in windows between idle baselines, and keep its records in a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import hardware
from bench.errors import JouletuneError, RequestError
from bench.run.metering import Meter
from bench.run.outcome import window_fields
from bench.run.resume import continued_commands
from bench.run.session import terminate_is_interrupt
from bench.run.surroundings import surroundings
from bench.store.manifest import Manifest
from bench.store.record import Record
from bench.store.run_dir import RunDir
from bench.suite.suite import EnergySpec
from bench.text import without_folders
from bench.work.command import Command, Ended
from hardware.device import machine as device
from hardware.source import Clock

RUN = "run"
"""Unit of a command that is not counted in anything else."""


def stamp() -> str:
    """The time, as a part of a folder's name."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S")


class Work(Protocol):
    """What a window measures, e.g. a `Command`."""

    def execute(self) -> Ended: ...


@dataclass(frozen=True, slots=True)
class Window:
    """One repeat of a command.

    Attributes:
        energy: per unit where `units` is known, else per execution.
        ended: how its last execution ended.
        units: of one execution, the mean over the window's.
    """

    energy: hardware.EnergyResult
    ended: Ended
    units: float | None


def measure(sampler: hardware.Sampler, work: Work, energy: EnergySpec, *, name: str, clock: Clock = time) -> Window:
    """Execute a command in one window: once, or until the window is as long as is asked for.

    Args:
        name: of the trace.
        clock: the sampler's.
    """
    least_s = energy.min_window_s and hardware.window_needed_s(sampler.source.info, energy.min_window_s)
    counts: list[float | None] = []
    window = sampler.open_window(name, energy.guard_s)
    try:
        t0_s = clock.monotonic()
        while True:
            ended = work.execute()
            counts.append(ended.units)
            t1_s = clock.monotonic()
            if t1_s - t0_s >= least_s or ended.problem or ended.stopped:
                break
        result = window.close(t0_s=t0_s, t1_s=t1_s, executions=len(counts), idle=sampler.idle_baseline)
    finally:
        window.cancel()  # the command may not have started
    known = [one for one in counts if one is not None]
    if len(known) < len(counts):
        return Window(result, ended, None)
    units = sum(known) / len(known)
    return Window(per_unit(result, units), ended, units)


def per_unit(result: hardware.EnergyResult, units: float) -> hardware.EnergyResult:
    """The result for one unit instead of one execution, which did so many of them."""

    def each(value: float | None) -> float | None:
        return None if value is None else value / units

    return dataclasses.replace(
        result,
        duration_s=result.duration_s / units,
        energy_gross_j=each(result.energy_gross_j),
        energy_net_j=each(result.energy_net_j),
        energy_u_j=each(result.energy_u_j),
        energy_net_u_j=each(result.energy_net_u_j),
        band_s=each(result.band_s),
        terms=tuple(
            dataclasses.replace(term, gross_j=term.gross_j / units, net_j=each(term.net_j)) for term in result.terms
        ),
    )


class Wrapped:
    """A command's repeats in a run folder, which may have some of it, or of other commands, already.

    Args:
        command: what to run.
        name: it is called so in the records.
        out: the run folder.
        source: energy source.
        energy: how often and how long to measure.

    Raises:
        RequestError: the source is not usable, or the folder holds something else; nothing was written.
    """

    def __init__(self, command: Command, *, name: str, out: Path, source: str, energy: EnergySpec) -> None:
        self._command = command
        self._name = name
        self._energy = energy
        self.folder = RunDir(out)
        self.folder.check_usable()
        known = self.folder.read_manifest()
        wanted = known.source.name if known and known.source and source == "auto" else source
        self.meter = Meter(wanted or "auto", "cpu", self.folder.traces_dir)
        self._new = surroundings(self.meter.choice, torch_device="cpu")
        self._new.commands = {name: [without_folders(word) for word in command.argv]}
        self._manifest()

    def _manifest(self) -> Manifest:
        known = self.folder.read_manifest()
        if known is not None:
            return continued_commands(known, self._new, self.folder.path)
        if self.folder.path.is_dir() and not self.folder.is_blank():
            raise RequestError(f"{self.folder.path}: not empty and not a run's folder; choose another --out")
        return self._new

    def records(self) -> Generator[tuple[Record, Ended], None, None]:
        """Run the command in one window after the other; each record is on the disk when it comes.

        It stops after an execution that failed, or that a signal to this process ended.

        Raises:
            RequestError: the command cannot be started.
            JouletuneError: the energy source does not open, the disk is full.
            KeyboardInterrupt: a signal came while the command was not running.
        """
        with self.folder.locked(), terminate_is_interrupt():
            manifest = self._manifest()
            self.folder.repair()
            per = self._command.per
            group = f"per {per.unit if per else RUN}"
            cell_id = f"{group}/{self._name}"
            first = sum(line["cell_id"] == cell_id for line in self.folder.records([]))
            try:
                self.meter.open(manifest)
                self.folder.write_manifest(manifest)
                start_c = device.snapshot().temperature_c
                for number in range(first, first + self._energy.repeats):
                    self._measure_idle(manifest, if_due=True)
                    cooled_s = self._cool_down(start_c) if number > first else None
                    record, ended = self._one(manifest, cell_id, group, number, cooled_s)
                    self.folder.append(record)
                    yield record, ended
                    if ended.problem or ended.stopped:
                        break
                if not ended.stopped:
                    self._measure_idle(manifest)
            except RequestError:
                self.folder.remove_if_blank()
                raise
            finally:
                if self.meter.is_open:
                    self.meter.close()
                    manifest.sessions[-1].records = self.folder.records_end()
                    with contextlib.suppress(JouletuneError):
                        self.folder.write_manifest(manifest)

    def _one(
        self, manifest: Manifest, cell_id: str, group: str, number: int, cooled_s: float | None
    ) -> tuple[Record, Ended]:
        started_at, started_s = datetime.now(UTC).isoformat(timespec="milliseconds"), time.monotonic()
        sampler = self.meter.sampler
        name = f"{cell_id.replace('/', '_').replace(' ', '-')}_r{number}"
        window = measure(sampler, self._command, self._energy, name=name)
        fields: dict[str, Any] = window_fields(window.energy)
        if fields.get("trace"):
            fields["trace_sha256"] = self.folder.trace_sha256(fields["trace"])
        per = self._command.per
        lost = per is not None and window.units is None
        problem = window.ended.problem or (f"its output names no {per.unit}" if per and lost else None)
        return Record(
            cell_id=cell_id,
            repeat=number,
            status="failed" if problem else "ok",
            **(fields | {"error": problem or fields["error"]}),
            dataset="",
            shift="",
            level="",
            data=group,
            train_size=0.0,
            blocks=self._name,
            arm=self._name,
            method="fixed",
            seed=0,
            model="",
            bn_mode="",
            source=sampler.source.info.name,
            session=len(manifest.sessions) - 1,
            started_at=started_at,
            started_mono_s=started_s,
            cooldown_s=cooled_s,
            peak_rss_mb=window.ended.peak_rss_mb,
            unit=RUN if per is None or lost else per.unit,
            units=window.units,
        ), window.ended

    def _measure_idle(self, manifest: Manifest, *, if_due: bool = False) -> None:
        if self.meter.measure_idle(self._energy.idle_s, if_due=if_due):
            session = manifest.sessions[-1]
            trace = session.idle[-1].trace_file
            if trace is not None and (sha256 := self.folder.trace_sha256(trace)):
                session.traces[trace] = sha256
            self.folder.write_manifest(manifest)

    def _cool_down(self, start_c: float | None) -> float | None:
        if start_c is None or self._energy.cooldown_s == 0:
            return None
        return hardware.cool_down(start_c, limit_s=self._energy.cooldown_s).waited_s
