"""emulated: the firmware on an emulated Cortex-M4 or M7, its UART on a pseudo-terminal, and its power as it works.

QEMU counts instructions (``-icount``): each takes the same time by the board's timer, so laps are equal from run to
run. That time is not this host's: what the emulated board needs of it depends on the host. Its power, by contrast, is
a known level for each state, over this host's time, so that a simulated meter can be held against it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import tty
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

from hardware.errors import HardwareError
from hardware.instruments.virtual import Truth

MACHINES: Mapping[str, str] = MappingProxyType({"mps2-an386": "Cortex-M4", "mps2-an500": "Cortex-M7"})
"""Emulated boards, each with its core."""

ICOUNT_SHIFT = 3
"""An instruction takes 2^3 ns, as at 125 MHz with one instruction per cycle."""

INSTRUCTION_PS = 1000 << ICOUNT_SHIFT
START_S = 10.0
POWERS_W: Mapping[bytes, float] = MappingProxyType({b"0": 0.05, b"1": 0.30, b"2": 0.25})
"""Power of the board while it is idle, infers and trains; made up, of the order of an STM32H7."""


class EmulatorError(HardwareError):
    """There is no emulator, or the firmware does not build or start."""


def missing() -> str:
    """Say which programs are not installed, "" where all are."""
    lacks = [name for name in ("qemu-system-arm", "arm-none-eabi-gcc", "make") if shutil.which(name) is None]
    hint = "apt-get install qemu-system-arm gcc-arm-none-eabi libnewlib-arm-none-eabi make"
    return f"not installed: {', '.join(lacks)}; {hint}" if lacks else ""


def build(folder: Path, board: str) -> Path:
    """Compile the firmware of a folder for a board.

    Raises:
        EmulatorError: the compiler is missing, or does not take it.
    """
    if lacks := missing():
        raise EmulatorError(lacks)
    words = ["make", "-C", str(folder), f"BOARD={board}", f"INSTRUCTION_PS={INSTRUCTION_PS}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise EmulatorError(f"{folder}: does not build for {board}: {' '.join(done.stderr.split())[-300:]}")
    return folder / f"{board}.elf"


class EmulatedBoard:
    """A firmware that runs under QEMU until the board is closed.

    Args:
        image: from `build`.
        board: one of `MACHINES`.
        link: name for its port.

    Attributes:
        truth: its power over time, on `time.monotonic`; safe to be read from another thread.
    """

    def __init__(self, image: Path, board: str, link: Path, powers_w: Mapping[bytes, float] = POWERS_W) -> None:
        self.image, self.board, self.link = image, board, link
        self._powers_w = powers_w
        self._lock = threading.Lock()
        self.truth = _Locked(self._lock, time.monotonic(), powers_w[b"0"])
        self._stop = threading.Event()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start the emulator.

        Raises:
            EmulatorError: it does not start.
        """
        if lacks := missing():
            raise EmulatorError(lacks)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dut-")))
            doors = [stack.enter_context(_listening(folder / name)) for name in ("uart", "state")]
            words = [
                "qemu-system-arm", "-M", self.board, "-kernel", str(self.image), "-nographic", "-monitor", "none",
                "-icount", f"shift={ICOUNT_SHIFT}", "-serial", f"unix:{folder / 'uart'}",
                "-serial", f"unix:{folder / 'state'}",
            ]  # fmt: skip
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            stack.callback(_end, process)
            try:
                uart, state = (stack.enter_context(door.accept()[0]) for door in doors)
            except TimeoutError:
                _end(process)
                said = process.stderr.read().decode("utf-8", "replace") if process.stderr else ""
                raise EmulatorError(f"qemu-system-arm does not start: {' '.join(said.split())[:200]}") from None
            host_end, device_end = os.openpty()
            stack.callback(os.close, host_end)
            stack.callback(os.close, device_end)
            tty.setraw(device_end)
            partial = self.link.with_name(f".{self.link.name}.new")
            partial.unlink(missing_ok=True)
            partial.symlink_to(os.ttyname(device_end))
            partial.replace(self.link)
            stack.callback(self.link.unlink, missing_ok=True)
            thread = threading.Thread(target=self._pass_on, args=(host_end, uart, state), name="emulator", daemon=True)
            thread.start()
            stack.callback(thread.join, 2.0)
            stack.callback(self._stop.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _pass_on(self, host_end: int, uart: socket.socket, state: socket.socket) -> None:
        """Pass bytes between terminal and UART, and note the times of changes of state."""
        while not self._stop.is_set():
            with contextlib.suppress(OSError, ValueError):
                ends: list[int | socket.socket] = [host_end, uart, state]
                readable, _, _ = select.select(ends, [], [], 0.1)
                for end in readable:
                    if end is state:
                        changes = state.recv(4096)
                        if not changes:
                            return
                        for change in changes:
                            self._changed(bytes([change]))
                    elif end is uart:
                        data = uart.recv(4096)
                        if not data:
                            return
                        os.write(host_end, data)
                    else:
                        uart.sendall(os.read(host_end, 4096))

    def _changed(self, state: bytes) -> None:
        if state in self._powers_w:
            self.truth.change(time.monotonic(), self._powers_w[state])


class _Locked:
    """A power that one thread changes while others read it."""

    def __init__(self, lock: threading.Lock, start_s: float, power_w: float) -> None:
        self._lock = lock
        self._truth = Truth([(start_s, power_w)])

    def change(self, at_s: float, power_w: float) -> None:
        with self._lock:
            self._truth.extend([(at_s, power_w)])

    def power_w(self, t_s: float) -> float:
        with self._lock:
            return self._truth.power_w(t_s)

    def energy_j(self, start_s: float, end_s: float) -> float:
        with self._lock:
            return self._truth.energy_j(start_s, end_s)


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        door.listen(1)
        door.settimeout(START_S)
        yield door


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
