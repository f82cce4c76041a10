"""Assess results: what was left out of the figures, where the joules come from, and how far they can be trusted."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pandas as pd

from bench.analysis.savings import measured
from hardware.measure.grade import FATAL, FLAGS, LABELS, NOTES

UNSTABLE_CV = 0.10
"""Relative standard deviation of a cell's joules above which it is called unstable (pyperf's limit)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A repeat that gave no result."""

    cell_id: str
    repeat: int
    status: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Counts over all records; nothing counted here as left out is in any average.

    Attributes:
        records, cells: how many there are.
        statuses: repeats per status, e.g. {"ok": 88, "failed": 2}.
        grades: repeats that finished, per grade of their joules; "none" without a grade.
        excluded_x: finished repeats whose joules are not usable (grade X), and so are left out.
        reasons_x: what made them so, in words, with how many each.
        without_joules: other finished repeats that have no energy.
        net_not_positive: measured repeats whose net energy is zero or less, left out of net saving rates.
        flags: what repeats were flagged with, most frequent first.
        unstable: cells whose joules vary by more than UNSTABLE_CV.
        failures: every repeat that gave no result.
        energy: where the joules come from, e.g. "ina219 (power, grade A)".
        caveats: "simulated", "replayed", "estimate" where any of the joules are.
        caveat_label: the same for a heading, "partly ..." where others are measured.
    """

    records: int
    cells: int
    statuses: dict[str, int]
    grades: dict[str, int]
    excluded_x: int
    reasons_x: dict[str, int]
    without_joules: int
    net_not_positive: int
    flags: dict[str, int]
    unstable: tuple[str, ...]
    failures: tuple[Failure, ...]
    energy: str
    caveats: tuple[str, ...]
    caveat_label: str

    @property
    def has_joules(self) -> bool:
        return self.energy != NO_ENERGY


NO_ENERGY = "none measured"
MAX_SOURCES = 8
"""Sources of joules that a sentence describes."""

CAVEATS = {"simulated": "simulat", "replayed": "replay", "estimate": "estimate"}
"""What joules can be instead of measured, and the stem that gives it away."""


def assess(records: pd.DataFrame, cells: pd.DataFrame) -> Quality:
    """Assess the quality of a run; `cells` is `cell_table` of the same records."""
    done = records[records["ok"]]
    joules = measured(records)
    flags = records.loc[records["flags"] != "", "flags"].str.split(";").explode().value_counts()
    spread = cells["energy_gross_j:sd"] / cells["energy_gross_j:mean"]
    lost = records[~records["ok"]]
    return Quality(
        records=len(records),
        cells=len(cells),
        statuses=_counts(records["status"]),
        grades=_counts(done["grade"].fillna("none")),
        excluded_x=int((done["grade"] == "X").sum()),
        reasons_x=_reasons(done[done["grade"] == "X"]),
        without_joules=int((done["energy_gross_j"].isna() & (done["grade"] != "X")).sum()),
        net_not_positive=int((joules["energy_net_j"] <= 0).sum()),
        flags={str(name): int(count) for name, count in flags.items()},
        unstable=tuple(cells.loc[spread > UNSTABLE_CV, "cell_id"]),
        failures=tuple(
            Failure(row["cell_id"], int(row["repeat"]), row["status"], row["error"])
            for row in lost.fillna({"error": ""}).to_dict("records")
        ),
        energy=provenance(records),
        caveats=caveats(records),
        caveat_label=caveat_label(records),
    )


def provenance(records: pd.DataFrame) -> str:
    """Describe source, kind and grade of the joules that count; NO_ENERGY where there are none."""
    joules = measured(records)
    joules = joules.assign(caveat=row_caveats(joules))
    parts = []
    sources = joules.groupby(["source", "source_kind", "caveat"], sort=False, dropna=False)
    for (source, kind, caveat), part in itertools.islice(sources, MAX_SOURCES):
        grades = "/".join(sorted(part["grade"].dropna().unique()))
        name = source if isinstance(source, str) else "source not named"
        facts = [
            kind if isinstance(kind, str) else "kind not stated",
            f"grade {grades}" if grades else "no grade",
            *([f"not measured: {str(caveat).replace(';', ', ')}"] if caveat else []),
            *_warnings(part["flags"]),
        ]
        parts.append(f"{name} ({', '.join(facts)})")
    if sources.ngroups > MAX_SOURCES:
        parts.append(f"and {sources.ngroups - MAX_SOURCES} more sources")
    return "; ".join(parts) or NO_ENERGY


def _warnings(flags: pd.Series) -> list[str]:
    """List the warnings that at least half of these joules carry, as 'flags: ...'."""
    counts = flags.str.split(";").explode().value_counts()
    names = [name for name, n in counts.items() if name in FLAGS and name not in LABELS | NOTES and 2 * n >= len(flags)]
    return [f"flags: {', '.join(map(str, names))}"] if names else []


def _reasons(unusable: pd.DataFrame) -> dict[str, int]:
    """Count repeats by the meaning of the flag that made their joules unusable."""
    flags = unusable["flags"].str.split(";").explode()
    return {FLAGS[str(name)]: int(n) for name, n in flags[flags.isin(list(FATAL))].value_counts().items()}


def caveat_label(records: pd.DataFrame) -> str:
    """Caveat for a heading over joules: '', 'simulated', 'partly estimate'."""
    made = caveats(records)
    if not made:
        return ""
    return ("" if (row_caveats(measured(records)) != "").all() else "partly ") + ", ".join(made)


def caveats(records: pd.DataFrame) -> tuple[str, ...]:
    """List why joules that count are not a measurement of this run: simulated, replayed, estimate."""
    found = ";".join(row_caveats(measured(records)).unique())
    return tuple(word for word in CAVEATS if word in found)


def row_caveats(records: pd.DataFrame) -> pd.Series:
    """Caveats per record, joined by ';', '' for a measurement; they follow from source, kind and flags."""
    source_and_flags = (records["source"].fillna("") + ";" + records["flags"]).str.lower()
    text = pd.Series("", index=records.index)
    for word, stem in CAVEATS.items():
        made = source_and_flags.str.contains(stem, regex=False)
        if word == "estimate":
            made = records["source_kind"] == "estimate"
        text = text.where(~made, text + ";" + word)
    return text.str.removeprefix(";")


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in values.value_counts().items()}
