"""The commands on a suite: run, ls, validate, fetch."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import text
from bench.catalog.checkpoints import CHECKPOINTS
from bench.cli import read
from bench.errors import INTERRUPTED, CellFailedError, JouletuneError, RequestError, nearest

if TYPE_CHECKING:
    from bench.process.launcher import Launcher
    from bench.run.runner import RunOptions
    from bench.suite.load import LoadedSuite


def complete_suite(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[Any]:
    """Complete the name of a shipped suite, or a path."""
    from click.shell_completion import CompletionItem

    from bench.suite.load import shipped_suites

    return [
        *(CompletionItem(name) for name in shipped_suites() if name.startswith(begun)),
        CompletionItem(begun, "file"),
    ]


@click.command()
@click.argument("suite", shell_complete=complete_suite)
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: results/SUITE]")
@click.option(
    "--source", default="auto", show_default=True, metavar="NAME", help="Energy source; see `jouletune sources`."
)
@click.option(
    "--device", default="cpu", show_default=True, metavar="DEVICE", help="Torch device that trains, e.g. cuda."
)
@click.option(
    "--target", default="local", show_default=True, metavar="TARGET", help="Where the cells run: local, or ssh:HOST."
)
@click.option("--cells", metavar="GLOB", help="Only cells whose id matches, e.g. 'digits-*/fc/*'.")
@click.option("--repeats", type=click.IntRange(min=1), help="Run at most N repeats of each cell.", metavar="N")
@click.option("--dry-run", is_flag=True, help="Check what a run needs, print the repeats that would run, and stop.")
@click.option("--fresh", is_flag=True, help="Rename the run in the folder, and start a new one.")
@click.option("--retry", is_flag=True, help="Run again the repeats that failed, timed out or have grade X.")
@click.option(
    "--control",
    "control_h",
    type=click.FloatRange(min=0, min_open=True),
    metavar="HOURS",
    help="Measure a fixed small workload at the start, every HOURS and at the end.",
)
@click.option("--keep-models", is_flag=True, help="Keep the model that each arm left; see `jouletune load`.")
def run(suite: str, out: Path | None, dry_run: bool, **options: Any) -> int:
    """Run the repeats of SUITE that the run folder lacks. SUITE is a shipped name or a path.

    Ctrl-C or a kill loses the running repeat only; the same command continues the run.
    """
    from bench.suite.load import load_suite

    loaded = load_suite(suite)
    if options["repeats"] is not None and options["repeats"] > loaded.suite.energy.repeats:
        raise RequestError(f"--repeats {options['repeats']} is more than the suite's {loaded.suite.energy.repeats}")
    folder = out if out is not None else Path("results") / loaded.suite.name
    from bench.run.runner import RunOptions, run_suite

    wanted = RunOptions(out=folder, **options)
    if dry_run:
        return _dry_run(loaded, wanted)
    console = text.console()
    result = run_suite(loaded, wanted, console)
    if result.interrupted:
        text.echo(f"stopped; {result.finished} repeats are finished, the same command goes on", err=True)
        return INTERRUPTED
    read.write_report_of([folder], folder, console)
    if result.unmeasured:
        text.echo(f"{result.unmeasured} repeats without usable joules (grade X); --retry measures them again", err=True)
    if result.failed:
        text.echo(f"{result.failed} repeats failed, see {folder / 'cells.jsonl'}; --retry runs them again", err=True)
    return 1 if result.failed else 0


@click.command("ls")
@click.argument("name", required=False)
def list_suites(name: str | None) -> None:
    """List the shipped suites, or print the suite NAME, to copy and change."""
    from bench.suite.load import SCHEMA, load_suite, shipped_suites

    names = shipped_suites()
    if name is not None:
        if name not in names:
            raise RequestError(f"no suite is called {name!r}; {nearest(name, names)}")
        # a copy lies elsewhere: its editor has to find the schema that came with this version
        schema = names[name].with_name(SCHEMA)
        lines = names[name].read_text(encoding="utf-8").splitlines()
        text.echo(*(line.replace(f"$schema={SCHEMA}", f"$schema={schema}") for line in lines))
        return
    width = max(map(len, names))
    for known in names:
        suite = load_suite(known).suite
        text.echo(f"{known:{width}}  {len(suite.cells()):4} cells x {suite.energy.repeats}  {suite.title}")


@click.command()
@click.argument("suite")
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="Torch device that is to train.")
@click.option("--source", metavar="NAME", help="Energy source to look for, too.")
@click.option("--no-timing", is_flag=True, help="Time no steps; the estimate then takes what was timed before.")
def validate(suite: str, device: str, source: str | None, no_timing: bool) -> None:
    """Check SUITE and what it needs here, print its cells and an estimate of its time.

    The first time on a device, a few steps of each kind of cell are timed; later calls use what was found.
    """
    from bench.data.locate import locate_all
    from bench.suite.load import load_suite

    loaded = load_suite(suite)
    checked = loaded.suite
    from bench.run.cautions import cautions

    own = [data for data in checked.data if data.source is not None]
    model = checked.model
    locate_all(own, model.checkpoint if model.checkpoint not in CHECKPOINTS else None)
    if source is not None:
        import hardware
        from bench.run.metering import hardware_errors

        with hardware_errors():
            hardware.choose(source, device=device)
    with _launcher() as launcher:
        code = _check_model(loaded, device, launcher)
        cells = checked.cells()
        text.echo(*(cell.cell_id for cell in cells))
        try:
            locate_all(checked.data, model.checkpoint)
            takes = _estimate(loaded, device, code, None if no_timing else launcher)
        except JouletuneError as error:
            takes = f"no estimate: {error}"
    for caution in cautions(checked, checked.data, measures=False):
        text.echo(f"caution: {caution}", err=True)
    text.echo(f"{checked.name}: {len(cells)} cells x {checked.energy.repeats} repeats, {takes}", err=True)


def _check_model(loaded: LoadedSuite, device: str, launcher: Launcher) -> str | None:
    """Check the device, and the model where only torch can: code or blocks of the user's own.

    Returns:
        The hash of the user's own code, None without any.
    """
    if device == "cpu" and loaded.suite.model.blocks is None:
        return None
    from bench.process.ahead import AheadJob, check
    from bench.process.messages import Checked
    from bench.process.prepare import BUILD_S

    child = launcher.start(check, AheadJob(loaded.suite, loaded.base, device))
    try:
        checked = child.receive(Checked, deadline_s=time.monotonic() + min(BUILD_S, loaded.suite.timeout_s))
    except CellFailedError as error:
        raise loaded.with_line(RequestError(f"model.name: building {loaded.suite.model.name}: {error}")) from None
    except RequestError as error:
        raise loaded.with_line(error) from None
    child.close()
    return checked.code_sha256


def _estimate(loaded: LoadedSuite, device: str, code: str | None, launcher: Launcher | None) -> str:
    """Say how long a suite may take here; a launcher is used to time what was not timed before."""
    from bench.run.estimate import Estimator

    estimator = Estimator(loaded.suite, device=device, code=code)
    lacking = estimator.lacking()
    if lacking and launcher is None:
        return f"no estimate: {len(lacking)} kinds of step were not timed on this device yet; drop --no-timing"
    if lacking and launcher is not None:
        from bench.process.ahead import AheadJob, time_kinds
        from bench.process.messages import Timed
        from bench.run.progress import RunProgress

        with RunProgress(text.console(stderr=True), "timing steps on this device", len(lacking)) as progress:
            child = launcher.start(time_kinds, AheadJob(loaded.suite, loaded.base, device, tuple(lacking)))
            for kind in lacking:
                progress.now("+".join(kind.blocks))
                estimator.keep(kind, child.receive(Timed, deadline_s=time.monotonic() + loaded.suite.timeout_s))
                progress.step()
            child.close()
    found = estimator.estimate()
    assert found is not None
    names = ("source models", "repeats", "windows", "idle baselines")
    seconds = (found.source_s, found.work_s, found.window_s, found.idle_s)
    each = ", ".join(f"{name} {text.duration(part)}" for name, part in zip(names, seconds, strict=True))
    return f"roughly {text.duration(found.total_s)} here ({each})"


@contextlib.contextmanager
def _launcher() -> Iterator[Launcher]:
    """A launcher whose children write what they print to a file that is removed."""
    from bench.process.launcher import Launcher

    with tempfile.TemporaryDirectory() as folder:
        yield Launcher(Path(folder) / "worker.log")


@click.command()
@click.argument("name", required=False)
def fetch(name: str | None) -> None:
    """Download the dataset or checkpoint NAME, or list what can be downloaded."""
    from bench.data import fetch as downloads

    if name is None:
        for known, about in downloads.fetchable().items():
            text.echo(f"{known:14} {about}")
        return
    text.echo(f"{name}: {downloads.fetch(name, text.console())}")


def _dry_run(loaded: LoadedSuite, options: RunOptions) -> int:
    """Check what a run would check, then print the repeats that it would run, in their order."""
    from bench.run.plan import make_plan
    from bench.run.resume import add_fingerprints, fingerprints
    from bench.run.runner import check, manifest_of
    from bench.run.session import prepare_data
    from bench.run.surroundings import make_manifest
    from bench.store.run_dir import RunDir
    from bench.targets.local import LOCAL
    from bench.targets.target import target_of

    folder = RunDir(options.out)
    with contextlib.closing(target_of(options.target)) as target:
        meter = check(loaded, options, target)
        new = make_manifest(loaded, meter.choice, torch_device=options.device, target=target)
    here = options.device if options.target == LOCAL else "cpu"
    known = new if options.fresh else manifest_of(folder, new, loaded)
    records = [] if options.fresh else folder.records([])
    plan = make_plan(loaded.suite, records, cells=options.cells, repeats=options.repeats, retry=options.retry)
    with _launcher() as launcher:
        if known.fingerprints is None or not plan.pending:
            _check_model(loaded, here, launcher)
        else:  # a run that goes on with other data, weights or code is refused
            done = prepare_data(launcher, loaded, plan, here, text.console(stderr=True))
            add_fingerprints(known, fingerprints(done), folder.path)
    for repeat in plan.pending:
        text.echo(f"{repeat.cell.cell_id} #{repeat.number}")
    text.echo(f"{len(plan.pending)} of {plan.wanted} repeats would run -> {options.out}", err=True)
    return 0
