"""Sensors of the kernel on made-up trees: hwmon chips and meters, the rails of a Jetson, batteries."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hardware import Sampler, SourceError, UnknownSourceError
from hardware.source import Found, NoPermission, NotFound, Probe, Source
from hardware.sources import battery, hwmon, hwmon_tree, jetson
from hardware.sources.hwmon_tree import RailCounter, RailPower

KM003C_V, KM003C_A = 5.053509, -0.090450
"""A real reading of a KM003C; its driver hands it on as 5054 mV and -90 mA."""


def put(folder: Path, files: dict[str, object]) -> Path:
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{value}\n")
    return folder


def chip(root: Path, number: int, name: str, files: dict[str, object], device: str = "") -> Path:
    """A hwmon folder, with the link to its device."""
    folder = put(root / f"hwmon{number}", {"name": name, **files})
    if device:
        target = root.parent / "devices" / device
        target.mkdir(parents=True, exist_ok=True)
        (folder / "device").symlink_to(target)
    return folder


def powerz(root: Path, number: int = 3, *, volts: float = 5.1, amps: float = 1.2) -> Path:
    """As the driver shows it: VBUS in mV, then CC1, CC2, D+, D-, VDD; the current in mA with its sign."""
    files = {"in0_input": round(volts * 1e3), "in0_average": 1, "curr1_input": round(amps * 1e3), "curr1_average": 1}
    files |= {f"in{n}_input": 400 for n in range(1, 6)} | {"in0_label": "VBUS", "curr1_label": "IBUS"}
    return chip(root, number, "powerz", files | {"temp1_input": 25570}, device="3-2:1.0")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "hwmon"


def ask(argument: str, root: Path, **params: str) -> Probe:
    return hwmon.probe(argument, params, "cpu", root=root)


def found(probe: Probe) -> Source:
    assert isinstance(probe, Found), probe
    return probe.source


def reason(probe: Probe) -> str:
    assert isinstance(probe, NotFound), probe
    return probe.reason


# -- hwmon --------------------------------------------------------------------------------------------------


def test_a_powerz_is_found_by_its_driver_and_measures_the_whole_board(root: Path) -> None:
    chip(root, 0, "cpu_thermal", {"temp1_input": 48000})
    powerz(root, 3, volts=KM003C_V, amps=KM003C_A)
    assert "0.45 W, so it is not" not in str(ask("", root))
    source = found(ask("", root))
    assert isinstance(source, RailPower)
    assert (source.info.name, source.info.kind, source.info.scope) == ("hwmon", "power", "board")
    assert source.info.resolution == pytest.approx(0.005054)  # 1 mA at the voltage of the moment
    source.open()
    [(_, power_w)] = source.poll()
    # put in the other way round the current is negative; what the board draws is not
    assert power_w == pytest.approx(5.054 * 0.090)
    assert power_w == pytest.approx(-KM003C_V * KM003C_A, rel=0.01)


def test_the_way_round_is_settled_by_the_first_clear_reading(root: Path) -> None:
    folder = powerz(root, volts=5.0, amps=-1.0)
    source = found(ask("", root))
    assert isinstance(source, RailPower)
    source.open()
    powers_w = []
    for milliamps in (-1000, -2, 3, -500):
        put(folder, {"curr1_input": milliamps})
        powers_w += [power_w for _, power_w in source.poll()]
    assert powers_w == pytest.approx([5.0, 0.01, -0.015, 2.5])


def test_a_powerz_that_nothing_passes_is_not_taken_unasked(root: Path) -> None:
    powerz(root, volts=5.08, amps=0.00003)
    assert "0.00 W, so it is not in the supply" in reason(ask("", root))
    assert found(ask("powerz", root)).info.name == "hwmon:powerz"


def test_other_chips_have_to_be_named_since_only_their_owner_knows_the_wiring(root: Path) -> None:
    assert "no other chip" in reason(ask("", root))
    chip(root, 0, "cpu_thermal", {"temp1_input": 1})
    chip(root, 1, "ina226", {"in0_input": 1, "in1_input": 5000, "curr1_input": 400, "power1_input": 2000000})
    assert "hwmon:ina226" in reason(ask("", root))
    assert "no chip is called 'ina219'; with power: ina226" in reason(ask("ina219", root))
    assert "neither power nor energy" in reason(ask("cpu_thermal", root))
    source = found(ask("ina226", root))
    assert (source.info.scope, source.info.gain_u, source.info.name) == ("rail", 0.02, "hwmon:ina226")
    assert isinstance(source, RailPower)
    assert source.poll()[0][1] == pytest.approx(2.0)
    board = found(ask("ina226", root, board="1"))
    assert (board.info.scope, board.info.name) == ("board", "hwmon:ina226?board=1")
    with pytest.raises(UnknownSourceError, match="did you mean 'board'"):
        ask("ina226", root, bord="1")


def test_two_chips_of_a_name_are_told_apart_by_their_device_not_by_their_number(root: Path) -> None:
    for number, watts in ((5, 1), (2, 3)):
        chip(root, number, "ina226", {"power1_input": watts * 1_000_000}, device=f"1-004{number}")
    assert "hwmon:ina226@1-0042, hwmon:ina226@1-0045" in reason(ask("ina226", root))
    source = found(ask("ina226@1-0045", root))
    assert isinstance(source, RailPower)
    assert source.poll()[0][1] == pytest.approx(1.0)
    assert "ask for one of" in reason(ask("ina226@1-0099", root))


def test_channels_are_named_by_label_or_number_and_added_only_on_demand(root: Path) -> None:
    files: dict[str, object] = {}
    for number, (label, volts, amps) in enumerate((("5V", 5, 1), ("3V3", 3.3, 2), ("12V+aux", 12, 3)), start=1):
        files |= {f"in{number}_label": label, f"in{number}_input": volts * 1000, f"curr{number}_input": amps * 1000}
    # shunt voltages, and the sums that the driver computes, are no rails
    files |= {"in4_input": 50, "in5_input": 60, "in6_input": 70, "in7_input": 180, "curr4_input": 6000}
    chip(root, 0, "ina3221", {k: int(v) if isinstance(v, float) else v for k, v in files.items()})
    assert "channels 1 (5V), 2 (3V3), 3 (12V+aux); name one" in reason(ask("ina3221", root))
    watts = {"ina3221/2": 6.6, "ina3221/3V3": 6.6, "ina3221/12V+aux": 36.0, "ina3221/1+3": 41.0}
    for argument, expected_w in watts.items():
        source = found(ask(argument, root))
        assert isinstance(source, RailPower)
        assert source.poll()[0][1] == pytest.approx(expected_w)
    for argument in ("ina3221/4", "ina3221/1+1", "ina3221/1+", "ina3221/+", "ina3221/5v"):
        assert "no one channel" in reason(ask(argument, root))


def test_a_counter_is_preferred_counted_and_dead_when_it_falls_or_vanishes(root: Path) -> None:
    files = {"energy1_input": 7_000_000, "power1_input": 1, "power2_input": 2}
    folder = chip(root, 0, "ltc2947", files)
    assert "cannot be added" in reason(ask("ltc2947/1+2", root))
    source = found(ask("ltc2947/1", root))
    assert isinstance(source, RailCounter)
    assert source.info.kind == "counter"
    source.open()
    put(folder, {"energy1_input": 9_500_000})
    assert source.read()[1] == pytest.approx(9.5)
    put(folder, {"energy1_input": 100})
    with pytest.raises(SourceError, match="went backwards"):
        source.read()
    (folder / "energy1_input").unlink()
    with pytest.raises(SourceError, match="not readable any more"):
        source.read()


def test_an_averaging_power_meter_says_its_interval(root: Path) -> None:
    chip(root, 0, "power_meter", {"power1_average": 31_000_000, "power1_average_interval": 1000})
    source = found(ask("power_meter", root))
    assert source.info.period_s == pytest.approx(1.0)
    chip(root, 1, "ina219", {"power1_input": 1, "update_interval": 500})
    assert found(ask("ina219", root)).info.period_s == pytest.approx(0.5)


def test_a_sensor_that_may_not_be_read_says_how_to_open_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = chip(root, 0, "amd_energy", {"energy1_input": 1}) / "energy1_input"
    if os.geteuid() != 0:
        path.chmod(0)
    else:  # root may read any file, whatever its mode

        def refuse(path: Path) -> int:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(hwmon_tree, "integer", refuse)
    probe = ask("amd_energy", root)
    assert isinstance(probe, NoPermission)
    assert f"chmod a+r {path}." in probe.how_to_fix
    assert 'ATTR{name}=="amd_energy"' in probe.how_to_fix
    assert "chmod a+r /sys%p/energy1_input" in probe.how_to_fix


def test_an_unplugged_meter_costs_one_repeat_and_comes_back_under_another_number(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = powerz(root, 3, volts=5.0, amps=1.0)
    monkeypatch.setattr(hwmon_tree, "SEARCH_S", 0.02)
    monkeypatch.setattr(hwmon, "PERIOD_S", 0.3)  # a busy machine may make a polling thread late by half of it
    source = found(ask("", root))
    sampler = Sampler(source)
    sampler.start()

    def window(work: Callable[[], object]) -> tuple[str | None, tuple[str, ...], float | None]:
        opened = sampler.open_window("w", 0.0)
        t0_s = time.monotonic()
        work()
        time.sleep(0.7)
        result = opened.close(t0_s=t0_s, t1_s=time.monotonic())
        power_w = None if result.energy_gross_j is None else result.energy_gross_j / result.window_s
        return result.grade, result.flags, power_w

    try:
        grade, _, power_w = window(lambda: None)
        assert grade != "X"
        assert power_w == pytest.approx(5.0)
        grade, flags, power_w = window(lambda: shutil.rmtree(folder))
        assert (grade, "gap" in flags, power_w) == ("X", True, None)
        assert sampler.error is None
        assert (source.health.connected, source.health.disconnects) == (False, 1)
        assert "No such file" in str(source.health.problem)
        powerz(root, 7, volts=5.0, amps=-2.0)  # back in another port, and the other way round
        time.sleep(0.7)
        grade, _, power_w = window(lambda: None)
        assert grade != "X"
        assert power_w == pytest.approx(10.0)
        assert (source.health.connected, source.health.disconnects) == (True, 1)
    finally:
        sampler.stop()


NUMBERS = st.one_of(
    st.integers().map(str),
    st.text(max_size=12),
    st.sampled_from(["", "-", "0x10", "1e3", "nan", "9" * 400, "9" * 5000, "-9223372036854775808", "1_000", "٣"]),
)


@pytest.mark.parametrize("inputs", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_whatever_a_file_holds_is_a_number_of_64_bits_or_a_value_error(inputs: int) -> None:
    @settings(max_examples=inputs, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(NUMBERS, st.booleans())
    def check(text: str, as_bytes: bool) -> None:
        class File:
            name = "power1_input"

            def read_text(self) -> str:
                return (text.encode("utf-8", "surrogatepass") + b"\xff").decode() if as_bytes else text

        try:
            value = hwmon_tree.integer(File())  # type: ignore[arg-type]
        except ValueError:
            return
        assert -(2**63) <= value < 2**63
        assert float(value * value) * 1e-6 >= 0

    check()


# -- jetson -------------------------------------------------------------------------------------------------


def jetson_rails(root: Path, number: int, rails_: dict[int, tuple[str, int, int]], device: str) -> Path:
    files: dict[str, object] = {"update_interval": 150, "in7_label": "Sum of shunt voltages", "in7_input": 9}
    for channel, (label, millivolts, milliamps) in rails_.items():
        files |= {f"in{channel}_label": label, f"in{channel}_input": millivolts, f"curr{channel}_input": milliamps}
        files |= {f"shunt{channel}_resistor": 5000}
    return chip(root / "sys/class/hwmon", number, "ina3221", files | {"curr4_input": 9}, device)


def test_the_input_of_a_jetson_module_is_taken_alone(tmp_path: Path) -> None:
    module = {1: ("VDD_IN", 5000, 1600), 2: ("VDD_CPU_GPU_CV", 5000, 400), 3: ("VDD_SOC", 5000, 300)}
    jetson_rails(tmp_path, 4, module, "1-0040")
    put(tmp_path, {"proc/device-tree/model": "NVIDIA Jetson Orin Nano\0"})
    source = found(jetson.probe("", {}, "cuda", root=tmp_path))
    assert isinstance(source, RailPower)
    assert (source.info.covers, source.info.scope) == (("VDD_IN",), "soc")
    assert source.info.params["unused"] == ["VDD_CPU_GPU_CV", "VDD_SOC"]
    assert source.info.device["model"] == "NVIDIA Jetson Orin Nano"
    assert source.info.period_s == pytest.approx(0.15)
    assert source.info.resolution == pytest.approx(0.008 * 5)  # 40 uV over 5 mOhm
    assert source.poll()[0][1] == pytest.approx(8.0)


def test_without_an_input_rail_the_connected_rails_are_added_and_none_may_go_missing(tmp_path: Path) -> None:
    first = {1: ("VDD_GPU_SOC", 5000, 1000), 2: ("VDD_CPU_CV", 5000, 200), 3: ("VIN_SYS_5V0", 5000, 900)}
    jetson_rails(tmp_path, 3, first, "1-0040")
    second = jetson_rails(tmp_path, 4, {1: ("NC", 0, 0), 2: ("VDDQ_VDD2_1V8AO", 5000, 100)}, "1-0041")
    put(second, {"in3_label": "VDD_SYNC", "curr3_input": 5})  # no voltage: switched off
    assert "this is no Jetson" in reason(jetson.probe("", {}, "cuda", root=tmp_path))
    put(tmp_path, {"proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0000\0nvidia,tegra234\0"})
    source = found(jetson.probe("", {}, "cuda", root=tmp_path))
    assert isinstance(source, RailPower)
    assert source.info.covers == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO")
    assert source.poll()[0][1] == pytest.approx(11.0)
    (second / "curr2_input").unlink()
    assert source.poll() == []
    assert source.poll() == []  # and not the sum of the other three


@pytest.mark.parametrize(
    ("label", "connected"),
    [("NC", False), ("nc", False), ("NC 2", False), ("RAIL NC", False), ("NC1", False), ("VDD_SYNC", True)],
)
def test_a_rail_called_nc_is_no_rail(tmp_path: Path, label: str, connected: bool) -> None:
    jetson_rails(tmp_path, 1, {1: (label, 1000, 1000)}, "1-0040")
    put(tmp_path, {"proc/device-tree/compatible": "nvidia,tegra194"})
    assert isinstance(jetson.probe("", {}, "cpu", root=tmp_path), Found if connected else NotFound)


def test_jetpack_4_shows_the_same_chip_as_an_iio_device_in_milliwatts(tmp_path: Path) -> None:
    iio = tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    names = ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")
    put(iio, {f"rail_name_{n}": name for n, name in enumerate(names)})
    put(iio, {f"in_power{n}_input": power_mw for n, power_mw in enumerate((4321, 800, 900))})
    source = found(jetson.probe("", {}, "cpu", root=tmp_path))
    assert isinstance(source, RailPower)
    assert source.poll()[0][1] == pytest.approx(4.321)
    assert (source.info.covers, source.info.resolution) == (("POM_5V_IN",), None)


# -- battery ------------------------------------------------------------------------------------------------


def pack(root: Path, name: str = "BAT0", status: str = "Discharging", **files: object) -> Path:
    return put(root / name, {"type": "Battery", "present": 1, "status": status, "model_name": name, **files})


def battery_of(root: Path, argument: str = "") -> Probe:
    return battery.probe(argument, {}, "cpu", root=root)


def test_a_battery_counts_what_it_gives_while_it_discharges(tmp_path: Path) -> None:
    put(tmp_path / "AC", {"type": "Mains", "online": 0})
    mouse = {"scope": "Device", "energy_now": 1}
    pack(tmp_path, "hid-mouse-battery", **mouse)
    folder = pack(tmp_path, energy_now=40_000_000, power_now=9_000_000)
    source = found(battery_of(tmp_path))
    assert isinstance(source, battery.BatteryCounter)
    assert (source.info.scope, source.info.resolution, source.info.params["batteries"]) == ("board", 36.0, ["BAT0"])
    source.open()
    totals_j = []
    for left_uwh in (39_990_000, 39_980_000, 39_985_000, 39_970_000):
        put(folder, {"energy_now": left_uwh})
        totals_j.append(source.read()[1])
    # 10 mWh are 36 J; the gauge corrects itself upwards once and the counter stands still
    assert totals_j == pytest.approx([36.0, 72.0, 72.0, 108.0])
    put(folder, {"status": "Charging"})
    with pytest.raises(SourceError, match="BAT0 says 'Charging'"):
        source.read()


def test_charge_is_turned_into_energy_step_by_step(tmp_path: Path) -> None:
    folder = pack(tmp_path, charge_now=5_000_000, voltage_now=12_000_000)
    source = found(battery_of(tmp_path))
    assert isinstance(source, battery.BatteryCounter)
    source.open()
    put(folder, {"voltage_now": 11_000_000})  # the load pulls the voltage down: no energy has gone
    assert source.read()[1] == 0.0
    put(folder, {"charge_now": 4_990_000})
    assert source.read()[1] == pytest.approx(0.010 * 11 * 3600)


@pytest.mark.parametrize("files", [{"power_now": 7_500_000}, {"current_now": 1_500_000, "voltage_now": 5_000_000}])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_power_of_a_battery_has_no_sign_and_no_samples_while_it_charges(
    tmp_path: Path, files: dict[str, int], sign: int
) -> None:
    first, *rest = files
    folder = pack(tmp_path, **{first: sign * files[first]}, **{name: files[name] for name in rest})
    source = found(battery_of(tmp_path))
    assert isinstance(source, battery.BatteryPower)
    source.open()
    assert source.poll()[0][1] == pytest.approx(7.5)
    put(folder, {"status": "Charging"})
    assert source.poll() == []
    put(folder, {"status": "Discharging"})
    assert source.poll()[0][1] == pytest.approx(7.5)
    put(folder, {first: "garbage"})
    assert source.poll() == []


def test_two_batteries_are_added_and_one_may_rest(tmp_path: Path) -> None:
    pack(tmp_path, "BAT0", energy_now=10_000_000, power_now=0, status="Not charging")
    pack(tmp_path, "BAT1", energy_now=20_000_000, power_now=6_000_000)
    assert found(battery_of(tmp_path)).info.device["model"] == "BAT0 + BAT1"
    source = found(battery_of(tmp_path, "power"))
    assert isinstance(source, battery.BatteryPower)
    assert source.info.name == "battery:power"
    assert source.poll()[0][1] == pytest.approx(6.0)


def test_a_battery_that_tells_nothing_of_the_device_says_why(tmp_path: Path) -> None:
    assert reason(battery_of(tmp_path / "absent")) == "no battery"
    folder = pack(tmp_path, energy_now=1, status="Charging")
    for status in ("Charging", "Full", "Not charging", "Unknown"):
        put(folder, {"status": status})
        assert f"BAT0 says '{status}'): pull the plug" in reason(battery_of(tmp_path))
    put(folder, {"status": "Discharging"})
    assert "shows no power" in reason(battery_of(tmp_path, "power"))
    (folder / "energy_now").unlink()
    assert "shows no power" in reason(battery_of(tmp_path))
    assert "shows no energy" in reason(battery_of(tmp_path, "counter"))
    put(folder, {"present": 0})
    assert reason(battery_of(tmp_path)) == "no battery"
