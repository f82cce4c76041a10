"""Models, their blocks, what a block trains, and checkpoints from anybody."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bench.catalog.checkpoints import CHECKPOINTS
from bench.catalog.models import FULL, RESNET_BLOCKS, find_model, paper_resnet_depth
from bench.data.domain import Domain
from bench.data.images import Images
from bench.data.locate import locate, locate_checkpoint
from bench.errors import JouletuneError, RequestError
from bench.models.blocks import block_parameters, check_blocks, train_only
from bench.models.build import build_model, users_code
from bench.models.checkpoint import fingerprint, load_weights, read_state, save_weights
from bench.models.resnet import ResNet
from bench.models.source import load_source_model, make_source_model
from bench.suite.data_axis import DataSpec
from bench.suite.model import ModelSpec
from bench.suite.suite import Suite
from bench.suite.training import SourceTrainSpec
from bench.training.loop import accuracy, to_tensors

torch.set_num_threads(1)
CPU = torch.device("cpu")

TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
    "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2", "mobilenet_v2", "mobilenet_v3_small",
    "mobilenet_v3_large", *(f"efficientnet_b{n}" for n in range(8)),
    "convnext_tiny", "convnext_small", "convnext_base", "convnext_large",
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0",
    "densenet121", "densenet161", "densenet169", "densenet201",
)  # fmt: skip


def build(name: str, base: Path = Path(), **size: int) -> nn.Module:
    given = {"n_classes": 10, "in_channels": 3, "image_size": 32} | size
    return build_model(ModelSpec(name=name), base=base, **given)


def count(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)


def blocks_of(name: str) -> dict[str, tuple[str, ...]]:
    entry = find_model(name)
    assert entry is not None
    assert entry.blocks is not None
    return dict(entry.blocks)


# -- ResNet-26 as published -------------------------------------------------------------------------


def test_resnet26_has_the_published_parameters() -> None:
    model = build("resnet26")
    assert count(model.parameters()) == 366_938
    assert count(block_parameters(model, RESNET_BLOCKS, "block2")) == 69_600
    assert count(block_parameters(model, RESNET_BLOCKS, "block3")) == 277_440
    assert count(block_parameters(model, RESNET_BLOCKS, "fc")) == 650
    # the rest is block1 and the final bn, which belongs to no block
    assert count(block_parameters(model, RESNET_BLOCKS, "block1")) == 366_938 - 69_600 - 277_440 - 650 - 128


def test_128_pixels_leave_1024_features() -> None:
    model = ResNet(4, n_classes=17, image_size=128)
    assert model.fc.in_features == 1024
    assert model(torch.zeros(1, 3, 128, 128)).shape == (1, 17)


@pytest.mark.parametrize("size", [8, 9, 15, 31, 32, 33, 50, 64])
def test_every_image_size_goes_through(size: int) -> None:
    assert build("resnet8", image_size=size).eval()(torch.zeros(2, 3, size, size)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("resnet8", 1), ("resnet26", 4), ("resnet110", 18), ("resnet50", None), ("resnet18", None), ("resnet2", None),
        ("Resnet26", None), ("resnet26 ", None), ("resnet\uff12\uff16", None), ("resnet9998", None),
    ],
)  # fmt: skip
def test_names_of_the_papers_kind(name: str, depth: int | None) -> None:
    assert paper_resnet_depth(name) == depth


# -- blocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet8", "resnet26", *TORCHVISION])
def test_blocks_of_the_catalogue_are_in_the_model(name: str) -> None:
    blocks = blocks_of(name)
    with torch.device("meta"):
        model = build(name)
    check_blocks(model, blocks)
    assert "fc" in blocks
    assert {"block1", "block2", "block3"} <= set(blocks)
    head = [model.get_submodule(path) for path in blocks["fc"]]
    assert any(module.out_features == 10 for top in head for module in top.modules() if isinstance(module, nn.Linear))
    inside = sum(count(block_parameters(model, blocks, block)) for block in blocks)
    whole = count(model.parameters())
    outside = {"resnet8": 128, "resnet26": 128}.get(name, 0)
    assert inside == whole - outside


def test_every_pattern_of_the_catalogue_is_a_model_of_torchvision() -> None:
    from torchvision.models import list_models

    ours = {name for name in list_models() if (entry := find_model(name)) is not None and entry.kind == "torchvision"}
    assert ours == set(TORCHVISION)


def test_block1_leaves_convolutions_of_the_same_name_alone() -> None:
    """In the released code 'conv1' also matched layerX.Y.conv1: block 1 trained 180,400 parameters."""
    model = build("resnet26")
    trained = train_only(model, RESNET_BLOCKS, ("block1",))
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert names == {name for name, _ in model.named_parameters() if name.startswith(("conv1.", "layer1."))}
    assert not model.get_submodule("layer2.0.conv1").weight.requires_grad
    assert count(trained) == 19_120


@pytest.mark.parametrize("block", ["block1", "block2", "block3", "fc"])
def test_all_but_the_tuned_block_is_frozen(block: str) -> None:
    model = build("resnet14")
    trained = train_only(model, RESNET_BLOCKS, (block,))
    own = {id(parameter) for parameter in block_parameters(model, RESNET_BLOCKS, block)}
    assert {id(parameter) for parameter in trained} == own
    for parameter in model.parameters():
        assert parameter.requires_grad == (id(parameter) in own)


def test_sets_are_unions_in_the_models_order_and_full_is_everything() -> None:
    model = build("resnet8")
    both = train_only(model, RESNET_BLOCKS, ("fc", "block2"))
    order = {id(parameter): number for number, parameter in enumerate(model.parameters())}
    assert [order[id(p)] for p in both] == sorted(order[id(p)] for p in both)
    assert count(both) == sum(count(block_parameters(model, RESNET_BLOCKS, b)) for b in ("block2", "fc"))
    assert len(train_only(model, RESNET_BLOCKS, (FULL,))) == len(list(model.parameters()))
    assert all(parameter.requires_grad for parameter in model.parameters())
    # what one cell froze does not stay frozen for the next
    assert count(train_only(model, RESNET_BLOCKS, ("fc",))) == 650


class Trap(nn.Module):
    """Names of which one begins or ends like another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Linear(2, 2)
        self.conv10 = nn.Linear(2, 2)
        self.xconv1 = nn.Linear(2, 2)
        self.inner = nn.Sequential(nn.Linear(2, 2))
        self.inner.add_module("conv1", nn.Linear(2, 2))
        self.relu = nn.ReLU()
        self.tied = nn.Linear(2, 2)
        self.tied.weight = self.conv10.weight


def test_a_name_that_is_part_of_another_does_not_count() -> None:
    model = Trap()
    train_only(model, {"stem": ("conv1",)}, ("stem",))
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["conv1.weight", "conv1.bias"]


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ({"a": ("conv",)}, "model.blocks.a: the model has no module 'conv'; did you mean 'conv1'?"),
        ({"a": ("inner.conv2",)}, "no module 'inner.conv2'; did you mean 'inner.conv1'?"),
        ({"a": ("conv1.weight",)}, "no module 'conv1.weight'"),
        ({"a": ("conv1..x",)}, "no module 'conv1..x'"),
        ({"a": ("relu",)}, "model.blocks.a: has no parameters to tune"),
        ({"a": ("inner",), "b": ("inner.conv1",)}, "model.blocks.b: shares parameters with a"),
        ({"a": ("conv10",), "b": ("tied",)}, "model.blocks.b: shares parameters with a"),
    ],
)
def test_blocks_that_are_not_in_the_model(blocks: dict[str, tuple[str, ...]], says: str) -> None:
    with pytest.raises(RequestError) as refused:
        check_blocks(Trap(), blocks)
    assert says in str(refused.value)


def test_a_block_may_name_a_module_and_its_part() -> None:
    check_blocks(Trap(), {"a": ("inner", "inner.conv1")})
    assert len(block_parameters(Trap(), {"a": ("inner", "inner.conv1")}, "a")) == 4


def test_torchvision_takes_colour_only() -> None:
    with pytest.raises(RequestError, match="resnet18 takes colour images"):
        build("resnet18", in_channels=1)


# -- checkpoints ------------------------------------------------------------------------------------


def test_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    model, other = build("resnet8"), build("resnet8")
    save_weights(model, tmp_path / "deep" / "w.pth")
    load_weights(other, tmp_path / "deep" / "w.pth")
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["w.pth"]


def test_weights_from_safetensors(tmp_path: Path) -> None:
    model, other = build("resnet8"), build("resnet8")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    state = {"head.weight" if name == "fc.weight" else name: value for name, value in model.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(RequestError, match=r"does not fit the model: lacks fc\.weight; has also head\.weight"):
        load_weights(other, tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 64, pickle.dumps({"a": 1})])
def test_what_is_no_safetensors_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(RequestError, match=r"w\.safetensors: not a safetensors file") as refused:
        read_state(tmp_path / "w.safetensors")
    assert "\n" not in str(refused.value)
    with pytest.raises(RequestError, match="no such checkpoint"):
        read_state(tmp_path / "no.safetensors")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("conv1.weight"), "lacks conv1.weight"),
        (lambda s: s.update({"head.weight": torch.zeros(1)}), "has also head.weight"),
        (lambda s: s.update({"fc.bias": torch.zeros(17)}), "fc.bias is (17,), the model's (10,)"),
        (lambda s: [s.pop(key) for key in list(s) if "layer1" in key], "lacks layer1.0.bn1.bias, "),
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit_names_what(tmp_path: Path, change: Any, says: str) -> None:
    state = build("resnet8").state_dict()
    change(state)
    torch.save(state, tmp_path / "w.pth")
    model = build("resnet8")
    before = model.conv1.weight.clone()
    with pytest.raises(RequestError) as refused:
        load_weights(model, tmp_path / "w.pth")
    assert "does not fit the model" in str(refused.value)
    assert says in str(refused.value)
    assert torch.equal(model.conv1.weight, before)


class Bomb:
    """Unpickled, it would make a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["pickle", "torch", "torch-legacy", "inside-a-state-dict"])
def test_a_checkpoint_with_code_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    pwned = tmp_path / "pwned"
    path = tmp_path / "evil.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Bomb(pwned)))
    elif form == "inside-a-state-dict":
        torch.save({"conv1.weight": torch.zeros(1), "x": Bomb(pwned)}, path)
    else:
        torch.save(Bomb(pwned), path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(RequestError, match=r"evil\.pth: (holds more than weights|not a torch checkpoint)"):
        load_weights(build("resnet8"), path)
    assert not pwned.exists()
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert pwned.exists(), "the trap itself does not work"


def test_a_whole_model_is_refused_with_what_to_save_instead(tmp_path: Path) -> None:
    torch.save(build("resnet8"), tmp_path / "m.pth")
    with pytest.raises(RequestError, match=r"holds more than weights.*save model\.state_dict\(\)"):
        read_state(tmp_path / "m.pth")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(3), {1: torch.zeros(1)}], ids=repr)
def test_what_is_no_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(RequestError, match=r"x\.pth: not a state dict"):
        read_state(tmp_path / "x.pth")


ODD: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.zeros(64, 64).to_sparse(),
    "without values": lambda: torch.empty(64, 64, device="meta"),
    "quantised": lambda: torch.quantize_per_tensor(torch.zeros(64, 64), 0.1, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ODD)
def test_a_tensor_of_another_kind_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    state = build("resnet8").state_dict() | {"fc.weight": ODD[kind]()}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(RequestError, match=rf"w\.pth: fc\.weight is {kind}; expected dense tensors"):
        load_weights(build("resnet8"), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.full((10, 64), float("nan")), r"fc\.weight: holds values that are not finite"),
        (torch.full((10, 64), float("inf")), r"fc\.weight: holds values that are not finite"),
        (torch.zeros(10, 64, dtype=torch.complex64), r"fc\.weight is torch\.complex64, the model's torch\.float32"),
        (torch.zeros(10, 64, dtype=torch.int64), r"fc\.weight is torch\.int64, the model's torch\.float32"),
    ],
)
def test_weights_that_no_model_has_are_refused(tmp_path: Path, value: torch.Tensor, says: str) -> None:
    torch.save(build("resnet8").state_dict() | {"fc.weight": value}, tmp_path / "w.pth")
    with pytest.raises(RequestError, match=says):
        load_weights(build("resnet8"), tmp_path / "w.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_far_larger_than_its_model_is_not_read(
    tmp_path: Path, legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.pth"
    torch.save(build("resnet8").state_dict(), path, _use_new_zipfile_serialization=not legacy)
    with path.open("r+b") as file:
        file.truncate(10_000_000_000)  # sparse: a tail of 10 GB of zeros
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(RequestError, match=r"10\.00 GB; expected at most 0\.10 GB"):
        load_weights(build("resnet8"), path)
    with pytest.raises(RequestError, match=r"10\.00 GB; expected at most 8\.00 GB"):
        locate_checkpoint(str(path))


def test_outputs_that_are_not_finite_have_no_accuracy() -> None:
    model = build("resnet8", in_channels=1, image_size=8)
    images = to_tensors(Images(np.zeros((3, 8, 8, 1), np.uint8), np.zeros(3, np.int64), ("a",)), CPU)
    with torch.no_grad():
        model.get_submodule("fc").bias[4] = float("nan")
    with pytest.raises(JouletuneError, match="output is not finite for 3 of 3 images"):
        accuracy(model, images)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_checkpoints_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.arange(4.0)}, path)
    whole = path.read_bytes()
    torch.save({"a": torch.arange(4.0)}, path, _use_new_zipfile_serialization=False)
    legacy = path.read_bytes()
    rng = np.random.default_rng(0)
    contents = [b"", b"hello", b"\x80", b"\x80\x02}q\x00.", b"PK\x03\x04", rng.bytes(500)]
    for good in (whole, legacy):
        contents += [good[: rng.integers(1, len(good))] for _ in range(20)]
        for _ in range(60):
            damaged = bytearray(good)
            for at in rng.integers(0, min(len(good), 400), 3):
                damaged[at] = rng.integers(256)
            contents.append(bytes(damaged))
    said: list[str] = []
    for content in contents:
        path.write_bytes(content)
        try:
            read_state(path)
        except RequestError as error:
            said.append(str(error))
    assert len(said) > len(contents) // 3
    assert all(line.startswith(str(path)) and line.isprintable() for line in said)


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such checkpoint"):
        read_state(tmp_path / "no.pth")
    with pytest.raises(RequestError, match="cannot be read"):
        read_state(tmp_path)
    with pytest.raises(RequestError, match=r"no\.pth: no such file"):
        locate_checkpoint(str(tmp_path / "no.pth"))


def test_a_released_name_over_another_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOULETUNE_DATA", str(tmp_path))
    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RequestError, match="jouletune fetch tbft-cifar10"):
        locate_checkpoint("tbft-cifar10")
    file = tmp_path / CHECKPOINTS["tbft-cifar10"].file
    file.parent.mkdir()
    file.write_bytes(b"another")
    with pytest.raises(RequestError, match="SHA-256"):
        locate_checkpoint("tbft-cifar10")


@pytest.mark.parametrize(("name", "classes", "size"), [("tbft-cifar10", 10, 32), ("tbft-living17", 17, 128)])
def test_released_checkpoints_load_strictly(data_dir: Path, name: str, classes: int, size: int) -> None:
    if not (data_dir / CHECKPOINTS[name].file).is_file():
        pytest.skip(f"no {CHECKPOINTS[name].file} in {data_dir}")
    path = locate_checkpoint(name)
    model = build("resnet26", n_classes=classes, image_size=size)
    assert list(read_state(path)) == list(model.state_dict())
    load_weights(model, path)


@pytest.mark.long
def test_released_resnet26_scores_what_it_scored(data_dir: Path, real_cifar10: tuple[Images, Images]) -> None:
    """79.0 % on the JPEG copy. On the original bytes it is about 85 %."""
    found = locate(DataSpec(dataset="cifar10", shift="flip", level="output", label="cifar10-flip"))
    if found.variant != "JPEG" or not (data_dir / CHECKPOINTS["tbft-cifar10"].file).is_file():
        pytest.skip(f"no checkpoint and JPEG copy of CIFAR-10 in {data_dir}")
    model = build("resnet26")
    load_weights(model, locate_checkpoint("tbft-cifar10"))
    assert accuracy(model, to_tensors(real_cifar10[1], torch.device("cpu"))) == pytest.approx(0.790, abs=0.003)


# -- a user's own model -----------------------------------------------------------------------------

OWN = """
from torch import nn

def make(n_classes, in_channels, image_size):
    net = nn.Sequential()
    net.add_module("stem", nn.Conv2d(in_channels, 4, 3, padding=1))
    net.add_module("flat", nn.Flatten())
    net.add_module("fc", nn.Linear(4 * image_size ** 2, n_classes))
    return net

def fewer(n_classes): return nn.Linear(3, n_classes)
def needs_more(n_classes, depth): return nn.Linear(3, n_classes)
def forgets(image_size): return nn.Linear(3, 3)
def returns_text(n_classes): return "net"
def breaks(n_classes): raise ValueError("no such\\nluck")
number = 5
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A folder with a module of the user's; what importing from it left behind is undone."""
    before, path = set(sys.modules), list(sys.path)
    (tmp_path / "ownnet.py").write_text(OWN)
    (tmp_path / "broken_syntax.py").write_text("def (:\n")
    (tmp_path / "broken_import.py").write_text("raise RuntimeError('at import')\n")
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name in ("ownnet", "ownpkg", "ownpkg.net", "ownpkg.parts", "broken_syntax", "broken_import"):
            del sys.modules[name]


def test_a_model_of_ones_own(own: Path) -> None:
    model = build("ownnet:make", own, in_channels=1, image_size=8)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    check_blocks(model, {"block1": ("stem",), "fc": ("fc",)})
    assert isinstance(build("ownnet:fewer", own), nn.Linear)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nosuchnet:make", "No module named 'nosuchnet' (looked in"),
        ("ownnet:mkae", "has no attribute 'mkae'"),
        ("ownnet:number", "is not a function that makes a model"),
        ("ownnet:forgets", "must take n_classes; it takes image_size"),
        ("ownnet:needs_more", "failed with TypeError"),
        ("ownnet:returns_text", "returned str; expected a torch.nn.Module"),
        ("ownnet:breaks", "failed with ValueError: no such luck"),
        ("broken_syntax:make", "importing it failed with SyntaxError"),
        ("broken_import:make", "importing it failed with RuntimeError: at import"),
    ],
)
def test_errors_of_a_model_of_ones_own(own: Path, name: str, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        build(name, own)
    assert says in str(refused.value)
    assert name in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_model_in_a_package_beside_the_suite(own: Path) -> None:
    (own / "ownpkg").mkdir()
    (own / "ownpkg" / "__init__.py").write_text("")
    (own / "ownpkg" / "parts.py").write_text("from torch import nn\nWIDTH = 3\n")
    (own / "ownpkg" / "net.py").write_text(
        "from torch import nn\nfrom .parts import WIDTH\ndef make(n_classes): return nn.Linear(WIDTH, n_classes)\n"
    )
    assert isinstance(build("ownpkg.net:make", own), nn.Linear)
    code = users_code(ModelSpec(name="ownpkg.net:make", blocks={"fc": ["fc"]}), own)
    assert code == hashlib.sha256((own / "ownpkg" / "net.py").read_bytes()).hexdigest()


def test_the_suites_folder_is_not_put_on_the_path(own: Path) -> None:
    (own / "colorsys.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n")
    build("ownnet:make", own, in_channels=1, image_size=8)
    assert str(own) not in sys.path
    importlib.import_module("colorsys")
    assert not (own / "ran").exists()
    with pytest.raises(RequestError, match="colorsys is also the name of a library"):
        build("colorsys:make", own)


# -- source models ----------------------------------------------------------------------------------


@pytest.fixture
def tiny_domain() -> Domain:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    pixels = rng.integers(0, 60, (40, 8, 8, 1), dtype=np.uint8)
    pixels[labels == 1] += 150
    images = Images(pixels, labels.astype(np.int64), ("dark", "light"))
    return Domain(images, images, None, "tiny")


def test_a_source_model_is_trained_once_and_learns(
    tiny_domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path))
    spec = ModelSpec(name="resnet8", width=4, source_train=SourceTrainSpec(epochs=4, batch_size=8))
    epochs: list[int] = []
    path = make_source_model(spec, tiny_domain, tmp_path, CPU, lambda done, _: epochs.append(done))
    assert path.parent == tmp_path / "models"
    assert epochs == [1, 2, 3, 4]
    again = make_source_model(spec, tiny_domain, tmp_path, CPU, lambda *_: pytest.fail("trained again"))
    assert again == path
    model = load_source_model(spec, tiny_domain, path, tmp_path)
    assert accuracy(model, to_tensors(tiny_domain.source, CPU)) > 0.9
    other = make_source_model(spec.model_copy(update={"width": 5}), tiny_domain, tmp_path, CPU, lambda *_: None)
    assert other != path


@pytest.mark.parametrize("damage", ["zeros", "cut", "bit"])
def test_a_damaged_source_model_is_trained_again(
    tiny_domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path))
    spec = ModelSpec(name="resnet8", width=4, source_train=SourceTrainSpec(epochs=1, batch_size=8))
    path = make_source_model(spec, tiny_domain, tmp_path, CPU, lambda *_: None)
    before = fingerprint(load_source_model(spec, tiny_domain, path, tmp_path))
    whole = path.read_bytes()
    middle = len(whole) // 2  # within the values of a convolution
    damaged = whole[:middle] + bytes([whole[middle] ^ 64]) + whole[middle + 1 :]
    path.write_bytes({"zeros": bytes(len(whole)), "cut": whole[:middle], "bit": damaged}[damage])
    make_source_model(spec, tiny_domain, tmp_path, CPU, lambda *_: None)
    assert fingerprint(load_source_model(spec, tiny_domain, path, tmp_path)) == before


def test_the_fingerprint_of_weights_is_of_their_values(tmp_path: Path) -> None:
    model = build("resnet8")
    before = fingerprint(model)
    save_weights(model, tmp_path / "a.pth")
    with torch.no_grad():
        model.get_submodule("fc").bias[0] += 1e-6
    assert fingerprint(model) != before
    load_weights(model, tmp_path / "a.pth")
    assert fingerprint(model) == before


def test_a_checkpoint_for_other_classes_is_refused_before_any_cell(tiny_domain: Domain, tmp_path: Path) -> None:
    save_weights(build("resnet8", in_channels=1, image_size=8), tmp_path / "ten.pth")
    spec = ModelSpec(name="resnet8", checkpoint=str(tmp_path / "ten.pth"))
    with pytest.raises(RequestError, match=r"fc\.weight is \(10, 64\), the model's \(2, 64\)"):
        make_source_model(spec, tiny_domain, tmp_path, CPU, lambda *_: None)


def test_two_users_models_of_one_name_do_not_share_weights(
    own: Path, tiny_domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOULETUNE_CACHE", str(own / "cache"))
    spec = ModelSpec(name="ownnet:make", blocks={"fc": ["fc"]}, source_train=SourceTrainSpec(epochs=1))
    first = make_source_model(spec, tiny_domain, own, CPU, lambda *_: None)
    (own / "ownnet.py").write_text(
        OWN.replace("Conv2d(in_channels, 4", "Conv2d(in_channels, 6").replace("(4 *", "(6 *")
    )
    del sys.modules["ownnet"]
    second = make_source_model(spec, tiny_domain, own, CPU, lambda *_: None)
    assert first != second
    assert read_state(second)["stem.weight"].shape[0] == 6


# -- GroupNorm --------------------------------------------------------------------------------------


def test_group_norm_takes_the_place_of_batchnorm() -> None:
    spec = ModelSpec(name="resnet26", norm="group")
    model = build_model(spec, n_classes=10, in_channels=3, image_size=32, base=Path())
    usual = build_model(ModelSpec(name="resnet26"), n_classes=10, in_channels=3, image_size=32, base=Path())
    assert not list(model.buffers())
    assert count(model.parameters()) == count(usual.parameters()) == 366_938
    norms = [module for module in model.modules() if isinstance(module, nn.GroupNorm)]
    assert len(norms) == 25
    assert {module.num_groups for module in norms} == {8}
    narrow = build_model(ModelSpec(name="resnet8", norm="group", width=4), n_classes=3, in_channels=1, image_size=8,
                         base=Path())  # fmt: skip
    assert narrow(torch.zeros(2, 1, 8, 8)).shape == (2, 3)  # four channels make four groups
    assert (spec.label, ModelSpec(name="resnet26").label) == ("resnet26-gn", "resnet26")


def test_the_usual_norm_changes_no_hash_of_a_suite(make_suite: Callable[..., Suite]) -> None:
    usual, given, group = (
        make_suite(model={"name": "resnet8", **more}) for more in ({}, {"norm": "batch"}, {"norm": "group"})
    )
    assert usual.digest() == given.digest() != group.digest()
    assert "norm" not in usual.content()["model"]
    assert Suite.of_content(group.content()) == group


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "resnet18", "norm": "group"}, "only the paper's resnets have one to choose, resnet18 has not"),
        ({"name": "resnet26", "checkpoint": "memo-cifar10", "norm": "batch"}, "memo-cifar10 has 'group' norm"),
        ({"name": "resnet26", "checkpoint": "tbft-cifar10", "norm": "group"}, "tbft-cifar10 has 'batch' norm"),
        ({"name": "resnet26", "norm": "layer"}, "'layer' is not valid"),
    ],
)
def test_a_norm_that_cannot_be(make_suite: Callable[..., Suite], model: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make_suite(model=model)


def test_memos_net_classifies_cifar10(real_cifar10: tuple[Images, Images]) -> None:
    _, target = real_cifar10
    spec = ModelSpec(name="resnet26", checkpoint="memo-cifar10")
    assert (spec.norm, spec.pixels) == ("group", "signed")
    model = build_model(spec, n_classes=10, in_channels=3, image_size=32, base=Path())
    load_weights(model, locate_checkpoint("memo-cifar10"))
    some = target.take(np.arange(0, len(target.y), 20))
    # 9.17 % error on the original bytes [MEMO], more on images that were encoded again
    assert 0.80 < accuracy(model, to_tensors(some, CPU)) < 0.93


class Made:
    """Pickles as the call of a function."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_that_asks_for_gigabytes_of_zeros_is_not_opened(tmp_path: Path, legacy: bool) -> None:
    state = {"weight": Made(bytearray, (10**10,))}
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(RequestError, match="holds more than weights and is not opened"):
        read_state(tmp_path / "w.pth")


def test_a_checkpoint_with_compressed_parts_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as plain, zipfile.ZipFile(tmp_path / "z.pth", "w", 8) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(RequestError, match="its parts are compressed"):
        read_state(tmp_path / "z.pth")


def test_weights_of_eight_bits_are_refused(tmp_path: Path) -> None:
    model = nn.Linear(4, 3)
    torch.save({key: value.to(torch.float8_e4m3fn) for key, value in model.state_dict().items()}, tmp_path / "w.pth")
    with pytest.raises(RequestError, match=r"weight is torch\.float8_e4m3fn, the model"):
        load_weights(model, tmp_path / "w.pth")


def test_long_names_of_foreign_tensors_are_cut(tmp_path: Path) -> None:
    save_file({"n" * 100_000: torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(RequestError) as refused:
        load_weights(nn.Linear(4, 3), tmp_path / "w.safetensors")
    assert len(str(refused.value)) < 600
