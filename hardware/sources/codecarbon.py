"""codecarbon: a model of the machine's power, for devices without a counter or meter. Not a measurement.

Its model (codecarbon 3.x): where RAPL or NVML counters are readable it takes their differences. Elsewhere the
CPU is ``TDP x (0.1 + 0.9 x load^3)`` with the load of the whole machine and a TDP from a table (4 W per
thread for a CPU it does not know), and the memory is a constant of 3 W or more, 10 W or more on x86,
guessed from its size. Errors of 40 % are usual; ratios within one run are better than that, since TDP and
constants cancel, but the cubic load exaggerates the difference between few busy cores and many.

Use of it here: tasks, not ``start``/``stop``. ``stop`` races with the tracker's own timer when a window is
close to a whole number of ``measure_power_secs`` and then counts it twice (seen: 41 J for an idle second of 20.8 J);
tasks have no such timer. A task's delta is the counters' difference or the mean load since it began, and costs about
1 ms. On a Raspberry Pi 5, however, a task reads the board's power once, after the work, so a window is cut into slices
of `SLICE_S`. What is lost between two slices (1 ms, more on a Pi) is filled with their mean power.

No network: the offline tracker makes no connection. No files: no output method is set. No hidden configuration:
``.codecarbon.config`` and ``CODECARBON_*`` override arguments and could change the constants between two runs
unseen, so they are refused.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hardware.errors import SourceError
from hardware.source import EstimateSource, Found, NotFound, Probe, SourceInfo
from hardware.sources.quiet import Muted, silenced

J_PER_KWH = 3.6e6
GAIN_U = 0.4
SLICE_S = 0.5
"""50 ticks of Linux's CPU clock on each core, so that the load of a slice is known to about 2 %."""

CONFIG_FILES = (Path("~/.codecarbon.config"), Path(".codecarbon.config"))


class CodecarbonSource(EstimateSource):
    """The offline tracker, one task after another while a window is open."""

    def __init__(self) -> None:
        self._muted: Muted | None = None
        self._tracker: Any = None
        self._done = threading.Event()
        self._slicer: threading.Thread | None = None
        self._energy_j = 0.0
        self._covered_s = 0.0
        self._began_s = self._slice_began_s = self._slice_ended_s = 0.0
        self._error = ""
        self._params: dict[str, Any] = {"slice_s": SLICE_S}
        self._covers: tuple[str, ...] = ("cpu", "memory")

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(
            name="codecarbon",
            kind="estimate",
            scope="model",
            covers=self._covers,
            excludes=("storage", "network", "display", "power supply"),
            period_s=SLICE_S,
            gain_u=GAIN_U,
            params=dict(self._params),
        )

    def open(self) -> None:
        """Build the tracker and run one empty task: the first one looks the hardware up (0.4 s)."""
        if self._tracker is not None:
            return
        with silenced():
            import codecarbon

        self._muted = Muted("codecarbon")
        with _some_home():
            self._tracker = codecarbon.OfflineEmissionsTracker(
                country_iso_code="USA",  # only converts kWh to CO2, which is not reported
                tracking_mode="machine",  # the work is done by another process than this one
                measure_power_secs=1,
                output_methods=[],
                allow_multiple_runs=True,
                log_level="critical",
            )
        self._start_slice()
        self._stop_slice()
        self._describe()

    def close(self) -> None:
        if self._slicer is not None:
            self._halt_slicer()
            self._stop_slice()
        self._tracker = None

    def begin(self) -> None:
        if self._slicer is not None:
            raise SourceError("codecarbon: a window is open already")
        self._error, self._energy_j, self._covered_s = "", 0.0, 0.0
        self._done.clear()
        # codecarbon keeps every finished task for its report; a long campaign would fill the memory
        getattr(self._tracker, "_tasks", {}).clear()
        self._start_slice()
        self._began_s = self._slice_began_s
        self._slicer = threading.Thread(target=self._slice, name="codecarbon-slices", daemon=True)
        self._slicer.start()

    def end(self) -> float:
        if self._slicer is None:
            raise SourceError("codecarbon: no window is open")
        self._halt_slicer()
        if not self._error:
            self._stop_slice()
        span_s = self._slice_ended_s - self._began_s
        if self._error or self._covered_s <= 0:
            raise SourceError(f"codecarbon: {self._error or 'it gave no energy'}")
        return self._energy_j * span_s / self._covered_s

    def _slice(self) -> None:
        while not self._done.wait(SLICE_S):
            try:
                self._stop_slice()
                self._start_slice()
            except Exception as error:  # end() raises it
                self._error = str(error) or type(error).__name__
                return

    def _halt_slicer(self) -> None:
        self._done.set()
        if self._slicer is not None:
            self._slicer.join()
            self._slicer = None

    def _start_slice(self) -> None:
        try:
            self._tracker.start_task()
            self._slice_began_s = time.perf_counter()
        except Exception as error:
            raise SourceError(f"codecarbon did not start: {type(error).__name__}: {error}") from error

    def _stop_slice(self) -> None:
        self._slice_ended_s = time.perf_counter()
        try:
            energy_kwh = float(self._tracker.stop_task().energy_consumed)
        except Exception as error:
            warning = self._muted.last_warning if self._muted else ""
            raise SourceError(f"codecarbon gave nothing: {warning or error}") from error
        self._energy_j += energy_kwh * J_PER_KWH
        self._covered_s += self._slice_ended_s - self._slice_began_s

    def _describe(self) -> None:
        """Record the inputs of the model. Private attributes, so each may be missing."""
        parts = {type(part).__name__: part for part in getattr(self._tracker, "_hardware", [])}
        cpu = parts.get("CPU")
        conf = getattr(self._tracker, "_conf", {})
        ram_w = getattr(self._tracker, "_ram_power", None)
        self._params |= {
            "version": conf.get("codecarbon_version"),
            "parts": sorted(parts),
            "cpu_mode": "pmic" if "Raspberry" in parts else getattr(cpu, "_mode", None),
            "cpu_model": conf.get("cpu_model"),
            "cpu_tdp_w": getattr(cpu, "_tdp", None),
            "cpu_tdp_is_generic": getattr(cpu, "_is_generic_tdp", None),
            "memory_power_w": round(float(ram_w.W), 3) if ram_w is not None else None,
            "gpu_model": conf.get("gpu_model") or None,
        }
        if "GPU" in parts:
            self._covers = ("cpu", "memory", "gpu")


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found wherever codecarbon can be imported and nothing hidden configures it."""
    hidden = []
    for path in CONFIG_FILES:
        with contextlib.suppress(RuntimeError):  # without a home folder there is no file in it
            hidden += [str(path)] if path.expanduser().exists() else []
    hidden += sorted(key for key in os.environ if key.upper().startswith("CODECARBON_"))
    if hidden:
        return NotFound(
            f"{', '.join(hidden)} would change codecarbon's model unseen; remove or unset it to use this source"
        )
    source = CodecarbonSource()
    source.open()
    return Found(
        source,
        f"codecarbon's model ({_basis(source.info.params)}); joules may be off by {GAIN_U * 100:.0f} %",
    )


@contextlib.contextmanager
def _some_home() -> Iterator[None]:
    """Let codecarbon look for its configuration in a folder that is none, where the user has no home folder."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.devnull
        try:
            yield
        finally:
            del os.environ["HOME"]
    else:
        yield


def _basis(params: dict[str, Any]) -> str:
    """The basis of the processor's share, in words."""
    bases = {
        "cpu_load": f"CPU load with a TDP of {params['cpu_tdp_w']} W",
        "constant": f"a constant for a CPU with a TDP of {params['cpu_tdp_w']} W",
        "intel_rapl": "RAPL counters and a constant for the memory",
        "pmic": "the power chip of the Raspberry Pi 5",
    }
    return bases.get(str(params["cpu_mode"]), f"CPU by {params['cpu_mode']}")
