"""The live view of a source: the loop that polls it, a panel on a terminal, a line a second elsewhere."""

from __future__ import annotations

import contextlib
import math
import textwrap
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from bench.cli import output
from bench.text import echo, shown, spark
from hardware.calibration.figures import update_period
from hardware.calibration.profile import UpdatePeriod
from hardware.errors import SourceError
from hardware.measure.energy import gap_limit_s
from hardware.measure.grade import label
from hardware.source import Clock, EstimateSource, Health, Sample, SampledSource, Source, SourceInfo

STEP_S = (0.05, 0.25)
"""Shortest and longest time between two polls; the longest is also that between two redraws, so 4 a second at most."""

REOPEN_S = 2.0
MINUTE_S = 60
RATE_S = 10.0

COUNTER_STEP_S, COUNTER_PERIODS = 1.0, 5
"""A counter's power is the difference over a second, and over five of its updates at least: one count is coarse."""

NONE = "\N{EN DASH}"


class View(Protocol):
    """The output of the live figures."""

    every_s: float

    def show(self, figures: LiveFigures, health: Health, now_s: float) -> None:
        """Show the figures."""

    def message(self, text: str) -> None:
        """Report an event."""

    def end(self) -> None:
        """Release the screen. Safe to call twice."""


class LineView:
    """A line a second on stdout; messages go to stderr."""

    every_s = 1.0

    def __init__(self, why: str) -> None:
        echo(why, err=True)

    def show(self, figures: LiveFigures, health: Health, now_s: float) -> None:
        now = watts(figures.now_w if health.connected and not figures.silent_s(now_s) else None)
        echo(
            f"{now_s - figures.start_s:7.1f} s  {now:>8} W  min {watts(figures.min_w)} mean {watts(figures.mean_w)} "
            f"max {watts(figures.max_w)} W  {figures.joules:.2f} J  {figures.rate_hz(now_s):.1f}/s  {counts(health)}"
        )

    def message(self, text: str) -> None:
        echo(text, err=True)

    def end(self) -> None:
        """A line view holds nothing."""


class PanelView:
    """A panel that is redrawn four times a second at most."""

    every_s = STEP_S[1]

    def __init__(self, console: Console, why: str) -> None:
        self._console = console
        self.message(why)
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def show(self, figures: LiveFigures, health: Health, now_s: float) -> None:
        if not self._live.is_started:
            self._live.start()
        self._live.update(self.panel(figures, health, now_s), refresh=True)

    def panel(self, figures: LiveFigures, health: Health, now_s: float) -> Panel:
        """The panel, at most 80 columns wide."""
        info = figures.info
        silent_s = figures.silent_s(now_s)
        now_w = figures.now_w if health.connected and not silent_s else None
        power = Text(f"{watts(now_w)} W", style="bold red" if now_w is None else "bold green")
        power.append(
            f"   min {watts(figures.min_w)}  mean {watts(figures.mean_w)}  max {watts(figures.max_w)} W", style="dim"
        )
        lately_w = [power_w for _, power_w in figures.powers] or [math.nan]
        rows = [
            power,
            Text(figures.bars(now_s), style="cyan"),
            Text(f"the last minute, {watts(min(lately_w))} to {watts(max(lately_w))} W", style="dim"),
            Text(f"{figures.joules:.2f} J in {now_s - figures.start_s:.0f} s, {figures.rate_hz(now_s):.1f} samples/s"),
            Text(period_text(figures.update()) or "no samples of its own", style="dim"),
            Text(counts(health), style="yellow" if health != Health(problem=health.problem) else "dim"),
        ]
        if silent_s:
            rows.append(Text(f"nothing for {silent_s:.0f} s; {health.problem or 'waiting'}", style="red"))
        about = f"{info.name}, {info.kind}, {info.scope}"
        note = "Ctrl-C ends" if info.kind != "estimate" else "a model, not a measurement; Ctrl-C ends"
        return Panel(Group(*rows), title=Text(shown(about)), subtitle=note, width=min(80, self._console.width))

    def message(self, text: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')}  {text}")

    def end(self) -> None:
        self._live.stop()


def watch(
    source: Source,
    view: View,
    *,
    seconds: float | None,
    clock: Clock = time,
    may_reopen: bool = True,
) -> LiveFigures:
    """Poll an open source and show its figures, until the time is over or Ctrl-C is pressed; then print a summary.

    A meter that is unplugged connects again by itself. A source that died is closed and opened again every
    `REOPEN_S`, unless it is simulated or replayed, or may_reopen forbids it.
    """
    figures = LiveFigures(source.info, clock.monotonic())
    start_s = shown_s = clock.monotonic()
    health = source.health
    try:
        while not output.lost() and (seconds is None or clock.monotonic() < start_s + seconds):
            try:
                _take(source, figures, clock)
            except Exception as error:  # a driver may raise anything
                view.message(str(error) if isinstance(error, SourceError) else f"{type(error).__name__}: {error}")
                if not may_reopen or label(source.info):
                    break
                view.message("trying again; Ctrl-C ends")
                _reopen(source, figures, clock, end_s=math.inf if seconds is None else start_s + seconds)
            before, health = health, source.health
            if health.connected != before.connected:
                why = textwrap.shorten(health.problem or "no reason given", 60, placeholder=" ...")
                view.message("it is back" if health.connected else f"connection lost ({why}); trying again")
            now_s = clock.monotonic()
            if now_s - shown_s >= view.every_s:
                shown_s = now_s
                view.show(figures, health, now_s)
    except KeyboardInterrupt:
        pass
    finally:
        view.end()
    echo(*summary(figures, source.health, clock.monotonic()).splitlines())
    return figures


def summary(figures: LiveFigures, health: Health, now_s: float) -> str:
    """The summary at the end."""
    if figures.mean_w is None:
        return f"{figures.info.name}: no reading in {now_s - figures.start_s:.1f} s; {counts(health)}"
    text = (
        f"{figures.info.name}: {figures.joules:.2f} J in {figures.seen_s:.1f} s, mean {watts(figures.mean_w)} W "
        f"({watts(figures.min_w)} to {watts(figures.max_w)}), {figures.count} samples; {counts(health)}"
    )
    period = period_text(figures.update())
    return f"{text}\n{period}" if period else text


def watts(value: float | None) -> str:
    """Format a power with four digits: 4.982, 12.31, 230.4; a dash for none."""
    if value is None or not math.isfinite(value):
        return NONE
    digits = max(1, 3 - len(f"{abs(value):.0f}") + 1)
    return f"{value:.{digits}f}"


def counts(health: Health) -> str:
    """The losses and faults, as numbers."""
    return (
        f"lost {health.lost}, bad frames {health.bad_frames}, implausible {health.implausible}, "
        f"disconnects {health.disconnects}"
    )


def _take(source: Source, figures: LiveFigures, clock: Clock) -> None:
    """One step: take the samples of the source, and pause."""
    if isinstance(source, EstimateSource):
        source.begin()
        began_s = clock.monotonic()
        try:
            clock.sleep(max(1.0, 2 * figures.info.period_s))
        finally:
            ended_s, joules = clock.monotonic(), source.end()
        figures.add_span(began_s, ended_s, joules)
        return
    if isinstance(source, SampledSource):
        figures.add(source.poll())
    clock.sleep(min(max(figures.info.period_s, STEP_S[0]), STEP_S[1]))


def _reopen(source: Source, figures: LiveFigures, clock: Clock, *, end_s: float) -> None:
    figures.break_off()
    while clock.monotonic() < end_s:
        with contextlib.suppress(Exception):  # its error is of no interest
            source.close()
        clock.sleep(REOPEN_S)
        try:
            source.open()
        except Exception:  # it is not back yet
            continue
        return


@dataclass(slots=True)
class LiveFigures:
    """The figures since `start_s`. Watts of a counter or an estimate are means over the span that they come from.

    Attributes:
        joules: over the time with samples.
        seen_s: that time; gaps longer than a source may bridge are not in it.
        count: samples, readings or estimates.
        powers: (time in s, W) of the last minute.
    """

    info: SourceInfo
    start_s: float
    now_w: float | None = None
    min_w: float = math.inf
    max_w: float = -math.inf
    joules: float = 0.0
    seen_s: float = 0.0
    count: int = 0
    latest_s: float | None = None
    _raw: deque[Sample] = field(default_factory=deque)
    powers: deque[Sample] = field(default_factory=deque)
    _from: Sample | None = None

    @property
    def mean_w(self) -> float | None:
        """Mean power over the observed time, W."""
        return self.joules / self.seen_s if self.seen_s > 0 else self.now_w

    def add(self, samples: Sequence[Sample]) -> None:
        """Add the samples of a meter, or the readings of a counter."""
        for t_s, value in samples:
            if not math.isfinite(value) or (self.latest_s is not None and t_s <= self.latest_s):
                continue
            self.count += 1
            self._append(self._raw, t_s, value)
            if self.info.kind == "counter":
                self._count(t_s, value)
            else:
                self._sample(t_s, value)
            self.latest_s = t_s

    def add_span(self, start_s: float, end_s: float, joules: float) -> None:
        """Add the estimate of a span."""
        if end_s > start_s:
            self.count += 1
            self.latest_s = end_s
            self._span(end_s, end_s - start_s, joules)
            self._add_power(end_s, joules / (end_s - start_s))

    def break_off(self) -> None:
        """Forget the last sample: what follows is not continuous with it."""
        self._from = None

    def rate_hz(self, now_s: float) -> float:
        """Samples a second in the last `RATE_S`."""
        since_s = max(self.start_s, now_s - RATE_S)
        recent = sum(t_s > since_s for t_s, _ in (self._raw or self.powers))
        return recent / (now_s - since_s) if now_s > since_s else 0.0

    def update(self) -> UpdatePeriod | None:
        """Return the update period over the last minute; None for an estimate, and at the beginning."""
        return update_period(list(self._raw)) if len(self._raw) > 1 else None

    def silent_s(self, now_s: float) -> float:
        """Seconds without a sample, if they are more than the source may pause; else 0."""
        silence_s = now_s - (self.latest_s if self.latest_s is not None else self.start_s)
        return silence_s if silence_s > gap_limit_s(self.info.period_s) else 0.0

    def bars(self, now_s: float) -> str:
        """Draw the last minute, a bar per second; a blank where no sample came."""
        sums = [[0.0, 0] for _ in range(MINUTE_S)]
        for t_s, watts in self.powers:
            index = MINUTE_S - 1 - int(now_s - t_s)
            if 0 <= index < MINUTE_S:
                sums[index][0] += watts
                sums[index][1] += 1
        return spark([total / n if n else None for total, n in sums])

    def _sample(self, t_s: float, watts: float) -> None:
        if self._from is not None:
            from_s, from_w = self._from
            self._span(t_s, t_s - from_s, (t_s - from_s) * (from_w + watts) / 2)
        self._from = (t_s, watts)
        self._add_power(t_s, watts)

    def _count(self, t_s: float, joules: float) -> None:
        if self._from is None:
            self._from = (t_s, joules)
            return
        from_s, from_j = self._from
        if t_s - from_s >= max(COUNTER_STEP_S, COUNTER_PERIODS * self.info.period_s):
            # a counter counts while it is not read, so there are no gaps
            self.joules += joules - from_j
            self.seen_s += t_s - from_s
            self._add_power(t_s, (joules - from_j) / (t_s - from_s))
            self._from = (t_s, joules)

    def _span(self, end_s: float, length_s: float, joules: float) -> None:
        if self.info.kind == "estimate" or length_s <= gap_limit_s(self.info.period_s):
            self.joules += joules
            self.seen_s += length_s

    def _add_power(self, t_s: float, watts: float) -> None:
        self.now_w = watts
        self.min_w, self.max_w = min(self.min_w, watts), max(self.max_w, watts)
        self._append(self.powers, t_s, watts)

    def _append(self, queue: deque[Sample], t_s: float, value: float) -> None:
        queue.append((t_s, value))
        while queue[0][0] < t_s - MINUTE_S:
            queue.popleft()


def period_text(update: UpdatePeriod | None) -> str:
    """How often a value was new, in words: ``a new value every 0.50 s``."""
    if update is None:
        return ""
    if update.period_s is None:
        return "too few changes to determine how often a value is new"
    if update.period_s <= 1.2 * update.spacing_s:
        return f"a new value every {update.period_s:.3g} s or faster"
    return f"a new value every {update.period_s:.2g} s"
