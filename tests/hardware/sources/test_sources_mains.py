"""Meters on the mains, at the wire: a web server that answers as a Shelly, programs that print what real ones do."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hardware.errors import SourceError
from hardware.source import Found, NoPermission, NotFound, Source
from hardware.sources import bmc, jetson, shelly
from hardware.sources.polled import PolledSource

GEN1 = {
    "/shelly": {
        "type": "SHPLG-S",
        "mac": "AABBCCDDEEFF",
        "auth": False,
        "fw": "20230913-113421/v1.14.0",
        "num_meters": 1,
    },
    "/meter/0": {
        "power": 11.37,
        "overpower": 0.0,
        "is_valid": True,
        "timestamp": 1726000000,
        "counters": [11.2, 11.3, 11.1],
        "total": 4711,
    },
}
GEN2 = {
    "/shelly": {
        "id": "shellyplugus-aabb",
        "mac": "AABB",
        "model": "SNPL-00116US",
        "gen": 2,
        "fw_id": "20240625-1",
        "ver": "1.3.3",
        "auth_en": False,
    },
    "/rpc/Switch.GetStatus?id=0": {
        "id": 0,
        "output": True,
        "apower": 8.9,
        "voltage": 122.4,
        "current": 0.117,
        "aenergy": {"total": 9.1},
    },
}
GEN3_METER = {
    "/shelly": {"id": "shelly1pmmini-cc", "mac": "CC", "model": "S3PM-001PCEU16", "gen": 3, "fw_id": "20240626-2"},
    "/rpc/PM1.GetStatus?id=0": {"id": 0, "voltage": 230.1, "current": 0.1, "apower": 21.5},
}


class Plug:
    """A web server with some pages. One that is None is refused with status 401, a text is sent as it is."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}
        plug = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = plug.pages.get(self.path, 404)
                self.send_response({404: 404, None: 401}.get(page, 200) if page in (404, None) else 200)
                self.end_headers()
                if page not in (404, None):
                    self.wfile.write((page if isinstance(page, str) else json.dumps(page)).encode())

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def plug() -> Iterator[Plug]:
    server = Plug()
    yield server
    server.server.shutdown()
    server.server.server_close()


def found(probe: object) -> Source:
    assert isinstance(probe, Found), probe
    return probe.source


@pytest.mark.parametrize(
    ("pages", "power_w", "model", "serial"),
    [
        (GEN1, 11.37, "SHPLG-S", "AABBCCDDEEFF"),
        (GEN2, 8.9, "SNPL-00116US", "AABB"),
        (GEN3_METER, 21.5, "S3PM-001PCEU16", "CC"),
    ],
)
def test_a_shelly_of_each_generation(
    plug: Plug, pages: dict[str, Any], power_w: float, model: str, serial: str
) -> None:
    plug.pages = dict(pages)
    source = found(shelly.probe(plug.host, {}, "cpu"))
    assert isinstance(source, PolledSource)
    source.open()
    assert [watts for _, watts in source.poll()] == [power_w]
    assert (source.info.device["model"], source.info.device["serial"]) == (model, serial)
    assert (source.info.scope, source.info.kind, source.info.name) == ("board", "power", f"shelly:{plug.host}")
    assert source.health.connected


def test_a_plug_that_is_away_leaves_a_gap_and_another_one_in_its_place_ends_the_source(plug: Plug) -> None:
    plug.pages = dict(GEN1)
    source = found(shelly.probe(plug.host, {}, "cpu"))
    assert isinstance(source, PolledSource)
    source.open()
    for broken in ("not json", [1, 2], {"power": "11"}, {"power": True}, {"power": 11.0, "is_valid": False}, None):
        plug.pages["/meter/0"] = broken
        assert source.poll() == []
    assert source.health.lost == 6
    assert source.health.disconnects == 1
    plug.pages = dict(GEN1)
    assert len(source.poll()) == 1
    plug.pages["/meter/0"] = None
    assert source.poll() == []
    plug.pages = dict(GEN1) | {"/shelly": GEN1["/shelly"] | {"mac": "001122334455"}}
    with pytest.raises(SourceError, match="another meter answers: serial AABBCCDDEEFF, now 001122334455"):
        source.poll()


@pytest.mark.parametrize("argument", ["", "a b", "http://x", "x/y", "[::1", "x:1:2"])
def test_a_shelly_needs_a_host(argument: str) -> None:
    probe = shelly.probe(argument, {}, "cpu")
    assert isinstance(probe, NotFound)
    assert "shelly:HOST" in probe.reason


def test_what_is_no_shelly_is_not_found(plug: Plug) -> None:
    assert isinstance(shelly.probe(plug.host, {}, "cpu"), NotFound)
    plug.pages = {"/shelly": GEN1["/shelly"], "/meter/0": None}
    probe = shelly.probe(plug.host, {}, "cpu")
    assert isinstance(probe, NotFound)
    assert "password" in probe.reason


DCMI = """
    Instantaneous power reading:                   123 Watts
    Minimum during sampling period:                 98 Watts
    Maximum during sampling period:                301 Watts
    Average power reading over sample period:      120 Watts
    IPMI timestamp:                           Tue Nov 24 10:00:00 2026
    Sampling period:                          00000005 Seconds.
    Power reading state is:                   activated

"""


def program(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return file


def test_ipmi_reads_what_ipmitool_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").write_text(DCMI)
    program(tmp_path, "ipmitool", f'[ "$*" = "dcmi power reading" ] && cat {tmp_path}/out', monkeypatch)
    source = found(bmc.probe_ipmi("", {}, "cpu"))
    assert isinstance(source, PolledSource)
    source.open()
    assert [watts for _, watts in source.poll()] == [123.0]
    (tmp_path / "out").write_text(DCMI.replace("activated", "deactivated"))
    assert source.poll() == []
    assert "no power reading" in str(source.health.problem)


def test_ipmi_says_why_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(bmc.probe_ipmi("", {}, "cpu"), NotFound)
    script = 'echo "Could not open device at /dev/ipmi0: No such file or directory" >&2; exit 1'
    program(tmp_path, "ipmitool", script, monkeypatch)
    assert isinstance(bmc.probe_ipmi("", {}, "cpu"), NoPermission)


def test_redfish_reads_what_curl_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    power = {"PowerControl": [{"Name": "Server", "PowerConsumedWatts": 215}, {"Name": "CPU", "PowerConsumedWatts": 90}]}
    (tmp_path / "out").write_text(json.dumps(power))
    script = f'for last; do :; done; echo "$last" > {tmp_path}/url; cat {tmp_path}/out'
    program(tmp_path, "curl", script, monkeypatch)
    source = found(bmc.probe_redfish("bmc.lab:8443/Self", {}, "cpu"))
    assert isinstance(source, PolledSource)
    source.open()
    assert [watts for _, watts in source.poll()] == [215.0]
    assert (tmp_path / "url").read_text().strip() == "https://bmc.lab:8443/redfish/v1/Chassis/Self/Power"
    for wrong in ("{}", "[]", "<html>", '{"PowerControl": [{"PowerConsumedWatts": null}]}', '{"PowerControl": 3}'):
        (tmp_path / "out").write_text(wrong)
        assert source.poll() == []
    for argument in ("", "bmc.lab", "bmc.lab/1/2", "https://bmc/1", "bmc/1;rm"):
        assert isinstance(bmc.probe_redfish(argument, {}, "cpu"), NotFound)


@pytest.mark.parametrize("label", ["VIN", ""])
def test_the_board_input_of_an_agx_thor_is_its_total(tmp_path: Path, label: str) -> None:
    compatible = tmp_path / "proc/device-tree/compatible"
    compatible.parent.mkdir(parents=True)
    compatible.write_text("nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0")
    files = {
        "hwmon0": {"name": "ina3221", "in1_label": "VDD_GPU", "in1_input": "5000", "curr1_input": "2000"},
        "hwmon1": {"name": "ina238", "power1_input": "41250000", "in1_input": "20000", "curr1_input": "2062"},
    }
    if label:
        files["hwmon1"]["power1_label"] = label
    for chip, content in files.items():
        folder = tmp_path / "sys/class/hwmon" / chip
        folder.mkdir(parents=True)
        for name, value in content.items():
            (folder / name).write_text(f"{value}\n")
    source = found(jetson.probe("", {}, "cuda:0", root=tmp_path))
    assert (source.info.covers, source.info.scope) == (("VIN",), "board")
    source.open()
    assert source.poll()[0][1] == 41.25  # type: ignore[attr-defined]
