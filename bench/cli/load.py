"""The command on the models that a run kept: load."""

from __future__ import annotations

from pathlib import Path

import click

from bench import text
from bench.errors import RequestError


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("cell", metavar="CELL")
@click.option("--repeat", type=click.IntRange(min=0), metavar="N", help="Which repeat.  [default: the newest kept]")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Save it whole, by torch.save (.pt).")
def load(run: Path, cell: str, repeat: int | None, out: Path | None) -> None:
    """Load the model that the arm of CELL left in RUN, which `jouletune run --keep-models` wrote, and describe it.

    In Python, bench.load_model(RUN, CELL) gives the torch module.
    """
    from bench.models.kept import load_model

    if out is not None and (out.suffix != ".pt" or not out.parent.is_dir()):
        raise RequestError(f"{out}: expected the name of a .pt file in a folder that is there")
    model, record = load_model(run, cell, repeat=repeat)
    count = sum(parameter.numel() for parameter in model.parameters())
    accuracy = record.get("accuracy_after")
    text.echo(f"{cell} #{record['repeat']}: {record['model']}, {count:,} parameters, as {record['arm']} left it")
    text.echo(f"accuracy on its test images: {'not known' if accuracy is None else f'{100 * accuracy:.2f} %'}")
    text.echo(f"file: {run / 'models' / record['model_file']}")
    if out is not None:
        import torch

        from bench.store.durable import write_through

        write_through(out, lambda file: torch.save(model, file))
        text.echo(f"saved: {out}")
