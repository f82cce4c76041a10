"""`validate` and `--dry-run`: what a run would find out after an hour is said at once, and nothing is written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import cli

MODEL = """
from torch import nn

class Net(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.conv = nn.Conv2d({channels}, 4, 3)
        self.act = nn.ReLU()
        self.fc = nn.Linear(4, n_classes)

    def forward(self, x):
        return self.fc(self.act(self.conv(x)).mean((2, 3)))

def make(n_classes):
    print("made")
    {first}
    return Net(n_classes)
"""

SUITE = """\
name: trial
model: {{name: "{module}:make", blocks: {blocks}}}
data:
  - {data}
train_size: [0.1]
blocks: [full]
seeds: [0]
energy: {{repeats: 1, min_window_s: 0, idle_s: 0, guard_s: 0}}
"""

BLOCKS = "{body: [conv], fc: [fc]}"
DIGITS = "{dataset: digits, shift: flip}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def write(folder: Path, module: str, *, blocks: str = BLOCKS, data: str = DIGITS, first: str = "pass") -> None:
    (folder / f"{module}.py").write_text(MODEL.format(channels=1, first=first))
    (folder / "s.yaml").write_text(SUITE.format(module=module, blocks=blocks, data=data))


def call(argv: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jouletune", *argv])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    out, err = capfd.readouterr()
    return int(ended.value.code or 0), out, err


COMMANDS = (["validate", "s.yaml"], ["run", "s.yaml", "--dry-run", "--source", "none"])


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: argv[0])
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"blocks": "{body: [conv, act], fc: [fc]}"}, ("model.blocks.body: has no parameters to tune in 'act'",)),
        ({"blocks": "{body: [conf], fc: [fc]}"}, ("no module 'conf'", "did you mean 'conv'")),
        ({"blocks": '{body: ["nothing.*"], fc: [fc]}'}, ("model.blocks.body: has no parameters",)),
        ({"blocks": "{body: [conv], fc: [fc, conv]}"}, ("model.blocks.fc: shares parameters with body",)),
        ({"first": "raise KeyError('oops')"}, ("model.name:", "failed with KeyError: 'oops'")),
        ({"first": "return 5"}, ("returned int; expected a torch.nn.Module",)),
        ({"data": "{dataset: folder, source: no/such, shift: blur}"}, ("no/such is not a folder",)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_is_found_out_at_once(
    case: dict[str, str], words: tuple[str, ...], argv: list[str], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(folder, f"net_{len(sys.modules)}_{abs(hash(str(case)))}", **case)
    before = sorted(folder.iterdir())
    status, out, err = call(argv, capfd)
    assert (status, out) == (2, ""), err
    assert all(word in err for word in words), err
    if words[0].startswith("model."):
        assert err.startswith("error: s.yaml:2: model.")
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before


def test_code_that_is_not_there_and_devices_that_are_none(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(folder, "net_gone")
    (folder / "net_gone.py").unlink()
    for argv in COMMANDS:
        assert "net_gone" in call(argv, capfd)[2]
        status, out, err = call([*argv[:1], "quickstart", *argv[2:], "--device", "foo"], capfd)
        assert (status, out) == (2, "")
        assert "--device foo: torch cannot use it here" in err
    status, _, err = call(["validate", "quickstart", "--source", "hwmom"], capfd)
    assert status == 2
    assert "hwmom" in err
    assert sorted(path.name for path in folder.iterdir()) == ["s.yaml"]


def test_a_refused_device_leaves_no_folder(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "kept").mkdir()
    for out in ([], ["--out", "a/b/c"], ["--out", "kept/run"]):
        status, _, err = call(["run", "quickstart", "--device", "foo", "--source", "none", *out], capfd)
        assert status == 2
        assert "--device foo" in err
    assert [path.name for path in folder.rglob("*")] == ["kept"]


def test_grey_images_and_a_model_of_torchvision_need_no_torch(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(folder, "unused")
    text = (folder / "s.yaml").read_text()
    (folder / "s.yaml").write_text(text.replace(f'"unused:make", blocks: {BLOCKS}', "resnet18"))
    status, _, err = call(["validate", "s.yaml"], capfd)
    assert status == 2
    assert "s.yaml:2: model.name: resnet18 takes colour images" in err


def test_times_own_models_and_prints_cells_alone_on_stdout(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(folder, "net_fine")
    status, out, err = call(["validate", "s.yaml", "--no-timing"], capfd)
    assert (status, out) == (0, "digits-flip/n=0.1/full/s=0\n")
    assert "no estimate: 2 kinds of step were not timed" in err
    status, out, err = call(["validate", "s.yaml"], capfd)
    assert (status, out) == (0, "digits-flip/n=0.1/full/s=0\n")
    assert "trial: 1 cells x 1 repeats, roughly" in err
    assert "source models" in err
    status, _, err = call(["validate", "s.yaml", "--no-timing"], capfd)
    assert "roughly" in err


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: argv[0])
def test_a_model_function_that_hangs_is_stopped(
    argv: list[str], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(folder, f"net_hangs_{argv[0]}", first="__import__('time').sleep(600)")
    (folder / "s.yaml").write_text((folder / "s.yaml").read_text() + "timeout_s: 2\n")
    status, out, err = call(argv, capfd)
    assert (status, out) == (2, "")
    assert f"model.name: building net_hangs_{argv[0]}:make: not done in time" in err


def test_data_that_can_be_fetched_is_named_and_no_error(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOULETUNE_DATA", str(folder))
    monkeypatch.setenv("JOULETUNE_CACHE", str(folder / "cache"))
    status, out, err = call(["validate", "cifar-flip"], capfd)
    assert (status, len(out.splitlines())) == (0, 45)
    assert "no estimate: cifar10 is not on this machine" in err
    status, out, err = call(["run", "cifar-flip", "--dry-run", "--source", "none"], capfd)
    assert (status, out) == (2, "")
    assert "cifar10 is not on this machine" in err
