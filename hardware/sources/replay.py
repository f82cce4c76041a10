"""replay: plays a recorded trace of powers against the clock, for trials. Not the energy of any real work.

``replay:FILE`` takes a CSV, gzipped when its name ends in .gz, with the header ``t_s,power_w`` (seconds from any
moment, watts); lines that begin with ``#`` are skipped. A trace that a run left behind (``t_mono_s,power_w``) plays as
well. The first sample falls on the moment the source is opened. A trace that is over is a source that died: what is
measured then has grade X. It is not repeated, since the seam would be an event that never happened.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import statistics
import time
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from hardware.errors import SourceError, SourceUnavailableError
from hardware.files import read_bytes
from hardware.source import Found, NotFound, PowerSource, Probe, Sample, SourceInfo

MAX_BYTES = 20_000_000
"""Of a recording, unpacked: a million samples, nearly three hours at 100 Hz."""

HEADERS = (["t_s", "power_w"], ["t_mono_s", "power_w"])


class ReplaySource(PowerSource):
    """The samples of a file, each returned once its time has come."""

    def __init__(
        self, name: str, samples: list[Sample], *, sha256: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        times = [t for t, _ in samples]
        self._info = SourceInfo(
            name=name,
            kind="power",
            scope="model",
            covers=("nothing: a recording",),
            period_s=statistics.median(right - left for left, right in pairwise(times)),
            gain_u=0.01,
            params={"samples": len(times), "length_s": times[-1] - times[0], "sha256": sha256},
        )
        self._samples = samples
        self._clock = clock
        self._origin_s = 0.0
        self._next = 0

    def open(self) -> None:
        self._origin_s = self._clock() - self._samples[0][0]
        self._next = 0

    def poll(self) -> list[Sample]:
        now_s = self._clock() - self._origin_s
        # only once another sample would be due: until then none is missing
        if now_s > self._samples[-1][0] + self._info.period_s:
            raise SourceError(f"{self._info.name} is over after {self._samples[-1][0] - self._samples[0][0]:.1f} s")
        first = self._next
        while self._next < len(self._samples) and self._samples[self._next][0] <= now_s:
            self._next += 1
        return [(t + self._origin_s, power_w) for t, power_w in self._samples[first : self._next]]


def load(path: Path) -> list[Sample]:
    """The samples of a file.

    Raises:
        SourceUnavailableError: not there, not of the documented form (with the line), or out of order.
    """
    try:
        data = read_bytes(path, limit=MAX_BYTES)
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(data)) as stream:
                data = stream.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise ValueError(f"longer than {MAX_BYTES / 1e6:g} MB")
        text = data.decode("utf-8")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise SourceUnavailableError(f"cannot read {path}: cut short, or not gzip") from None
    except (OSError, ValueError) as error:
        raise SourceUnavailableError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    samples: list[Sample] = []
    header: list[str] | None = None
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        if not row or row[0].startswith("#"):
            continue
        if header is None:
            header = [cell.strip() for cell in row]
            if header not in HEADERS:
                raise SourceUnavailableError(
                    f"{path}, line {number}: expected the header 't_s,power_w', found {','.join(row)!r}"
                )
            continue
        try:
            t_s, power_w = (float(cell) for cell in row)
        except ValueError:
            t_s = power_w = math.nan
        if not (math.isfinite(t_s) and math.isfinite(power_w)):
            raise SourceUnavailableError(f"{path}, line {number}: expected two numbers, found {','.join(row)!r}")
        if samples and t_s <= samples[-1][0]:
            raise SourceUnavailableError(f"{path}, line {number}: {t_s} s does not come after {samples[-1][0]} s")
        samples.append((t_s, power_w))
    if len(samples) < 2:
        raise SourceUnavailableError(f"{path} holds {len(samples)} samples; a trace has at least 2")
    return samples


def probe(argument: str, params: dict[str, str], device: str) -> Probe:
    """Found when the file can be played."""
    if not argument:
        return NotFound("name the trace: replay:FILE, a CSV with the header t_s,power_w")
    path = Path(argument).expanduser()
    samples = load(path)
    # the name is published with the results: no folders of this machine, and a hash of what was played
    shown = path.name if path.is_absolute() else argument
    digest = hashlib.sha256(read_bytes(path, limit=MAX_BYTES)).hexdigest()
    source = ReplaySource(f"replay:{shown}", samples, sha256=digest)
    return Found(
        source,
        f"REPLAYED from {shown}, nothing is measured: "
        f"{len(samples)} samples over {source.info.params['length_s']:.1f} s",
    )
