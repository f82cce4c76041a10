"""Net joules against the idle baselines on both sides of a repeat; its record could only know the one before."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any

from bench.store.manifest import Manifest
from hardware.measure.idle import IdleBaseline, bracketing, rebase


class Brackets:
    """The idle baselines around each repeat of a run.

    Args:
        manifest: of that run; its sessions hold the baselines.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._sessions = [(str(session.started_at)[:19], session.idle) for session in manifest.sessions]
        self._known: dict[tuple[int, int], IdleBaseline | None] = {}

    def move(self, line: dict[str, Any]) -> None:
        """Move a record's net joules, in place, to the mean of the idle baselines before and after it.

        Gross joules move with them by what the guard bands had taken off. Two baselines that differ by more than one
        idle power does raise the flag `idle_drift`. The net uncertainty gets the bracket's in place of the single
        baseline's. Without two baselines, or `band_s` in the record, nothing moves.
        """
        if line.get("energy_net_j") is None or not line.get("band_s") or line.get("idle_power_w") is None:
            return
        moment = str(line["started_at"])[:19]
        session = bisect_right(self._sessions, moment, key=lambda one: one[0]) - 1
        baselines = self._sessions[session][1] if session >= 0 else []
        place = session, bisect_right(baselines, moment, key=lambda one: one.started_at[:19])
        if place not in self._known:
            self._known[place] = bracketing(baselines, moment)
        bracket = self._known[place]
        if bracket is None or bracket.power_w is None or len(baselines) < 2:
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
        if bracket.drifted and "idle_drift" not in line["flags"]:
            line["flags"] = [*line["flags"], "idle_drift"]
            line["grade"] = {"A": "B", "B": "C"}.get(line["grade"], line["grade"])


def _net_u_j(line: dict[str, Any], bracket: IdleBaseline) -> float | None:
    """Expanded (k = 2): the other terms as recorded, the idle term as that of the bracket."""
    if line.get("energy_net_u_j") is None or bracket.u_power_w is None:
        return line.get("energy_net_u_j")
    idle_j = sum((term["net_j"] or 0.0) ** 2 for term in line["energy_terms"] if term["name"] == "idle")
    others = max((line["energy_net_u_j"] / 2) ** 2 - idle_j, 0.0)
    return 2 * math.hypot(math.sqrt(others), bracket.u_power_w * line["band_s"])
