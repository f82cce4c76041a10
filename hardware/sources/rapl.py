"""rapl: the energy counters of x86 processors, read through Linux's powercap files.

Layout, as the kernel documents it: ``/sys/class/powercap/intel-rapl:N`` is a zone with ``name``, ``energy_uj`` and
``max_energy_range_uj``; ``intel-rapl:N:M`` is a part of it. AMD processors (Zen and later) use the same files.

These zones are added up:

- every ``package-*`` zone: the whole processor die, cores and graphics and caches;
- every ``dram`` zone: memory has a supply of its own, so it is no part of the package although its folder lies inside;
- not ``core`` or ``uncore``: they are parts of the package;
- not ``psys`` (whole platform) beside packages, which it contains; alone, it is used;
- not a zone whose counter follows another one's: some processors of several dies show one counter per die that all
  mirror the same socket;
- not ``intel-rapl-mmio:*``: the same package seen through another register, unless there is nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware.errors import SourceError
from hardware.source import CounterSource, Found, NoPermission, NotFound, Probe, Sample, SourceInfo

POWERCAP = Path("/sys/class/powercap")
UJ = 1e-6
UNIT_J = 61e-6
"""One count of the register behind the file, 2^-14 J on most processors; the file's microjoules are finer."""

MAX_POWER_W = 5000.0
"""No processor draws this; a counter that seems to has been reset, e.g. by a suspend, and did not wrap."""

MIRROR_LOOKS, MIRROR_PAUSE_S = 10, 0.03
"""Times that two counters are compared, and time in between: two sockets whose powers differ by 1 W part by 0.3 J."""

HOW_TO_FIX = (
    "only root may read it. To allow it until the next boot: sudo chmod a+r {files}. For good: put "
    'SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/sh -c \'chmod a+r /sys%p/energy_uj\'" '
    "into /etc/udev/rules.d/70-rapl.rules"
)


@dataclass(frozen=True, slots=True)
class Zone:
    """One powercap folder that has an energy counter."""

    path: Path
    name: str
    range_j: float

    @property
    def energy_file(self) -> Path:
        return self.path / "energy_uj"

    def energy_j(self) -> float:
        """The present count, J.

        Raises:
            OSError: not readable.
            ValueError: not a number.
        """
        return int(self.energy_file.read_text()) * UJ


class RaplSource(CounterSource):
    """The sum of some zones, each unwrapped on its own."""

    def __init__(
        self,
        zones: Sequence[Zone],
        *,
        unused: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._zones = tuple(zones)
        self._unused = tuple(unused)
        self._clock = clock
        self._last: list[tuple[float, float]] = []
        self._total_j = 0.0
        psys = all(zone.name == "psys" for zone in self._zones)
        self._info = SourceInfo(
            name="rapl",
            kind="counter",
            scope="soc" if psys else "cpu",
            covers=tuple(zone.name for zone in self._zones),
            excludes=() if psys else ("board", "storage", "discrete GPU", "power supply"),
            resolution=UNIT_J,
            period_s=0.001,
            wrap_j=min(zone.range_j for zone in self._zones),
            gain_u=0.05,
            params={"zones": [zone.path.name for zone in self._zones], "unused": list(self._unused)},
        )

    def open(self) -> None:
        self._total_j = 0.0
        self._last = []
        self.read()

    def read(self) -> Sample:
        now_s = self._clock()
        counts_j = []
        for zone in self._zones:
            try:
                counts_j.append(zone.energy_j())
            except (OSError, ValueError) as error:
                raise SourceError(f"rapl: {zone.name} is not readable any more: {error}") from error
        for zone, count_j, (last_s, last_j) in zip(self._zones, counts_j, self._last, strict=False):
            step_j = count_j - last_j
            if step_j < 0:
                step_j += zone.range_j
            if not 0 <= step_j <= MAX_POWER_W * max(now_s - last_s, 0.01):
                raise SourceError(f"rapl: {zone.name} jumped from {last_j:.3f} J to {count_j:.3f} J; was it reset?")
            self._total_j += step_j
        self._last = [(now_s, count_j) for count_j in counts_j]
        return now_s, self._total_j


def probe(argument: str, params: dict[str, str], device: str, *, root: Path = POWERCAP) -> Probe:
    """Found when the counters of all chosen zones can be read."""
    zones = _zones(root, "intel-rapl") or _zones(root, "intel-rapl-mmio")
    if not zones:
        return NotFound("this kernel shows no RAPL counters (usual on ARM boards and in virtual machines)")
    packages = [zone for zone in zones if zone.name.startswith("package")]
    chosen = packages + [zone for zone in zones if zone.name.startswith("dram")]
    chosen = chosen if packages else [zone for zone in zones if zone.name == "psys"]
    if not chosen:
        return NotFound(f"none of the RAPL zones {', '.join(zone.name for zone in zones)} covers a processor")
    try:
        chosen = _without_mirrors(chosen)
    except PermissionError:
        files = " ".join(str(zone.energy_file) for zone in chosen)
        return NoPermission(HOW_TO_FIX.format(files=files))
    except (OSError, ValueError) as error:
        return NotFound(f"a RAPL counter cannot be read: {error}")
    unused = [f"{zone.path.name} ({zone.name})" for zone in zones if zone not in chosen]
    names = ", ".join(zone.name for zone in chosen)
    return Found(RaplSource(chosen, unused=unused), f"the counters {names} are readable")


def _zones(root: Path, prefix: str) -> list[Zone]:
    """The zones of one kind, in the order of their numbers; dram gets the number of its package."""
    found = []
    for path in root.glob(f"{prefix}:*"):
        try:
            name = (path / "name").read_text().strip()
            range_j = int((path / "max_energy_range_uj").read_text()) * UJ
        except (OSError, ValueError):
            continue
        numbers_ = [int(part) for part in path.name.split(":")[1:]]
        if name == "dram":
            name = f"dram-{numbers_[0]}"
        found.append((numbers_, Zone(path, name, range_j)))
    return [zone for _, zone in sorted(found, key=lambda item: item[0])]


def _without_mirrors(zones: Sequence[Zone]) -> list[Zone]:
    """One of each group of zones of a kind (package, dram) whose counters are one; at 0 they prove nothing.

    Raises:
        OSError, ValueError: a counter cannot be read.
    """
    kept: list[Zone] = []
    for zone in zones:
        zone.energy_j()
        if not any(one.name[:4] == zone.name[:4] and _is_mirror(zone, one) for one in kept):
            kept.append(zone)
    return kept


def _is_mirror(zone: Zone, other: Zone) -> bool:
    """Whether a zone's count lies between two of another's, read before and after it, at each of several looks."""
    for look in range(MIRROR_LOOKS):
        if look:
            time.sleep(MIRROR_PAUSE_S)
        before_j, count_j, after_j = other.energy_j(), zone.energy_j(), other.energy_j()
        if count_j <= 0 or not before_j - UNIT_J <= count_j <= after_j + UNIT_J:
            return False
    return True
