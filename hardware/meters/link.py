"""Link: the connection to a meter, over a serial port or Bluetooth, and the log of its bytes. Faults are OSErrors.

A raw log is a text file with every byte sent and received, to decode it again later. Lines that begin with ``#`` are
comments; every other line is one piece of traffic:

    12345.678901 > f0
    12345.723412 < 096301f60032...

seconds of this host's monotonic clock, ``>`` to the meter or ``<`` from it, and the bytes in hexadecimal. Pieces are
as the port gave them: a USB report is one piece, a frame over serial may be several.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from hardware.source import NoPermission, NotFound

WAIT_S = 0.25
"""Longest wait of a read for a first byte. Each wait that ends without one wakes up the machine in vain."""

CONNECT_S = 5.0
RFCOMM_CHANNEL = 1
ADDRESS = re.compile(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")


class Link(Protocol):
    """An open connection. Every method raises OSError once it is gone.

    Attributes:
        identity: of the device at its other end; "" where the system does not know it.
    """

    identity: str

    def read(self, *, wait: bool = True) -> bytes:
        """What has arrived; b"" when nothing has, at once or after waiting up to `WAIT_S`."""

    def write(self, data: bytes) -> None:
        """Send."""

    def close(self) -> None:
        """Close the connection. Safe to call twice."""


class Tap:
    """A link that passes on its traffic to ``note``: ``<`` from the meter or ``>`` to it, and the bytes."""

    def __init__(self, link: Link, note: Callable[[str, bytes], None]) -> None:
        self._link = link
        self._note = note
        self.identity = getattr(link, "identity", "")

    def read(self, *, wait: bool = True) -> bytes:
        data = self._link.read(wait=wait)
        if data:
            self._note("<", data)
        return data

    def write(self, data: bytes) -> None:
        self._note(">", data)
        self._link.write(data)

    def close(self) -> None:
        self._link.close()


class RawLog:
    """A raw log being written. Each line is on disk at once, so that a crash loses none."""

    def __init__(self, path: Path, name: str) -> None:
        # "x" makes the file, and never follows a link
        self._file = path.open("x", encoding="ascii", buffering=1)
        self._file.write(f"# jouletune raw log 1\n# source: {name!a}\n")

    def write(self, t_s: float, direction: str, data: bytes) -> None:
        """Add one piece; direction is ``<`` or ``>``."""
        self._file.write(f"{t_s:.6f} {direction} {data.hex()}\n")

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._file.close()


def read_raw(path: Path) -> Iterator[tuple[float, str, bytes]]:
    """The pieces of a raw log: (time in s, ``<`` or ``>``, bytes).

    Raises:
        OSError: not readable.
        ValueError: not a raw log.
    """
    with path.open(encoding="ascii") as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            t_s, direction, text = line.split()
            if direction not in "<>":
                raise ValueError(f"{path} is no raw log: {line!r}")
            yield float(t_s), direction, bytes.fromhex(text)


class SerialLink:
    """A serial port, held so that no other program can read from it meanwhile."""

    def __init__(self, port: str, baud: int) -> None:
        import serial

        # ValueError: a baud rate that the port does not know
        try:
            self._port = serial.Serial(
                port, baud, timeout=WAIT_S, write_timeout=1.0, exclusive=True, rtscts=False, xonxoff=False
            )
        except ValueError as error:
            raise OSError(str(error)) from error
        self.identity = usb_identity(port)

    def read(self, *, wait: bool = True) -> bytes:
        # the port's own read would return with the first byte and be called again for the rest
        readable, _, _ = select.select([self._port], [], [], WAIT_S if wait else 0)
        # readable without a byte is a port that is gone: read() raises
        return bytes(self._port.read(max(1, self._port.in_waiting))) if readable else b""

    def write(self, data: bytes) -> None:
        self._port.write(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._port.close()


class RfcommLink:
    """A Bluetooth serial connection (RFCOMM), through Python's own sockets. The device must have been paired."""

    def __init__(self, address: str) -> None:
        family, protocol = getattr(socket, "AF_BLUETOOTH"), getattr(socket, "BTPROTO_RFCOMM")  # noqa: B009 - not on every system
        self.identity = address
        self._socket = socket.socket(family, socket.SOCK_STREAM, protocol)
        try:
            self._socket.settimeout(CONNECT_S)
            self._socket.connect((address, RFCOMM_CHANNEL))
        except OSError:
            self._socket.close()
            raise

    def read(self, *, wait: bool = True) -> bytes:
        readable, _, _ = select.select([self._socket], [], [], WAIT_S if wait else 0)
        if not readable:
            return b""
        data = self._socket.recv(4096)
        if not data:
            raise ConnectionResetError("the meter closed the connection")
        return data

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self._socket.close()


def check_port(name: str, argument: str) -> NotFound | NoPermission | None:
    """Say why a port cannot be used; None if it can. Checks the file only: opening it can reset the device."""
    if not argument:
        return NotFound(f"name its port: {name}:/dev/...; {candidates()}")
    path = Path(argument)
    if path.is_absolute() and not path.exists():
        return NotFound(f"{argument} is not there; {candidates()}")
    return file_permission(path)


def check_address(address: str) -> NotFound | None:
    """Say why a Bluetooth address cannot be used; None if it can. `Source.open` finds out if the meter answers."""
    if not hasattr(socket, "AF_BLUETOOTH"):
        return NotFound("this Python has no Bluetooth sockets; use the port that `rfcomm bind` makes")
    return None


def file_permission(path: Path) -> NoPermission | None:
    """Say how to get permission for a device file that this user may not open; None if it may be opened."""
    if not path.is_absolute() or os.access(path, os.R_OK | os.W_OK):
        return None
    group = "dialout"
    # gone meanwhile, a group without a name, a system without groups: then the usual one is the best guess
    with contextlib.suppress(OSError, KeyError, NotImplementedError):
        group = path.group()
    if group == "root":
        fix = (
            'put KERNEL=="hidraw*|ttyACM*|ttyUSB*", MODE="0660", GROUP="plugdev" into '
            "/etc/udev/rules.d/70-meters.rules, join that group and plug it in again"
        )
    else:
        fix = f"join its group and log in again: sudo usermod -aG {group} $USER"
    return NoPermission(f"this user may not open {path}; {fix}")


def usb_identity(port: str) -> str:
    """Vendor, product and serial number of the USB device of a port; "" where it is none or has no serial number."""
    from serial.tools import list_ports

    device = os.path.realpath(port)
    for known in list_ports.comports():
        if known.device == device and known.serial_number:
            return f"{known.vid or 0:04x}:{known.pid or 0:04x} {known.serial_number}"
    return ""


def candidates() -> str:
    """List the serial ports of this host in words. Opens none."""
    from serial.tools import list_ports

    ports = sorted(list_ports.comports())
    known = {port.device for port in ports}
    found = [f"{port.device} ({port.description})" for port in ports]
    found += [str(path) for path in sorted(Path("/dev").glob("rfcomm*")) if str(path) not in known]
    return f"serial ports here: {', '.join(found)}" if found else "this host has no serial port at present"
