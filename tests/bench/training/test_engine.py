"""Engines: what they save changes no result, and what cannot be had is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.catalog.models import RESNET_BLOCKS, find_model
from bench.errors import JouletuneError, RequestError
from bench.models.blocks import train_only
from bench.models.build import build_model
from bench.suite.model import ModelSpec
from bench.suite.training import EngineSpec, TuneSpec, refusal, resolve
from bench.training import activations, memory, tuner
from bench.training.closed_form import solve
from bench.training.cut import CutError, cut, varies
from bench.training.loop import Batchable, Outcome, accuracy
from bench.training.tuner import Tuner, check_levers

BLOCKS = ("block1", "block2", "block3", "fc", "full")
HELD = ("eval", "adapt_once_then_eval", "train_tuned")


def net(seed: int = 0, name: str = "resnet8", size: int = 16) -> nn.Module:
    torch.manual_seed(seed)
    spec = ModelSpec(name=name, width=4) if name.startswith("resnet8") else ModelSpec(name=name)
    return build_model(spec, n_classes=3, in_channels=3, image_size=size, base=Path())


def data(n: int = 48, seed: int = 0, size: int = 16) -> Batchable:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = torch.randn(n, 3, size, size, generator=generator) * 0.5 + 0.3
    x[:, 0, :, : size // 2] += y[:, None, None].float()
    return Batchable(x, y)


def spec(**changes: object) -> EngineSpec:
    # a test may ask for what a spec refuses: pydantic checks the values, not mypy
    return EngineSpec(**({"epochs": 3, "batch_size": 40, "lr": 0.005, "patience": None} | changes))  # type: ignore[arg-type]


def tune(
    blocks: str, scratch: Path, *, model: nn.Module | None = None, **changes: object
) -> tuple[Outcome, dict[str, Tensor], Tuner]:
    model = model or net()
    parameters = train_only(model, RESNET_BLOCKS, (blocks,))
    made = Tuner(model, parameters, spec(**changes), scratch)
    outcome = made.fine_tune(data(), data(24, seed=1), seed=0)
    return outcome, {name: value.clone() for name, value in model.state_dict().items()}, made


def equal_to_rounding(
    one: tuple[Outcome, dict[str, Tensor], Tuner], other: tuple[Outcome, dict[str, Tensor], Tuner]
) -> None:
    assert one[0].val_losses == pytest.approx(other[0].val_losses, rel=1e-5)
    assert one[0].best_epoch == other[0].best_epoch
    for name, value in one[1].items():
        torch.testing.assert_close(value.float(), other[1][name].float(), rtol=1e-4, atol=2e-6)


# -- the same result --------------------------------------------------------------------------------


@pytest.mark.parametrize("bn_mode", ["train", *HELD])
@pytest.mark.parametrize("blocks", BLOCKS)
def test_truncating_changes_no_bit(blocks: str, bn_mode: str, tmp_path: Path) -> None:
    # with the same images at once; the reference evaluates whole batches
    reference = tune(blocks, tmp_path, engine="reference", bn_mode=bn_mode, batch_size=64)
    truncated = tune(blocks, tmp_path, engine="truncated", bn_mode=bn_mode, batch_size=64)
    assert reference[0] == truncated[0]
    assert all(torch.equal(value, truncated[1][name]) for name, value in reference[1].items())
    assert (reference[2].levers, truncated[2].levers) == ((), ("truncated",))


@pytest.mark.parametrize("bn_mode", ["train", *HELD])
@pytest.mark.parametrize("blocks", BLOCKS)
def test_fast_is_equal_to_rounding(blocks: str, bn_mode: str, tmp_path: Path) -> None:
    fast = tune(blocks, tmp_path, engine="fast", bn_mode=bn_mode)
    equal_to_rounding(tune(blocks, tmp_path, engine="reference", bn_mode=bn_mode), fast)
    cached = blocks in ("block2", "block3", "fc") and bn_mode != "train"
    assert ("cache=memory" in fast[2].levers) == cached
    assert "keep_memory" in fast[2].levers


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("bn_mode", HELD)
def test_a_cache_alone_is_equal_to_rounding(cache: str, bn_mode: str, tmp_path: Path) -> None:
    plain = tune("block3", tmp_path, bn_mode=bn_mode)
    cached = tune("block3", tmp_path, bn_mode=bn_mode, cache=cache)
    equal_to_rounding(plain, cached)
    assert cached[2].levers == ("truncated", f"cache={cache}")
    assert cached[2].cache_mb == pytest.approx((48 + 24) * 8 * 8 * 8 * 4 / 1e6)
    assert not list(tmp_path.iterdir())  # the file had no name from the start


def test_a_half_precision_cache_takes_half_and_says_that_it_is_inexact(tmp_path: Path) -> None:
    plain = tune("block3", tmp_path, bn_mode="eval")
    half = tune("block3", tmp_path, bn_mode="eval", cache="half")
    assert half[2].levers == ("truncated", "cache=half (inexact)")
    assert half[2].cache_mb == pytest.approx((48 + 24) * 8 * 8 * 8 * 2 / 1e6)
    assert half[0].val_losses != plain[0].val_losses
    assert half[0].val_losses == pytest.approx(plain[0].val_losses, rel=1e-2)


def test_adaptation_is_done_once_on_either_way(tmp_path: Path) -> None:
    plain = tune("fc", tmp_path, bn_mode="adapt_once_then_eval")
    cached = tune("fc", tmp_path, bn_mode="adapt_once_then_eval", cache="memory")
    for name, value in plain[1].items():
        if "running" in name:
            assert torch.equal(value, cached[1][name]), name


def test_tuned_batchnorm_trains_and_frozen_does_not(tmp_path: Path) -> None:
    before = net().state_dict()
    after = tune("block2", tmp_path, bn_mode="train_tuned")[1]
    moved = {name for name, value in after.items() if "running" in name and not torch.equal(value, before[name])}
    assert moved == {name for name in before if "running" in name and name.startswith("layer2")}


@pytest.mark.parametrize("bn_mode", ["eval", "adapt_once_then_eval"])
def test_a_batch_in_parts_is_equal_to_rounding(bn_mode: str, tmp_path: Path) -> None:
    whole = tune("full", tmp_path, bn_mode=bn_mode)
    parts = tune("full", tmp_path, bn_mode=bn_mode, micro_batch=16)
    equal_to_rounding(whole, parts)
    assert parts[2].levers == ("truncated", "micro_batch=16")


def test_keeping_memory_changes_no_bit(tmp_path: Path) -> None:
    plain = tune("block2", tmp_path, bn_mode="eval")
    kept = tune("block2", tmp_path, bn_mode="eval", keep_memory=True)
    assert kept[0] == plain[0]
    assert all(torch.equal(value, kept[1][name]) for name, value in plain[1].items())
    assert kept[2].levers == ("truncated", "keep_memory")


def test_the_fast_engine_runs_large_batches_in_parts_where_it_may() -> None:
    for bn_mode in ("train", *HELD):
        parts = resolve(spec(engine="fast", bn_mode=bn_mode, batch_size=128), "cpu").micro_batch
        assert parts == (64 if bn_mode in ("eval", "adapt_once_then_eval") else None)


def test_fixed_views_take_turns_and_can_be_kept(tmp_path: Path) -> None:
    changes = {"augment": True, "views": 2, "bn_mode": "eval", "epochs": 4}
    plain = tune("block3", tmp_path, **changes)
    cached = tune("block3", tmp_path, cache="memory", **changes)
    equal_to_rounding(plain, cached)
    assert cached[2].cache_mb == pytest.approx((2 * 48 + 24) * 8 * 8 * 8 * 4 / 1e6)
    fresh = tune("block3", tmp_path, augment=True, bn_mode="eval", epochs=4)
    assert fresh[0].val_losses != plain[0].val_losses


def test_every_step_learns_from_the_same_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: dict[str, list[float]] = {}

    def spy(engine: str) -> None:
        def keep(logits: Tensor, labels: Tensor, **how: str) -> Tensor:
            loss = cross_entropy(logits, labels, **how)
            losses.setdefault(engine, []).append(loss.item() * (len(labels) if "reduction" not in how else 1))
            return loss

        monkeypatch.setattr("bench.training.loop.F.cross_entropy", keep)
        tune("block3", tmp_path, engine=engine, bn_mode="eval", epochs=4, batch_size=16)

    cross_entropy = F.cross_entropy
    spy("truncated")
    spy("fast")
    assert len(losses["fast"]) == 4 * (3 + 1)  # three batches of 16 and a validation that fits one
    assert losses["fast"] == pytest.approx(losses["truncated"], rel=1e-5)


@pytest.mark.parametrize("blocks", ["block3", "fc"])
def test_a_single_view_is_changed_once_and_then_stays(blocks: str, tmp_path: Path) -> None:
    changes = {"augment": True, "views": 1, "bn_mode": "eval", "epochs": 4}
    equal_to_rounding(tune(blocks, tmp_path, **changes), tune(blocks, tmp_path, cache="memory", **changes))


def test_one_tuner_gives_the_same_twice(tmp_path: Path) -> None:
    model = net()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    made = Tuner(model, train_only(model, RESNET_BLOCKS, ("block3",)), spec(engine="fast", bn_mode="eval"), tmp_path)
    first = made.fine_tune(data(), data(24, seed=1), seed=0)
    model.load_state_dict(start)
    assert made.fine_tune(data(), data(24, seed=1), seed=0) == first


@pytest.mark.long
def test_compiled_is_equal_to_rounding(tmp_path: Path) -> None:
    plain = tune("block3", tmp_path, bn_mode="eval", engine="fast")
    compiled = tune("block3", tmp_path, bn_mode="eval", engine="fast", compile=True)
    equal_to_rounding(plain, compiled)
    assert "compile" in compiled[2].levers


def test_bfloat16_is_near_and_says_that_it_is_inexact(tmp_path: Path) -> None:
    plain = tune("block3", tmp_path, bn_mode="eval")
    rounded = tune("block3", tmp_path, bn_mode="eval", precision="bfloat16")
    assert rounded[2].levers == ("truncated", "bfloat16 (inexact)")
    assert rounded[0].val_losses != plain[0].val_losses
    assert rounded[0].val_losses == pytest.approx(plain[0].val_losses, rel=0.1)


# -- where a model is cut ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "densenet121",
             "shufflenet_v2_x0_5"]
)  # fmt: skip
def test_torchvisions_models_can_be_cut_before_every_block_but_the_first(name: str) -> None:
    model = net(name=name, size=32).eval()
    entry = find_model(name)
    assert entry is not None
    assert entry.blocks is not None
    x = torch.randn(2, 3, 32, 32)
    for block in list(entry.blocks)[1:]:
        parts = cut(model, train_only(model, entry.blocks, (block,)))
        with torch.no_grad():
            torch.testing.assert_close(parts.rest(parts.front(x)), model(x))
        assert not any(p.requires_grad for p in parts.front.parameters())
    with pytest.raises(CutError, match="nothing in front"):
        cut(model, train_only(model, entry.blocks, (next(iter(entry.blocks)),)))


class Branches(nn.Module):
    """Two values pass between first and last, so that the cut must lie before both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right, self.last = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        left, right = self.left(x), self.right(x)
        return self.last(left * right) + x.sum() * 0


def test_a_cut_lies_where_one_value_passes() -> None:
    model = Branches()
    parts = cut(model, list(model.last.parameters()))
    x = torch.randn(3, 4)
    torch.testing.assert_close(parts.rest(parts.front(x)), model(x))
    assert parts.at == "stem"


class Decides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x.flatten(1)[:, :4])
        return self.fc(-x if x.sum() > 0 else x)  # type: ignore[no-any-return]


class Drops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.dropout(self.a(x.flatten(1)[:, :4]), training=self.training))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [Decides, Drops])
def test_what_cannot_be_traced_is_tuned_without_a_cache_and_refused_where_one_is_asked_for(
    kind: type[nn.Module], tmp_path: Path
) -> None:
    model = kind()
    parameters = train_only(model, {"fc": ("fc",)}, ("fc",))
    made = Tuner(model, parameters, spec(engine="fast", bn_mode="eval"), tmp_path)
    made.fine_tune(data(), data(24), seed=0)
    assert made.note.startswith("no activations are kept: ")
    assert made.levers[:3] == ("truncated", "channels_last", "keep_memory")
    with pytest.raises(RequestError, match="no activations are kept"):
        Tuner(model, parameters, spec(cache="memory", bn_mode="eval"), tmp_path)


class Branches2(nn.Module):
    """Between first and last: a pair, a value that is overwritten, or another course in evaluation."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.a, self.fc = kind, nn.Linear(768, 4), nn.Linear(4, 3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x.flatten(1))
        if self.kind == "pair":
            left, right = x.chunk(2, 1)
            return self.fc(torch.cat([right, left], 1))  # type: ignore[no-any-return]
        if self.kind == "mode":
            return self.fc(x if self.training else -x)  # type: ignore[no-any-return]
        x = x * 2
        return self.fc(self.act(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["pair", "in place", "mode"])
@pytest.mark.parametrize("engine", ["truncated", "fast"])
def test_odd_models_give_the_same_in_every_engine(kind: str, engine: str, tmp_path: Path) -> None:
    def run(engine: str) -> Outcome:
        torch.manual_seed(0)
        model = Branches2(kind)
        parameters = train_only(model, {"fc": ("fc",)}, ("fc",))
        made = Tuner(model, parameters, spec(engine=engine, bn_mode="eval"), tmp_path)
        return made.fine_tune(data(), data(24, seed=1), seed=0)

    assert run(engine).val_losses == pytest.approx(run("reference").val_losses, rel=1e-5)


def test_a_value_that_is_overwritten_is_not_where_the_model_is_cut() -> None:
    model = Branches2("in place")
    assert cut(model, list(model.fc.parameters())).at == "act"
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 3))
    parts = cut(model, list(model[2].parameters()))
    x = torch.randn(5, 4)
    kept = parts.front(x)
    before = kept.clone()
    parts.rest(kept)
    assert torch.equal(kept, before)


def test_batchnorm_without_statistics_of_its_own_is_not_kept(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(), nn.Linear(784, 3)
    )
    parameters = train_only(model, {"fc": ("3",)}, ("fc",))
    made = Tuner(model, parameters, spec(engine="fast", bn_mode="eval"), tmp_path)
    made.fine_tune(data(), data(24), seed=0)
    assert "BatchNorm2d" in made.note
    assert made.levers == ("truncated", "channels_last", "keep_memory")


def test_the_closed_form_needs_a_block_of_nothing_but_the_layer(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    parameters = train_only(model, {"fc": ("2", "3")}, ("fc",))
    made = Tuner(model, parameters, spec(head="closed_form", bn_mode="eval"), tmp_path)
    with pytest.raises(RequestError, match="one linear layer and no more"):
        made.fine_tune(data(), data(24), seed=0)


def test_dropout_in_front_is_not_kept(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), nn.Dropout(0.5), nn.Linear(4, 3))
    parameters = train_only(model, {"fc": ("3",)}, ("fc",))
    made = Tuner(model, parameters, spec(engine="fast", bn_mode="eval"), tmp_path)
    made.fine_tune(data(), data(24), seed=0)
    assert "Dropout" in made.note
    assert made.levers == ("truncated", "channels_last", "keep_memory")  # in parts the net would draw other numbers
    model.train()
    assert varies(model) == "2 (Dropout)"


# -- where the cache goes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "needed", "budget", "free", "where"),
    [("auto", 10.0, 20.0, 1000, "memory"), ("auto", 30.0, 20.0, 1000, "disk"), ("auto", 30.0, 20.0, 40, None),
     ("half", 30.0, 20.0, 40, "half"), ("half", 50.0, 20.0, 1000, None), ("memory", 30.0, 20.0, 1000, None),
     ("disk", 30.0, 20.0, 1000, "disk")],
)  # fmt: skip
def test_a_cache_goes_where_there_is_room(  # noqa: PLR0917
    wanted: str,
    needed: float,
    budget: float,
    free: int,
    where: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = type("Usage", (), {"free": free * 1_000_000})
    monkeypatch.setattr(activations.shutil, "disk_usage", lambda _: usage)
    found, why = activations.place(wanted, needed, budget, tmp_path)
    assert found == where
    assert f"{needed:.1f} MB" in why


def group(folder: Path, limit: str, used: int, stat: str, names: tuple[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(stat)


def test_the_budget_is_half_of_what_the_control_groups_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    free = memory.available_mb()
    (tmp_path / "own").write_text("0::/user/session\n")
    unified = ("memory.max", "memory.current")
    group(tmp_path / "user" / "session", "max", 10_000_000, "anon 1\n", unified)
    group(tmp_path / "user", "100000000", 70_000_000, "anon 1\ninactive_file 10000000\n", unified)
    assert memory.available_mb() == 40 < free
    assert activations.place("auto", 19, None, tmp_path)[0] == "memory"
    assert activations.place("auto", 21, None, tmp_path)[0] == "disk"
    group(tmp_path / "user", "max", 70_000_000, "anon 1\n", unified)
    assert memory.available_mb() > 40


def test_control_groups_of_version_1_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    (tmp_path / "own").write_text("5:cpu,cpuacct:/box\n4:memory:/box\n0::/\n")
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    group(tmp_path / "memory" / "box", "50000000", 20_000_000, "total_inactive_file 1000000\n", names)
    assert memory.available_mb() == 31


def test_a_cache_that_was_asked_for_and_has_no_room_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"train.cache 'memory': 0.1 MB of activations, 0 MB of memory"):
        tune("block3", tmp_path, bn_mode="eval", cache="memory", cache_mb=0.01)


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(JouletuneError, match="no room for"):
        activations._on_disk((2**50,), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_cache_on_disk_has_no_name_while_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[Path] = []

    def allocate(descriptor: int, start: int, size: int) -> None:
        os.truncate(descriptor, start + size)
        names.extend(tmp_path.iterdir())

    monkeypatch.setattr(os, "posix_fallocate", allocate, raising=False)
    kept = activations._on_disk((3, 2), tmp_path)
    kept.copy_(torch.arange(6.0).view(3, 2))
    assert kept.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert not names
    assert not list(tmp_path.iterdir())


# -- the closed form --------------------------------------------------------------------------------


def test_the_closed_form_finds_the_discriminant_of_gaussian_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[3.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]])
    mix = torch.randn(4, 4, generator=generator)

    def draw(n: int) -> Batchable:
        y = torch.arange(n) % 3
        return Batchable((centres[y] + torch.randn(n, 4, generator=generator)) @ mix, y)

    layer = nn.Linear(4, 3)
    outcome = solve(layer, draw(600), draw(300))
    test = draw(3000)
    best = -0.5 * ((test.x @ torch.linalg.inv(mix))[:, None] - centres).square().sum(2)
    assert accuracy(layer, test) > (best.argmax(1) == test.y).float().mean().item() - 0.01
    assert F.cross_entropy(layer(test.x), test.y).item() < F.cross_entropy(best, test.y).item() + 0.02
    assert (outcome.epochs_run, outcome.best_epoch, outcome.steps) == (1, 1, 1)


def test_a_class_without_an_image_is_never_chosen() -> None:
    layer = nn.Linear(4, 5)
    train = Batchable(torch.randn(60, 4), torch.arange(60) % 3)
    solve(layer, train, train)
    assert set(layer(torch.randn(500, 4)).argmax(1).tolist()) <= {0, 1, 2}


def test_the_closed_form_changes_the_last_layer_only(tmp_path: Path) -> None:
    before = net().state_dict()
    _, after, made = tune("fc", tmp_path, bn_mode="eval", head="closed_form")
    assert {name for name, value in after.items() if not torch.equal(value, before[name])} == {"fc.weight", "fc.bias"}
    assert made.levers == ("truncated", "cache=memory", "closed_form (inexact)")


def test_the_closed_form_needs_a_last_linear_layer() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 3), nn.Softmax(1))
    with pytest.raises(RequestError, match="ends in a linear layer"):
        check_levers(model, spec(head="closed_form", bn_mode="eval"), torch.device("cpu"))


# -- what cannot be had -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"cache": "memory"}, "cache", "moves with every batch"),
        ({"cache": "disk", "bn_mode": "eval", "augment": True}, "cache", "views: 4"),
        ({"views": 3}, "views", "augment: true"),
        ({"micro_batch": 8}, "micro_batch", "whole batch"),
        ({"micro_batch": 8, "bn_mode": "train_tuned"}, "micro_batch", "whole batch"),
        ({"engine": "reference", "cache": "half", "bn_mode": "eval"}, "cache", "'truncated'"),
        ({"engine": "reference", "compile": True}, "compile", "'truncated'"),
        ({"head": "closed_form", "bn_mode": "eval", "cache": "disk"}, "cache", "as a whole"),
        ({"head": "closed_form", "bn_mode": "train"}, "head", "features that stay"),
        ({"head": "closed_form", "bn_mode": "eval", "augment": True}, "head", "views: 4"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(changes: dict[str, object], key: str, said: str) -> None:
    refused = refusal(spec(**changes), last_layer=True)
    assert refused is not None
    assert refused[0] == key
    assert said in refused[1]


def test_the_closed_form_is_refused_for_other_blocks() -> None:
    assert refusal(spec(head="closed_form", bn_mode="eval"), last_layer=True) is None
    refused = refusal(spec(head="closed_form", bn_mode="eval"), last_layer=False)
    assert refused is not None
    assert "last block" in refused[1]


def test_bfloat16_is_refused_where_the_processor_does_not_compute_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "_cpu_flags", lambda: {"avx2", "fma"})
    with pytest.raises(RequestError, match="bfloat16"):
        check_levers(net(), spec(precision="bfloat16"), torch.device("cpu"))
    monkeypatch.setattr(tuner, "_cpu_flags", lambda: {"avx512_bf16"})
    check_levers(net(), spec(precision="bfloat16"), torch.device("cpu"))


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RequestError, match="compiler"):
        check_levers(net(), spec(compile=True), torch.device("cpu"))


def test_nothing_is_refused_of_the_engines_themselves() -> None:
    for engine in ("reference", "truncated", "fast"):
        for bn_mode in ("train", *HELD):
            assert refusal(spec(engine=engine, bn_mode=bn_mode), last_layer=False) is None
            resolve(spec(engine=engine, bn_mode=bn_mode), "cpu")


def test_one_block_may_have_its_head_solved_while_others_train() -> None:
    suite = TuneSpec.model_validate({"per_block": {"fc": {"head": "closed_form"}}, "bn_mode": "eval"})
    assert (suite.for_arm("fc").head, suite.for_arm("block1").head) == ("closed_form", "sgd")
