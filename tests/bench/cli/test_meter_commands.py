"""The commands that look at one source: meter, calibrate, sources."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import hardware
from bench.cli import commands, meter_view
from bench.cli.meter_view import LineView, LiveFigures, PanelView, period_text, watch, watts
from bench.cli.sources_page import page
from bench.text import spark
from hardware import SourceError
from hardware.calibration import procedure as calibrator
from hardware.calibration import profile
from hardware.instruments import FrontEnd
from hardware.instruments.clock import SimulatedClock
from hardware.instruments.port import served
from hardware.instruments.um import Um
from hardware.instruments.waveform import Waveform
from hardware.meters.link import read_raw
from hardware.registry import SOURCES, choose
from hardware.source import CounterSource, Found, Health, NoPermission, NotFound, PowerSource, Sample, SourceInfo
from hardware.sources.simulated import SimulatedSource
from hardware.wire.um import UmDecoder


def jouletune(*arguments: str, stdin: str = "") -> Result:
    """Run a command as the entry point does, with its exit status and its one line of error."""
    runner = CliRunner()

    @click.command(context_settings={"ignore_unknown_options": True})
    @click.argument("given", nargs=-1, type=click.UNPROCESSED)
    def entry(given: tuple[str, ...]) -> None:
        before, sys.argv = sys.argv, ["jouletune", *given]
        try:
            commands.main()
        finally:
            sys.argv = before

    return runner.invoke(entry, ["--", *arguments], input=stdin)


def one_line_error(result: Result, status: int) -> str:
    assert result.exit_code == status, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in result.stderr
    return errors[0]


@pytest.fixture(autouse=True)
def own_profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


class Flaky(PowerSource):
    """3 W ten times a second; dies at one moment and opens again from another one on."""

    def __init__(self, clock: SimulatedClock, *, dies_at_s: float, back_at_s: float) -> None:
        self.clock = clock
        self.dies_at_s = dies_at_s
        self.back_at_s = back_at_s
        self.opened = 0

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(name="flaky", kind="power", scope="board", covers=("all",), period_s=0.1, gain_u=0.01)

    def open(self) -> None:
        self.opened += 1
        if self.dies_at_s <= self.clock.monotonic() < self.back_at_s:
            raise SourceError("still away")

    def poll(self) -> list[Sample]:
        now_s = self.clock.monotonic()
        if self.dies_at_s <= now_s < self.back_at_s:
            raise SourceError("cable out")
        return [(now_s, 3.0)]


# meter


def test_away_from_a_terminal_meter_prints_a_line_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    clock = SimulatedClock()
    source = SimulatedSource(power_w=5.0, idle_w=2.5, period_s=0.02, clock=clock.monotonic)
    source.open()
    figures = watch(source, LineView("why"), seconds=30.0, clock=clock)
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert printed.err == "why\n"
    assert 28 <= len(lines) <= 31
    assert re.fullmatch(
        r" +\d+\.\d s +2\.500 W  min 2\.500 mean 2\.500 max 2\.500 W  [\d.]+ J  [\d.]+/s  "
        r"lost 0, bad frames 0, implausible 0, disconnects 0",
        lines[0],
    )
    assert lines[-2].startswith("simulated?idle_w=2.5: 7")
    assert figures.joules == pytest.approx(75.0, rel=0.01)
    assert figures.rate_hz(clock.monotonic()) == pytest.approx(50.0, rel=0.02)


def test_the_command_runs_for_as_long_as_it_is_told() -> None:
    result = jouletune("meter", "simulated", "--seconds", "1.3")
    assert result.exit_code == 0
    assert "SIMULATED, nothing is measured" in result.stderr
    assert "2.000 W" in result.stdout.splitlines()[0]
    assert "samples; lost 0" in result.stdout


def test_a_model_is_called_one(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = LiveFigures(SourceInfo(name="m", kind="estimate", scope="model", covers=(), period_s=0.5, gain_u=0.4), 0)
    figures.add_span(0.0, 2.0, 20.0)
    console = Console(width=80, file=None, record=True, force_terminal=False)
    console.print(PanelView(console, "a model").panel(figures, Health(), 2.0))
    text = console.export_text()
    assert "10.00 W" in text
    assert "a model, not a measurement" in text
    assert max(map(len, text.splitlines())) <= 80


def test_ctrl_c_ends_with_a_summary_and_status_0() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "bench.cli", "meter", "simulated"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert "2.000 W" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        rest = child.stdout.read()
        complaint = child.stderr.read()
    assert child.returncode == 0
    assert "simulated: " in rest.splitlines()[-2]
    assert "Traceback" not in complaint


def test_a_source_that_dies_is_opened_again(capsys: pytest.CaptureFixture[str]) -> None:
    clock = SimulatedClock(0.0)
    source = Flaky(clock, dies_at_s=10.0, back_at_s=25.0)
    figures = watch(source, LineView(""), seconds=40.0, clock=clock)
    printed = capsys.readouterr()
    assert "cable out" in printed.err
    assert "trying again" in printed.err
    assert source.opened > 2
    # what was drawn meanwhile is unknown, and not made up
    assert figures.seen_s == pytest.approx(25.0, abs=2.5)
    assert figures.joules == pytest.approx(3.0 * figures.seen_s)


def test_a_source_that_stays_away_ends_with_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    clock = SimulatedClock(0.0)
    watch(Flaky(clock, dies_at_s=0.0, back_at_s=math.inf), LineView(""), seconds=20.0, clock=clock)
    assert "no reading in" in capsys.readouterr().out


def test_a_recording_that_is_over_is_not_played_again(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("t_s,power_w\n" + "".join(f"{i / 10},{2 + i % 2}\n" for i in range(8)))
    result = jouletune("meter", f"replay:{trace}")
    assert result.exit_code == 0
    assert "is over" in result.stderr


def test_a_counter_shows_the_power_between_its_counts() -> None:
    figures = LiveFigures(
        SourceInfo(name="c", kind="counter", scope="cpu", covers=(), period_s=0.001, gain_u=0.05), start_s=0.0
    )
    figures.add([(0.1 * i, 7.0 * 0.1 * i) for i in range(101)])
    assert figures.now_w == pytest.approx(7.0)
    assert (figures.joules, figures.seen_s) == (pytest.approx(70.0), pytest.approx(10.0))
    assert figures.bars(10.0).strip() == spark([7.0] * 10)


def test_a_gap_is_not_bridged_and_shows() -> None:
    info = SourceInfo(name="p", kind="power", scope="board", covers=(), period_s=0.5, gain_u=0.01)
    figures = LiveFigures(info, start_s=0.0)
    figures.add([(0.5 * i, 2.0) for i in range(11)])
    assert figures.silent_s(5.5) == 0.0
    assert figures.silent_s(25.0) == 20.0
    figures.add([(20.0 + 0.5 * i, 2.0) for i in range(11)])
    assert figures.joules == pytest.approx(20.0)
    assert " " in figures.bars(25.0).strip()


def test_what_is_no_number_or_out_of_order_is_left_out() -> None:
    info = SourceInfo(name="p", kind="power", scope="board", covers=(), period_s=0.5, gain_u=0.01)
    figures = LiveFigures(info, start_s=0.0)
    figures.add([(1.0, 2.0), (0.5, 9.0), (1.5, math.nan), (2.0, 4.0)])
    assert figures.joules == pytest.approx(3.0)
    assert figures.count == 2


def test_sparks() -> None:
    assert spark([0.0, 1.0, None, 2.0]) == "▁▅ █"
    assert spark([3.0, 3.0]) == "▁▁"
    assert spark([5.0000, 5.0001]) == "▁▁"
    assert spark([None]) == " "


def test_watts_have_four_digits() -> None:
    assert [watts(value) for value in (None, 0.0431, 4.9824, 12.312, 230.44, 4321.9)] == [
        meter_view.NONE, "0.043", "4.982", "12.31", "230.4", "4321.9",
    ]  # fmt: skip


def test_the_period_in_words() -> None:
    held = LiveFigures(SourceInfo(name="p", kind="power", scope="board", covers=(), period_s=0.1, gain_u=0.01), 0.0)
    held.add([(0.1 * i, float(i // 5 % 7)) for i in range(400)])
    assert period_text(held.update()) == "a new value every 0.5 s"
    fast = LiveFigures(held.info, 0.0)
    fast.add([(0.1 * i, float(i % 7)) for i in range(400)])
    assert period_text(fast.update()) == "a new value every 0.1 s or faster"


def test_the_panel_fits_80_columns() -> None:
    figures = LiveFigures(
        SourceInfo(name="um25c:/dev/rfcomm0", kind="power", scope="board", covers=(), period_s=0.5, gain_u=0.01), 0.0
    )
    figures.add([(0.25 * i, 2.0 + i % 9) for i in range(200)])
    console = Console(width=80, record=True)
    view = PanelView(console, "why")
    console.print(view.panel(figures, Health(disconnects=1, connected=False, problem="x" * 200), 90.0))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "nothing for 40 s" in text
    assert "disconnects 1" in text
    assert view.every_s >= 0.25


@pytest.mark.parametrize(
    ("name", "hint"),
    [("um25", "did you mean"), ("um25c:/dev/not-there", "is not there"), ("none", "measures nothing")],
)
def test_a_wrong_source_is_one_line_and_status_2(name: str, hint: str) -> None:
    assert hint in one_line_error(jouletune("meter", name), 2)


@pytest.fixture
def um(tmp_path: Path) -> Iterator[Path]:
    """A UM25C at 3 W with a ripple, on a port."""
    port = tmp_path / "um"
    ripple = Waveform([(0.0, 2.9), (0.35, 3.1), (0.8, 2.95), (1.1, 3.05)], period_s=1.3)
    with served(Um(FrontEnd(waveform=ripple, on_s=time.monotonic() - 5)), port):
        yield port


def test_raw_bytes_are_kept_and_can_be_decoded_again(um: Path, tmp_path: Path) -> None:
    log = tmp_path / "raw.txt"
    result = jouletune("meter", f"um25c:{um}", "--seconds", "1.5", "--record-raw", str(log))
    assert result.exit_code == 0, result.stderr
    decoder = UmDecoder()
    frames = [frame for _, way, data in read_raw(log) if way == "<" for frame in decoder.feed(data)]
    assert len(frames) >= 3
    assert decoder.bad == 0
    assert all(2.85 < frame.reading.watts < 3.15 for frame in frames)
    assert re.search(r"mean (2\.9|3\.0)\d\d W", result.stdout)


def test_no_raw_bytes_no_file(tmp_path: Path) -> None:
    log = tmp_path / "raw.txt"
    result = jouletune("meter", "simulated", "--record-raw", str(log))
    assert "reads no bytes" in one_line_error(result, 2)
    assert not log.exists()


def test_a_raw_log_overwrites_nothing(tmp_path: Path) -> None:
    log = tmp_path / "raw.txt"
    log.write_text("precious")
    assert "is there already" in one_line_error(jouletune("meter", "simulated", "--record-raw", str(log)), 2)
    assert log.read_text() == "precious"


def test_another_model_than_was_named_is_said(um: Path) -> None:
    assert "the meter there is a UM25C; ask for um25c:" in one_line_error(jouletune("meter", f"um24c:{um}"), 1)


def test_an_unplugged_meter_is_said_and_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    clock = SimulatedClock(0.0)

    class Unplugged(Flaky):
        @property
        def health(self) -> Health:
            away = 5.0 <= self.clock.monotonic() < 9.0
            return Health(connected=not away, disconnects=int(self.clock.monotonic() >= 5.0), problem="hung up")

    watch(Unplugged(clock, dies_at_s=math.inf, back_at_s=0.0), LineView(""), seconds=15.0, clock=clock)
    said = capsys.readouterr()
    assert "connection lost (hung up); trying again" in said.err
    assert "it is back" in said.err
    assert any(f"{meter_view.NONE} W" in line for line in said.out.splitlines())


# calibrate


def test_calibrate_writes_a_profile_that_runs_find(tmp_path: Path) -> None:
    result = jouletune("calibrate", "simulated", "--seconds", "1", "--pairs", "2", "--window", "0.3")
    assert result.exit_code == 0, result.stderr
    path = tmp_path / "config/jouletune/profiles/simulated.json"
    assert f"profile: {path}" in result.stdout
    stored = profile.load(path)
    assert stored.profile.noise_floor.work == "cpu"
    # the simulation knows exactly when the work was: 5 W then
    assert stored.profile.noise_floor.mean_j == pytest.approx(1.5, rel=0.1)
    choice = choose("simulated")
    assert choice.source.info.params["profile"]["sha256"] == stored.sha256


def test_calibrate_asks_for_the_load_and_refuses_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrator, "MIN_LOAD_S", 0.3)
    result = jouletune(
        "calibrate", "simulated", "--seconds", "1", "--pairs", "2", "--window", "0.2", "--work", "quiet",
        "--load-w", "5", "--load-tolerance", "1%", "--out", str(tmp_path / "p.json"), stdin="\n\n",
    )  # fmt: skip
    assert "is the load behind the meter" in one_line_error(result, 1)
    assert "connect the load (stated 5 W, known to within 1.00%), then press Enter" in result.stdout
    assert "disconnect the load" in result.stdout
    assert not (tmp_path / "p.json").exists()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--load-w", "5"], "--load-tolerance is missing"),
        (["--load-tolerance", "1%"], "needs a load"),
        (["--load-w", "5", "--volts", "5", "--load-tolerance", "1%"], "give the load once"),
        (["--load-ohm", "5", "--load-tolerance", "1%"], "belong together"),
        (["--load-w", "5", "--load-tolerance", "many"], "expected a share"),
        (["--load-w", "5", "--load-tolerance", "0"], "expected a share"),
        (["--load-w", "5", "--load-tolerance", "nan"], "expected a share"),
        (["--seconds", "0"], "--seconds"),
        (["--pairs", "1"], "--pairs"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_is_measured(options: list[str], hint: str, tmp_path: Path) -> None:
    assert hint in one_line_error(jouletune("calibrate", "simulated", *options), 2)
    assert not (tmp_path / "config").exists()


def test_calibrate_refuses_to_overwrite_before_it_measures(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text("mine")
    assert "no calibration profile" in one_line_error(
        jouletune("calibrate", "simulated", "--out", str(tmp_path / "p.json")), 2
    )


@pytest.mark.parametrize("name", ["codecarbon", "none"])
def test_a_model_cannot_be_calibrated(name: str) -> None:
    assert "expected one that measures" in one_line_error(jouletune("calibrate", name), 2)


# sources


def nothing_found(**found: Any) -> list[tuple[str, Any]]:
    return [(name, found.get(name.replace("-", "_"), NotFound(f"no {name} here, " * 4))) for name in SOURCES]


def test_the_page_where_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "probe_all", lambda: tuple(nothing_found()))
    result = jouletune("sources")
    assert result.exit_code == 0
    assert "Nothing can measure here" in result.stdout
    assert "'none' measures accuracy only" in " ".join(result.stdout.split())
    assert "Sources of other packages (entry points jouletune.sources): none installed." in result.stdout
    assert "\x1b" not in result.stdout


def test_the_page_is_grouped_and_fits_80_columns() -> None:
    class Rapl(CounterSource):
        info = SourceInfo(name="rapl", kind="counter", scope="cpu", covers=(), period_s=0.001, gain_u=0.05)  # type: ignore[assignment]  # a property there

        def read(self) -> Sample:
            return 0.0, 0.0

    probes = nothing_found(
        rapl=Found(Rapl(), "the counters package-0 are readable"), hwmon=NoPermission("sudo chmod a+r /sys/" + "x" * 40)
    )
    probes += [("scpi", NotFound("name the supply: scpi:HOST")), ("a-source-with-a-long-name-indeed", NotFound("bad"))]
    text = click.unstyle(page(probes, "serial ports here: /dev/ttyUSB0 (CP2102)", width=80))
    assert max(map(len, text.splitlines())) <= 80
    order = ["Can measure here", "Here, but not readable yet", "On a port", "Not here", "Measure nothing"]
    assert sorted(order, key=text.index) == order
    assert text.index("Can measure here") < text.index("  rapl") < text.index("Here, but not readable yet")
    assert text.index("  hwmon") < text.index("On a port")
    assert "um25c:/dev/rfcomm0" in text
    assert text.count("/dev/ttyUSB0 (CP2102)") == 1
    assert "scpi, a-source-with-a-long-name-indeed" in " ".join(text.split())
    assert "Without --source a run on the CPU takes rapl." in text


def test_help_of_the_commands_needs_nothing_heavy() -> None:
    code = "import sys, bench.cli; print([m for m in ('rich', 'torch', 'pydantic', 'hardware') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert done.stdout.strip() == "[]"


def test_a_terminal_is_redrawn_four_times_a_second_at_most() -> None:
    assert 1 / PanelView.every_s <= 4
    assert meter_view.STEP_S[0] <= meter_view.STEP_S[1]


def test_what_the_raspberry_pi_page_tells_to_type_exists() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/raspberry-pi.md").read_text()
    typed = re.findall(r"(?:^|`)jouletune (\w+)([^`\n]*)", text, flags=re.M)
    assert {"sources", "meter", "calibrate", "run"} <= {name for name, _ in typed}
    for name, rest in typed:
        known = {option for parameter in commands.cli.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= known, (name, rest)
