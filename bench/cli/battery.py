"""The command battery: how long a battery lasts on which a device adapts as in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench import text
from bench.errors import RequestError


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--capacity", metavar="CHARGE", help="As printed on it, e.g. 6700mAh.")
@click.option("--voltage", metavar="VOLTS", help="Mean voltage, e.g. 3.7 or 3.0..4.2.")
@click.option("--usable", metavar="SHARE", help="Share of it that the device can use.  [default: 0.76..1]")
@click.option(
    "--chemistry", help="li-ion, nimh, nimh-low-discharge, lithium-primary or alkaline: self-discharge, cold."
)
@click.option("--self-discharge", metavar="SHARE", help="Share lost a month, e.g. 2% or 2..3%.  [default: 0]")
@click.option("--temperature", "temperature_c", type=float, metavar="DEGC", help="Where the device is.")
@click.option("--temperature-factor", metavar="SHARE", help="Share of the capacity that is left there.")
@click.option("--efficiency", metavar="SHARE", help="Of the converter.  [default: 1]")
@click.option("--sleep", metavar="CURRENT", help="Flows always, e.g. 70uA.  [default: 0]")
@click.option("--draw", "draws", multiple=True, metavar="NAME=I:SHARE", help="Also flows, e.g. radio=12mA:0.25%.")
@click.option("--sense", metavar="NxJ", help="Events a day and joules of one, e.g. 24x0.5J or 24x0.4..0.6J.")
@click.option("--infer", metavar="NxJ", help="As --sense.")
@click.option("--transmit", metavar="NxJ", help="As --sense.")
@click.option("--adapt", metavar="N", help="Tunings a day, e.g. 4 or 1/30.  [default: 1]")
@click.option("--net", is_flag=True, help="Take joules net of idle power instead of gross.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for battery.csv.")
def battery(run: str, net: bool, out: Path | None, draws: tuple[str, ...], **given: Any) -> None:
    """Say how long a battery lasts on which a device adapts as in RUN, and what share one tuning takes.

    Without --capacity the profile is that of RUN's suite (`battery:`); options replace its values. A range, such as
    0.7..0.9, widens the interval of the life.
    """
    from rich.table import Table

    from bench.analysis import battery as lives_of
    from bench.read.results import load
    from bench.suite.battery import BatterySpec

    results = load(run, skip_damaged=True)
    profiles: list[dict[str, Any]] = [one.content.get("battery") or {} for one in results.manifests]
    chosen = {key: value for key, value in given.items() if value is not None}
    for draw in draws:
        name, equals, value = draw.partition("=")
        if not equals:
            raise RequestError(f"--draw {draw}: expected NAME=CURRENT:SHARE, e.g. radio=12mA:0.25%")
        chosen["draws"] = {**chosen.get("draws", {}), name: value}
    merged = {**next(filter(None, profiles), {}), **chosen}
    if "capacity" not in merged or "voltage" not in merged:
        raise RequestError("--capacity and --voltage are missing, and RUN's suite has no battery")
    spec = BatterySpec.of(merged)
    table = lives_of.lives(results, spec, net=net)
    for damage in results.damage:
        text.echo(f"warning: {damage}", err=True)
    if table.empty:
        raise RequestError(f"{run}: no joules were measured that could be set against a battery")
    shown = Table(box=None, pad_edge=False)
    for column in ("condition", "one tuning", "of battery", "mean current", "days", "grade"):
        shown.add_column(column, justify="left" if column == "condition" else "right", overflow="fold")
    for row in table.to_dict("records"):
        share = lives_of.span(100 * row["share_lo"], 100 * row["share_hi"], 2)
        shown.add_row(
            " ".join(
                filter(None, [str(row["data"]), f"n={row['train_size']:g}" if row["train_size"] else "", row["arm"]])
            ),
            f"{text.joules(row['tuning_j_lo'])} to {text.joules(row['tuning_j_hi'])}",
            f"{share} %",
            f"{lives_of.span(1000 * row['average_a_lo'], 1000 * row['average_a_hi'])} mA",
            lives_of.span(row["days_lo"], row["days_hi"]),
            str(row["grade"]),
        )
    console = text.console()
    console.print(shown)
    for row in table.to_dict("records"):
        console.print(f"{row['data']} {row['arm']}: {lives_of.sentence(row)}.", soft_wrap=True)
    idle = lives_of.life(spec)
    console.print(
        f"Never adapting: {lives_of.life_text(idle.days)} ({lives_of.span(*idle.days)} days) at "
        f"{lives_of.span(1000 * idle.average_a[0], 1000 * idle.average_a[1], 4)} mA.",
        soft_wrap=True,
    )
    console.print(f"Assumed: {lives_of.assumptions(spec)}.", soft_wrap=True)
    console.print("Each range goes from the worst to the best that all the ranges together allow.", soft_wrap=True)
    if out is not None:
        from bench.analysis.summary import to_csv
        from bench.store.durable import write_atomic

        write_atomic(out / "battery.csv", to_csv(table))
        text.echo(f"{out / 'battery.csv'}: {len(table)} conditions")
