"""Grade: how far a joule figure can be trusted, from the scope of the source and the flags of the window.

| grade | means |
|---|---|
| A | counter or meter, of the whole board, every threshold met |
| B | counter or meter; part of the device only, or one warning |
| C | counter or meter with more against it than that; every estimate; whatever is simulated or replayed |
| X | not usable: the source died, lost too much, or claims that work costs nothing |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from hardware.source import SourceInfo

Grade = Literal["A", "B", "C", "X"]

RULES = 4
"""Version of the rules behind figures, uncertainties, flags and grades. It rises with each change of one.

1: records without a version. What each of the others added: docs/sources.md, Versions of the rules.
"""

FLAGS: dict[str, str] = {
    "simulated": "nothing was measured: a simulation",
    "replayed": "a recorded trace was played back: not the energy of this work",
    "short_window": "shorter than the source needs for a 1 % figure",
    "short_idle": "idle baseline shorter than 30 s or of fewer than 60 samples",
    "busy_idle": "more than 5 % of the processor was in use while the idle baseline was measured",
    "no_idle": "no idle baseline, so no net energy",
    "idle_drift": "the idle baselines before and after differ by more than 5 %, or by 0.1 W and 2 %",
    "no_guard": "not quiet around the work for as long as the source needs",
    "late_start": "the work began long after the window opened",
    "late_end": "the window closed long after the work had ended",
    "lost_samples": "more than 0.1 % of the samples are missing",
    "busy_guard": "the device was not at idle power just before or after the work",
    "throttled": "the device slowed itself down, or its supply was too weak, while it worked",
    "throttled_before": "the supply was too weak, or the device slowed down, already when the work began",
    "throttled_since_boot": "the supply was too weak, or the device slowed down, some time since it was switched on; "
    "whether it was again during the work, its bits no longer tell",
    "governor_changed": "the frequency governor was changed while it worked",
    "repeated_in_window": "too short for the source: the work was done several times in one window and divided",
    "net_not_positive": "not above the idle power: the work is lost in the noise",
    "paths_differ": "the energy counter and the power of the same chip, integrated, differ by more than 5 %",
    "source_died": "the source stopped answering",
    "no_energy": "0 J for a busy window",
    "unseen": "shorter than two periods of the source: the work may lie between its readings",
    "gap": "more than 1 % of the samples are missing, or too many in a row",
    "times_outside_window": "the work's times do not lie inside the window",
    "not_quiet": "as busy just before or after the work as during it: another load, or clocks that disagree",
    "phase_unresolved": "a phase of the work is too short for the source, or the source cannot cut a window: no joules",
    "no_work": "the method does nothing, so nothing was measured",
    "cross_check": "the meter's own energy counter disagrees with its watts",
    "slow_meter": "new readings came more rarely than the source states; period and uncertainty are the seen ones",
    "sampled": "nothing shows that the meter sees more than moments; a rhythm of the work may keep step with it unseen",
    "may_be_frozen": "a reading stood still, and the meter has no noise by which to tell a steady load from that",
    "shifted": "the readings show the work shorter or longer than it was, by more than the meter explains",
    "aliasing": "the work repeats in step with the meter, whose readings see the same parts of it again and again",
    "zero_unchecked": "so little power that the meter's zero matters, which is unchecked: gross joules may be off",
    "broken_frames": "more than 1 % of what the meter sent was broken or cannot be true, and was dropped",
    "other_load": "other programs used over 5 % of a core while the work ran, beyond what they do when it is idle, "
    "or computed on the card that is measured",
    "foreign_load": "other programs used about as much of the processor as the work",
    "clock_jumped": "the clock of the board that worked did not run steadily meanwhile; its times were not used",
    "clock_unsure": "the ends of the work are placed so loosely on the meter's clock that more than 1 % hangs on it",
    "stopped": "the measuring process was stopped meanwhile, e.g. by Ctrl-Z",
    "suspended": "the machine slept meanwhile",
    "frozen": "the readings stood still although they must have moved",
}
"""Every flag and its meaning, for reports."""

FATAL = frozenset(
    {
        "source_died",
        "no_energy",
        "unseen",
        "gap",
        "times_outside_window",
        "not_quiet",
        "cross_check",
        "foreign_load",
        "frozen",
        "stopped",
        "suspended",
    }
)
LABELS = frozenset({"simulated", "replayed"})
"""Flags that label a figure and cap its grade; they are no warnings."""

NOTES = frozenset({"repeated_in_window", "phase_unresolved", "throttled_since_boot"})
"""Flags that explain a figure, or name what cannot be ruled out, and leave its grade as it is."""

MIN_WINDOW_S = 10.0
MIN_IDLE_S = 30.0
MIN_IDLE_SAMPLES = 60
MAX_IDLE_BUSY = 0.05
WARN_LOST = 0.001
MAX_LOST = 0.01
MAX_IDLE_SHIFT = 0.05
MAX_IDLE_SHIFT_W, MIN_IDLE_SHIFT = 0.1, 0.02
"""Powers of the quiet device that differ by more than 5 %, or by more than 0.1 W and 2 %, are not one idle power."""

MAX_ZERO = 0.05
"""Share of the gross power that the unchecked zero of a meter may be without a flag."""

MAX_DOUBT = 0.02
"""Share of the net energy that values which may have been frozen can hide without a flag."""

MAX_CLOCK = 0.01
"""Share of an energy that the expanded uncertainty of another machine's clock may be without a flag."""

MAX_CROSS_CHECK = 0.05
MAX_CROSS_CHECK_COUNTS = 2
"""Two paths to one energy may differ by 5 %, or by two counts of the coarser one where that is more."""

SEEN_PERIODS = 4
"""So many periods of a meter a window is made to last, of which three readings at least lie in it wholly."""

UNSEEN_PERIODS = 2
"""A window shorter than that has no joules: what a meter shows of it depends on chance."""

NOT_QUIET = 0.8
"""Share of the load's step above which the device was not idle in the guard band."""


def label(info: SourceInfo) -> tuple[str, ...]:
    """The flags that a source carries into every result."""
    base = info.name.partition(":")[0].partition("?")[0]
    return {"simulated": ("simulated",), "replay": ("replayed",)}.get(base, ())


def min_window_s(info: SourceInfo, *, guarded: bool) -> float:
    """The shortest window with an honest figure: max(10 s, n periods), n = 20 between guard bands, else 50.

    A counter needs 50 of its updates in any case.
    """
    periods = 20 if guarded and info.kind != "counter" else 50
    return max(MIN_WINDOW_S, periods * info.period_s)


def window_needed_s(info: SourceInfo, wanted_s: float) -> float:
    """The least length of a window, s, with which a source cannot miss the work, and at least wanted_s.

    Work shorter than a period may fall between two readings of a meter without a trace. Counters and estimates miss
    nothing; without a source no length is needed.
    """
    if info.kind == "none":
        return 0.0
    return max(wanted_s, SEEN_PERIODS * info.period_s) if info.kind == "power" else wanted_s


def grade(info: SourceInfo, flags: Iterable[str]) -> Grade | None:
    """The grade that a source's scope and the flags of a window leave. None if nothing was to be measured."""
    raised = set(flags)
    if info.kind == "none":
        return None
    if raised & FATAL:
        return "X"
    if info.kind == "estimate" or raised & LABELS:
        return "C"
    against = len(raised - NOTES) + (info.scope != "board")
    return "A" if against == 0 else "B" if against == 1 else "C"
