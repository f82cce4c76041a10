"""The command on microcontrollers: firmware."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import text
from bench.cli import read
from bench.errors import INTERRUPTED, JouletuneError, RequestError, nearest, show

if TYPE_CHECKING:
    from torch import nn

    from bench.data.domain import Domain
    from bench.suite.load import LoadedSuite

START_S = 120


@click.command()
@click.argument("what", metavar="SUITE|RUN")
@click.argument("cell", metavar="[CELL]", required=False)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder of the firmware.")
@click.option("--board", default="mps2-an500", show_default=True, metavar="NAME", help="Board that it has to fit.")
@click.option(
    "--slots", type=click.IntRange(0, 65_535), metavar="N",
    help="Examples that the board stores to train heads; 0: none.  [default: 64 of a SUITE, 0 of a CELL]",
)  # fmt: skip
@click.option("--cut", metavar="MODULE", help="Where the part of the net ends that may answer alone, e.g. layer1.")
@click.option(
    "--rounding", type=click.Choice(["onnxruntime", "tflite"]), default="onnxruntime", show_default=True,
    help="How sums become 8 bits.",
)  # fmt: skip
@click.option(
    "--emulate", type=click.Path(path_type=Path), metavar="RUN",
    help="Then run SUITE on the emulated board with a simulated meter into this folder, and report.",
)  # fmt: skip
def firmware(what: str, cell: str | None, out: Path, board: str, emulate: Path | None, **how: Any) -> int:
    """Write the firmware of a microcontroller: the net of a model in 8 bits, with what infers and trains.

    Of a SUITE it is the source model, of which a board trains the heads itself (`jouletune run SUITE --target
    serial:PORT`); of a CELL of a RUN with --keep-models the model that its arm left. `make` in DIR builds it.
    """
    from hardware.firmware.arrays import BOARDS

    if board not in BOARDS:
        raise RequestError(f"--board {show(board)}: not known; {nearest(board, BOARDS)}")
    if emulate is not None and (cell is not None or not BOARDS[board].port):
        raise RequestError("--emulate: needs a SUITE and an emulated board, mps2-an386 or mps2-an500")
    from bench.targets.build import make_net, write_firmware

    if cell is None:
        loaded, model, domain = _of_suite(what)
        spec, name = loaded.suite.model, loaded.suite.name
    else:
        model, domain, spec, name = _of_cell(Path(what), cell)
    cut = how["cut"]
    if cut is None and cell is None and spec.cut not in (None, "auto"):
        from bench.models.staged import cut_path

        cut = cut_path(model, loaded.suite.block_map, spec.cut)
    slots = how["slots"] if how["slots"] is not None else (64 if cell is None else 0)
    if cut is not None and not slots:
        raise RequestError("--cut: a part has a head of its own, which the board trains; give --slots too")
    net = make_net(model, domain.target.x, pixels=spec.pixels, cut=cut, head=slots > 0, rounding=how["rounding"])
    manifest = write_firmware(
        model, net, out, slots=slots, classes=len(domain.target.classes), board=board, name=name[:40]
    )
    needs = manifest["memory"]
    text.echo(
        f"{out}: {name} for {board}, {net.macs:,} MACs an image; flash {needs['flash'] / 1024:.1f} KiB, SRAM "
        f"{needs['sram'] / 1024:.1f} KiB (image {needs['image'] / 1024:.1f}, activations "
        f"{needs['activations'] / 1024:.1f}, features {needs['features'] / 1024:.1f}, heads {needs['head'] / 1024:.1f})"
    )
    if emulate is None:
        text.echo(f"build it with: make -C {out}")
        return 0
    assert cell is None
    return _emulate(loaded, out, board, emulate)


def _of_suite(name: str) -> tuple[LoadedSuite, nn.Module, Domain]:
    """The source model of a suite, which must be one for all of its data."""
    import torch

    from bench.data.domain import load_domain, make_domain
    from bench.data.locate import locate_all
    from bench.models.source import load_source_model, make_source_model
    from bench.run.progress import RunProgress
    from bench.suite.load import load_suite

    loaded = load_suite(name)
    suite = loaded.suite
    if len(suite.data) != 1:
        raise RequestError(f"{name}: firmware holds one net; expected a suite with one entry of data")
    locate_all(suite.data, suite.model.checkpoint)
    domain = load_domain(make_domain(suite.data[0], lambda done, total: None))
    epochs = 1 if suite.model.checkpoint else suite.model.source_train.epochs
    with RunProgress(text.console(stderr=True), f"training {suite.model.name} on the source", epochs) as bar:
        weights = make_source_model(
            suite.model, domain, loaded.base, torch.device("cpu"), lambda done, total: bar.to(done)
        )
    return loaded, load_source_model(suite.model, domain, weights, loaded.base), domain


def _of_cell(run: Path, cell: str) -> tuple[nn.Module, Domain, Any, str]:
    """The model that a cell's arm left, the data that it was adapted to, and what it is."""
    from bench.data.domain import load_domain, make_domain
    from bench.data.locate import locate_all
    from bench.models.kept import load_model
    from bench.store.run_dir import RunDir
    from bench.suite.load import suite_of

    model, _ = load_model(run, cell)
    manifest = RunDir.existing(run).read_manifest([])
    assert manifest is not None, "load_model has read it"
    suite, _base = suite_of(manifest)
    data = next(one.data for one in suite.cells() if one.cell_id == cell)
    locate_all([data], None)
    return model, load_domain(make_domain(data, lambda done, total: None)), suite.model, cell


def _emulate(loaded: LoadedSuite, folder: Path, board: str, out: Path) -> int:
    """Run a suite on the emulated board with a simulated meter, and report."""
    from bench.run.runner import RunOptions, run_suite

    with _emulated(folder, board) as (target, source):
        options = RunOptions(out=out, source=source, target=target)
        console = text.console()
        result = run_suite(loaded, options, console)
    if result.interrupted:
        return INTERRUPTED
    read.write_report_of([out], out, console)
    return 1 if result.failed else 0


@contextlib.contextmanager
def _emulated(folder: Path, board: str) -> Iterator[tuple[str, str]]:
    """The emulated board and its meter, in a process of their own: target and source to measure it with."""
    words = [sys.executable, "-m", "hardware.instruments", "dut", "--firmware", str(folder), "--board", board]
    # the same names each time, so that the same command goes on with a run
    words += ["--link", str((folder / "port").absolute())]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        said = [process.stdout.readline(), process.stdout.readline()]
        if "measure with: " not in said[1]:
            error = process.stderr.read().strip().removeprefix("error: ") or "the emulated board did not start"
            raise JouletuneError(" ".join(error.split())[-400:])
        target, source = said[1].partition("--target ")[2].strip().split(" --source ")
        yield target, source
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
