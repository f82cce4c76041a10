"""Device: facts about the machine, for the manifest, and its state before and after a cell.

Read from /proc and /sys, so most of it is Linux only; what a machine does not tell is None. The host's name is left
out on purpose: results are made to be published.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from hardware.device import vcgencmd

ROOT = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """Facts that do not change during a run.

    Attributes:
        board: name of the board, e.g. "Raspberry Pi 5 Model B Rev 1.0"; None where firmware tells none.
        cpu_model: name of the processor.
        machine: instruction set, e.g. ``aarch64``.
        logical_cores: that this process may run on.
        memory_bytes: physical memory.
        os: name and release of the system.
        kernel: release of the kernel.
        governor: of the first core, e.g. ``schedutil``; None where the kernel does not set frequencies.
        frequency_min_hz, frequency_max_hz: the range that the governor may use.
        virtual: True in a virtual machine, where power is at best a share of the host's.
    """

    board: str | None
    cpu_model: str | None
    machine: str
    logical_cores: int | None
    memory_bytes: int | None
    os: str
    kernel: str
    governor: str | None
    frequency_min_hz: float | None
    frequency_max_hz: float | None
    virtual: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of the device at one moment. Costs well under a millisecond per core.

    On a Raspberry Pi whose kernel does not show the throttle bits it costs a process more, some 10 ms.

    Attributes:
        temperature_c: the hottest thermal zone.
        frequency_hz, frequency_min_hz, frequency_max_hz: mean, slowest and fastest of the cores.
        governor: of the first core.
        throttle_bits: ``get_throttled`` of a Raspberry Pi: bits 0-3 undervoltage, frequency capped, throttled, soft
            temperature limit, each now; 16-19 the same at any time since it was switched on.
        throttle_count: how often an x86 processor has slowed itself down for heat, all its packages together; only a
            rise means anything.
    """

    temperature_c: float | None
    frequency_hz: float | None
    governor: str | None
    throttle_bits: int | None = None
    throttle_count: int | None = None
    frequency_min_hz: float | None = None
    frequency_max_hz: float | None = None


def facts(root: Path = ROOT) -> DeviceFacts:
    """Read the facts about this machine. Never raises."""
    cpuinfo = _pairs(root / "proc/cpuinfo", ":")
    memory_kib = _pairs(root / "proc/meminfo", ":").get("MemTotal", "").split()[:1]
    system = _pairs(root / "etc/os-release", "=").get("PRETTY_NAME", "").strip('"')
    policy = root / "sys/devices/system/cpu/cpu0/cpufreq"
    flags = cpuinfo.get("flags")
    return DeviceFacts(
        board=text(root / "proc/device-tree/model") or text(root / "sys/class/dmi/id/product_name") or None,
        cpu_model=cpuinfo.get("model name") or cpuinfo.get("Model") or platform.processor() or None,
        machine=platform.machine(),
        # a container or taskset may leave fewer than the machine has
        logical_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        memory_bytes=int(memory_kib[0]) * 1024 if memory_kib else None,
        os=system or f"{platform.system()} {platform.release()}",
        kernel=platform.release(),
        governor=text(policy / "scaling_governor") or None,
        frequency_min_hz=_scaled(policy / "scaling_min_freq", 1e3),
        frequency_max_hz=_scaled(policy / "scaling_max_freq", 1e3),
        virtual=None if flags is None else "hypervisor" in flags.split(),
    )


def snapshot(root: Path = ROOT) -> Snapshot:
    """Read the state of the machine now. Never raises."""
    zones = [_scaled(path, 1e-3) for path in (root / "sys/class/thermal").glob("thermal_zone*/temp")]
    cpus = root / "sys/devices/system/cpu"
    frequencies = [_scaled(path, 1e3) for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    known_hz = [hz for hz in frequencies if hz is not None]
    return Snapshot(
        temperature_c=max((zone for zone in zones if zone is not None), default=None),
        frequency_hz=sum(known_hz) / len(known_hz) if known_hz else None,
        governor=text(cpus / "cpu0/cpufreq/scaling_governor") or None,
        throttle_bits=_throttle_bits(root),
        throttle_count=_throttle_count(root),
        frequency_min_hz=min(known_hz, default=None),
        frequency_max_hz=max(known_hz, default=None),
    )


def cpu_times(root: Path = ROOT) -> tuple[float, float] | None:
    """(busy, total) time of all cores since the start of the machine, in clock ticks; None where unknown.

    The share busy / total between two calls is the load of the whole machine.
    """
    line = text(root / "proc/stat").partition("\n")[0].split()
    if len(line) < 6 or line[0] != "cpu":
        return None
    # user nice system idle iowait irq softirq steal; what follows is part of user and nice
    ticks = [float(count) for count in line[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def tree_cpu_s() -> float | None:
    """Processor time of this process, of all that it has started, and of those that have ended, s; None where unknown.

    A child that ends counts on in its parent once that has waited for it.
    """
    import psutil  # a mere probe does not need it

    try:
        me = psutil.Process()
        total_s = 0.0
        for process in (me, *me.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # it has ended
                total_s += sum(process.cpu_times()[:4])  # user, system, and the same of the children waited for
    except (psutil.Error, OSError):
        return None
    return total_s


def tree() -> set[int]:
    """Ids of this process and of all that it has started and that still run."""
    import psutil

    me = psutil.Process()
    return {me.pid, *(child.pid for child in me.children(recursive=True))}


def ticks_per_s() -> float:
    """Clock ticks in a second of `cpu_times`."""
    return float(os.sysconf("SC_CLK_TCK")) if hasattr(os, "sysconf") else 100.0


def suspended_s() -> float:
    """How long the machine has slept since it was started, s: CLOCK_BOOTTIME goes on meanwhile, CLOCK_MONOTONIC not.

    0 where the system has no such clock. Two calls in a row may differ by some microseconds.
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _throttle_bits(root: Path) -> int | None:
    # the folder carries an address on a Raspberry Pi 5 and none on the older ones
    found = [text(path) for path in (root / "sys/devices/platform").glob("soc*/soc*:firmware/get_throttled")]
    bits = found[0] if found else _firmware_throttle() if root == ROOT else None
    try:
        return None if bits is None else int(bits, 16)
    except ValueError:
        return None


def _throttle_count(root: Path) -> int | None:
    counters = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/package_throttle_count")
    counts = [count for count in (_scaled(path, 1) for path in counters) if count is not None]
    return int(sum(counts)) if counts else None


def _firmware_throttle() -> str | None:
    """The answer to ``vcgencmd get_throttled``, e.g. ``0x50005``; None where it is missing or not permitted."""
    if not vcgencmd.is_here():
        return None
    try:
        return vcgencmd.ask("get_throttled").partition("=")[2].strip()
    except vcgencmd.VcgencmdError:
        return None


def _pairs(path: Path, separator: str) -> dict[str, str]:
    """Read the first value of each key of a file; the cores of a processor repeat them."""
    found: dict[str, str] = {}
    for line in text(path).splitlines():
        key, _, value = line.partition(separator)
        found.setdefault(key.strip(), value.strip())
    return found


def _scaled(path: Path, factor: float) -> float | None:
    try:
        return float(text(path)) * factor
    except ValueError:
        return None


def text(path: Path) -> str:
    """Read the text in a file of the system; "" where there is none to read."""
    try:
        # the device tree ends its strings with a zero byte
        return path.read_text(errors="replace").strip().strip("\x00").strip()
    except OSError:
        return ""
