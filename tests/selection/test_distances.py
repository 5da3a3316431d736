import numpy as np
import pytest

from pe_beam.selection.distances import SquaredDistances


def _one_hot(rng, rows, width):
    """Vectors of a table: every fourth coordinate is a number of few values, the others are mostly 0."""
    found = np.where(rng.random((rows, width)) < 0.1, np.float32(1 / 3), np.float32(0))
    found[:, ::4] = rng.integers(0, 3, found[:, ::4].shape) / np.float32(7)
    return found


@pytest.mark.parametrize("width", [1, 7, 8, 9, 92, 128, 129, 300])
@pytest.mark.parametrize("made", [_one_hot, lambda rng, *shape: rng.random(shape, dtype=np.float32)])
def test_distances_have_the_bits_of_a_sum_by_rows(made, width):
    rng = np.random.default_rng(width)
    a, b = made(rng, 600, width), made(rng, 5, width)
    expected = [[((x - y) ** 2).sum() for y in b.astype(float)] for x in a.astype(float)]
    assert SquaredDistances(a).to(b).tobytes() == np.array(expected).tobytes()


def test_what_rows_of_a_table_share_is_computed_once(monkeypatch):
    rows = _one_hot(np.random.default_rng(0), 4000, 40)
    monkeypatch.delattr(SquaredDistances, "_one_by_one")
    assert SquaredDistances(rows).to(rows[:3]).shape == (4000, 3)
