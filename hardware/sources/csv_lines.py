"""csv: a microcontroller that prints volts and amperes line by line: ``csv:/dev/ttyUSB0?baud=115200``.

The lines are those of `hardware.wire.csv_lines`, e.g. from an INA219 or INA226. Opening the port resets most
Arduinos, which then send the header first. Rows should come once a second or more often. Parameters:

    baud      bits a second, 115200
    gain      relative standard uncertainty of the scale; given, it counts as calibrated. Without it 0.02: shunts of 1 %
              and the chip's own 0.5 to 1 %, assumed
    columns   the header, for a device that sends it only once

More than 36 V or 40 A is not believed: an INA226 bears no more volts, and few shunts more amperes.
Not yet tried on a real board.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from itertools import pairwise

from hardware.errors import UnknownSourceError
from hardware.meters.link import Link, SerialLink, check_port
from hardware.meters.meter import Clock, Meter
from hardware.source import Found, Probe, SourceInfo
from hardware.sources.parameters import full_name, numbers
from hardware.wire.csv_lines import COLUMNS, CsvDecoder, CsvError, decode_header
from hardware.wire.reading import Reading, Scale

BAUD = 115200
GAIN_U = 0.02
MAX_VOLTS = 36.0
MAX_AMPS = 40.0
ROWS = 12
FEW_ROWS, FEW_S = 3, 3.0
"""So many rows tell how often rows come; of a slow board, so few after so long."""

CROWD_S = 0.02
"""Rows that follow each other faster are read several at a time, which wakes up the machine less often. They must carry
their times; the newest of each read has just arrived, and sets the clock."""


class CsvSource(Meter):
    """One port."""

    silent_s = 5.0

    def __init__(
        self,
        name: str,
        port: str,
        *,
        baud: int = BAUD,
        gain_u: float | None = None,
        columns: str = "",
        clock: Clock = time.monotonic,
    ) -> None:
        self._decoder = CsvDecoder()
        if columns:
            self._decoder.header = decode_header(columns)
        self._times_s: list[float] = []
        self._first_row_s = 0.0
        self._period_s = 0.1
        self._restarts = 0
        # what one count is worth is known with the header only, and matters for the check of powers
        scale = Scale(volt_count=0.004, amp_count=0.001, watt_count=0.02, max_volts=MAX_VOLTS, max_amps=MAX_AMPS)
        super().__init__(
            name,
            lambda: SerialLink(port, baud),
            scale,
            clock=clock,
            period_s=self._period_s,
            gain_u=GAIN_U if gain_u is None else gain_u,
            gain_basis="assumed" if gain_u is None else "calibrated",
        )

    @property
    def info(self) -> SourceInfo:
        header = self._decoder.header
        quantities = header.quantities if header is not None else ()
        return dataclasses.replace(
            self._info,
            resolution=self._resolution_w,
            period_s=self._period_s,
            latency_s=self._period_s,
            clock="device" if "t" in quantities else "host",
            params={"columns": ",".join(header.names) if header is not None else None},
        )

    @property
    def _resolution_w(self) -> float | None:
        """One count of the current column at this voltage; the chip's own step may be larger."""
        count_a = self._column_count("current")
        return None if count_a is None or self.first is None else abs(self.first.volts) * count_a

    def _column_count(self, quantity: str) -> float | None:
        """One count of a quantity's column, in the base unit."""
        header = self._decoder.header
        if header is None or quantity not in header.quantities:
            return None
        return 1 / COLUMNS[header.names[header.quantities.index(quantity)]][1]

    def _begin(self, link: Link) -> None:
        self._decoder.reset()
        if not self._alive.is_set():
            self._times_s, self._first_row_s = [], 0.0

    def _step(self, link: Link) -> None:
        header = self._decoder.header
        if self._period_s < CROWD_S and header is not None and "t" in header.quantities:
            self._pause(CROWD_S)
        data = link.read()
        arrived_s = self._clock()
        readings = self._decoder.feed(data)
        self.count_j = self._column_count("energy") or self.count_j
        for reading in readings:
            if self._decoder.restarts != self._restarts:
                self._restarts = self._decoder.restarts
                self._new_clock()
            self._give(reading, arrived_s)

    def _note_alive(self, reading: Reading, arrived_s: float) -> None:
        """The meter counts as there once enough rows have come to tell how often they do."""
        if not self._alive.is_set():
            self._times_s.append(arrived_s if reading.device_s is None else reading.device_s)
            self._first_row_s = self._first_row_s or arrived_s
            few = len(self._times_s) < FEW_ROWS or arrived_s - self._first_row_s < FEW_S
            if few and len(self._times_s) < ROWS:
                self._good_s = arrived_s
                return
            steps_s = [right - left for left, right in pairwise(self._times_s)]
            # by the clock of the host several rows may arrive at once: then only their number per time counts
            self._period_s = (
                max(statistics.fmean(steps_s), 1e-3)
                if reading.device_s is None
                else max(statistics.median(steps_s), 1e-4)
            )
        super()._note_alive(reading, arrived_s)

    def _lost(self) -> int:
        return self._decoder.lost

    def _bad(self) -> int:
        return self._decoder.bad


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the port can be opened; whether lines come shows when it is."""
    given = dict(params)
    columns = given.pop("columns", "")
    values = numbers("csv", given, {"baud": BAUD, "gain": GAIN_U})
    try:
        if columns:
            decode_header(columns)
    except CsvError as error:
        raise UnknownSourceError(f"csv: the columns are {columns!r}: {error}") from error
    barred = check_port("csv", argument)
    if barred is not None:
        return barred
    source = CsvSource(
        full_name("csv", argument, params),
        argument,
        baud=int(values["baud"]),
        gain_u=values["gain"] if "gain" in given else None,
        columns=columns,
    )
    return Found(source, f"a board that prints CSV should be on {argument}")
