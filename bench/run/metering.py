"""Meter: the energy source of a session, opened when something is first measured."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import hardware
from bench.errors import JouletuneError, RequestError
from bench.run.surroundings import now, surroundings


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
    """The energy source of a test session, opened when a function is first measured.

    Attributes:
        manifest: of the source and the machine, with the idle baselines of the session; None before the first.
    """

    def __init__(self, source: str, device: str) -> None:
        self.manifest: dict[str, Any] | None = None
        self.why = ""
        self._source = source
        self._device = device
        self._sampler: hardware.Sampler | None = None
        self._idle_s = 0.0
        self._entry: dict[str, Any] = {}

    def sampler(self, idle_s: float) -> hardware.Sampler:
        """The running sampler, with an idle baseline that still holds.

        Raises:
            RequestError: the source is not known or not usable here.
            JouletuneError: it does not open.
        """
        __tracebackhide__ = True
        if self._sampler is None:
            self._open()
        assert self._sampler is not None
        self._idle_s = idle_s
        if idle_s > 0 and self._sampler.idle_due():
            self._measure_idle(self._sampler)
        return self._sampler

    def close(self, *, finished: bool = True) -> None:
        """Let go of the source, with one more idle baseline if all was finished. Always safe."""
        if self._sampler is None:
            return
        if finished and self._idle_s > 0 and self._sampler.source.info.kind != "none":
            self._measure_idle(self._sampler)
        self._sampler.stop()
        self._sampler = None
        self._entry["ended_at"] = now()

    def _open(self) -> None:
        __tracebackhide__ = True
        with hardware_errors():
            choice = hardware.choose(self._source, device=self._device)
            sampler = hardware.Sampler(choice.source)
            sampler.start()
        self._sampler = sampler
        if self.manifest is None:
            self.why = choice.why
            self.manifest = surroundings(choice, torch_device=self._device)
            self.manifest["source"] |= sampler.source.info.to_dict()
        self._entry = {"started_at": now(), "idle": [], "ended_at": None}
        self.manifest["sessions"].append(self._entry)

    def _measure_idle(self, sampler: hardware.Sampler) -> None:
        self._entry["idle"].append(dataclasses.asdict(sampler.measure_idle(self._idle_s)))
