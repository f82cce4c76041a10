"""A fleet over gateways: Dask's scheduler with TLS, an order that is done once, no plain text beyond this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.errors import RequestError
from bench.fleet.certificates import FILES, is_loopback, make_certificates, security
from bench.store.fleet_dir import FleetDir

from .conftest import ROOT, Lab
from .test_fleet import ENERGY, SUITE, finished, jouletune, records


@pytest.mark.parametrize("address", ["tcp://10.0.0.2:8786", "tcp://gateway:8786", "tcp://0.0.0.0:8786", "tcp://[::]:1"])
def test_plain_text_beyond_this_machine_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not in plain text; `jouletune fleet certificates DIR` makes"):
        security(address, tmp_path)


@pytest.mark.parametrize("address", ["", "10.0.0.2:8786", "ucx://h:1", "tls://h", "tcp://127.0.0.1:x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(RequestError, match="expected tls://HOST:PORT"):
        security(address, None)


def test_tls_needs_certificates_that_only_their_owner_reads(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--certificates is missing"):
        security("tls://127.0.0.1:8786", None)
    with pytest.raises(RequestError, match=r"has no ca\.pem"):
        security("tls://127.0.0.1:8786", tmp_path)
    folder = tmp_path / "certificates"
    make_certificates(folder)
    assert [stat.S_IMODE((folder / file).stat().st_mode) for file in FILES] == [0o600] * 3
    made = security("tls://10.0.0.2:8786", folder)
    assert made.require_encryption
    assert made.get_connection_args("client")["require_encryption"]
    with pytest.raises(RequestError, match="is there already"):
        make_certificates(folder)


def test_what_is_this_machine() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.8.9.1", "[::1]", "::1", "localhost"]))
    assert not any(map(is_loopback, ["10.0.0.1", "0.0.0.0", "localhost.example.org", "127.0.0.1.nip.io", ""]))


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start programs that end with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str, cwd: Path) -> subprocess.Popen[bytes]:
        with (cwd / f"log-{len(running)}").open("wb") as log:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-m", *words], cwd=cwd, stdout=log, stderr=log,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                )
            )  # fmt: skip
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.long
@pytest.mark.parametrize("shared", [True, False])
def test_gateways_run_the_fleet_and_one_that_dies_is_stood_in_for(
    lab: Lab,
    make_suite: Callable[..., Any],
    tmp_path: Path,
    started: Callable[..., subprocess.Popen[bytes]],
    shared: bool,
) -> None:
    make_suite(**SUITE, seeds=[0, 1, 2, 3, 4, 5], energy=ENERGY)
    make_certificates(tmp_path / "certificates")
    ca, certificate, key = (str(tmp_path / "certificates" / file) for file in FILES)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tls://127.0.0.1:{port}"
    started(
        "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--protocol", "tls",
        "--no-dashboard", "--tls-ca-file", ca, "--tls-cert", certificate, "--tls-key", key, cwd=tmp_path,
    )  # fmt: skip
    gateways = []
    for board in lab.boards:
        path = tmp_path / f"{board.name}.yaml"
        path.write_text(json.dumps({"boards": {board.name: {"target": board.target, "source": "simulated"}}}))
        gateways.append(
            started(
                "bench.cli",
                "fleet",
                "gateway",
                address,
                "--inventory",
                str(path),
                "--certificates",
                "certificates",
                "--work",
                f"work-{board.name}",
                cwd=tmp_path,
            )
        )
    time.sleep(12)
    words = ["fleet", "run", "s.yaml", "--out", "fleet", "--scheduler", address, "--certificates", "certificates"]
    words += ["--share"] if shared else []
    process = jouletune(*words, cwd=tmp_path)
    folders = [tmp_path / "fleet" / "boards" / board.name for board in lab.boards]
    if shared:
        until_s = time.monotonic() + 120
        while not all((folder / "cells.jsonl").exists() for folder in folders):
            assert time.monotonic() < until_s, (tmp_path / "log-0").read_text() + (tmp_path / "log-1").read_text()
            time.sleep(0.05)
        gateways[1].send_signal(signal.SIGKILL)
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, out + errors
    assert finished("run", "s.yaml", "--out", "here", "--source", "none", cwd=tmp_path)[0] == 0
    here = records(tmp_path / "here")
    of_boards = [records(run.path) for run in FleetDir(tmp_path / "fleet").runs()]
    if shared:
        assert sorted(one for lines in of_boards for one in lines) == here
        lines = [json.loads(line) for folder in folders for line in (folder / "cells.jsonl").read_text().splitlines()]
        assert set(Counter((line["cell_id"], line["repeat"]) for line in lines).values()) == {1}
    else:
        assert of_boards == [here, here]
    for folder in folders:
        named = [line["trace"] for line in map(json.loads, (folder / "cells.jsonl").read_text().splitlines())]
        assert all((folder / "traces" / name).is_file() for name in named if name)
    status, _, errors = finished(*words, cwd=tmp_path)  # nothing is left to do
    assert status == 0, errors
    assert [records(run.path) for run in FleetDir(tmp_path / "fleet").runs()] == of_boards
