"""The simulated instruments by themselves: waveforms, frames, faults, ports and made-up files."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import reduce
from operator import xor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.instruments import Fault, Faults, FrontEnd, Instrument, Reading, Waveform, csv_lines, tc66, um
from hardware.instruments.__main__ import main
from hardware.instruments.clock import SimulatedClock
from hardware.instruments.port import SimulatedLink, served
from hardware.instruments.sysfs import HwmonTree, RaplTree, Vcgencmd, kept_up
from hardware.instruments.waveform import Following, pulses, ramp, square, telegraph
from hardware.source import Found, PowerSource
from hardware.sources import hwmon, pmic
from hardware.wire import csv_lines as csv_wire
from hardware.wire import tc66 as tc66_wire
from hardware.wire import um as um_wire
from hardware.wire.um import CHECKED_BYTES

READING = Reading(voltage_v=5.123, current_a=1.2345, power_w=6.324, energy_j=3.6 * 2016.4, age_s=4.295)


def sums(wave: Waveform, start_s: float, end_s: float, n: int = 20_000) -> float:
    """Energy by brute force."""
    step_s = (end_s - start_s) / n
    return sum(wave.power_w(start_s + (i + 0.5) * step_s) for i in range(n)) * step_s


# -- waveforms --------------------------------------------------------------------------------------------


def test_pulses_ramps_and_squares_have_the_energy_that_geometry_gives() -> None:
    wave = pulses(2.0, 5.0, [(10.0, 20.0), (30.0, 31.0)])
    assert wave.energy_j(0.0, 40.0) == pytest.approx(2 * 40 + 3 * 11)
    assert wave.energy_j(15.0, 30.5) == pytest.approx(2 * 15.5 + 3 * 5.5)
    assert (wave.power_w(9.999), wave.power_w(10.0), wave.power_w(20.0)) == (2.0, 5.0, 2.0)
    assert ramp(2.0, 6.0, start_s=1.0, end_s=5.0).energy_j(0.0, 6.0) == pytest.approx(2 * 6 + 4 * 4 / 2)
    tooth = square(1.0, 3.0, quiet_s=4.0, work_s=6.0)
    assert tooth.energy_j(-10.0, 90.0) == pytest.approx(10 * (4 + 18))
    assert tooth.energy_j(3.0, 13.0) == pytest.approx(22)
    assert pulses(2.0, 5.0, []).energy_j(-3.0, 3.0) == 12.0


@given(st.integers(0, 10**6), st.floats(-50, 150), st.floats(0, 100), st.floats(0, 100))
def test_energies_of_adjoining_spans_add_up(seed: int, start_s: float, first_s: float, second_s: float) -> None:
    wave = telegraph(1.0, (2.0, 7.0), start_s=0.0, end_s=60.0, mean_dwell_s=2.0, rng=random.Random(seed))
    middle_s, end_s = start_s + first_s, start_s + first_s + second_s
    parts = wave.energy_j(start_s, middle_s) + wave.energy_j(middle_s, end_s)
    assert parts == pytest.approx(wave.energy_j(start_s, end_s), abs=1e-9)


def test_energy_is_the_integral_of_power() -> None:
    wave = telegraph(1.0, (2.0, 7.0), start_s=5.0, end_s=60.0, mean_dwell_s=2.0, rng=random.Random(1))
    assert wave.energy_j(0.0, 70.0) == pytest.approx(sums(wave, 0.0, 70.0), rel=1e-3)
    repeating = Waveform([(1.0, 2.0), (3.0, 6.0), (3.0, 1.0)], period_s=5.0)
    assert repeating.energy_j(-7.3, 11.1) == pytest.approx(sums(repeating, -7.3, 11.1), rel=1e-3)


@pytest.mark.parametrize("points", [[], [(1.0, 1.0), (0.0, 1.0)]])
def test_a_waveform_without_points_or_with_falling_times_is_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="times do not fall"):
        Waveform(points)
    with pytest.raises(ValueError, match=r"lie in \[0, 5"):
        Waveform([(6.0, 1.0)], period_s=5.0)


def test_a_load_that_is_followed_has_the_energy_that_it_says() -> None:
    load = [(0.0, 0.0), (0.0, 10.0), (10.0, 20.0), (15.0, 30.0)]
    power = Following(2.0, 6.0, cpu_times=lambda: load.pop(0))
    for now_s in (100.0, 101.0, 101.01, 102.0):
        power.update(now_s)
    assert [power.power_w(t) for t in (99.0, 100.5, 101.5, 102.5)] == [2.0, 2.0, 6.0, 4.0]
    assert power.energy_j(99.0, 103.0) == pytest.approx(2 + 2 + 6 + 4)


# -- front end --------------------------------------------------------------------------------------------


def test_a_front_end_holds_what_it_saw_at_its_last_refresh() -> None:
    wave = pulses(2.0, 6.0, [(10.2, 20.0)])
    front = FrontEnd(waveform=wave, averaging=True)
    assert [front.read(t).power_w for t in (10.4, 10.6, 11.1)] == pytest.approx([2.0, 2 + 4 * 0.3 / 0.5, 6.0])
    instantaneous = FrontEnd(waveform=wave, averaging=False, delay_s=0.3, gain=1.01, offset_w=0.1)
    assert [instantaneous.read(t).power_w for t in (10.7, 10.9)] == pytest.approx([2.12, 6.16])
    reading = FrontEnd(waveform=wave, drift=0.001).read(15.0)
    assert reading.voltage_v * reading.current_a == pytest.approx(reading.power_w)
    assert reading.energy_j == pytest.approx(wave.energy_j(0.0, 15.0))
    assert reading.age_s == pytest.approx(15.015)


# -- frames: what an instrument sends is what the decoder reads -------------------------------------------


@pytest.mark.parametrize("model", ["um24c", "um25c", "um34c"])
def test_um_frames_are_read_back(model: str) -> None:
    frame = um_wire.decode(um.encode(READING, model))
    assert frame.model.name == model
    assert frame.volts == pytest.approx(READING.voltage_v, abs=0.0051)
    assert frame.amps == pytest.approx(READING.current_a, abs=0.00051)
    assert frame.watts == pytest.approx(frame.volts * frame.amps, abs=0.0006)
    assert frame.groups[0][1] == 2016


def test_the_checksum_of_a_um34c_is_that_of_the_vector() -> None:
    frame = bytearray(130)
    frame[:24] = bytes.fromhex("0d4c020004d2000018ae0019004d0000000004d20000162e")
    frame[122:126] = (100).to_bytes(4, "big")
    assert reduce(xor, (frame[i] for i in CHECKED_BYTES)) == 0x1E


def test_tc66_frames_are_read_back() -> None:
    assert tc66.crc16_modbus(b"123456789") == 0x4B37
    frame = tc66_wire.decode(tc66.encode(READING))
    assert (frame.volts, frame.amps, frame.watts) == (5.123, 1.2345, 6.324)
    assert frame.groups[0][1] == 2016
    assert (frame.product, frame.firmware, frame.temperature_c) == ("TC66", "1.18", 27)


def test_csv_lines_are_read_back() -> None:
    decoder = csv_wire.CsvDecoder()
    header = ",".join(csv_lines.COLUMNS).encode() + b"\r\n"
    readings = decoder.feed(b"\n" + header + csv_lines.encode(READING, 7) + csv_lines.encode(READING, 65_536 + 8))
    assert len(readings) == 2
    assert readings[0].volts == pytest.approx(5.1225)  # counts of 1.25 mV
    assert (readings[0].amps, readings[0].watts, readings[0].device_s) == (1.2345, 6.324, 4.295)
    assert (decoder.bad, decoder.lost) == (0, 0)


def test_a_tc66_answers_only_what_it_is_asked() -> None:
    meter = tc66.Tc66(FrontEnd(waveform=pulses(2.0, 5.0, [])))
    meter.feed(1.0, b"get")
    assert meter.take(2.0) == b""
    meter.feed(2.0, b"va\r\nquerylastp")
    assert len(meter.take(2.01)) == 0
    assert len(meter.take(2.1)) == 192 + 4


# -- faults -----------------------------------------------------------------------------------------------


def test_faults_are_written_as_text() -> None:
    assert Fault.parse("disconnect@20+5") == Fault(kind="disconnect", at_s=20.0, for_s=5.0)
    assert Fault.parse("drift=-1e-3") == Fault(kind="drift", amount=-0.001)
    assert Fault.parse("late+4.47") == Fault(kind="late", for_s=4.47)
    for bad in ("", "explode", "disconnect@", "wrap@x"):
        with pytest.raises(ValueError, match="not a fault"):
            Fault.parse(bad)


def sent(*faults: str, seed: int = 0) -> list[tuple[float, bytes]]:
    plan = Faults([Fault.parse(text) for text in faults], seed=seed)
    return [part for age_s in range(20) for part in plan.send(bytes(range(100)), float(age_s))]


def test_each_fault_does_what_it_says() -> None:
    frame = bytes(range(100))
    assert sent() == [(0.0, frame)] * 20
    assert sent("silent@5+10") == [(0.0, frame)] * 10
    assert [delay_s for delay_s, _ in sent("late@5+3")] == [0.0] * 5 + [3.0, 2.0, 1.0] + [0.0] * 12
    assert sent("duplicate@5+1").count((0.0, frame)) == 21
    torn = sent("torn")
    assert all(part in frame for _, part in torn)
    assert 20 < len(torn) < 40
    corrupt = [part for _, part in sent("corrupt")]
    assert all(len(part) == 100 and part != frame for part in corrupt)
    assert all(sum((a ^ b).bit_count() for a, b in zip(part, frame, strict=True)) <= 3 for part in corrupt)
    assert len(sent("noise")) == 40
    assert sent("corrupt", seed=1) == sent("corrupt", seed=1)
    assert Faults([Fault.parse("disconnect@5+1")]).connected(5.5) is False
    assert Faults([Fault.parse("drift=0.01@5+10")]).drift_s(30.0) == pytest.approx(0.1)


def test_a_counter_wraps_when_it_is_told_to() -> None:
    front = FrontEnd(waveform=pulses(5.0, 5.0, []))
    meter = um.Um(front, Faults([Fault.parse("wrap@30")]))
    before, after = (um_wire.decode(um.encode(meter.read(t))).groups[0][1] for t in (29.0, 40.0))
    assert before == 2**32 - 2
    assert after == 13


# -- clocks, links, ports and files -----------------------------------------------------------------------


def test_a_simulated_clock_runs_one_thread_at_a_time_in_the_order_of_time() -> None:
    clock = SimulatedClock(0.0)
    seen: list[tuple[str, float]] = []

    def other() -> None:
        for _ in range(3):
            clock.sleep(2.0)
            seen.append(("other", clock.monotonic()))

    thread = threading.Thread(target=other)
    clock.every(3.0, lambda: seen.append(("every", clock.monotonic())))
    with clock.elsewhere(up_to_s=1.0):
        thread.start()
        time.sleep(0.05)
    clock.sleep(7.0)
    thread.join(timeout=2.0)
    assert seen == [("other", 2.0), ("every", 3.0), ("other", 4.0), ("every", 6.0), ("other", 6.0)]
    assert clock.monotonic() == 7.0
    clock.release()
    clock.sleep(1e9)


def test_a_connection_that_broke_stays_broken() -> None:
    clock = SimulatedClock(0.0)
    meter = um.Um(FrontEnd(waveform=pulses(2.0, 5.0, [])), Faults([Fault.parse("disconnect@5+1")]))
    link = SimulatedLink(meter, clock)
    link.write(b"\xf0")
    assert len(link.read()) == 130
    assert link.read() == b""
    clock.sleep_until(5.5)
    with pytest.raises(OSError, match="unplugged"):
        link.read()
    clock.sleep_until(7.0)
    with pytest.raises(OSError, match="unplugged"):
        link.write(b"\xf0")
    SimulatedLink(meter, clock).write(b"\xf0")


def wait_for(what: Callable[[], bool], seconds: float = 3.0) -> bool:
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        if what():
            return True
        time.sleep(0.01)
    return False


def test_a_pseudo_terminal_comes_back_under_its_name(tmp_path: Path) -> None:
    import serial

    port = tmp_path / "um25c"
    front = FrontEnd(waveform=pulses(2.0, 5.0, []), on_s=time.monotonic())
    meter: Instrument = um.Um(front, Faults([Fault.parse("disconnect@0.5+0.5")]))
    with served(meter, port):
        with serial.Serial(str(port), 9600, timeout=1.0, exclusive=True) as line:
            line.write(b"\xf0")
            assert um_wire.decode(line.read(130)).model.name == "um25c"
            assert wait_for(lambda: not port.exists())
            with pytest.raises(OSError):  # noqa: PT011 - what pyserial says differs between its versions
                [(line.write(b"\xf0"), line.read(1)) for _ in range(3)]
        assert wait_for(port.exists)
        with serial.Serial(str(port), 9600, timeout=1.0, exclusive=True) as line:
            line.write(b"\xf0")
            assert len(line.read(130)) == 130
    assert not port.is_symlink()


def test_trees_say_what_the_waveform_says(tmp_path: Path) -> None:
    front = FrontEnd(waveform=pulses(4.0, 4.0, []), on_s=0.0, refresh_s=0.001, averaging=True)
    tree = RaplTree(tmp_path / "powercap", front, range_j=100.0, start_j=90.0)
    file = tmp_path / "powercap/intel-rapl:0/energy_uj"
    assert int(file.read_text()) == pytest.approx(90e6, abs=61)
    tree.update(5.0)
    assert int(file.read_text()) == pytest.approx(10e6, abs=61)
    HwmonTree(tmp_path / "hwmon", front)
    values = [int((tmp_path / f"hwmon/hwmon0/{name}_input").read_text()) for name in ("in1", "curr1", "power1")]
    assert values[0] * values[1] == pytest.approx(values[2], rel=0.002)
    assert values[2] == 4_000_000
    with kept_up(tree, clock=lambda: 7.0):
        assert wait_for(lambda: int(file.read_text()) == pytest.approx(18e6, abs=61))


def test_a_made_up_vcgencmd_answers_like_the_real_one(tmp_path: Path) -> None:
    program = Vcgencmd(tmp_path, FrontEnd(waveform=pulses(4.0, 4.0, [])))
    program.throttled = 0x50005
    program.update(1.0)

    def ask(*words: str) -> tuple[int, str]:
        done = subprocess.run([program.path, *words], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert ask("get_throttled") == (0, "throttled=0x50005\n")
    status, listing = ask("pmic_read_adc")
    assert status == 0
    assert " VDD_CORE_A current(7)=" in listing
    assert " EXT5V_V volt(24)=" in listing
    assert ask("fly")[0] != 0


# -- the command ------------------------------------------------------------------------------------------


def test_the_command_serves_a_port_until_it_is_ended(tmp_path: Path) -> None:
    import serial

    port = tmp_path / "meter"
    command = [sys.executable, "-m", "hardware.instruments", "tc66", "--link", str(port), "--fault", "silent@500+1"]
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert wait_for(port.exists, 20.0)
        with serial.Serial(str(port), 115200, timeout=2.0) as line:
            line.write(b"getva")
            assert tc66_wire.decode(line.read(192)).watts == pytest.approx(2.0, abs=0.01)
    finally:
        process.terminate()
        said = process.communicate(timeout=10)[0]
    assert f"--source tc66:{port}" in said
    assert process.returncode == 0
    assert not port.exists()


def test_the_command_refuses_a_fault_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["um25c", "--fault", "explode@3"])
    assert ended.value.code == 2
    assert "not a fault" in capsys.readouterr().err


def test_the_sources_on_board_read_the_made_up_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    front = FrontEnd(waveform=pulses(4.0, 4.0, []))
    HwmonTree(tmp_path / "hwmon", front)
    Vcgencmd(tmp_path / "bin", front)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    for found in (hwmon.probe("ina226", {}, "cpu", root=tmp_path / "hwmon"), pmic.probe("", {}, "cpu")):
        assert isinstance(found, Found), found
        assert isinstance(found.source, PowerSource)
        found.source.open()
        assert found.source.poll()[-1][1] == pytest.approx(4.0, rel=0.01)
        found.source.close()
