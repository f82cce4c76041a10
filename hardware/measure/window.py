"""Window: opened when the work may start, closed with its energy, uncertainty and grade."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from hardware.device.machine import Snapshot
from hardware.measure.evaluation import evaluate
from hardware.measure.idle import IdleBaseline
from hardware.measure.observation import Load, Observation
from hardware.measure.phases import Span, spans_text
from hardware.measure.recorder import KEEP_S, Recorder
from hardware.measure.result import EnergyResult
from hardware.measure.trace import TraceFile


class Window:
    """An open window. `Sampler.open_window` makes it; it ends with `close` or `cancel`.

    Args:
        cpu_s: reads the processor time used by all, that there was, and used by this process and what it started, s.
        other_users: ids of the processes of others that use what the source measures now.
    """

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        *,
        quiet_from_s: float,
        trace: TraceFile | None,
        look: Callable[[], Snapshot],
        env_before: Snapshot,
        cpu_s: Callable[[], tuple[float, float, float] | None] = lambda: None,
        other_users: Callable[[], set[int]] = set,
    ) -> None:
        self.name = name
        self.is_open = True
        self._recorder = recorder
        self._trace = trace
        self._quiet_from_s = quiet_from_s
        self._look = look
        self._env_before = env_before
        self._health = recorder.source.health
        self._interruptions = recorder.interruptions()
        self._cpu_s = cpu_s
        self._cpu_from_s = cpu_s()
        self._look_for_users = other_users
        self._other_users = other_users()
        recorder.begin()
        recorder.poll()
        self._opened_s = recorder.clock.monotonic()
        recorder.source.mark(self._opened_s, working=True)

    def cancel(self) -> None:
        """Drop the window, e.g. because the work failed. Safe after `close`."""
        if self.is_open:
            self._mark_end()
            self._release()
            if self._trace is not None:
                self._trace.drop()

    def close(
        self,
        *,
        t0_s: float,
        t1_s: float,
        executions: int = 1,
        idle: IdleBaseline | None = None,
        spans: Sequence[Span] = (),
        rhythm: Sequence[float] | None = None,
        edge_u_s: float = 0.0,
        clock_jumped: bool = False,
    ) -> EnergyResult:
        """Wait for the guard time, then compute the energy. Never raises because of the source.

        Args:
            t0_s, t1_s: start and end of the work itself on this host's monotonic clock (`time.monotonic`).
            executions: how often the work was done between them; the result is for one.
            idle: the baseline to subtract.
            spans: phases of the work, one after the other from t0_s to t1_s.
            rhythm: times after which the power of the work repeats, s: a step, an epoch; None where that is not known.
            edge_u_s: standard uncertainty of each of t0_s and t1_s, where another clock gave them.
            clock_jumped: that clock did not run steadily meanwhile.

        Raises:
            RuntimeError: the window is not open.
            ValueError: no executions, or no time between t0_s and t1_s; the window is open still.
        """
        if not self.is_open:
            raise RuntimeError(f"window {self.name!r} is not open")
        if executions < 1 or not t1_s > t0_s:
            raise ValueError(f"no work: {executions} executions from {t0_s} s to {t1_s} s")
        recorder, clock = self._recorder, self._recorder.clock
        closed_s = clock.monotonic()
        estimate_j = self._mark_end()
        load = self._load(closed_s)
        self._other_users |= self._look_for_users()
        # at once: a board cools and speeds up again within seconds
        env_after = self._look()
        clock.sleep(self._opened_s - self._quiet_from_s)
        quiet_until_s = clock.monotonic()
        recorder.await_sample(quiet_until_s)
        observation = Observation(
            quiet_from_s=self._quiet_from_s,
            opened_s=self._opened_s,
            closed_s=closed_s,
            quiet_until_s=quiet_until_s,
            t0_s=t0_s,
            t1_s=t1_s,
            executions=executions,
            spans=spans,
            rhythm=rhythm,
            edge_u_s=edge_u_s,
            clock_jumped=clock_jumped,
            samples=tuple(recorder.samples(self._quiet_from_s, quiet_until_s)),
            earlier=tuple(recorder.samples(self._quiet_from_s - KEEP_S, self._quiet_from_s)),
            counts=tuple(recorder.counts(self._quiet_from_s, quiet_until_s)),
            health=recorder.source.health.since(self._health),
            estimate_j=estimate_j,
            env_before=self._env_before,
            env_after=env_after,
            load=load,
            other_users=self._other_users,
            interruptions=recorder.interruptions().since(self._interruptions),
            error=recorder.error,
        )
        self._release()
        result = evaluate(recorder.source.info, observation, idle, poll_s=recorder.asked_s)
        try:
            return dataclasses.replace(result, trace_file=self._write_trace(observation))
        except OSError as error:  # the figure stands without its trace
            return dataclasses.replace(result, error=result.error or f"the trace was not written: {error}")

    def _mark_end(self) -> float | None:
        joules = self._recorder.end()
        self._recorder.source.mark(self._recorder.clock.monotonic(), working=False)
        self._recorder.poll()
        return joules

    def _load(self, closed_s: float) -> Load | None:
        now_s = self._cpu_s()
        if now_s is None or self._cpu_from_s is None:
            return None
        machine_s, cores_s, own_s = (now - before for now, before in zip(now_s, self._cpu_from_s, strict=True))
        return Load(span_s=closed_s - self._opened_s, machine_s=machine_s, cores_s=cores_s, own_s=own_s)

    def _release(self) -> None:
        self.is_open = False
        self._recorder.keep_from_s = self._recorder.trace = None

    def _write_trace(self, seen: Observation) -> str | None:
        if self._trace is None:
            return None
        if not seen.samples:
            self._trace.drop()
            return None
        facts = {
            "t0_s": seen.t0_s,
            "t1_s": seen.t1_s,
            "quiet_until_s": seen.quiet_until_s,
            "executions": seen.executions,
        } | ({"phases": spans_text(seen.spans)} if len({name for name, *_ in seen.spans}) > 1 else {})
        return self._trace.finish(seen.samples, facts)
