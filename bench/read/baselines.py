"""Net joules against the idle baselines on both sides of a repeat; its record could only know the one before."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from typing import Any

from bench.store.manifest import Manifest, Session
from hardware.measure.idle import IdleBaseline, bracketing, rebase


class Brackets:
    """The idle baselines around each repeat of a run.

    A record says which session it is of, and when it began by the host's monotonic clock. One of an older version has
    only the time of day, which counts where it tells the session and the order without doubt.

    Args:
        manifest: of that run; its sessions hold the baselines.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._sessions = manifest.sessions
        self._timed = [_Timed(session) for session in manifest.sessions]
        spans = [(one.first, one.last) for one in self._timed]
        self._in_order = all(
            earlier[1] <= later[0] and earlier[0] < later[0] for earlier, later in itertools.pairwise(spans)
        )
        self._known: dict[tuple[int, int], IdleBaseline | None] = {}

    def move(self, line: dict[str, Any]) -> None:
        """Move a record's net joules, in place, to the mean of the idle baselines before and after it.

        Gross joules move with them by what the guard bands had taken off. Two baselines that differ by more than one
        idle power does raise the flag `idle_drift`. The net uncertainty gets the bracket's in place of the single
        baseline's. Without two baselines, or `band_s` in the record, nothing moves.
        """
        needed = ("energy_gross_j", "energy_net_j", "idle_power_w", "train_time_s")
        if not line.get("band_s") or None in map(line.get, needed):
            return
        place = self._place(line)
        if place is None:
            return
        if place not in self._known:
            self._known[place] = bracketing(self._sessions[place[0]].idle, place[1])
        bracket = self._known[place]
        if bracket is None or bracket.power_w is None or len(self._sessions[place[0]].idle) < 2:
            return
        gross_j, net_j = rebase(
            line["energy_gross_j"],
            line["energy_net_j"],
            from_w=line["idle_power_w"],
            to_w=bracket.power_w,
            work_s=line["train_time_s"],
            band_s=line["band_s"],
        )
        line["energy_gross_j"], line["energy_net_j"], line["idle_power_w"] = gross_j, net_j, bracket.power_w
        line["energy_net_u_j"] = _net_u_j(line, bracket)
        line["energy_terms"] = _moved_terms(line, bracket)
        if bracket.drifted and "idle_drift" not in (line.get("flags") or ()):
            line["flags"] = [*(line.get("flags") or ()), "idle_drift"]
            line["grade"] = {"A": "B", "B": "C"}.get(line.get("grade") or "", line.get("grade"))

    def _place(self, line: dict[str, Any]) -> tuple[int, int] | None:
        """(number of the session, how many of its baselines came before the repeat); None where that is not known."""
        number, start_s = line.get("session"), line.get("started_mono_s")
        if number is not None and start_s is not None:
            if number >= len(self._sessions):
                return None
            moments_s = self._timed[number].moments_s
            return None if moments_s is None else (number, bisect_right(moments_s, start_s))
        moment = str(line.get("started_at"))[:19]
        if self._in_order:
            number = bisect_right(self._timed, moment, key=lambda one: one.first) - 1
        else:  # the clock was set back between two sessions: one that alone holds the moment is meant
            around = [n for n, one in enumerate(self._timed) if one.first <= moment <= (one.last or moment)]
            number = around[0] if len(around) == 1 else -1
        if number < 0 or not self._timed[number].in_order:
            return None
        return number, bisect_right(self._timed[number].seconds, moment)


class _Timed:
    """The times of a session.

    Attributes:
        first, last: its start and its end, or its last baseline where it was killed, to the second: one moment may have
            milliseconds and another not, and to the second they compare as text.
        seconds: of its baselines.
        in_order: whether these rise, as they do unless the clock was set back meanwhile.
        moments_s: of its baselines on the monotonic clock; None where one does not have it.
    """

    def __init__(self, session: Session) -> None:
        self.seconds = [baseline.started_at[:19] for baseline in session.idle]
        self.first = str(session.started_at)[:19]
        self.last = (session.ended_at or (self.seconds or [""])[-1])[:19]
        self.in_order = self.seconds == sorted(self.seconds)
        moments_s = [one.started_mono_s for one in session.idle if one.started_mono_s is not None]
        rising = moments_s == sorted(moments_s) and len(moments_s) == len(session.idle)
        self.moments_s = moments_s if rising else None


def _net_u_j(line: dict[str, Any], bracket: IdleBaseline) -> float | None:
    """Expanded (k = 2): the other terms as recorded, the idle term as that of the bracket."""
    if line.get("energy_net_u_j") is None or bracket.u_power_w is None:
        return line.get("energy_net_u_j")
    idle_j = sum((term["net_j"] or 0.0) ** 2 for term in line.get("energy_terms") or () if term["name"] == "idle")
    others = max((line["energy_net_u_j"] / 2) ** 2 - idle_j, 0.0)
    return 2 * math.hypot(math.sqrt(others), bracket.u_power_w * line["band_s"])


def _moved_terms(line: dict[str, Any], bracket: IdleBaseline) -> list[dict[str, Any]]:
    """The budget of a record with the idle term of the bracket."""
    terms = list(line.get("energy_terms") or ())
    if bracket.u_power_w is None:
        return terms
    outside_s = line["band_s"] - line["train_time_s"]
    moved = {"gross_j": bracket.u_power_w * max(outside_s, 0.0), "net_j": bracket.u_power_w * line["band_s"]}
    return [term | moved if term["name"] == "idle" else term for term in terms]
