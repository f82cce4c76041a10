"""Battery life against a mote's manual and a recorder's slides, and intervals that widen with what is not known."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.analysis.battery import DAY_H, MONTH_H, YEAR_H, current_for, duty_a, event_a, life, life_h, lives
from bench.analysis.findings import analyse
from bench.cli.commands import cli
from bench.errors import RequestError
from bench.read.results import from_records, load
from bench.store.manifest import Manifest, SuiteText
from bench.store.record import Record
from bench.store.run_dir import RunDir
from bench.suite.battery import BatterySpec
from bench.suite.load import load_suite
from bench.suite.suite import Suite
from plots.report import write_report

MOTE = {
    "processor": (8e-3, 0.01), "processor asleep": (8e-6, 0.99),
    "radio receiving": (8e-3, 0.0075), "radio sending": (12e-3, 0.0025), "radio asleep": (2e-6, 0.99),
    "logger": (2e-6, 1.0),
    "sensor": (5e-3, 0.01), "sensor asleep": (5e-6, 0.99),
}  # fmt: skip
"""Crossbow's MPR-MIB manual, Table 7-3."""


def test_mote_manual() -> None:
    average_a = duty_a(MOTE)
    assert f"{average_a * 1000:.4f}" == "0.2369"
    assert [f"{life_h(average_a, mah / 1000) / MONTH_H:.2f}" for mah in (250, 1000, 3000)] == ["1.45", "5.78", "17.35"]


def test_terracorder() -> None:
    charge_ah, sleep_a, month = 6.7, 70e-6, 0.02 / MONTH_H
    average_a = current_for(1.5 * YEAR_H, charge_ah)
    assert f"{average_a * 1000:.4f}" == "0.5095"
    assert f"{sleep_a / average_a:.3f}" == "0.137"
    assert f"{(average_a - sleep_a) * DAY_H * 1000:.1f}" == "10.5"
    assert f"{life_h(sleep_a, charge_ah) / YEAR_H:.2f}" == "10.92"
    assert f"{life_h(average_a, charge_ah, month) / YEAR_H:.2f}" == "1.28"
    assert f"{current_for(1.5 * YEAR_H, charge_ah, month) * 1000:.3f}" == "0.423"
    assert f"{life_h(sleep_a, charge_ah, month) / YEAR_H:.2f}" == "5.36"


def test_cold_and_usable_share_as_measured() -> None:
    def cold(chemistry: str, celsius: float) -> float:
        profile = {"capacity": "1Ah", "voltage": 3, "chemistry": chemistry, "temperature_c": celsius}
        return BatterySpec.of(profile).cold_factor[0]

    assert [cold("alkaline", c) for c in (25.0, 20.5, 3.4, -16.1)] == pytest.approx([1, 1, 0.97, 0.54])
    assert cold("lithium-primary", -10.0) == 1.0
    recorder = BatterySpec.of({"capacity": "6600mAh", "voltage": 6, "sleep": "15mA", "usable": [0.76, 1]})
    assert life(recorder).days == pytest.approx((14, 18.3), rel=0.005)


def test_one_training_of_microt_is_half_of_a_terracorders_battery() -> None:
    found = life(BatterySpec.of({"capacity": "6700mAh", "voltage": 3.7, "usable": 1}), (45.1e3, 45.1e3))
    assert found.share is not None
    assert found.share[0] == pytest.approx(45.1 / 89.2, rel=1e-3)


def test_events_draw_their_energy_and_nothing_else() -> None:
    day_j = 24 * 3600 * event_a(24, 0.5, 3.7, 0.5) * 3.7 * 0.5
    assert day_j == pytest.approx(24 * 0.5)
    assert life_h(0.0, 1.0) == math.inf


KNOWN: dict[str, Any] = {
    "capacity": "6700mAh", "voltage": 3.7, "usable": 0.9, "self_discharge": "2%", "efficiency": 0.9,
    "temperature_factor": 0.9, "sleep": "70uA", "draws": {"radio": "12mA:0.25%"},
    "sense": "24x0.5J", "infer": "100x10mJ", "transmit": "24x0.2J", "adapt": "1/2",
}  # fmt: skip
WIDER = {
    "capacity": "6000..7000mAh", "voltage": "3.5..3.9", "usable": "0.8..0.95", "self_discharge": "1..3%",
    "efficiency": "0.8..0.95", "temperature_factor": [0.8, 1], "sleep": "60..80uA",
    "draws": {"radio": "10..14mA:0.2..0.3%"}, "sense": "24x0.4..0.6J", "infer": "100x8..12mJ",
    "transmit": "24x0.1..0.3J",
}  # fmt: skip


@pytest.mark.parametrize("key", WIDER)
def test_interval_widens_to_both_sides_with_each_range(key: str) -> None:
    exact, wider = (life(BatterySpec.of(one), (100.0, 100.0)) for one in (KNOWN, KNOWN | {key: WIDER[key]}))
    assert exact.days[0] == pytest.approx(exact.days[1])
    assert wider.days[0] < exact.days[0] < wider.days[1]


def test_interval_widens_with_that_of_the_joules() -> None:
    spec = BatterySpec.of(KNOWN)
    exact, wider = life(spec, (100.0, 100.0)), life(spec, (80.0, 120.0))
    assert wider.days[0] < exact.days[0] < wider.days[1]
    assert wider.share is not None
    assert exact.share is not None
    assert wider.share[0] < exact.share[0] < wider.share[1]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"capacity": "6700"}, "capacity: expected a number of Ah, e.g. 5Ah"),
        ({"capacity": 6700}, "capacity: expected a number of Ah"),
        ({"capacity": "6700mA"}, "capacity: expected a number of Ah"),
        ({"usable": "1.2"}, "usable: '1.2' is out of range"),
        ({"usable": "0.9..0.8"}, "from the lower to the higher"),
        ({"sense": "0.5J"}, "sense: expected how often a day"),
        ({"draws": {"radio": "8mA"}}, "draws.radio: expected a current and its share"),
        ({"chemistry": "lead"}, "chemistry"),
        ({"temperature_c": -5.0}, "temperature_c: is measured for alkaline and lithium-primary"),
        ({"temperature_c": -30.0, "chemistry": "alkaline", "temperature_factor": None}, "nothing was measured"),
        ({"adapt": "1/0"}, "adapt: expected how often a day"),
        ({"volts": 3}, "unknown key"),
        ({"voltage": "nan"}, "voltage: expected"),
    ],
)
def test_wrong_values_are_one_line(change: dict[str, Any], problem: str) -> None:
    given = {"capacity": "1Ah", "voltage": 3.7} | change
    with pytest.raises(RequestError) as caught:
        BatterySpec.of(given)
    assert problem in str(caught.value)


def test_profile_survives_the_manifest() -> None:
    spec = BatterySpec.of(KNOWN | WIDER)
    assert BatterySpec.of(spec.model_dump(mode="json")) == spec


def record(repeat: int, joules: float, **more: Any) -> dict[str, Any]:
    return {
        "cell_id": "d/n=0.1/fc/s=0", "repeat": repeat, "status": "ok", "dataset": "d", "shift": "", "level": "output",
        "data": "d", "train_size": 0.1, "arm": "fc", "method": "fixed", "blocks": "fc", "seed": 0, "model": "m",
        "bn_mode": "train", "started_at": "2026-01-01T00:00:00", "schema": 1, "source": "um25c", "source_kind": "power",
        "grade": "A", "energy_gross_j": joules, "energy_u_j": 1.0, "executions": 1,
    } | more  # fmt: skip


def test_joules_of_a_condition_have_spread_and_the_meters_uncertainty() -> None:
    spec = BatterySpec.of(KNOWN)
    few = lives(from_records([record(0, 100.0)]), spec)
    assert (few["tuning_j_lo"][0], few["tuning_j_hi"][0]) == pytest.approx((99.0, 101.0))
    several = lives(from_records([record(n, joules) for n, joules in enumerate((98.0, 100.0, 102.0))]), spec)
    # t(2) = 4.303
    half = math.hypot(4.303 * 2 / math.sqrt(3), 1.0)
    assert several["tuning_j_hi"][0] - 100 == pytest.approx(half, rel=1e-3)
    assert several["days_lo"][0] < few["days_lo"][0]
    inferring = lives(from_records([record(0, 100.0), record(1, 1.0, work="infer")]), spec)
    assert inferring["tuning_j_lo"].tolist() == pytest.approx([99.0])
    unusable = lives(from_records([record(0, 100.0, grade="X"), record(1, 50.0)]), spec)
    assert unusable["tuning_j_lo"][0] == pytest.approx(49.0)


def test_suites_profile_is_in_the_command_and_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SUITE, encoding="utf-8")
    folder = tmp_path / "run"
    loaded = load_suite(str(tmp_path / "tiny.yaml"))
    plain = loaded.suite.model_copy(update={"battery": None})
    assert loaded.suite.digest() == plain.digest()
    assert Suite.of_content(loaded.suite.content()) == loaded.suite
    manifest = Manifest(schema=1, suite=SuiteText(name="tiny", content=loaded.suite.content()))
    run = RunDir(folder)
    with run.locked():
        run.write_manifest(manifest)
        for repeat, joules in enumerate((98.0, 100.0, 102.0)):
            run.append(Record(**record(repeat, joules)))
    done = CliRunner().invoke(cli, ["battery", str(folder), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    # 6,700 mAh at 3.7 V are 89.2 kJ; 100 +- 5.07 J
    assert "one tuning is 0.11 to 0.12 % of this battery" in done.output
    (row,) = csv.DictReader((tmp_path / "out" / "battery.csv").open(encoding="utf-8"))
    assert float(row["share_hi"]) == pytest.approx(105.07 / 89_244, rel=1e-3)
    narrow = CliRunner().invoke(cli, ["battery", str(folder), "--adapt", "1/100", "--usable", "0.5"])
    assert "0.01 tunings a day" in narrow.output
    assert "usable share 0.50" in narrow.output
    results = load(folder)
    html = (
        write_report(results, run, analyse(results)).html.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    )
    assert "one tuning is 0.11 to 0.12 % of this battery" in html
    assert "never adapting: " in html


def test_without_a_battery_the_command_says_what_is_missing(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with run.locked():
        run.append(Record(**record(0, 100.0)))
    done = CliRunner().invoke(cli, ["battery", str(run.path), "--capacity", "1Ah"])
    assert isinstance(done.exception, RequestError)
    assert "--capacity and --voltage are missing" in str(done.exception)


SUITE = """
name: tiny
model: {name: resnet8}
data: [{dataset: digits, shift: flip}]
train_size: [0.1]
blocks: [fc]
seeds: [0]
battery: {capacity: 6700mAh, voltage: 3.7, usable: 1, sleep: 70uA, adapt: 1/7, draws: {radio: 12mA:0.1%}}
"""
