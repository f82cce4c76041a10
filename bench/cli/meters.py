"""The commands about energy sources: `sources`, `meter`, `calibrate` and `health`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import __version__, text
from bench.errors import JouletuneError, RequestError

if TYPE_CHECKING:
    from hardware import Choice
    from hardware.calibration.figures import Load
    from hardware.source import Source


@click.command()
@click.argument("source")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop after so many seconds.  [default: at Ctrl-C]"
)
@click.option(
    "--record-raw", type=click.Path(path_type=Path), metavar="FILE", help="Write every byte of the meter to FILE, too."
)
def meter(source: str, seconds: float | None, record_raw: Path | None) -> None:
    """Show the readings of SOURCE, live, until Ctrl-C.

    A panel on a terminal, a line per second elsewhere. The readings are not corrected by a profile.
    """
    from bench.cli.meter_view import LineView, PanelView, watch

    choice = _choose(source)
    _refuse_none(choice)
    if record_raw is not None:
        _record(choice, record_raw)
    console = text.console()
    view = PanelView(console, choice.why) if console.is_terminal else LineView(choice.why)
    try:
        _open(choice)
        watch(choice.source, view, seconds=seconds, may_reopen=record_raw is None)
    finally:
        with contextlib.suppress(Exception):  # its error is of no use any more
            choice.source.close()


@click.command()
@click.argument("source")
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    help="Length of the quiet measurement, seconds.",
)
@click.option(
    "--pairs", type=click.IntRange(min=2), default=5, show_default=True, help="Number of pairs of equal windows."
)
@click.option(
    "--window", type=click.FloatRange(min=0.1), default=10, show_default=True, help="Length of each window, seconds."
)
@click.option(
    "--work",
    type=click.Choice(["cpu", "quiet"]),
    default="cpu",
    show_default=True,
    help="What fills the windows: one busy core of this device, or nothing, if the meter is not in its supply line.",
)
@click.option("--load-w", type=click.FloatRange(min=0, min_open=True), help="Watts of a known load, for the gain.")
@click.option("--load-ohm", type=click.FloatRange(min=0, min_open=True), help="Ohms of the known load, a resistor.")
@click.option("--volts", type=click.FloatRange(min=0, min_open=True), help="Volts across that resistor.")
@click.option("--load-tolerance", metavar="SHARE", help="Largest error of the load's watts, e.g. 1%.")
@click.option("--control", is_flag=True, help="Measure a fixed small workload --pairs times instead; write nothing.")
@click.option("--out", type=click.Path(path_type=Path), help="Profile to write.  [default: in ~/.config/jouletune]")
def calibrate(source: str, out: Path | None, control: bool, **options: Any) -> None:
    """Measure the noise, the period and the gain of SOURCE; later runs use and name the result.

    \b
    Gain needs a load that is known better than the meter:
      jouletune calibrate um25c:/dev/rfcomm0 --load-ohm 5 --volts 5.02 --load-tolerance 1%
    The command asks for the load to be connected and disconnected. The tolerance of a resistor's
    watts is twice that of the volts plus that of the ohms.
    """
    from bench.cli.calibration_view import Steps, findings
    from bench.run.metering import hardware_errors
    from hardware.calibration import procedure as calibrator
    from hardware.calibration import profile

    choice = _choose(source)
    if choice.source.info.kind not in ("counter", "power"):
        raise RequestError(f"{source} is no counter and no meter; expected one that measures, see `jouletune sources`")
    if control:
        _control(choice.source, idle_s=options["seconds"], times=options["pairs"], window_s=options["window"])
        return
    plan = calibrator.Plan(
        idle_s=options["seconds"],
        pairs=options["pairs"],
        window_s=options["window"],
        work=options["work"],
        load=_load(**{name: options[name] for name in ("load_w", "load_ohm", "volts", "load_tolerance")}),
    )
    console = text.console()
    with hardware_errors():
        path = out or profile.default_path(choice.source.info.name)
        profile.check_place(choice.source.info.name, path)
        total_s = plan.total_s(choice.source.info)
        text.echo(f"{choice.why}; it takes {text.duration(total_s)}")
        with Steps(console, total_s, plan.load) as steps:
            found = calibrator.calibrate(
                choice.source,
                plan,
                version=__version__,
                report=steps.report,
                switch_load=steps.switch_load,
                clock=steps,
            )
        stored = profile.save(found, path)
    text.echo(*findings(stored.profile), f"profile: {stored.path}")


def _control(source: Source, *, idle_s: float, times: int, window_s: float) -> None:
    """Print the control workload's power, each time and in all. Exits with status 1 where it moved beyond its limit."""
    from bench.run.metering import hardware_errors
    from hardware import Sampler
    from hardware.calibration import control

    sampler = Sampler(source)
    with hardware_errors():
        sampler.start()
        try:
            sampler.measure_idle(idle_s)
            points = []
            for _ in range(times):
                points.append(control.measure(sampler, seconds=window_s))
                power_w, u_w = points[-1].power_w, points[-1].u_power_w or 0.0
                shown = "not measured" if power_w is None else f"{power_w:.4g} W +- {2 * u_w:.2g}"
                text.echo(f"{points[-1].started_at}  {shown}  grade {points[-1].grade}")
        finally:
            sampler.stop()
    found = control.movement(points)
    if found is None:
        raise JouletuneError("fewer than two of the measurements are usable")
    text.echo(f"mean {found.mean_w:.4g} W, scatter {found.scatter:.2%}, drift {found.drift:+.2%}")
    if found.moved:
        raise JouletuneError(f"it moved by more than {control.MAX_MOVE:.0%}: meter or device are not steady")


@click.command()
@click.option("--source", default="auto", show_default=True, metavar="NAME", help="Energy source.")
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="Torch device that will train.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=30,
    show_default=True,
    help="Length of the idle baseline, seconds.",
)
@click.option(
    "--max-busy",
    type=click.FloatRange(0, 100),
    default=5,
    show_default=True,
    metavar="PERCENT",
    help="Largest share of the processor that may be in use.",
)
@click.option("--like", metavar="RUN", help="An earlier run whose machine, governor and idle power must be the same.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder whose disk must have room.  [default: the current one]",
)
def health(source: str, device: str, like: str | None, out: Path, **limits: float) -> int:
    """Check that this device is fit to be measured now: meter, idle power, load, throttling, disk.

    Exits with 1 if it is not. Takes as long as one idle baseline, and writes nothing.
    """
    from bench.run import health as checks
    from bench.store.manifest import Manifest
    from bench.store.run_dir import RunDir

    earlier = None if like is None else RunDir.existing(like).read_manifest([]) or Manifest()
    wanted = earlier.source.name if source == "auto" and earlier and earlier.source else source
    choice = _choose(wanted or source, device, corrected=True)
    _refuse_none(choice)
    text.echo(f"energy: {choice.why}")
    unfit = []
    folder = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    for found in checks.examine(
        choice, seconds=limits["seconds"], max_busy=limits["max_busy"] / 100, folder=folder, like=earlier
    ):
        text.echo(str(found))
        if not found.right:
            unfit.append(found.what)
    if unfit:
        text.echo(f"not fit to be measured: {', '.join(unfit)}", err=True)
    return 1 if unfit else 0


def _choose(source: str, device: str = "cpu", *, corrected: bool = False) -> Choice:
    import hardware
    from bench.run.metering import hardware_errors

    with hardware_errors():
        return hardware.choose(source, device=device, corrected=corrected)


def _refuse_none(choice: Choice) -> None:
    if choice.source.info.kind == "none":
        raise RequestError("none measures nothing; see `jouletune sources`")


def _open(choice: Choice) -> None:
    from bench.run.metering import hardware_errors
    from hardware import HardwareError

    with hardware_errors():
        try:
            choice.source.open()
        except HardwareError:
            raise
        except Exception as error:  # a driver may raise anything
            raise JouletuneError(f"{choice.source.info.name} does not open: {error}") from None


def _record(choice: Choice, path: Path) -> None:
    if path.exists():
        raise RequestError(f"{path} is there already; choose another file for --record-raw")
    try:
        seen = choice.source.record_raw(path)
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror or error}") from None
    if not seen:
        raise RequestError(
            f"--record-raw: {choice.source.info.name} reads no bytes of a meter; expected a meter on a port"
        )


def _load(load_w: float | None, load_ohm: float | None, volts: float | None, load_tolerance: str | None) -> Load | None:
    """Make the known load from its options; None without any.

    Raises:
        RequestError: they are incomplete, or contradict each other.
    """
    from hardware.calibration.figures import Load

    if load_w is None and load_ohm is None and volts is None:
        if load_tolerance is not None:
            raise RequestError("--load-tolerance needs a load: give --load-w, or --load-ohm and --volts")
        return None
    if load_w is not None and (load_ohm is not None or volts is not None):
        raise RequestError("give the load once: --load-w, or --load-ohm and --volts")
    if load_w is None and (load_ohm is None or volts is None):
        raise RequestError("--load-ohm and --volts belong together: the load is volts x volts / ohms")
    if load_tolerance is None:
        raise RequestError("--load-tolerance is missing: expected the largest error of the load's watts, e.g. 1%")
    tolerance = _share(load_tolerance)
    if load_w is not None:
        return Load.of_watts(load_w, tolerance)
    assert load_ohm is not None
    assert volts is not None
    return Load.of_ohms(load_ohm, volts, tolerance)


def _share(given: str) -> float:
    """Read a share: ``1%`` or ``0.01``."""
    number, percent, rest = given.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if rest or not 0 < value <= 0.15:
        raise RequestError(f"--load-tolerance: expected a share up to 15 %, such as 1% or 0.01, not {given!r}")
    return value


@click.command()
def sources() -> None:
    """List what can measure energy here, what cannot, why, and how to change that."""
    import hardware
    from bench.cli.sources_page import page
    from hardware.meters.link import candidates

    click.echo(page(hardware.probe_all(), candidates()))
