"""Joules of a kind of board: the interval holds the next board too, and an odd board is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.analysis.boards import odd_boards, of_boards

TRUTH_J = 10.0


def draw(
    rng: np.random.Generator, *, boards: int, repeats: int = 5, seeds: int = 1, spread: float = 0.02,
    noise: float = 0.01, conditions: int = 1, odd: float = 0.0, first: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Records of boards of one kind: each has a factor of its own, each repeat another."""
    factor = 1 + spread * rng.standard_normal(boards)
    factor[0] *= 1 + odd
    shape = (conditions, boards, seeds, repeats)
    joules = TRUTH_J * factor[None, :, None, None] * (1 + noise * rng.standard_normal(shape))
    condition, board, seed, _ = (axis.ravel() for axis in np.indices(shape))
    return pd.DataFrame(
        {
            "data": [f"d{one + first}" for one in condition], "train_size": 0.1, "arm": "fc", "seed": seed,
            "run": [f"b{one}" for one in board], "energy_gross_j": joules.ravel(),
        }
    )  # fmt: skip


@pytest.mark.parametrize(("boards", "seeds", "repeats"), [(3, 1, 5), (5, 1, 5), (8, 1, 2), (4, 3, 2)])
def test_the_interval_of_a_kind_holds_the_truth(boards: int, seeds: int, repeats: int) -> None:
    """2 % between boards, 1 % between repeats: 93 to 97 % of 1,000 draws."""
    rng = np.random.default_rng([boards, seeds, repeats])
    draws = pd.concat([draw(rng, boards=boards, seeds=seeds, repeats=repeats, first=number) for number in range(1000)])
    table = of_boards(draws, [f"b{number}" for number in range(boards)])
    held = ((table["lo"] <= TRUTH_J) & (table["hi"] >= TRUTH_J)).mean()
    pooled = draws.groupby("data")["energy_gross_j"].agg(["mean", "sem"])
    naive = ((pooled["mean"] - TRUTH_J).abs() <= 2 * pooled["sem"]).mean()
    between, within = (float((table[name] ** 2).mean()) ** 0.5 for name in ("between", "within"))
    print(f"{boards} boards: {held:.1%} hold the truth, pooled {naive:.1%}; between {between:.2%}, within {within:.2%}")
    assert len(table) == 1000
    assert 0.93 <= held <= 0.97
    assert naive < 0.85
    assert between == pytest.approx(0.02, rel=0.1)
    assert within == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("boards", [3, 5, 12])
def test_an_odd_board_is_named_and_like_ones_are_not(boards: int) -> None:
    rng = np.random.default_rng(boards)
    names = [f"b{number}" for number in range(boards)]

    def named(odd: float) -> list[list[str]]:
        draws = [draw(rng, boards=boards, conditions=4, odd=odd, first=4 * number) for number in range(150)]
        table = of_boards(pd.concat(draws), names)
        parts = (table.iloc[4 * number : 4 * number + 4] for number in range(150))
        return [[one.board for one in odd_boards(part, names)] for part in parts]

    false, found = named(0.0), named(0.2)
    rate, power = sum(map(bool, false)) / 150, sum(one == ["b0"] for one in found) / 150
    print(f"{boards} boards: {rate:.1%} false, {power:.1%} of boards with 20 % more found")
    assert rate <= 0.05
    assert power >= 0.9


def test_two_boards_cannot_be_told_apart_and_one_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    two = of_boards(draw(rng, boards=2, odd=0.5), ["b0", "b1"])
    assert odd_boards(two, ["b0", "b1"]) == ()
    one = of_boards(draw(rng, boards=1), ["b0"])
    assert one["lo"].isna().all()


def test_boards_with_different_seeds_are_not_paired() -> None:
    """Shared out, a condition's seeds are on different boards: each board's mean is one value."""
    rng = np.random.default_rng(1)
    records = draw(rng, boards=2, seeds=4)
    shared = records[(records["seed"] % 2) == (records["run"] == "b1")]
    table = of_boards(shared, ["b0", "b1"])
    assert table["n"].tolist() == [2]
    assert table["hi"].iloc[0] - table["lo"].iloc[0] > 0
