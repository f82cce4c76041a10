"""Meter: the energy source of a session of a run, or of tests, from its choice to its last idle baseline."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hardware
from bench.errors import JouletuneError, RequestError
from bench.run.surroundings import now
from bench.store.manifest import EnergySource, Manifest, Session, part
from bench.targets.target import Target
from hardware.calibration import control
from hardware.device import machine as device_state


@contextlib.contextmanager
def hardware_errors() -> Iterator[None]:
    """Translate the errors of energy sources.

    Raises:
        RequestError: the source is not known or not usable here, or its profile does not fit.
        JouletuneError: the source did not open, or died.
    """
    __tracebackhide__ = True
    try:
        yield
    except hardware.RefusedError as error:
        raise RequestError(str(error)) from None
    except hardware.HardwareError as error:
        raise JouletuneError(str(error)) from None


class Meter:
    """An energy source: chosen with its calibration profile, opened, sampled, with its idle baselines.

    Args:
        source: its name, or `auto`.
        device: the torch device that trains.
        trace_dir: where the samples of windows and idle baselines go; None: nowhere.
        target: where the work is done, if that is not this machine: its state and load are looked at.
    """

    def __init__(
        self, source: str, device: str, trace_dir: Path | None = None, *, target: Target | None = None
    ) -> None:
        self._source = source
        self._device = device
        self._trace_dir = trace_dir
        self._target = target
        self._choice: hardware.Choice | None = None
        self._sampler: hardware.Sampler | None = None
        self._session = Session()
        self._controls: list[control.Control] = []

    @property
    def choice(self) -> hardware.Choice:
        """The source, with its profile.

        Raises:
            RequestError: it is not known or not usable here.
        """
        if self._choice is None:
            with hardware_errors():
                self._choice = hardware.choose(self._source, device=self._device)
        return self._choice

    @property
    def sampler(self) -> hardware.Sampler:
        """The running sampler; only between `open` and `close`."""
        assert self._sampler is not None, "the meter is not open"
        return self._sampler

    @property
    def is_open(self) -> bool:
        return self._sampler is not None

    def open(self, manifest: Manifest) -> None:
        """Open the source and begin a session in the manifest.

        Raises:
            RequestError: the source is not known or not usable here, or not the meter that the run began with.
            JouletuneError: it does not open.
        """
        source, folder = self.choice.source, self._trace_dir
        if self._target is None:
            sampler = hardware.Sampler(source, folder)
        else:
            load = _Load(self._target)
            sampler = hardware.Sampler(
                source, folder, look=self._target.look, cpu_times=load.ticks, tree_cpu_s=load.of_work_s
            )
        with hardware_errors():
            sampler.start()
        if manifest.sessions and manifest.source is not None:
            try:
                _check_identity(manifest.source.device, sampler.source.info.device)
            except RequestError:
                sampler.stop()
                raise
        self._sampler = sampler
        if not manifest.sessions:
            # some meters say what they are only once they are open
            manifest.source = part(EnergySource, {**sampler.source.info.to_dict(), "why": self.choice.why})
        self._session = Session(started_at=now())
        self._controls.clear()
        manifest.sessions.append(self._session)

    def measure_idle(self, idle_s: float, *, if_due: bool = False) -> bool:
        """Measure an idle baseline and note it in the manifest; blocks for that long and a little more.

        Args:
            idle_s: seconds; 0 for none.
            if_due: only where the latest baseline does not hold any more.

        Returns:
            Whether one was measured: not where the source measures nothing.
        """
        if idle_s <= 0 or self.sampler.source.info.kind == "none" or (if_due and not self.sampler.idle_due()):
            return False
        self._session.idle.append(self.sampler.measure_idle(idle_s))
        return True

    def measure_control(self) -> str | None:
        """Measure the control workload and note it in the manifest; blocks for some 15 s.

        Returns:
            A warning where the measurements of this session differ by more than they should.
        """
        if self.sampler.source.info.kind == "none":
            return None
        with hardware_errors():
            self._controls.append(control.measure(self.sampler))
        self._session.control = [dataclasses.asdict(one) for one in self._controls]
        found = control.movement(self._controls)
        self._session.movement = dataclasses.asdict(found) if found else None
        if found is None or not found.moved:
            return None
        return (
            f"control workload: {found.mean_w:.3g} W moved by more than {control.MAX_MOVE:.0%} within this session "
            f"(drift {found.drift:+.1%}, scatter {found.scatter:.1%}); its joules are not of one kind"
        )

    def close(self) -> None:
        """Let go of the source and end the session. Always safe; `open` begins another."""
        sampler, self._sampler, self._choice = self._sampler, None, None
        if sampler is not None:
            sampler.stop()
            self._session.ended_at = now()


class _Load:
    """Processor time on another machine, in the pieces that a sampler asks for, from one question to it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._of_work_s: float | None = None

    def ticks(self) -> tuple[float, float] | None:
        """(busy, total), in ticks of this machine."""
        found = self._target.load_s()
        self._of_work_s = found[2] if found else None
        ticks = device_state.ticks_per_s()
        return (found[0] * ticks, found[1] * ticks) if found else None

    def of_work_s(self) -> float | None:
        """Of the work, as of the latest call of `ticks`."""
        return self._of_work_s


def _check_identity(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a meter is the one that an earlier session used, as far as both tell.

    Raises:
        RequestError: it is another one, whose scale may be another.
    """
    for name in ("model", "serial", "firmware", "calibration_sha256"):
        old, new = before.get(name), now.get(name)
        if old is not None and new is not None and str(old) != str(new):
            raise RequestError(
                f"the energy meter is another one: {name} {new}, the run began with {old}; "
                "connect that one, or choose another --out"
            )
