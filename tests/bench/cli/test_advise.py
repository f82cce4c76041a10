"""advise: what it says of two folders of images, what it writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench.cli.advise import advise, growth, told
from bench.errors import RequestError
from bench.suite.load import load_suite

RECORD: dict[str, Any] = {
    "accuracy_before": 0.5, "accuracy_after": 0.7, "n_test": 40, "n_train": 64, "n_val": 10, "train_time_s": 2.0,
    "energy_gross_j": 10.0, "source": "um25c", "train_macs": 2000, "step_macs": 320, "forward_macs": 4, "epochs_run": 1,
    "facts": {"decision": "input", "confidence": 0.93, "reason": "early layers drift", "fell_back": False},
}  # fmt: skip


def test_the_forecast_counts_epochs_and_not_what_is_done_once() -> None:
    """An epoch: 64 images x 320 / 32 and 10 validated x 4 = 680 of 2000; nine more make 2000 + 9 x 680."""
    assert growth(RECORD, 10) == pytest.approx(1 + 9 * 680 / 2000)
    assert growth(RECORD | {"epochs_run": None, "step_macs": None}, 10) == 1
    lines = " ".join(told(RECORD, 10))
    assert "a shift of the input" in lines
    assert "93% of the bootstrap's votes" in lines
    assert f"{10 * growth(RECORD, 10):.1f} J" in lines
    assert "nothing is known of its joules" in " ".join(told(RECORD | {"energy_gross_j": None}, 10))


def folders(at: Path, *, n: int = 40) -> tuple[Path, Path]:
    """Two classes, told apart by their brightness, that are exchanged in the target."""
    rng = np.random.default_rng(0)
    for side, levels in (("source", (60, 190)), ("target", (190, 60))):
        for name, level in zip(("dark", "light"), levels, strict=True):
            (at / side / name).mkdir(parents=True)
            for k in range(n):
                pixels = np.clip(rng.normal(level, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(at / side / name / f"{k}.png")
    return at / "source", at / "target"


def test_exchanged_classes_are_told_and_a_suite_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    small = ["--model", "resnet8", "--image-size", "16", "--source", "none"]
    done = CliRunner().invoke(advise, [str(source), str(target), *small], catch_exceptions=False)
    assert done.exit_code == 0
    assert "a shift of the output" in done.output
    assert "advice.yaml checks this" in done.output
    suite = load_suite("advice.yaml").suite
    assert [arm.label for arm in suite.arms] == ["full", "none", "auto", "race"]
    with pytest.raises(RequestError, match="is there already"):
        CliRunner().invoke(advise, [str(source), str(target), *small], catch_exceptions=False, standalone_mode=False)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    source, _ = folders(tmp_path, n=2)
    with pytest.raises(RequestError, match="TARGET"):
        CliRunner().invoke(
            advise, [str(source), str(tmp_path / "no"), "--out", str(tmp_path / "a.yaml")], catch_exceptions=False
        )
    assert not (tmp_path / "a.yaml").exists()
