"""Children seen from their parent: what they send, how they end, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from bench.errors import CellFailedError, JouletuneError, RequestError
from bench.process import launcher as launchers
from bench.process.child import MAX_LOG_BYTES
from bench.process.launcher import CellTimeoutError, Launcher
from bench.process.messages import MAX_BYTES, Alive, Failed, Ready, Trained, decode, encode
from bench.store.record import WorkFigures

TARGETS = r"""
import os, signal, subprocess, sys, threading, time
from bench.errors import RequestError
from bench.process.messages import Ready, Trained
from bench.store.record import WorkFigures

def say(parent): parent.send(Ready()); parent.wait_for("go"); parent.send(Trained(1.0, 2.0, int(parent.job)))
def raw(parent): parent._socket.sendall(parent.job); time.sleep(600)
def leave(parent): os._exit(parent.job)
def be_killed(parent): os.kill(os.getpid(), parent.job)
def wrong(parent): raise RequestError("no such thing")
def broken(parent): raise ValueError("no\nluck")
def exits(parent): sys.exit("enough")
def sleep(parent): parent.send(Ready()); time.sleep(600)
def close(parent): os.closerange(0, 256); time.sleep(600)
def talk(parent): print("to the log"); print("to the log too", file=sys.stderr)

def fork(parent):
    # a grandchild of another session, whose parent is gone: a daemon as in the books
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            open(parent.job, "w").write(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    while not (os.path.exists(parent.job) and open(parent.job).read()):
        time.sleep(0.01)
    parent.send(Ready())

def spam(parent):
    parent.send(Ready())
    while True:
        os.write(1, b"x" * 65535 + b"\n")

def fork_and_wait(parent): fork(parent); time.sleep(600)

def thread(parent):
    threading.Thread(target=time.sleep, args=(600,)).start()
    parent.send(Ready())

def start_program(parent):
    child = subprocess.Popen(["sleep", "600"])
    open(parent.job, "w").write(str(child.pid))
    parent.send(Ready())
"""


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Functions for children, in a module that the server finds too."""
    folder = tmp_path_factory.mktemp("targets")
    (folder / "cell_targets.py").write_text(TARGETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        stop_server()
        import cell_targets  # noqa: F401  # type: ignore[import-not-found]

        yield sys.modules["cell_targets"]
        stop_server()


def stop_server() -> None:
    if launchers._Server._one is not None:
        launchers._Server._one.close()
        launchers._Server._one = None


@pytest.fixture
def start(targets: ModuleType, tmp_path: Path) -> Callable[..., launchers.Child]:
    launcher = Launcher(tmp_path / "worker.log")
    return lambda name, job=None: launcher.start(getattr(targets, name), job)


def gone(pid: int) -> bool:
    """Whether a process has ended, or ends within ten seconds; a zombie whose parent is this test counts."""
    for _ in range(1000):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.01)
    return False


def soon() -> float:
    return time.monotonic() + 20


def test_messages_come_back_as_they_were_sent() -> None:
    trained = Trained(1.5, 2.5, 3)
    assert decode(encode(trained).rstrip(b"\n")) == trained
    assert decode(encode(Failed("a\nb\u2028", True))) == Failed("a\nb\u2028", True)
    assert encode(Failed("a\nb", True)).count(b"\n") == 1
    fields = {"n_train": 1, "n_val": 1, "n_test": 1, "trained_parameters": 1, "best_epoch": 0, "epochs_run": 1,
              "steps": 1, "peak_rss_mb": 1.0, "levers": ("truncated",), "cache_mb": None, "cache_note": None,
              "data_variant": None, "accuracy_before": 0.5, "accuracy_after": 1.0}  # fmt: skip
    assert decode(encode(WorkFigures(**fields))) == WorkFigures(**fields)  # type: ignore[arg-type]
    with pytest.raises(CellFailedError, match="no message"):
        decode(encode(WorkFigures(**fields | {"accuracy_after": float("nan")})))  # type: ignore[arg-type]


def test_a_child_and_its_parent_take_turns(start: Callable[..., launchers.Child]) -> None:
    child = start("say", 7)
    child.receive(Ready, deadline_s=soon())
    child.send("go")
    assert child.receive(Trained, deadline_s=soon()) == Trained(1.0, 2.0, 7)
    child.close()
    assert gone(child.pid)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"\xff\xfe\n",
        b"garbage\n",
        b"Ready\n",
        b"Ready []\n",
        b"Nothing {}\n",
        b'Trained {"t0_s": "1", "t1_s": 2.0, "executions": 1}\n',
        b'Trained {"t0_s": NaN, "t1_s": 2.0, "executions": 1}\n',
        b'Trained {"t0_s": 1.0, "t1_s": 1e999, "executions": 1}\n',
        b'Trained {"t0_s": 1.0, "t1_s": 2.0, "executions": 0}\n',
        b"Trained " + b"[" * 100_000 + b"\n",
        b"cos\nsystem\n(S'touch pwned'\ntR.\n",
        b"x" * (MAX_BYTES + 70_000),
    ],
    ids=lambda line: repr(line[:40]),
)
def test_garbage_from_a_child_is_the_failure_of_its_repeat(start: Callable[..., launchers.Child], line: bytes) -> None:
    child = start("raw", line)
    with pytest.raises(CellFailedError, match="no message") as refused:
        child.receive(Trained, deadline_s=soon())
    assert str(refused.value).isprintable()
    assert gone(child.pid)


def test_half_a_message_does_not_outlast_the_deadline(start: Callable[..., launchers.Child]) -> None:
    child = start("raw", b'Trained {"t0_s"')
    started = time.monotonic()
    with pytest.raises(CellTimeoutError):
        child.receive(Trained, deadline_s=started + 1)
    assert time.monotonic() - started < 6
    assert gone(child.pid)


@pytest.mark.parametrize(
    ("name", "job", "kind", "says"),
    [
        ("leave", 3, CellFailedError, "ended with exit status 3 and sent nothing"),
        ("leave", 0, CellFailedError, "ended with exit status 0 and sent nothing"),
        ("be_killed", signal.SIGKILL, CellFailedError, r"killed by SIGKILL \(out of memory\?\)"),
        ("be_killed", signal.SIGSEGV, CellFailedError, "killed by SIGSEGV"),
        ("wrong", None, RequestError, "no such thing"),
        ("broken", None, CellFailedError, "ValueError: no luck"),
        ("exits", None, CellFailedError, "SystemExit: enough"),
    ],
)
def test_how_a_child_ended_is_told(
    start: Callable[..., launchers.Child], name: str, job: object, kind: type[Exception], says: str
) -> None:
    child = start(name, job)
    with pytest.raises(kind, match=says):
        child.receive(Ready, deadline_s=soon())
    assert gone(child.pid)


def test_what_a_child_prints_goes_to_the_log(start: Callable[..., launchers.Child], tmp_path: Path) -> None:
    start("talk").close()
    assert {"to the log", "to the log too"} <= set((tmp_path / "worker.log").read_text().splitlines())


def test_the_log_stays_bounded_while_a_child_prints(
    start: Callable[..., launchers.Child], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = start("spam")
    child.receive(Ready, deadline_s=soon())
    log = tmp_path / "worker.log"
    sizes, until = [0], time.monotonic() + 20
    while not (cut := sizes[-1] < max(sizes)) and time.monotonic() < until:
        sizes.append(log.stat().st_size)
    child.kill()
    assert cut, "the child has printed less than the limit"
    assert max(*sizes, log.stat().st_size) <= MAX_LOG_BYTES + 65536
    assert log.read_bytes().startswith(b"(the beginning was cut off)\n")


def test_a_child_whose_log_is_on_a_full_disk_goes_on(targets: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launchers, "open_append", lambda *_, **__: open("/dev/full", "r+b", buffering=0))  # noqa: PTH123, SIM115
        child = Launcher(tmp_path / "worker.log").start(targets.talk, None)
    assert child._server.exit_code(child.pid, 20) == 0
    child.close()


def test_a_child_that_closes_its_streams_is_killed(
    start: Callable[..., launchers.Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "JOIN_S", 0.5)
    child = start("close")
    with pytest.raises(CellFailedError, match="closed its connection, and was killed"):
        child.receive(Ready, deadline_s=soon())
    assert gone(child.pid)


@pytest.mark.parametrize("name", ["fork", "start_program", "thread"])
def test_what_a_child_that_ended_well_left_behind_is_killed(
    start: Callable[..., launchers.Child], tmp_path: Path, name: str
) -> None:
    child = start(name, str(tmp_path / "pid"))
    child.receive(Ready, deadline_s=soon())
    started = time.monotonic()
    child.close()
    assert time.monotonic() - started < 5
    assert gone(child.pid)
    if name != "thread":
        assert gone(int((tmp_path / "pid").read_text()))


def test_a_daemon_of_a_child_is_killed_with_it(start: Callable[..., launchers.Child], tmp_path: Path) -> None:
    child = start("fork_and_wait", str(tmp_path / "pid"))
    child.receive(Ready, deadline_s=soon())
    child.kill()
    assert gone(child.pid)
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("victim", ["guard", "server"])
def test_a_server_that_is_killed_takes_all_along_and_is_replaced(
    start: Callable[..., launchers.Child], tmp_path: Path, victim: str
) -> None:
    child = start("fork_and_wait", str(tmp_path / "pid"))
    child.receive(Ready, deadline_s=soon())
    server = launchers._Server._one
    assert server is not None
    guard = psutil.Process(server._process.pid)
    (forking,) = guard.children()
    (guard if victim == "guard" else forking).kill()
    with pytest.raises(CellFailedError, match="killed by SIGKILL"):
        child.receive(Trained, deadline_s=soon())
    for pid in (child.pid, guard.pid, forking.pid, int((tmp_path / "pid").read_text())):
        assert gone(pid)
    again = start("say", 1)
    again.receive(Ready, deadline_s=soon())
    again.kill()
    assert launchers._Server._one is not server


@pytest.mark.parametrize(
    ("program", "says"),
    [("exit 7", "ended with exit status 7"), ("kill -9 $$", r"was killed by SIGKILL \(out of memory\?\)")],
)
def test_a_server_that_dies_while_it_starts_is_an_error_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, says: str
) -> None:
    stop_server()
    (tmp_path / "python").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(JouletuneError, match=f"did not come up.*{says}") as refused:
        Launcher(tmp_path / "worker.log").start(os.getpid, None)  # type: ignore[arg-type]
    assert refused.value.exit_status == 1
    assert not isinstance(refused.value, KeyboardInterrupt)


def test_a_server_that_does_not_answer_is_killed_with_all_that_it_started(
    start: Callable[..., launchers.Child], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = start("fork_and_wait", str(tmp_path / "pid"))
    child.receive(Ready, deadline_s=soon())
    server = launchers._Server._one
    assert server is not None
    (forking,) = psutil.Process(server._process.pid).children()
    forking.suspend()
    with monkeypatch.context() as patch:
        patch.setattr(launchers, "JOIN_S", 0.5)
        child.kill()
    assert all(map(gone, (child.pid, forking.pid, int((tmp_path / "pid").read_text()))))


def test_heartbeats_are_passed_on(start: Callable[..., launchers.Child]) -> None:
    child = start("raw", encode(Alive()) + encode(Ready()))
    heard: list[object] = []
    child.receive(Ready, deadline_s=soon(), on_other=heard.append)
    child.kill()
    assert heard == [Alive()]
