"""Clock fits on made-up arrivals, and the two meters that come through drivers instead of ports."""

from __future__ import annotations

import random
import struct
import sys
import threading
import time
import types
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import SourceError
from hardware.meters.clockfit import ClockFit, SampleClock
from hardware.source import Found, NotFound
from hardware.sources import fnirsi, joulescope
from hardware.wire.crc import crc8_fnirsi

# -- clocks ---------------------------------------------------------------------------------------------


def delay_s(dice: random.Random) -> float:
    """2 ms at best, mostly a few more, now and then a hundred."""
    return 0.002 + dice.expovariate(200) + (0.1 if dice.random() < 0.02 else 0.0)


@pytest.mark.parametrize("drift", [0.0, 50e-6, -0.004, 0.01])
def test_a_drifting_clock_is_followed_below_the_delays(drift: float) -> None:
    dice = random.Random(7)
    fit = ClockFit()
    worst_s = 0.0
    for step in range(6000):
        true_s = 5000 + step * 0.05
        device_s = 17 + (true_s - 5000) * (1 + drift)
        fit.add(device_s, true_s + delay_s(dice))
        if step > 1200:
            worst_s = max(worst_s, abs(fit.host_s(device_s) - true_s - 0.002))
    assert worst_s < 0.002
    assert fit.rate == pytest.approx(1 / (1 + drift), abs=1e-4)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), max_size=60))
def test_no_arrival_is_before_its_sending_whatever_the_clock_does(points: list[tuple[float, float]]) -> None:
    fit = ClockFit()
    for device_s, host_s in points:
        fit.add(device_s, host_s)
        assert fit.host_s(device_s) <= host_s + 1e-3
        assert abs(fit.rate - 1) <= 0.02
        assert fit.lag_s >= 0 or fit.lag_s == pytest.approx(0, abs=1e-3)


def stream(
    clock: SampleClock, reports: int, *, lost_at: tuple[int, ...] = (), stall_at: int = 10**6, rate: float = 1.0
) -> tuple[int, float]:
    """Reports of 4 samples of 10 ms. Returns the samples added to the count, and the error of the last time."""
    dice = random.Random(3)
    index, arrived_s, true_s = 0, 0.0, 0.0
    for report in range(reports):
        true_s = 100 + report * 0.04 * rate
        if report in lost_at:
            continue
        # a program that sleeps for 6 s finds all reports of that time waiting
        stalled = stall_at <= report < stall_at + 150
        arrived_s = 100 + (stall_at + 150) * 0.04 * rate if stalled else true_s + delay_s(dice)
        index += 4
        index += clock.arrived(index - 1, arrived_s)
    lost = clock.lost
    # the last sample ended when its report was sent
    return lost, clock.host_s(index - 0.5) - true_s


@pytest.mark.parametrize("rate", [1.0, 1.008, 0.995])
def test_lost_reports_are_noticed_and_the_times_mended(rate: float) -> None:
    lost, error_s = stream(SampleClock(0.01), 2000, lost_at=(700, 1400, 1401), rate=rate)
    assert lost == 12
    assert abs(error_s) < 0.006


@pytest.mark.parametrize("stall_at", [0, 100, 900])
@pytest.mark.parametrize("rate", [1.0, 1.008])
def test_a_program_that_slept_does_not_take_late_reports_for_lost_ones(stall_at: int, rate: float) -> None:
    lost, error_s = stream(SampleClock(0.01), 2000, stall_at=stall_at, rate=rate)
    assert lost == 0
    assert abs(error_s) < 0.006


# -- FNIRSI ---------------------------------------------------------------------------------------------


def report(volts: float, amps: float) -> bytes:
    """Synthetic."""
    sample = struct.pack("<IIHHBH", round(volts * 1e5), round(amps * 1e5), 0, 0, 1, 250)
    body = b"\x04" + 4 * sample + b"\x00"
    return b"\xaa" + body + bytes([crc8_fnirsi(body)])


class FakeHid:
    """A synthetic FNIRSI meter behind hidapi: garbage first, then 4 samples every 40 ms while it is told to go on."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.gone = threading.Event()
        self.closed = False
        self._next_s: float | None = None
        self._reports = 0

    def open_path(self, path: bytes) -> None:
        if self.gone.is_set():
            raise OSError("open failed")
        self.closed = False

    def set_nonblocking(self, on: int) -> None:
        assert on

    def write(self, data: bytes) -> int:
        if self.gone.is_set():
            return -1
        self.sent.append(data)
        if self._next_s is None:
            self._next_s = time.monotonic()
        return len(data)

    def read(self, size: int, timeout_ms: int) -> list[int]:
        if self.gone.is_set():
            raise OSError("read error")
        due_s = self._next_s
        if due_s is None or due_s > time.monotonic() + timeout_ms / 1000:
            time.sleep(timeout_ms / 1000)
            return []
        time.sleep(max(0.0, due_s - time.monotonic()))
        self._next_s = due_s + 0.04
        self._reports += 1
        return list(report(188.7, 170.4) if self._reports == 1 else report(5.0, 0.5))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def hid(monkeypatch: pytest.MonkeyPatch) -> FakeHid:
    device = FakeHid()
    entries = [
        {"vendor_id": 0x2E3C, "product_id": 0x5558, "serial_number": "A1", "path": b"1-2:1.3"},
        {"vendor_id": 0x046D, "product_id": 0xC077, "serial_number": "mouse", "path": b"1-1:1.0"},
    ]

    def enumerate_(vendor: int = 0, product: int = 0) -> list[dict[str, Any]]:
        return [] if device.gone.is_set() else [e for e in entries if vendor in (0, e["vendor_id"])]

    module = types.SimpleNamespace(device=lambda: device, enumerate=enumerate_)
    monkeypatch.setitem(sys.modules, "hid", module)
    return device


def wait_for(condition: Callable[[], bool], seconds: float = 6.0) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come about in time"
        time.sleep(0.02)


def test_fnirsi_is_found_greeted_read_and_drained(hid: FakeHid) -> None:
    probe = fnirsi.probe("", {}, "cpu")
    assert isinstance(probe, Found)
    source = probe.source
    assert isinstance(source, fnirsi.FnirsiSource)
    assert (source.info.name, source.info.device["model"], source.info.period_s) == ("fnirsi", "FNB58", 0.01)
    source.open()
    time.sleep(0.5)
    samples = source.poll()
    assert {watts for _, watts in samples} == {2.5}
    assert len(samples) >= 20
    gaps_s = sorted(right - left for (left, _), (right, _) in pairwise(samples))
    assert gaps_s[len(gaps_s) // 2] == pytest.approx(0.01, abs=1e-4)
    assert [command[:3] for command in hid.sent[:3]] == [b"\x00\xaa\x81", b"\x00\xaa\x82", b"\x00\xaa\x82"]
    assert source.health.implausible == 0
    hid.gone.set()
    wait_for(lambda: source.health.disconnects == 1)
    assert source.poll() is not None
    hid.gone.clear()
    wait_for(lambda: source.health.connected)
    source.close()
    assert hid.closed


def test_fnirsi_that_is_not_there_says_so(hid: FakeHid, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = fnirsi.probe("B2", {}, "cpu")
    assert isinstance(probe, NotFound)
    assert "1 FNIRSI meters are plugged in, with the serial numbers A1" in probe.reason
    hid.gone.set()
    probe = fnirsi.probe("", {}, "cpu")
    assert isinstance(probe, NotFound)
    assert "marked PC" in probe.reason
    monkeypatch.setitem(sys.modules, "hid", None)
    probe = fnirsi.probe("", {}, "cpu")
    assert isinstance(probe, NotFound)
    assert "jouletune[fnirsi]" in probe.reason


# -- Joulescope -----------------------------------------------------------------------------------------


class FakeDriver:
    """What of pyjoulescope_driver's ``Driver`` is used, with one synthetic instrument at 2 W."""

    def __init__(self, path: str = "u/js220/000123") -> None:
        self.path = path
        self.there = True
        self.published: dict[str, object] = {}
        self.listener: Callable[[str, dict[str, Any]], None] | None = None
        self.ended = False

    def device_paths(self) -> list[str]:
        return [self.path] if self.there else []

    def open(self, path: str) -> None:
        if not self.there:
            raise RuntimeError("jsdrv_open failed: NOT_FOUND")

    def close(self, path: str) -> None: ...

    def publish(self, topic: str, value: object) -> None:
        self.published[topic.removeprefix(self.path)] = value

    def subscribe(self, topic: str, flags: str, listener: Callable[[str, dict[str, Any]], None]) -> None:
        self.topic, self.listener = topic, listener
        self.tell(0.0)

    def unsubscribe(self, topic: str, listener: object) -> None:
        assert listener is self.listener
        self.listener = None

    def finalize(self) -> None:
        self.ended = True

    def tell(self, second: float, power_w: float = 2.0) -> None:
        assert self.listener is not None
        self.listener(
            self.topic,
            {
                "time": {"samples": {"value": [0, int(second * 1e6)]}, "sample_freq": {"value": 1e6}},
                "accumulators": {"energy": {"value": 70.0 + power_w * second}},
            },
        )


def test_a_js320_is_read_as_its_predecessor_and_named() -> None:
    driver = FakeDriver("u/js320/8w2a")
    source = joulescope.JoulescopeSource("joulescope", driver.path, lambda: driver, clock=lambda: 50.0)
    source.open()
    assert driver.published == {"/s/i/range/mode": "auto", "/s/stats/scnt": 100_000, "/s/stats/ctrl": 1}
    assert source.info.device["model"] == "JS320"
    source.close()


def test_joulescope_counts_from_its_own_sum_at_its_own_times() -> None:
    now_s = 50.0
    driver = FakeDriver()
    source = joulescope.JoulescopeSource("joulescope", driver.path, lambda: driver, clock=lambda: now_s)
    source.open()
    assert driver.published == {"/s/i/range/mode": "auto", "/s/stats/scnt": 100_000, "/s/stats/ctrl": 1}
    assert source.read() == (50.0, 0.0)
    for tenth in range(1, 50):
        now_s = 50.0 + tenth / 10 + (0.3 if tenth == 20 else 0.0)
        driver.tell(tenth / 10)
        # a report that came late still says when it was true
        assert source.read() == pytest.approx((50.0 + tenth / 10, 2.0 * tenth / 10))
    assert source.health.connected
    source.close()
    source.close()
    assert driver.ended


def test_joulescope_unplugged_is_a_disconnect_and_goes_on_from_where_it_was() -> None:
    now_s = 50.0
    driver = FakeDriver()
    source = joulescope.JoulescopeSource("joulescope", driver.path, lambda: driver, clock=lambda: now_s)
    source.open()
    now_s = 51.0
    driver.tell(1.0)
    driver.there = False
    now_s = 58.0
    assert source.read() == (51.0, 2.0)
    assert (source.health.connected, source.health.disconnects) == (False, 1)
    driver.there = True
    now_s = 61.0
    source.read()
    now_s = 62.0
    driver.tell(1.0)
    # its sum began anew: what was drawn meanwhile is in no figure
    assert source.read() == (62.0, 4.0)
    assert (source.health.connected, source.health.disconnects) == (True, 1)


def test_joulescope_errors_are_source_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver()
    driver.there = False
    with pytest.raises(SourceError, match="NOT_FOUND"):
        joulescope.JoulescopeSource("joulescope", driver.path, lambda: driver).open()
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", types.SimpleNamespace(Driver=lambda: driver))
    probe = joulescope.probe("", {}, "cpu")
    assert isinstance(probe, NotFound)
    assert "no Joulescope" in probe.reason
    driver.there = True
    assert isinstance(joulescope.probe("000123", {}, "cpu"), Found)
    assert isinstance(joulescope.probe("999", {}, "cpu"), NotFound)
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", None)
    probe = joulescope.probe("", {}, "cpu")
    assert isinstance(probe, NotFound)
    assert "jouletune[joulescope]" in probe.reason
