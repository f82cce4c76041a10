"""lpm01a: ST's X-NUCLEO-LPM01A, for microcontroller targets: ``lpm01a:/dev/ttyACM0?volt_mv=3300``.

The board supplies the target with 1800 to 3300 mV and at most 50 mA. The voltage is not in its stream: the power is
what was set times the current. Parameters:

    volt_mv   supply of the target, 3300
    freq_hz   samples a second, 1000; up to 10 000 they come as text, above, to 100 000, in binary
    energy    1: `output energy`, joules per sample as text, as MLPerf Tiny's runner asks for them; no voltage is needed

Written against the documented protocol; not yet tried on a real LPM01A.
"""

from __future__ import annotations

import time

from hardware.errors import SourceError, UnknownSourceError
from hardware.meters.link import Link, SerialLink, check_port
from hardware.meters.meter import Clock, SilentError
from hardware.meters.streaming import StreamingMeter
from hardware.source import Found, Probe
from hardware.sources.parameters import full_name, numbers
from hardware.wire.lpm01a import BinaryDecoder, TextDecoder
from hardware.wire.reading import Scale

BAUD = 3_686_400
GAIN_U = 0.02
"""The maker states 2 % of the reading for most currents; taken as a standard uncertainty, assumed."""

SCALE = Scale(volt_count=0.001, amp_count=1e-7, watt_count=0.0, max_volts=3.6, max_amps=0.055)
VOLT_MV, FREQ_HZ = 3300, 1000
FREQS_HZ = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
TEXT_UP_TO_HZ = 10_000
ACK_S = 3.0


class Lpm01aSource(StreamingMeter):
    """One board."""

    def __init__(
        self, name: str, port: str, *, volt_mv: int, freq_hz: int, energy: bool = False, clock: Clock = time.monotonic
    ) -> None:
        super().__init__(
            name,
            lambda: SerialLink(port, BAUD),
            SCALE,
            volts=volt_mv / 1000,
            rate_hz=freq_hz,
            clock=clock,
            covers=("everything behind the board's supply",),
            excludes=(),
            gain_u=GAIN_U,
            device={"model": "X-NUCLEO-LPM01A"},
            params={"volts": volt_mv / 1000, "rate_hz": freq_hz, **({"output": "energy"} if energy else {})},
        )
        self._output = "energy" if energy else "current"
        # joules of a sample as the current that takes them at the voltage that was set
        self._amps_per = freq_hz / (volt_mv / 1000) if energy else 1.0
        self._volt_mv = volt_mv
        self._freq_hz = freq_hz
        self._is_text = freq_hz <= TEXT_UP_TO_HZ
        self._decoder: TextDecoder | BinaryDecoder = TextDecoder()
        self._index = 0
        self._earlier_bad = 0

    def _begin(self, link: Link) -> None:
        link.write(b"stop\n")  # it may be running still, from a program that died
        self._drain(link)
        freq = f"{self._freq_hz // 1000}k" if self._freq_hz >= 1000 else str(self._freq_hz)
        form = "ascii_dec" if self._is_text else "bin_hexa"
        for command in (
            "htc",
            f"format {form}",
            f"volt {self._volt_mv}m",
            f"freq {freq}",
            "acqtime 0",
            f"output {self._output}",
        ):
            self._command(link, command)
        self._earlier_bad += self._decoder.bad
        self._decoder = TextDecoder() if self._is_text else BinaryDecoder()
        self._index = 0
        self._restart()
        # what comes behind the acknowledgement are samples already
        self._take(self._command(link, "start"))

    def _step(self, link: Link) -> None:
        self._take(link.read())

    def _end(self, link: Link) -> None:
        link.write(b"stop\n")
        self._drain(link)
        link.write(b"hrc\n")  # gives the board's own buttons back

    def _command(self, link: Link, command: str) -> bytes:
        """Send a command, wait for its acknowledgement, and return what came behind that.

        Raises:
            SilentError: it did not come.
        """
        link.write(command.encode() + b"\n")
        received = b""
        acknowledged = b"ack " + command.encode()
        deadline_s = self._clock() + ACK_S
        while self._clock() < deadline_s and not self._stop.is_set():
            received += link.read()
            _, found, behind = received.partition(acknowledged)
            if found and b"\n" in behind:
                # pairs only: what follows in binary may begin with either byte
                while behind.startswith(b"\r\n"):
                    behind = behind[2:]
                return behind
        raise SilentError(f"the command {command!r} was not acknowledged")

    def _take(self, data: bytes) -> None:
        arrived_s = self._clock()
        amps: list[float] = []
        for item in self._decoder.feed(data):
            if item.kind == "current":
                amps.append(item.value * self._amps_per)
            elif item.kind in ("overcurrent", "power_down"):
                raise SourceError(
                    f"the board switched the target off ({item.kind.replace('_', ' ')}): 50 mA is its limit"
                )
            elif item.kind == "error":
                self._problem = item.text
        if not amps:
            return
        first, self._index = self._index, self._index + len(amps)
        self._index += self._arrived(self._index - 1, arrived_s)
        self._add(first, amps, arrived_s)

    def _lost(self) -> int:
        return self._missing // self.block

    def _bad(self) -> int:
        return self._earlier_bad + self._decoder.bad


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the port can be opened; whether the board answers shows when it is."""
    values = numbers("lpm01a", params, {"volt_mv": VOLT_MV, "freq_hz": FREQ_HZ, "energy": 0})
    volt_mv, freq_hz, energy = int(values["volt_mv"]), int(values["freq_hz"]), bool(values["energy"])
    if not 1800 <= volt_mv <= 3300:
        raise UnknownSourceError(f"lpm01a: volt_mv is {volt_mv}, of 1800 to 3300")
    if freq_hz not in FREQS_HZ:
        raise UnknownSourceError(f"lpm01a: freq_hz is {freq_hz}, of {', '.join(map(str, FREQS_HZ))}")
    if energy and freq_hz > TEXT_UP_TO_HZ:
        raise UnknownSourceError(f"lpm01a: energy comes as text, up to {TEXT_UP_TO_HZ} samples a second, not {freq_hz}")
    barred = check_port("lpm01a", argument)
    if barred is not None:
        return barred
    source = Lpm01aSource(
        full_name("lpm01a", argument, params), argument, volt_mv=volt_mv, freq_hz=freq_hz, energy=energy
    )
    return Found(source, f"an LPM01A should be on {argument}")
