"""vcgencmd: the program that queries the firmware of a Raspberry Pi. Each query is a process of its own, some 10 ms."""

from __future__ import annotations

import shutil
import subprocess

from hardware.errors import HardwareError

PROGRAM = "vcgencmd"
LIMIT_S = 1.0
"""The firmware answers in milliseconds, or not at all."""


class VcgencmdError(HardwareError):
    """It is not installed, not permitted, or did not answer in time."""


def is_here() -> bool:
    """Whether the PATH has it."""
    return shutil.which(PROGRAM) is not None


def ask(command: str) -> str:
    """The firmware's answer to a command.

    Raises:
        VcgencmdError: no answer; the message is the program's own words where it has some.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise VcgencmdError(f"{PROGRAM} is not installed (it is part of Raspberry Pi OS)")
    try:
        done = subprocess.run(
            [program, command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise VcgencmdError(f"{PROGRAM} {command} did not answer within {LIMIT_S:g} s") from None
    except OSError as error:
        raise VcgencmdError(f"{PROGRAM} cannot be run: {error}") from error
    if done.returncode != 0:
        words = " ".join((done.stderr + " " + done.stdout).split())
        raise VcgencmdError(f"{PROGRAM} {command} failed: {words or f'status {done.returncode}'}")
    return done.stdout
