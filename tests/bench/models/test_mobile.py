"""Mobile nets by name and from a JSON: counts as published, strict loading, and errors in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.catalog.mobile import RELEASED, Architecture, read_architecture
from bench.cost import trace
from bench.data.domain import Domain
from bench.data.images import random_images
from bench.errors import RequestError
from bench.models.blocks import check_blocks
from bench.models.build import build_model
from bench.models.checkpoint import load_weights
from bench.models.mobile import MobileNet
from bench.models.source import load_source_model, make_source_model
from bench.suite.model import ModelSpec

DATA = Path(os.environ.get("JOULETUNE_DATA", "/nonexistent")) / "mcunet"
FILES = {
    "mcunet-in3": "mcunet-320kb-1mb_imagenet",
    "mcunet-5fps-vww": "mcunet-5fps_vww",
    "proxyless-w0.3": "proxyless-w0.3-r176_imagenet",
}
has_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs JOULETUNE_DATA with mcunet/")

SMALL: dict[str, Any] = {
    "name": "ProxylessNASNets",
    "bn": {"momentum": 0.1, "eps": 1e-5, "ws_eps": None},
    "first_conv": {"in_channels": 3, "out_channels": 8, "kernel_size": 3, "stride": 2, "act_func": "relu6"},
    "blocks": [
        {
            "name": "MobileInvertedResidualBlock",
            "mobile_inverted_conv": {
                "name": "MBInvertedConvLayer", "in_channels": 8, "out_channels": 8, "kernel_size": 3, "stride": 1,
                "expand_ratio": 2, "mid_channels": None, "act_func": "relu6", "use_se": False,
            },
            "shortcut": {"name": "IdentityLayer"},
        }
    ],
    "feature_mix_layer": None,
    "classifier": {"in_features": 8, "out_features": 5, "bias": True},
    "resolution": 32,
}  # fmt: skip


def write(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    content = json.loads(json.dumps(SMALL))
    change(content)
    file = folder / "net.json"
    file.write_text(json.dumps(content))
    return file


def net(name: str) -> tuple[Architecture, MobileNet]:
    found = RELEASED[name]
    return found, MobileNet(found, found.outputs)


@pytest.mark.parametrize(
    ("name", "parameters", "convolutions", "mmac"),
    [("mcunet-in3", 737_408, 54, 81.63), ("proxyless-w0.3", 754_280, 61, None), ("mcunet-5fps-vww", 432_746, 45, None)],
)
def test_counts_are_those_that_are_published(name: str, parameters: int, convolutions: int, mmac: float | None) -> None:
    architecture, model = net(name)
    assert sum(one.numel() for one in model.parameters()) == parameters
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == convolutions
    size = architecture.resolution
    macs = sum(one.macs for one in trace(model, (1, 3, size, size)).operations if "convolution" in one.name)
    assert mmac is None or macs / 1e6 == pytest.approx(mmac, abs=0.01)
    check_blocks(model, architecture.block_map())


def test_proxyless_blocks_that_were_searched_away_belong_to_no_block() -> None:
    paths = [path for block in RELEASED["proxyless-w0.3"].block_map().values() for path in block]
    assert "blocks.3" not in paths
    assert "blocks.5" in paths


@has_data
@pytest.mark.parametrize("name", FILES)
def test_a_released_json_is_the_architecture_of_that_name_and_its_weights_load_strictly(name: str) -> None:
    architecture, model = net(name)
    assert read_architecture(DATA / f"{FILES[name]}.json") == architecture
    load_weights(model, DATA / f"{FILES[name]}.pth")
    state = torch.load(DATA / f"{FILES[name]}.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@has_data
def test_weights_of_another_net_are_refused_in_one_line() -> None:
    _, model = net("mcunet-in3")
    with pytest.raises(RequestError, match=r"does not fit the model: lacks blocks\.15") as error:
        load_weights(model, DATA / f"{FILES['mcunet-5fps-vww']}.pth")
    assert "\n" not in str(error.value)


def test_the_map_up_to_a_cut_goes_on_to_the_same_features() -> None:
    torch.manual_seed(0)
    _, model = net("mcunet-5fps-vww")
    model.eval()
    x = torch.randn(2, 3, 80, 80)
    part = model.upto(x, 9)
    assert part.shape[1] == 40
    for block in model.blocks[9:]:
        part = block(part)
    assert torch.equal(part.mean((2, 3)), model.features(x))
    assert torch.equal(model.classifier(model.features(x)), model(x))


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no-classifier": (lambda net: net.pop("classifier"), "classifier: is missing"),
    "odd-kernel": (
        lambda net: net["blocks"][0]["mobile_inverted_conv"].update(kernel_size=4), r"blocks\.0\..*kernel_size"
    ),
    "channels": (lambda net: net["blocks"][0]["mobile_inverted_conv"].update(in_channels=9), "takes 9 channels"),
    "skip": (lambda net: net["blocks"][0]["mobile_inverted_conv"].update(stride=2), "a shortcut needs equal shapes"),
    "squeeze": (lambda net: net["blocks"][0]["mobile_inverted_conv"].update(use_se=True), "use_se"),
    "text": (lambda net: net["blocks"][0]["mobile_inverted_conv"].update(expand_ratio="6"), "expand_ratio"),
    "features": (lambda net: net["classifier"].update(in_features=9), "takes 9 features"),
    "huge": (lambda net: net["first_conv"].update(out_channels=10**9), "first_conv"),
    "no-block": (lambda net: net.update(blocks=[]), "blocks"),
    "endless": (lambda net: net["blocks"][0]["mobile_inverted_conv"].update(expand_ratio=1e400), "expand_ratio"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_json_is_one_line_with_its_place(case: str, tmp_path: Path) -> None:
    change, message = WRONG[case]
    with pytest.raises(RequestError, match=message) as error:
        read_architecture(write(tmp_path, change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"a"', "[" * 100_000, "\0"])
def test_what_is_no_json_of_a_net_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(text)
    with pytest.raises(RequestError):
        read_architecture(tmp_path / "net.json")


def test_a_block_may_keep_its_first_convolution_where_it_expands_to_as_many_channels(tmp_path: Path) -> None:
    file = write(tmp_path, lambda net: net["blocks"][0]["mobile_inverted_conv"].update(mid_channels=8, expand_ratio=2))
    keys = MobileNet(read_architecture(file), 5).state_dict()
    assert "blocks.0.mobile_inverted_conv.inverted_bottleneck.conv.weight" in keys


def test_a_suite_names_an_architecture_by_file_and_has_its_blocks(tmp_path: Path) -> None:
    file = write(tmp_path)
    spec = ModelSpec.model_validate({"name": "net.json"}, context={"base": tmp_path})
    assert spec.label == "net"
    assert spec.block_map == {"block1": ("first_conv", "blocks.0"), "fc": ("classifier",)}
    model = build_model(spec, n_classes=3, in_channels=3, image_size=32, base=tmp_path)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    file.unlink()  # a run's folder is read where the file is not
    again = ModelSpec.model_validate(spec.model_dump(mode="json"), context={"base": tmp_path})
    assert again.block_map == spec.block_map


def test_a_fresh_head_takes_all_of_a_checkpoint_but_its_last_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path / "cache"))
    write(tmp_path)
    torch.manual_seed(1)
    other = MobileNet(read_architecture(tmp_path / "net.json"), 5)
    torch.save({"state_dict": other.state_dict()}, tmp_path / "net.pth")
    images = random_images(6, 3, 32, 0)
    domain = Domain(images, images, None, "key")
    given = {"name": "net.json", "checkpoint": "net.pth", "head": "fresh"}
    spec = ModelSpec.model_validate(given, context={"base": tmp_path})
    made = [make_source_model(spec, domain, tmp_path, torch.device("cpu"), lambda *_: None) for _ in range(2)]
    assert made[0] == made[1]
    model = load_source_model(spec, domain, made[0], tmp_path).state_dict()
    assert model["classifier.linear.weight"].shape == (3, 8)
    for key, value in other.state_dict().items():
        assert key.startswith("classifier") or torch.equal(value, model[key])
    keep = ModelSpec.model_validate(given | {"head": "keep"}, context={"base": tmp_path})
    with pytest.raises(RequestError, match="does not fit"):
        make_source_model(keep, domain, tmp_path, torch.device("cpu"), lambda *_: None)
