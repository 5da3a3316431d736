from __future__ import annotations

import numpy as np
import pytest

from pe_beam.selection.balance import Wanted, balance
from pe_beam.selection.samplers import draw


def table(seed: int, count: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A systematic draw of 100 by uneven weights, expectations, groups, and cells of three tables of 5 cells each."""
    rng = np.random.default_rng(seed)
    groups, weights = np.sort(rng.integers(0, 2, count)), rng.random(count)
    expected, draws = np.zeros(count), np.zeros(count, np.int64)
    for group, quota in enumerate((40, 60)):
        own = np.flatnonzero(groups == group)
        expected[own] = weights[own] / weights[own].sum() * quota
        draws[own] = draw(expected[own], quota, method="systematic", rng=rng)
    return draws, expected, groups, rng.integers(0, 5, (count, 3)) + 5 * np.arange(3)


def counted(draws: np.ndarray, cells: np.ndarray) -> np.ndarray:
    return np.bincount(np.repeat(cells, draws, axis=0).ravel(), minlength=15).astype(float)


@pytest.mark.parametrize("seed", range(8))
def test_counts_come_near_to_what_is_wanted_and_all_else_stays(seed: int) -> None:
    draws, expected, groups, cells = table(seed)
    rng = np.random.default_rng(seed)
    middle = np.concatenate([rng.dirichlet(np.full(5, 8.0)) * 100 for _ in range(3)])
    wanted = Wanted(cells, middle - 0.5, middle + 0.5)
    before = draws.copy()
    found = balance(draws, expected, groups, wanted, np.random.default_rng(seed))
    assert np.array_equal(draws, before), "arguments are not changed"
    assert (found.draws <= np.maximum(np.ceil(np.where(expected > 1, 1.5, 1) * expected), draws)).all()
    assert np.array_equal(np.bincount(groups, found.draws), np.bincount(groups, draws))
    for share, own in ((found.before, draws), (found.after, found.draws)):
        out = np.maximum(np.abs(counted(own, cells) - middle) - 0.5, 0).sum() / 2 / 3 / 100
        assert share == pytest.approx(out, abs=1e-3)
    assert found.after < 0.005
    assert found.before > 0.05
    assert 0 < np.maximum(found.draws - draws, 0).sum() <= found.replaced
    again = balance(draws, expected, groups, wanted, np.random.default_rng(seed))
    assert np.array_equal(again.draws, found.draws)


def test_what_is_within_bounds_is_left_as_it_was_drawn() -> None:
    draws, expected, groups, cells = table(0)
    exact = counted(draws, cells)
    found = balance(draws, expected, groups, Wanted(cells, exact - 1, exact + 1), np.random.default_rng(0))
    assert np.array_equal(found.draws, draws)
    assert (found.replaced, found.before, found.after) == (0, 0.0, 0.0)


def test_a_candidate_without_weight_is_never_drawn() -> None:
    draws, expected, groups, cells = table(1)
    expected[draws == 0] = 0.0
    wanted = Wanted(cells, np.full(15, 20.0), np.full(15, 20.0))
    found = balance(draws, expected, groups, wanted, np.random.default_rng(0))
    assert not found.draws[expected == 0].any()
