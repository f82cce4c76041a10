"""CSV lines over serial: our own format, for an INA219 or INA226 on a microcontroller, or anything else that can print.

    # INA226 on a 10 mohm shunt, 140 us x 64
    t_us,bus_mV,current_uA,power_uW,seq,crc
    1000234,5101.25,843100,4300000,17,1709
    1018290,5101.25,842975,4299000,18,21A1

Lines end in LF or CR LF, are UTF-8, and have at most 200 bytes. Empty lines and lines that begin with ``#`` are
skipped.

The *header* names the columns, in any order, each once, with its unit. It comes before the first row and may come
again at any time; sent every few seconds it spares a host that connects later a reset. Rows before the first header
are skipped.

| column | units | meaning |
|---|---|---|
| ``t`` | us, ms, s | the device's clock; may wrap at 2^32, as micros() does. Without it the arrival counts |
| ``bus`` | V, mV, uV | voltage at the load |
| ``current`` | A, mA, uA | current into the load; may be negative |
| ``power`` | W, mW, uW | the chip's own product; without it volts x amperes |
| ``energy`` | J, mJ, uJ | an energy counter of the device's own, never decreasing |
| ``seq`` | none | counts the rows modulo 65536, so that lost ones are noticed |
| ``crc`` | none | last; CRC-16/MODBUS, 4 hexadecimal digits, of the row's bytes before the last comma |

``bus`` and ``current`` are required. A *row* has exactly the header's columns; each is a decimal number such as
``-12`` or ``5101.25``, with no exponent and no blanks. A row that is anything else is counted as bad and never
guessed at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hardware.wire.crc import crc16_modbus
from hardware.wire.reading import Reading, WireError

MAX_LINE_BYTES = 200
SEQ_MODULO = 1 << 16
WRAP_COUNTS = 1 << 32

UNITS: dict[str, dict[str, float]] = {
    "t": {"us": 1e6, "ms": 1e3, "s": 1.0},
    "bus": {"uV": 1e6, "mV": 1e3, "V": 1.0},
    "current": {"uA": 1e6, "mA": 1e3, "A": 1.0},
    "power": {"uW": 1e6, "mW": 1e3, "W": 1.0},
    "energy": {"uJ": 1e6, "mJ": 1e3, "J": 1.0},
}
"""Counts per base unit of each quantity."""

COLUMNS: dict[str, tuple[str, float]] = {
    f"{quantity}_{unit}": (quantity, per) for quantity, units in UNITS.items() for unit, per in units.items()
} | {"seq": ("seq", 1.0), "crc": ("crc", 1.0)}
"""What each column's name means: the quantity, and counts per base unit."""

NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,12})?")


class CsvError(WireError):
    """A line that is not of the format."""


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of the rows that follow."""

    names: tuple[str, ...]

    @property
    def quantities(self) -> tuple[str, ...]:
        return tuple(COLUMNS[name][0] for name in self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row in base units. ``t_counts`` is the bare number of the time column, which wraps every ``wrap_s``."""

    volts: float
    amps: float
    watts: float | None
    energy_j: float | None
    t_s: float | None
    t_counts: float | None
    wrap_s: float
    seq: int | None


def decode_header(line: str) -> Header:
    """Read a header.

    Raises:
        CsvError: an unknown column, a quantity twice, no bus or current, or a crc that is not last.
    """
    names = tuple(line.split(","))
    for name in names:
        if name not in COLUMNS:
            raise CsvError(f"no column is called {name!r}")
    header = Header(names)
    quantities = header.quantities
    if len(set(quantities)) < len(quantities):
        raise CsvError("a quantity has two columns")
    if not {"bus", "current"} <= set(quantities):
        raise CsvError("a bus and a current column are required")
    if "crc" in names[:-1]:
        raise CsvError("the crc column is not the last")
    return header


def decode_row(line: str, header: Header) -> Row:
    """Read a row.

    Raises:
        CsvError: another number of cells than columns, a cell that is no decimal number, or a wrong checksum.
    """
    cells = line.split(",")
    if len(cells) != len(header.names):
        raise CsvError(f"{len(cells)} cells, expected {len(header.names)}")
    if header.names[-1] == "crc":
        crc = cells.pop()
        expected = f"{crc16_modbus(line.rpartition(',')[0].encode()):04X}"
        if crc.upper() != expected:
            raise CsvError(f"the checksum is {crc}, expected {expected}")
    values: dict[str, float] = {}
    t_counts, wrap_s = None, 0.0
    for name, cell in zip(header.names, cells, strict=False):
        if not NUMBER.fullmatch(cell):
            raise CsvError(f"{name} is {cell!r}, expected a decimal number")
        quantity, per = COLUMNS[name]
        values[quantity] = float(cell) / per
        if quantity == "t":
            t_counts, wrap_s = float(cell), WRAP_COUNTS / per
        if quantity == "seq" and not cell.isdecimal():
            raise CsvError(f"seq is {cell!r}, expected a count")
    return Row(
        volts=values["bus"],
        amps=values["current"],
        watts=values.get("power"),
        energy_j=values.get("energy"),
        t_s=values.get("t"),
        t_counts=t_counts,
        wrap_s=wrap_s,
        seq=int(values["seq"]) % SEQ_MODULO if "seq" in values else None,
    )


class CsvDecoder:
    """Readings from lines.

    Attributes:
        header: the columns; None before the first header.
        bad: lines that are neither header, row, comment nor empty.
        lost: rows that ``seq`` shows to be missing.
        restarts: how often the device's clock went backwards: it was reset.
    """

    def __init__(self) -> None:
        self.header: Header | None = None
        self.bad = 0
        self.lost = 0
        self.restarts = 0
        self._buffer = bytearray()
        self._skip_line = True
        self._wraps = 0
        self._last: Row | None = None

    def feed(self, data: bytes) -> list[Reading]:
        """The readings of the rows that these bytes complete, in order."""
        readings: list[Reading] = []
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        for line in lines:
            readings += self._line(bytes(line))
        # a line without end is forgotten, but what follows up to its end belongs to it still
        self._buffer = rest[: MAX_LINE_BYTES + 2]
        return readings

    def reset(self) -> None:
        """Forget a line begun, and the clock and count of rows, e.g. because the connection is a new one."""
        self._buffer.clear()
        self._skip_line = True
        self._last = None
        self._wraps = 0

    def _line(self, raw: bytes) -> list[Reading]:
        # the first line after connecting may lack its beginning
        first, self._skip_line = self._skip_line, False
        try:
            line = _text(raw)
            if not line or line.startswith("#"):
                return []
            if line.partition(",")[0] in COLUMNS:
                self.header = decode_header(line)
                return []
            if self.header is None or first:
                return []
            return self._readings(decode_row(line, self.header))
        except CsvError:
            self.bad += not first
            return []

    def _readings(self, row: Row) -> list[Reading]:
        last, self._last = self._last, row
        if last is not None and not self._follows(last, row):
            return []
        device_s = None if row.t_s is None else row.t_s + self._wraps * row.wrap_s
        watts = row.volts * row.amps if row.watts is None else row.watts
        return [Reading(volts=row.volts, amps=row.amps, watts=watts, device_s=device_s, energy_j=row.energy_j)]

    def _follows(self, last: Row, row: Row) -> bool:
        """Whether a row follows the last; False if it came twice. Counts the lost rows, wraps and resets between."""
        step = None if last.seq is None or row.seq is None else (row.seq - last.seq) % SEQ_MODULO
        fall = 0.0 if last.t_counts is None or row.t_counts is None else last.t_counts - row.t_counts
        if fall > WRAP_COUNTS / 2:  # a clock that falls by half its range has wrapped
            self._wraps += 1
        elif fall > 0 or (step or 0) > SEQ_MODULO / 2:
            self.restarts += 1
            self._wraps = 0
            return True
        elif step == 0 or (step is None and row.t_counts is not None and fall == 0):
            return False
        self.lost += max(0, (step or 1) - 1)
        return True


def _text(raw: bytes) -> str:
    raw = raw.removesuffix(b"\r")
    if len(raw) > MAX_LINE_BYTES:
        raise CsvError(f"a line of more than {MAX_LINE_BYTES} bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CsvError("not UTF-8") from error
