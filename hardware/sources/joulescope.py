"""joulescope: a Joulescope JS110 or JS220, through the maker's own driver: ``joulescope``, or ``joulescope:SERIAL``.

Needs the extra ``jouletune[joulescope]`` (pyjoulescope_driver). The instrument adds up joules itself, over a million
samples a second, and reports the sum ten times a second (JS110: twice) with the number of the sample it stands at, so
this is a counter: reports that are late or lost cost nothing. A report that went missing while the cable was out is
something else: what was drawn meanwhile is not in the sum, and `Health.disconnects` counts it.

The gain uncertainty of 0.5 % is assumed, well above what such an instrument should need; the maker's own table gives a
figure for each current range and was not at hand. `jouletune calibrate` puts a measured one in its place. Limits:
15 V, 3 A (JS110: 2 A for long). Written against the documented interface of pyjoulescope_driver 2.2; not yet tried on
a real Joulescope.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from hardware.errors import SourceError
from hardware.meters.clockfit import ClockFit
from hardware.source import CounterSource, Found, Health, NotFound, Probe, Sample, SourceInfo

GAIN_U = 0.005
RATE_HZ = 10
SAMPLES_HZ = 1_000_000
"""Of the JS220. The JS320 counts its sums in the same units; each report says the rate of its sample numbers."""

MODELS = ("js110", "js320", "js220")
"""The JS320 needs pyjoulescope_driver 2.5 or newer, which needs Python 3.12."""

FIRST_S = 5.0
SILENT_S = 3.0
RETRY_S = 2.0


class JoulescopeSource(CounterSource):
    """One instrument. ``make_driver`` makes the maker's ``Driver``, or anything with the same methods."""

    def __init__(
        self, name: str, path: str, make_driver: Callable[[], Any], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._path = path
        self._model = next((model for model in MODELS if model in path.lower()), MODELS[-1])
        self._js110 = self._model == "js110"
        self._topic = f"{path}/s/{'sstats' if self._js110 else 'stats'}/value"
        self._make_driver = make_driver
        self._driver: Any = None
        self._clock = clock
        self._lock = threading.Lock()
        self._fit = ClockFit()
        self._report: Sample | None = None
        self._sum_j: float | None = None
        self._reported_s = self._retry_s = 0.0
        self._health = Health(connected=False)
        # the driver wants the very same function back to unsubscribe
        self._listener = self._take_report
        self._info = SourceInfo(
            name=self.name,
            kind="counter",
            scope="board",
            covers=("everything behind the instrument",),
            excludes=("power supply",),
            resolution=1e-6,
            period_s=0.5 if self._js110 else 1 / RATE_HZ,
            gain_u=GAIN_U,
            clock="device",
            device={"model": self._model.upper(), "path": self._path},
        )

    @property
    def health(self) -> Health:
        return self._health

    def open(self) -> None:
        try:
            self._driver = self._make_driver()
            self._connect()
        except Exception as error:  # the driver's errors are RuntimeErrors of many kinds
            self.close()
            raise SourceError(f"{self.name} cannot be opened: {error}") from error
        deadline_s = self._clock() + FIRST_S
        while self._report is None and self._clock() < deadline_s:
            time.sleep(0.02)
        if self._report is None:
            self.close()
            raise SourceError(f"{self.name} opens, but reports nothing")

    def close(self) -> None:
        driver, self._driver = self._driver, None
        if driver is None:
            return
        for step in (
            lambda: driver.unsubscribe(self._topic, self._listener),
            lambda: driver.close(self._path),
            driver.finalize,
        ):
            with contextlib.suppress(Exception):
                step()

    def read(self) -> Sample:
        """The last report. While the cable is out that one again, and with it a gap at the end of the samples."""
        now_s = self._clock()
        if now_s - self._reported_s > SILENT_S and now_s > self._retry_s:
            self._reconnect(now_s)
        with self._lock:
            if self._report is None:
                raise SourceError(f"{self.name} has reported nothing yet")
            return self._report

    def _connect(self) -> None:
        driver, path = self._driver, self._path
        driver.open(path)
        driver.publish(f"{path}/s/i/range/{'select' if self._js110 else 'mode'}", "auto")
        if not self._js110:  # the JS110's own sums come twice a second in any case
            driver.publish(f"{path}/s/stats/scnt", SAMPLES_HZ // RATE_HZ)
            driver.publish(f"{path}/s/stats/ctrl", 1)
        self._reported_s = self._clock()
        driver.subscribe(self._topic, "pub", self._listener)

    def _reconnect(self, now_s: float) -> None:
        lost = int(self._health.connected)
        self._health = dataclasses.replace(
            self._health,
            connected=False,
            disconnects=self._health.disconnects + lost,
            problem=f"no report for {SILENT_S:.0f} s",
        )
        self._retry_s = now_s + RETRY_S
        with self._lock:
            self._sum_j = None
            self._fit = ClockFit()
        try:
            with contextlib.suppress(Exception):
                self._driver.unsubscribe(self._topic, self._listener)
                self._driver.close(self._path)
            if self._path in self._driver.device_paths():
                self._connect()
        except Exception as error:
            self._health = dataclasses.replace(self._health, problem=str(error))

    def _take_report(self, topic: str, value: Mapping[str, Any]) -> None:
        """Add a report; the driver calls it from its own thread."""
        arrived_s = self._clock()
        try:
            energy_j = float(value["accumulators"]["energy"]["value"])
            times = value["time"]
            rate_hz = float(times.get("sample_freq", {}).get("value", 2e6 if self._js110 else SAMPLES_HZ))
            taken_s = float(times["samples"]["value"][1]) / rate_hz
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            self._health = dataclasses.replace(
                self._health, bad_frames=self._health.bad_frames + 1, problem=f"a report lacks {error}"
            )
            return
        with self._lock:
            self._fit.add(taken_s, arrived_s)
            last_s, total_j = self._report or (float("-inf"), 0.0)
            # a fresh connection counts from an unknown sum
            step_j = 0.0 if self._sum_j is None else energy_j - self._sum_j
            self._sum_j = energy_j
            self._report = max(self._fit.host_s(taken_s), last_s + 1e-6), total_j + max(0.0, step_j)
        self._reported_s = arrived_s
        self._health = dataclasses.replace(self._health, connected=True)


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when exactly one Joulescope is plugged in, or the one of this serial number."""
    try:
        from pyjoulescope_driver import Driver
    except ImportError:
        return NotFound('it needs the maker\'s driver: pip install "jouletune[joulescope]"')
    driver = Driver()
    try:
        paths = [path for path in driver.device_paths() if any(model in path for model in MODELS)]
    finally:
        driver.finalize()
    chosen = [path for path in paths if not argument or path.endswith(f"/{argument}")]
    if len(chosen) != 1:
        return NotFound(
            f"{len(paths)} Joulescopes are plugged in ({', '.join(paths)}); name one: joulescope:SERIAL"
            if paths
            else "no Joulescope is plugged in, or the maker's udev rule is missing"
        )
    name = f"joulescope:{argument}" if argument else "joulescope"
    return Found(JoulescopeSource(name, chosen[0], Driver), f"a Joulescope is plugged in ({chosen[0]})")
