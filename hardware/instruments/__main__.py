"""``python -m hardware.instruments NAME``: start a simulated instrument and print how to measure with it."""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hardware.instruments.csv_lines import CsvLines
from hardware.instruments.dut import Dut
from hardware.instruments.emulated import MACHINES, EmulatedBoard, EmulatorError, build
from hardware.instruments.faults import DOCS, Fault, Faults
from hardware.instruments.instrument import FrontEnd, Instrument, Power
from hardware.instruments.port import STEP_S, PtyServer, served
from hardware.instruments.sysfs import HwmonTree, RaplTree, Tree, Vcgencmd
from hardware.instruments.tc66 import Tc66
from hardware.instruments.um import Um, Um24c, Um34c
from hardware.instruments.waveform import Following, Rippled, square

SERIAL: dict[str, tuple[type[Instrument], float]] = {
    "um24c": (Um24c, 0.5),
    "um25c": (Um, 0.5),
    "um34c": (Um34c, 0.5),
    "tc66": (Tc66, 0.5),
    "csv": (CsvLines, 0.1),
}
"""What hangs on a port, and how often it has a new value, s."""

BOARD = "dut"
"""A board that is measured, with a meter on its supply."""

FOLDERS: dict[str, tuple[Callable[[Path, FrontEnd], Tree], float]] = {
    "rapl": (RaplTree, 0.001),
    "hwmon": (HwmonTree, 0.1),
    "vcgencmd": (Vcgencmd, 0.1),
}
"""What consists of files."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until interrupted. Returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.name == BOARD:
        return _board(options)
    rng = random.Random(options.seed)
    on_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        power = _power(options, stack, on_s)
        known = {**SERIAL, **FOLDERS}
        front = FrontEnd(
            waveform=power,
            on_s=on_s,
            gain=options.gain + rng.gauss(0.0, options.gain_u),
            refresh_s=options.refresh_s or known[options.name][1],
            averaging=not options.instantaneous,
            # a load that is followed is known up to the last look only
            delay_s=options.delay_s + (0.1 if options.follow_cpu else 0.0),
        )
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        with contextlib.suppress(KeyboardInterrupt):
            if options.name in SERIAL:
                _serve(options, front, stop)
            else:
                _keep_up(options, front, stop)
    return 0


def _board(options: argparse.Namespace) -> int:
    """Serve a board, emulated or in Python, and a meter that reads its power."""
    folder = options.link.parent if options.link else Path(tempfile.mkdtemp(prefix="instrument-"))
    link = options.link or folder / BOARD
    meter_link = options.meter_link or link.with_name(f"{link.name}-meter")
    stop, on_s = threading.Event(), time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    faults = Faults(options.fault, seed=options.seed)
    try:
        with contextlib.ExitStack() as stack:
            if options.firmware is not None:
                image = build(options.firmware, options.board)
                board = stack.enter_context(EmulatedBoard(image, options.board, link))
                power: Power = board.truth
                about = f"{options.firmware} on an emulated {MACHINES[options.board]} ({options.board})"
            else:
                simulated = Dut(faults=faults, on_s=on_s)
                stack.enter_context(served(simulated, link))
                power, about = simulated.truth, "a board in Python"
            kind, refresh_s = SERIAL[options.meter]
            gain = options.gain + random.Random(options.seed).gauss(0.0, options.gain_u)
            # what the board does is known up to the last byte of its state only
            front = FrontEnd(
                waveform=Rippled(power), on_s=on_s, gain=gain, refresh_s=options.refresh_s or refresh_s, delay_s=0.05
            )
            stack.enter_context(served(kind(front), meter_link))
            print(
                f"{about} is on {link}; a simulated {options.meter.upper()} is on {meter_link}",
                flush=True,
            )
            print(f"measure with: --target serial:{link} --source {options.meter}:{meter_link}", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                stop.wait()
    except EmulatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _serve(options: argparse.Namespace, front: FrontEnd, stop: threading.Event) -> None:
    link = options.link or Path(tempfile.mkdtemp(prefix="instrument-")) / options.name
    instrument = SERIAL[options.name][0](front, Faults(options.fault, seed=options.seed))
    server = PtyServer(instrument, link)
    print(f"a simulated {options.name.upper()} is on {link}, switched on at t_mono {front.on_s:.3f} s", flush=True)
    print(f"measure with: --source {options.name}:{link}", flush=True)
    server.serve(stop)


def _keep_up(options: argparse.Namespace, front: FrontEnd, stop: threading.Event) -> None:
    folder = options.link or Path(tempfile.mkdtemp(prefix="instrument-"))
    tree = FOLDERS[options.name][0](folder, front)
    print(f"a simulated {options.name} is in {folder}, switched on at t_mono {front.on_s:.3f} s", flush=True)
    while not stop.wait(STEP_S):
        tree.update(time.monotonic())


def _power(options: argparse.Namespace, stack: contextlib.ExitStack, on_s: float) -> Power:
    if not options.follow_cpu:
        return square(options.idle_w, options.load_w, quiet_s=options.quiet_s, work_s=options.work_s, origin_s=on_s)
    truth = stack.enter_context(options.truth.open("w")) if options.truth else None
    following = Following(options.idle_w, options.load_w, truth=truth)
    following.update(on_s)
    ended = threading.Event()
    stack.callback(ended.set)

    def look() -> None:
        while not ended.wait(0.02):
            following.update(time.monotonic())

    threading.Thread(target=look, name="load", daemon=True).start()
    return following


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hardware.instruments",
        description="Simulate a meter: its real protocol, a known power, faults on demand.",
        epilog="faults: " + "; ".join(f"{kind}: {doc}" for kind, doc in DOCS.items()),
    )
    parser.add_argument("name", choices=[*SERIAL, *FOLDERS, BOARD])
    parser.add_argument("--idle-w", type=float, default=2.0, help="power at rest, W (default 2)")
    parser.add_argument("--load-w", type=float, default=5.0, help="power at work, W (default 5)")
    parser.add_argument("--quiet-s", type=float, default=40.0, help="rest between two loads, s (default 40)")
    parser.add_argument("--work-s", type=float, default=20.0, help="length of each load, s (default 20)")
    parser.add_argument(
        "--follow-cpu", action="store_true", help="power between idle and load by this machine's load, not by time"
    )
    parser.add_argument("--truth", type=Path, help="with --follow-cpu: write t_mono_s,energy_j to this file")
    parser.add_argument("--gain", type=float, default=1.0, help="reading over truth (default 1)")
    parser.add_argument(
        "--gain-u", type=float, default=0.0, help="standard deviation to draw the gain with (default 0)"
    )
    parser.add_argument("--refresh-s", type=float, help="time between two values, s (default: as the real one)")
    parser.add_argument(
        "--instantaneous", action="store_true", help="a value is a moment's, not the mean since the last"
    )
    parser.add_argument("--delay-s", type=float, default=0.0, help="how late a value is, s (default 0)")
    parser.add_argument("--firmware", type=Path, help="of a dut: folder of `jouletune firmware` (default: in Python)")
    parser.add_argument("--board", choices=[*MACHINES], default="mps2-an500", help="of a dut: what is emulated")
    parser.add_argument("--meter", choices=[*SERIAL], default="csv", help="of a dut: the meter on its supply")
    parser.add_argument("--meter-link", type=Path, help="of a dut: name of that meter's port")
    parser.add_argument("--link", type=Path, help="name of the port or folder (default: a new one)")
    parser.add_argument("--seed", type=int, default=0, help="of gain and faults (default 0)")
    parser.add_argument(
        "--fault", type=_fault, action="append", default=[], help="KIND[=AMOUNT][@AT][+FOR], e.g. disconnect@20+5"
    )
    return parser


def _fault(text: str) -> Fault:
    try:
        return Fault.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
