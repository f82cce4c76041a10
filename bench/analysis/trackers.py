"""Trackers: the conditions of a run for MLflow (file store), Weights & Biases (offline) and as BoAmps reports.

Each condition is an entry of its own that says what measured it: energy source, grade, the 95 % interval and what it is
made of. Nothing is sent anywhere; the tracker's own program uploads what lies in the folder.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis.savings import measured
from bench.analysis.statistics import t_interval
from bench.errors import JouletuneError, RequestError
from bench.read.results import GROUP, Results
from bench.store.durable import write_atomic
from bench.store.manifest import Manifest

CONDITION = ["run", *GROUP, "arm"]
FACTS = ("dataset", "shift", "level", "method", "model", "engine", "bn_mode")
BOAMPS_VERSION = "0.1"
BOAMPS_URI = "https://github.com/Boavizta/BoAmps"
JOULES_PER_KWH = 3.6e6
QUALITY = {"A": "high", "B": "medium", "C": "low"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One condition of a run.

    Attributes:
        name: data, train size and arm.
        metrics: figures that are known: energy in J of one execution with its interval (`_lo`, `_hi`), seconds,
            accuracies as fractions, numbers of repeats.
        facts: what was run, as text.
        measured_by: source, source_kind, grade (the worst), flags, interval (how it was made), jouletune.
        started_at: UTC, ISO 8601, of its first repeat.
    """

    run: str
    name: str
    metrics: Mapping[str, float]
    facts: Mapping[str, str]
    measured_by: Mapping[str, str]
    started_at: str
    manifest: Manifest


def entries(results: Results) -> list[Entry]:
    """Every condition of the results."""
    joules = measured(results.records)
    found = []
    for condition, part in results.records.groupby(CONDITION, sort=False):
        run, *parts, arm = map(str, condition)
        manifest = results.manifests[results.runs.index(run)]
        usable = joules.loc[joules.index.intersection(part.index)]
        metrics = {"repeats": float(len(part)), "repeats_ok": float(part["ok"].sum())}
        for column, name in (("energy_gross_j", "energy_gross_j"), ("energy_net_j", "energy_net_j")):
            spread = "energy_u_j" if column == "energy_gross_j" else "energy_net_u_j"
            metrics |= _interval(usable[column], usable[spread], name)
        metrics |= _interval(part.loc[part["ok"], "train_time_s"], None, "train_time_s")
        metrics |= _interval(part.loc[part["ok"]].groupby("seed")["accuracy_after"].mean(), None, "accuracy_after")
        metrics |= _interval(part.loc[part["ok"]].groupby("seed")["accuracy_before"].mean(), None, "accuracy_before")
        flags = sorted({flag for text in part["flags"].dropna() for flag in str(text).split(";") if flag})
        facts = {"data": parts[0], "train_size": parts[1], "arm": arm}
        facts |= {name: str(part[name].iloc[0]) for name in FACTS if part[name].notna().iloc[0]}
        facts["seeds"] = ", ".join(map(str, sorted(part["seed"].unique())))
        grades = part["grade"].dropna()
        found.append(
            Entry(
                run=run,
                name=" ".join([parts[0], f"n={parts[1]}", arm]),
                metrics=metrics,
                facts=facts,
                measured_by={
                    "source": "+".join(sorted(set(part["source"].dropna()))) or "none",
                    "source_kind": "+".join(sorted(set(part["source_kind"].dropna()))) or "none",
                    "grade": max(grades) if len(grades) else "none",
                    "flags": ", ".join(flags),
                    "interval": "95 %: t interval over the repeats and the source's expanded uncertainty (k = 2), in "
                    "quadrature; of times and accuracies the t interval alone",
                    "jouletune": str(manifest.jouletune),
                },
                started_at=str(part["started_at"].min()),
                manifest=manifest,
            )
        )
    return found


def _interval(values: pd.Series, uncertainty: pd.Series | None, name: str) -> dict[str, float]:
    """Mean and ends of the interval, those that are known."""
    found = t_interval(values.to_numpy(float))
    if found.mean is None:
        return {}
    half = None if found.hi is None else found.hi - found.mean
    if uncertainty is not None and uncertainty.notna().any():
        half = math.hypot(half or 0.0, float(uncertainty.mean()))
    ends = {} if half is None else {f"{name}_lo": found.mean - half, f"{name}_hi": found.mean + half}
    return {name: found.mean} | ends


def to_mlflow(title: str, found: Sequence[Entry], folder: Path) -> None:
    """Add an MLflow run for each entry to a file store, in an experiment called like the results.

    Raises:
        RequestError: MLflow is not installed.
    """
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # asked for; MLflow prefers a database
    try:
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise RequestError("--to mlflow needs MLflow; pip install 'jouletune[mlflow]'") from None
    client = MlflowClient(tracking_uri=folder.resolve().as_uri())
    known = client.get_experiment_by_name(title)
    experiment = known.experiment_id if known is not None else client.create_experiment(title)
    for entry in found:
        tags = {f"jouletune.{key}": value for key, value in entry.measured_by.items()} | {"jouletune.run": entry.run}
        run = client.create_run(experiment, start_time=_milliseconds(entry.started_at), run_name=entry.name, tags=tags)
        for key, value in entry.facts.items():
            client.log_param(run.info.run_id, key, value)
        for key, number in entry.metrics.items():
            client.log_metric(run.info.run_id, key, number)
        client.set_terminated(run.info.run_id)


def to_wandb(title: str, found: Sequence[Entry], folder: Path) -> None:
    """Add an offline run of W&B for each entry; `wandb sync` uploads them.

    Raises:
        RequestError: W&B is not installed.
    """
    try:
        import wandb
    except ImportError:
        raise RequestError("--to wandb needs Weights & Biases; pip install 'jouletune[wandb]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    # nothing of the machine or of the code goes into it, and nothing is sent
    settings = wandb.Settings(
        console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True
    )
    for entry in found:
        run = wandb.init(
            project=_slug(title), name=entry.name, group=entry.run, dir=str(folder), mode="offline", settings=settings,
            config={**entry.facts, "jouletune": dict(entry.measured_by)},
        )  # fmt: skip
        run.summary.update({**entry.metrics, **{f"jouletune.{key}": text for key, text in entry.measured_by.items()}})
        run.finish()


def to_boamps(title: str, found: Sequence[Entry], folder: Path) -> None:
    """Write a BoAmps report per entry with joules, `boamps-NUMBER.json`.

    Raises:
        RequestError: no entry has joules.
        JouletuneError: a file cannot be written.
    """
    reports = [boamps(title, entry) for entry in found if "energy_gross_j" in entry.metrics]
    if not reports:
        raise RequestError("no condition has joules, and a BoAmps report is about them")
    for number, report in enumerate(reports):
        write_atomic(folder / f"boamps-{number:04}.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def boamps(title: str, entry: Entry) -> dict[str, Any]:
    """The report of one execution. BoAmps has no field for an interval: it stands in the description and the method."""
    metrics, device = entry.metrics, entry.manifest.device
    kwh = {key: metrics[f"energy_gross_j{key}"] / JOULES_PER_KWH for key in ("", "_lo", "_hi")}
    how = entry.measured_by
    words = f"jouletune {how['jouletune']}, source {how['source']} ({how['source_kind']}), grade {how['grade']}"
    accuracy = metrics.get("accuracy_after")
    versions = entry.manifest.versions
    components: list[dict[str, Any]] = []
    if device is not None:
        components.append(
            _known(componentType="cpu", componentName=device.cpu_model, nbComponent=1, family=device.board)
        )
        if device.memory_bytes:
            components.append(
                {"componentType": "ram", "nbComponent": 1, "memorySize": round(device.memory_bytes / 1e9)}
            )
    return {
        "header": {
            "formatVersion": BOAMPS_VERSION,
            "formatVersionSpecificationUri": BOAMPS_URI,
            "reportId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{entry.run}/{entry.name}/{entry.started_at}")),
            "reportDatetime": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            "reportStatus": "draft",
        },
        "task": _known(
            taskStage="finetuning" if entry.facts.get("model") else "other",
            taskFamily="image classification" if entry.facts.get("model") else "command",
            algorithms=[
                _known(
                    trainingType="transferLearning",
                    algorithmType="neural network",
                    algorithmName=entry.facts.get("model") or entry.facts["arm"],
                    framework="pytorch" if versions.get("torch") else None,
                    frameworkVersion=versions.get("torch"),
                )
            ],
            dataset=[
                {"dataUsage": "input", "dataType": "image" if entry.facts.get("model") else "other"},
            ],
            measuredAccuracy=accuracy,
            taskDescription=f"{title}: {entry.name}; gross energy {kwh['']:.6g} kWh, 95 % interval {kwh['_lo']:.6g} to "
            f"{kwh['_hi']:.6g} kWh, of one execution, mean of {metrics['repeats_ok']:g}; {words}; flags: "
            f"{how['flags'] or 'none'}",
        ),
        "measures": [
            _known(
                measurementMethod=words,
                version=how["jouletune"],
                powerConsumption=kwh[""],
                measurementDuration=metrics.get("train_time_s"),
                measurementDateTime=entry.started_at[:19].replace("T", " "),
            )
        ],
        "system": {"os": (device.os if device is not None else None) or "linux"},
        "software": _known(language="python", version=versions.get("python")),
        "infrastructure": {
            "infraType": "onPremise",
            "components": components or [{"componentType": "other", "nbComponent": 1}],
        },
        "quality": QUALITY.get(how["grade"], "low"),
    }


def _known(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _milliseconds(moment: str) -> int | None:
    try:
        return round(1000 * datetime.fromisoformat(moment).timestamp())
    except ValueError:
        return None


def _slug(title: str) -> str:
    """A name of a W&B project."""
    return "".join(c if c.isalnum() or c in "-_. " else "-" for c in title)[:128] or "jouletune"


TARGETS: dict[str, Callable[[str, Sequence[Entry], Path], None]] = {
    "mlflow": to_mlflow,
    "wandb": to_wandb,
    "boamps": to_boamps,
}
"""Where results can go -> what writes them into a folder."""


def export(results: Results, target: str, folder: Path) -> int:
    """Write the conditions of results for a tracker; returns how many.

    Raises:
        RequestError: the tracker is not installed, or there is nothing for it.
        JouletuneError: the folder cannot be written.
    """
    found = entries(results)
    try:
        TARGETS[target](results.title, found, folder)
    except OSError as error:
        raise JouletuneError(f"{folder}: cannot write ({error.strerror or error})") from None
    return len(found)
