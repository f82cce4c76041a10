"""The command that looks at a user's own model and images, and says what to tune and what that will cost here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from bench import text
from bench.errors import JouletuneError, RequestError

POOL, VAL = 0.6, 0.2
"""Shares of the target's images that may be trained on and validated on."""

WORDS = {
    "none": "no shift that calls for anything: leave the model as it is",
    "prior": "a prior shift, classes became rarer or more frequent: move the head's bias by their shares",
    "input": "a shift of the input, images look different: take BatchNorm's statistics from the target where the net "
    "has any, then train the first block",
    "feature": "a shift of features, other kinds of the same things: solve the head anew",
    "output": "a shift of the output, classes were renamed or exchanged: solve the head anew",
    "composite": "a shift of input and output at once: take BatchNorm's statistics from the target where the net has "
    "any, then solve the head anew",
}


@click.command()
@click.argument("source_images", type=click.Path(path_type=Path), metavar="SOURCE")
@click.argument("target_images", type=click.Path(path_type=Path), metavar="TARGET")
@click.option("--model", default="resnet18", show_default=True, metavar="NAME", help="As `model: name` of a suite.")
@click.option("--checkpoint", metavar="FILE", help="Weights of the model.  [default: trained on SOURCE, once]")
@click.option("--image-size", type=click.IntRange(8, 1024), default=64, show_default=True, metavar="PIXELS")
@click.option(
    "--labels", type=click.IntRange(min=2), default=200, show_default=True, help="Target images to train on, at most."
)
@click.option(
    "--epochs", type=click.IntRange(min=1), default=10, show_default=True, help="Of the forecast and the suite."
)
@click.option(
    "--source", default="auto", show_default=True, metavar="NAME", help="Energy source; see `jouletune sources`."
)
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="Torch device that trains.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("advice.yaml"), show_default=True, help="Suite to write."
)
def advise(source_images: Path, target_images: Path, out: Path, **given: Any) -> int:
    """Say what kind of shift lies between two folders of images, what to tune, and what that will cost here.

    SOURCE has what the model learned from, TARGET what the device sees now: a folder for each class, the same in both.
    A short trial with one epoch is measured and reckoned up; a suite that checks the advice is written.
    """
    import json

    from bench.data.locate import check_tree, image_files

    for what, folder in (("SOURCE", source_images), ("TARGET", target_images)):
        check_tree(folder.absolute(), what)
    if out.exists():
        raise RequestError(f"{out} is there already; give --out another name")
    n = len(image_files(target_images.absolute()))
    n_train = min(given["labels"], int(POOL * n))
    if n_train < 2 or round(VAL * n) < 1:
        raise RequestError(f"TARGET: {n} images are too few to train, validate and test with")
    suite = _suite(source_images, target_images, n_train, given)
    trial = suite | {
        "methods": ["auto"],
        "blocks": None,
        "seeds": [0],
        "train": suite["train"] | {"epochs": 1},
        "energy": {"repeats": 1, "min_window_s": 2, "idle_s": 3, "guard_s": 0, "cooldown_s": 0},
    }
    record = _tried({key: value for key, value in trial.items() if value is not None}, given)
    for line in told(record, given["epochs"]):
        text.echo(line)
    head = f"# Checks the advice on {target_images}: every arm that it was chosen among.\n"
    body = "\n".join(f"{key}: {json.dumps(value)}" for key, value in suite.items())
    try:
        out.write_text(f"{head}{body}\n", encoding="utf-8")
    except OSError as error:
        raise RequestError(f"--out {out}: cannot be written ({error.strerror})") from None
    text.echo(f"{out} checks this: jouletune run {out} --source {given['source']}")
    return 0


def _suite(source: Path, target: Path, n_train: int, given: dict[str, Any]) -> dict[str, Any]:
    """The suite that checks the advice, as plain data."""
    model: dict[str, Any] = {"name": given["model"]}
    if given["checkpoint"] is not None:
        model["checkpoint"] = str(Path(given["checkpoint"]).absolute())
    data = {
        "dataset": "folder",
        "source": str(source.absolute()),
        "target": str(target.absolute()),
        "level": "input",  # a folder needs one; no arm of this suite looks at it
        "image_size": given["image_size"],
        "name": "advice",
    }
    return {
        "name": "advice",
        "title": "What the shift calls for, and what else there is",
        "model": model,
        "data": [data],
        "train_size": [n_train],
        "blocks": ["full"],
        "methods": ["none", "auto", "race"],
        "seeds": [0, 1, 2],
        "split": {"pool": POOL, "val": VAL, "test": round(1 - POOL - VAL, 2)},
        "train": {"epochs": given["epochs"], "batch_size": 32, "lr": 0.003, "patience": None},
        "energy": {"repeats": 1, "min_window_s": 10, "idle_s": 10, "guard_s": 1},
    }


def _tried(trial: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The record of a short trial, run in a folder that is gone afterwards.

    Raises:
        JouletuneError: the trial failed.
    """
    import json

    from bench.run.runner import RunOptions, run_suite
    from bench.store.run_dir import RunDir
    from bench.suite.load import load_suite

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trial.yaml"
        file.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in trial.items()), encoding="utf-8")
        run = Path(folder) / "run"
        result = run_suite(
            load_suite(str(file)), RunOptions(out=run, source=given["source"], device=given["device"]), text.console()
        )
        if result.interrupted:
            raise JouletuneError("interrupted")
        records = RunDir(run).records([])
    if not records or records[-1]["status"] != "ok":
        reason = records[-1]["error"] if records else "it left no record"
        raise JouletuneError(f"the trial failed: {reason}")
    found: dict[str, Any] = records[-1]
    return found


def told(record: dict[str, Any], epochs: int) -> list[str]:
    """The advice in words.

    Args:
        record: of a trial of `auto` with one epoch.
        epochs: to be forecast.
    """
    facts = record["facts"]
    factor = growth(record, epochs)
    seconds = record["train_time_s"] * factor
    joules = record["energy_gross_j"]
    sure = "" if facts.get("confidence") is None else f" ({facts['confidence']:.0%} of the bootstrap's votes)"
    lines = [
        f"The model is right on {record['accuracy_before']:.1%} of {record['n_test']} test images.",
        f"This looks like {WORDS[facts['decision']]}{sure}.",
        f"Because {facts['reason']}.",
    ]
    if facts.get("fell_back"):
        lines.append("That is not sure enough: the safe arm was taken, the head alone, if it validates better.")
    if factor == 1:
        lines.append(f"The trial did just that: {record['accuracy_after']:.1%} right after it.")
    else:
        lines.append(f"After a trial of one epoch: {record['accuracy_after']:.1%} right.")
    cost = (
        f"{seconds:.1f} s"
        if joules is None
        else f"{joules * factor:.1f} J (gross, {record['source']}) and {seconds:.1f} s"
    )
    lines.append(f"On this device it will take about {cost} with {record['n_train']} images and {epochs} epochs.")
    if joules is None:
        lines.append("Without an energy source nothing is known of its joules; see `jouletune sources`.")
    return lines


def growth(record: dict[str, Any], epochs: int) -> float:
    """Factor from what a trial with one epoch takes to what so many epochs take, by multiply-accumulates.

    One epoch is n_train steps and n_val forward passes; all else (probes, head, statistics) is done once.
    """
    total, step, forward = record["train_macs"], record["step_macs"], record["forward_macs"]
    if not record["epochs_run"] or not total or step is None:
        return 1.0
    batch = min(32, record["n_train"])
    epoch = record["n_train"] * step / batch + record["n_val"] * forward
    return float(1 + (epochs - 1) * min(1.0, epoch / total))
