"""Runner: check that a suite can run here, then run the repeats its folder lacks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

import hardware
from bench.data.locate import locate_all
from bench.errors import RequestError, show
from bench.run.cautions import cautions
from bench.run.metering import Meter
from bench.run.plan import Plan, make_plan, select_cells
from bench.run.resume import continued
from bench.run.session import Session
from bench.run.surroundings import make_manifest
from bench.store.durable import move
from bench.store.manifest import Manifest
from bench.store.run_dir import RunDir
from bench.suite.load import LoadedSuite
from bench.targets.local import LOCAL
from bench.targets.target import Target, target_of
from bench.text import first_few, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of `jouletune run` besides the suite.

    Attributes:
        cells: a glob over cell ids, or the ids themselves; None is all.
        control_h: hours between two measurements of the control workload; None: it is not measured.
        target: where the cells run, see `bench.targets.target`.
    """

    out: Path
    source: str = "auto"
    device: str = "cpu"
    target: str = LOCAL
    cells: str | Collection[str] | None = None
    repeats: int | None = None
    fresh: bool = False
    retry: bool = False
    keep_models: bool = False
    control_h: float | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. `failed` counts the repeats in the folder, among those asked for, that are not ok, `unmeasured`
    those that are, with joules of grade X."""

    finished: int
    failed: int
    unmeasured: int
    interrupted: bool


def run_suite(loaded: LoadedSuite, options: RunOptions, console: Console, target: Target | None = None) -> RunResult:
    """Run every repeat that the folder lacks.

    Args:
        target: as of `opened`.

    Raises:
        RequestError: the request is wrong, the data is missing, or the folder holds another run; nothing was written.
        JouletuneError: the disk is full, or the energy source does not open.
    """
    with opened(loaded, options, console, target) as session:
        interrupted = not session.execute() if session.plan.pending else False
        records = session.folder.records([])
        done, good = (
            make_plan(loaded.suite, records, cells=options.cells, repeats=options.repeats, retry=retry)
            for retry in (False, True)
        )
    unmeasured = len(good.pending) - len(done.pending) - done.failed_before
    return RunResult(done.wanted - len(done.pending), done.failed_before, unmeasured, interrupted)


@contextlib.contextmanager
def opened(
    loaded: LoadedSuite, options: RunOptions, console: Console, target: Target | None = None
) -> Iterator[Session]:
    """Check the request, lock its folder and plan the pending repeats; yields the session, not yet entered.

    Args:
        target: the one that the options name, where the caller has made it; it is closed at the end.

    Raises:
        RequestError, JouletuneError: as `run_suite`.
    """
    with contextlib.closing(target or target_of(options.target)) as chosen:
        yield from _opened(loaded, options, console, chosen)


def _opened(loaded: LoadedSuite, options: RunOptions, console: Console, target: Target) -> Iterator[Session]:
    meter = check(loaded, options, target)
    folder = RunDir(options.out)
    new = make_manifest(loaded, meter.choice, torch_device=options.device, target=target)
    if options.fresh:
        _set_aside(folder, console)
    manifest_of(folder, new, loaded)  # what is refused is refused before anything is written
    with folder.locked():
        manifest = manifest_of(folder, new, loaded)  # another run may have ended in between
        folder.repair()
        damage: list[str] = []
        records = folder.records(damage)
        if damage:
            console.print(f"{folder.cells_path}: taken as missing: {first_few(damage)}", soft_wrap=True)
        plan = make_plan(loaded.suite, records, cells=options.cells, repeats=options.repeats, retry=options.retry)
        _announce(loaded, plan, meter.choice, folder, console)
        if plan.pending:
            here = options.target == LOCAL and meter.choice.source.info.name != "none"
            for caution in cautions(loaded.suite, [repeat.cell.data for repeat in plan.pending], measures=here):
                console.print(Text(f"caution: {shown(caution)}", style="yellow"), soft_wrap=True)
        session = Session(
            loaded, options.device, folder=folder, manifest=manifest, plan=plan, meter=meter, console=console,
            keep_models=options.keep_models, control_h=options.control_h, target=target,
        )  # fmt: skip
        try:
            yield session
        except RequestError:
            folder.remove_if_blank()  # a request that turns out to be wrong leaves nothing behind
            raise


def check(loaded: LoadedSuite, options: RunOptions, target: Target | None = None) -> Meter:
    """Check that the data is here and the energy source usable; returns the meter, not yet open.

    Raises:
        RequestError: it is not; nothing was written.
    """
    cells = select_cells(loaded.suite, options.cells)
    if options.keep_models and loaded.suite.streams:
        raise RequestError("--keep-models: a stream goes on adapting and leaves no model to keep; drop the option")
    locate_all({cell.data.label: cell.data for cell in cells}.values(), loaded.suite.model.checkpoint)
    folder = RunDir(options.out)
    folder.check_usable()
    known = None if options.fresh else folder.read_manifest()
    # a run goes on with the source it began with; `auto` must not find another one half-way
    wanted = known.source.name if known and known.source and options.source == "auto" else options.source
    elsewhere = None if target is None or target.name == LOCAL else target
    if elsewhere and ((wanted or "auto") == "auto" or hardware.registry.is_of_this_machine(wanted or "")):
        raise RequestError(
            f"--target {show(elsewhere.name)}: name the meter that the board hangs on with --source, or none; "
            f"{show(wanted or 'auto')} measures this machine"
        )
    meter = Meter(wanted or "auto", options.device, folder.traces_dir, target=elsewhere)
    meter.choice  # noqa: B018  # chosen here, so that a source that is not usable is refused first
    return meter


def manifest_of(folder: RunDir, new: Manifest, loaded: LoadedSuite) -> Manifest:
    """Get the manifest to go on with: that of the run in the folder, or the new one in an empty folder.

    Raises:
        RequestError: the folder is not ours, or holds another run.
    """
    known = folder.read_manifest()
    if known is not None:
        return continued(known, new, loaded.suite, folder.path, loaded.base)
    if folder.path.is_dir() and not folder.is_blank():
        raise RequestError(f"{folder.path}: not empty and not a run's folder; choose another --out")
    return new


def _set_aside(folder: RunDir, console: Console) -> None:
    """Rename the old run; finished repeats are never deleted.

    Raises:
        RequestError: it cannot have another name: it is the current folder, or a disk is mounted there.
    """
    if not folder.manifest_path.exists():
        return
    if folder.path.resolve() == Path.cwd():
        raise RequestError(f"{folder.path}: --fresh cannot set the current folder aside; change to the one above it")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    aside = folder.path.with_name(f"{folder.path.name}.{stamp}")
    for number in range(2, 100):
        if not os.path.lexists(aside):
            break
        aside = folder.path.with_name(f"{folder.path.name}.{stamp}-{number}")
    with folder.locked():
        try:
            move(folder.path, aside)
        except OSError as error:
            raise RequestError(
                f"{folder.path}: --fresh cannot set the old run aside ({error.strerror}); choose another --out"
            ) from None
    console.print(f"the old run is now {aside}", soft_wrap=True)


def _announce(loaded: LoadedSuite, plan: Plan, choice: hardware.Choice, folder: RunDir, console: Console) -> None:
    suite = loaded.suite
    title = f" ({suite.title})" if suite.title else ""
    finished = plan.wanted - len(plan.pending)
    resumed = f", {finished} of them finished before" if finished else ""
    about = f"{title}: {plan.wanted} repeats{resumed} -> {folder.path}"
    console.print(Text.assemble((suite.name, "bold"), shown(about)), soft_wrap=True)
    console.print(f"energy: {choice.why}", soft_wrap=True)
