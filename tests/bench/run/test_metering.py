"""A run that goes on with another meter than it began with."""

from __future__ import annotations

import time
from typing import Any

import pytest

import hardware
from bench.errors import RequestError
from bench.run.metering import Meter
from bench.store.manifest import Manifest
from hardware.source import CounterSource, Sample, SourceInfo


class Counter(CounterSource):
    """3 W; tells who it is once it is open, as meters do."""

    def __init__(self, device: dict[str, Any]) -> None:
        self.closed = False
        self._device = device
        self._info = SourceInfo(name="m", kind="counter", scope="board", covers=(), period_s=0.1, gain_u=0.01)

    def open(self) -> None:
        self._info = SourceInfo(
            name="m", kind="counter", scope="board", covers=(), period_s=0.1, gain_u=0.01, device=self._device
        )

    def read(self) -> Sample:
        now_s = time.monotonic()
        return now_s, 3.0 * now_s

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ({"model": "TC66", "serial": 5, "firmware": "1.14"}, ""),
        ({"model": "TC66", "serial": 7, "firmware": "1.14"}, "serial 7, the run began with 5"),
        ({"model": "TC66", "serial": 5, "firmware": "1.18"}, "firmware 1.18"),
        ({}, ""),
    ],
)
def test_a_run_goes_on_with_the_meter_that_it_began_with(
    device: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [Counter({"model": "TC66", "serial": 5, "firmware": "1.14"}), Counter(device)]
    waiting = list(sources)
    monkeypatch.setattr(hardware, "choose", lambda name, device: hardware.Choice(waiting.pop(0), "found", ()))
    manifest = Manifest()
    meter = Meter("m", "cpu")
    meter.open(manifest)
    meter.close()
    if not told:
        meter.open(manifest)
        assert len(manifest.sessions) == 2
        meter.close()
        return
    with pytest.raises(RequestError, match=told):
        meter.open(manifest)
    assert sources[1].closed
    assert not meter.is_open
    assert len(manifest.sessions) == 1
