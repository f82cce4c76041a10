"""The command blocks: the parts of a model that a suite can tune."""

from __future__ import annotations

import click

from bench import text


@click.command()
@click.argument("model")
@click.option("--classes", type=click.IntRange(2, 100_000), default=10, show_default=True, help="Of the head.")
@click.option("--channels", type=click.IntRange(1, 64), default=3, show_default=True, help="Of an image.")
@click.option("--image-size", type=click.IntRange(8, 1024), help="Side of an image, pixels.  [default: 32, or 224]")
@click.option("--width", type=click.IntRange(1, 1024), default=16, show_default=True, help="Of the paper's ResNets.")
def blocks(model: str, classes: int, channels: int, image_size: int | None, width: int) -> None:
    """List the blocks of MODEL: name, module paths, parameters, and multiply-accumulates of one image.

    MODEL is a name of the catalogue, as in a suite; of a suite's own model, give the suite's file. The last column is
    what one training step of one image takes where that block alone is tuned.
    """
    from rich.table import Table

    from bench.cost.by_block import by_block, of_catalog, of_suite

    if model.endswith((".yaml", ".yml")):
        given = of_suite(model)
    else:
        given = of_catalog(model, classes=classes, channels=channels, image_size=image_size, width=width)
    table = Table(box=None, pad_edge=False)
    for head in ("block", "modules", "parameters", "forward MACs", "step MACs"):
        table.add_column(head, justify="left" if head in ("block", "modules") else "right", overflow="fold")
    for block in by_block(given):
        step = f"{block.step_macs:,}" if block.step_macs else "-"
        table.add_row(block.name, ", ".join(block.paths), f"{block.parameters:,}", f"{block.forward_macs:,}", step)
    console = text.console()
    shape = f"{given.channels} x {given.size} x {given.size}"
    console.print(f"{given.spec.name}, {given.classes} classes, images of {shape}; of one image:", soft_wrap=True)
    console.print(table)
