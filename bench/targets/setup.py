"""Setup: installs this version of jouletune on a board, in an environment of its own, when that is asked for."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import IO

from bench.errors import JouletuneError, RequestError
from bench.targets.link import VENV, ssh_command
from bench.targets.ssh import Ssh
from bench.text import shown

MIN_PYTHON = "3.11"

PUSHED = ".cache/jouletune"
"""Where the wheel lies until it is installed, below the home folder there."""

SSH_FAILED = 255
"""Exit status of ssh itself, where no command ran on the board."""


def setup(target: Ssh, *, python: str, index: bool = True) -> str:
    """Push a wheel of this installation to a board and install it there. Returns the version that answers then.

    Args:
        python: name or path of Python there, 3.11 or later.
        index: whether pip may fetch what is missing from its package index; False: torch and the rest are there.

    Raises:
        RequestError: the board is not reached, or has no usable Python.
        JouletuneError: the wheel cannot be made, or the installation failed.
    """
    check = f"import sys; sys.exit(sys.version_info < ({MIN_PYTHON.replace('.', ', ')}))"
    looked = _there(target, f'{python} -c "{check}"')
    if looked.returncode == SSH_FAILED:
        lines = looked.stderr.decode("utf-8", "replace").strip().splitlines() or ["ssh said nothing"]
        raise RequestError(f"{target.name}: {shown(lines[-1])[:300]}")
    if looked.returncode:
        raise RequestError(f"{target.name}: {python} there is not Python {MIN_PYTHON} or later; name one with --python")
    with tempfile.TemporaryDirectory() as folder:
        wheel = _wheel(Path(folder))
        there = f'"$HOME/{PUSHED}/{wheel.name}"'
        with wheel.open("rb") as content:
            _must(target, _there(target, f'mkdir -p "$HOME/{PUSHED}" && cat > {there}', content))
    options = "" if index else " --no-index --no-deps"
    venv = f'"$HOME/{VENV}"'
    steps = (
        f"{python} -m venv --system-site-packages {venv}",
        f"{venv}/bin/pip install -q --disable-pip-version-check --force-reinstall --no-deps {there}",
        f"{venv}/bin/pip install -q --disable-pip-version-check{options} {there}",
    )
    for step in steps:
        _must(target, _there(target, step))
    _must(target, _there(target, f"rm -f {there}"))
    installed = Ssh(target.host, f"~/{VENV}/bin/jouletune")
    try:
        return str(installed.connect()["jouletune"])
    finally:
        installed.close()


def _there(target: Ssh, command: str, content: IO[bytes] | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*ssh_command(), "--", target.host, command],
        stdin=content or subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip


def _must(target: Ssh, done: subprocess.CompletedProcess[bytes]) -> None:
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise JouletuneError(f"{target.name}: {shown(lines[-1])[:300]}")


def _wheel(folder: Path) -> Path:
    """A wheel of this installation: built from its checkout, or packed again from the files that are installed."""
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file():
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(root)]
        done = subprocess.run(command, capture_output=True, check=False)
        found = sorted(folder.glob("jouletune-*.whl"))
        if done.returncode or not found:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["pip said nothing"]
            raise JouletuneError(f"no wheel can be built from {root}: {shown(lines[-1])[:300]}")
        return found[0]
    distribution = metadata.distribution("jouletune")
    wheel = folder / f"jouletune-{distribution.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in distribution.files or ():
            place = Path(str(file.locate()))
            if ".." not in file.parts and "__pycache__" not in file.parts and place.is_file():
                packed.write(place, file.as_posix())
    return wheel
