"""Changes of the device: flags from its state before and after some work, and the wait until it has cooled down."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from hardware.device.machine import Snapshot, snapshot
from hardware.source import Clock

COOL_TOLERANCE_C = 3.0
COOL_LIMIT_S = 120.0
COOL_STEP_S = 1.0

NOW_BITS = 0xF
"""The bits of a Raspberry Pi's ``get_throttled`` for this moment."""

BOOT_BITS = 0xF0000
"""And those for any time since it was switched on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooldown:
    """The outcome of a wait for the device to cool down.

    Attributes:
        reached: it came within the tolerance. True as well where there is no thermometer to wait for.
        waited_s: length of the wait.
        from_c, to_c: temperature at its beginning and end; None where there is no thermometer.
    """

    reached: bool
    waited_s: float
    from_c: float | None
    to_c: float | None


def changes(before: Snapshot | None, after: Snapshot | None) -> list[str]:
    """The flags of work between two snapshots."""
    flags: list[str] = []
    if before is None or after is None:
        return flags
    if _differ(before.throttle_bits, after.throttle_bits) or _differ(before.throttle_count, after.throttle_count):
        flags.append("throttled")
    if before.governor is not None and after.governor is not None and before.governor != after.governor:
        flags.append("governor_changed")
    return flags


def standing(before: Snapshot | None) -> list[str]:
    """The flags of work that began in this state, whatever came after.

    A bit of `BOOT_BITS` stays on until the device is switched off, so once it is on it hides the next time.
    """
    bits = before.throttle_bits if before is not None else None
    if not bits:
        return []
    if bits & NOW_BITS:
        return ["throttled_before"]
    return ["throttled_since_boot"] if bits & BOOT_BITS else []


def _differ(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and before != after


def cool_down(
    target_c: float | None,
    *,
    tolerance_c: float = COOL_TOLERANCE_C,
    limit_s: float = COOL_LIMIT_S,
    look: Callable[[], Snapshot] = snapshot,
    clock: Clock = time,
) -> Cooldown:
    """Wait until the device is at most tolerance_c warmer than target_c, but no longer than limit_s.

    Args:
        target_c: temperature before the first cell; None: do not wait.
    """
    start_s = clock.monotonic()
    from_c = to_c = look().temperature_c
    while target_c is not None and to_c is not None and to_c > target_c + tolerance_c:
        if clock.monotonic() - start_s >= limit_s:
            return Cooldown(reached=False, waited_s=clock.monotonic() - start_s, from_c=from_c, to_c=to_c)
        clock.sleep(COOL_STEP_S)
        to_c = look().temperature_c
    return Cooldown(reached=True, waited_s=clock.monotonic() - start_s, from_c=from_c, to_c=to_c)
