"""csv_lines: a microcontroller with an INA226 that writes one line of text per conversion."""

from __future__ import annotations

from hardware.instruments.faults import Faults
from hardware.instruments.instrument import FrontEnd, Instrument, Reading
from hardware.wire.crc import crc16_modbus

COLUMNS = ("t_us", "bus_mV", "current_uA", "power_uW", "seq", "crc")

HEADER_S = 2.0
"""Time between two headers, for a host that connects later."""


def encode(reading: Reading, seq: int, columns: tuple[str, ...] = COLUMNS) -> bytes:
    """One line. ``crc`` is the CRC-16/MODBUS, four hexadecimal digits, of all before the last comma."""
    values = {
        "t_us": int(reading.age_s * 1e6) % 2**32,  # micros() of an Arduino wraps after 71.6 min
        "bus_mV": f"{round(reading.voltage_v / 0.00125) * 1.25:.2f}",
        "current_uA": round(reading.current_a * 1e6),
        "power_uW": round(reading.power_w * 1e6),
        "seq": seq % 65536,
    }
    text = ",".join(str(values[name]) for name in columns if name != "crc")
    if "crc" in columns:
        text += f",{crc16_modbus(text.encode()):04X}"
    return text.encode() + b"\r\n"


class CsvLines(Instrument):
    """Speaks unasked. Its clock and its ``seq`` start at 0 when it is switched on; the header comes every 2 s."""

    def __init__(self, front: FrontEnd, faults: Faults | None = None, *, columns: tuple[str, ...] = COLUMNS) -> None:
        super().__init__(front, faults)
        self._columns = columns
        self._seq = 0

    def feed(self, now_s: float, data: bytes) -> None:
        """Bytes from the host have no effect."""

    def next_s(self, now_s: float) -> float | None:
        next_line_s = self.front.on_s + self._seq * self.front.refresh_s
        return min(next_line_s, super().next_s(now_s) or next_line_s)

    def take(self, now_s: float) -> bytes:
        front = self.front
        while front.on_s + self._seq * front.refresh_s <= now_s:
            at_s = front.on_s + self._seq * front.refresh_s
            if self._seq % max(1, round(HEADER_S / front.refresh_s)) == 0:
                self.put(at_s, 0.0, b"# INA226\r\n" + ",".join(self._columns).encode() + b"\r\n")
            self.put(at_s, 0.0, encode(self.read(at_s), self._seq, self._columns))
            self._seq += 1
        return super().take(now_s)
