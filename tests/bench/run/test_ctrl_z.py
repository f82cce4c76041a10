"""Ctrl-Z on a run: the repeat's process, in a session of its own, stops and goes on with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil

RUN = """
import os, subprocess, time
from bench.run.session import Session, _child_stops_too
from bench.process.launcher import Child

process = subprocess.Popen(["sleep", "60"], start_new_session=True)
session = Session.__new__(Session)
session._child = Child.__new__(Child)
session._child.pid = process.pid
with _child_stops_too(session):
    print(process.pid, flush=True)
    try:
        process.wait()
    finally:
        process.kill()
"""


def _comes_to(process: psutil.Process, *states: str) -> bool:
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s:
        if process.status() in states:
            return True
        time.sleep(0.02)
    return False


def test_the_child_stops_and_goes_on_with_its_parent() -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    child = psutil.Process(int(run.stdout.readline()))
    parent = psutil.Process(run.pid)
    try:
        for _ in range(2):
            run.send_signal(signal.SIGTSTP)
            assert _comes_to(parent, psutil.STATUS_STOPPED)
            assert _comes_to(child, psutil.STATUS_STOPPED)
            run.send_signal(signal.SIGCONT)
            assert _comes_to(child, psutil.STATUS_SLEEPING)
            assert _comes_to(parent, psutil.STATUS_SLEEPING)
    finally:
        child.kill()
        run.wait(10)
