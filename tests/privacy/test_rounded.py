"""The sampler as a function of its bits: exact at every edge."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.privacy import noise, rounded

ONES = 2**128 - 1


def _entry(table: rounded.Table, i: int) -> int:
    return int(table.high[i]) << 64 | int(table.low[i])


def _exact(k: int, sigma: float, bits: int) -> int:
    """floor(2^bits CDF(k + 1/2)) by mpmath's ncdf, which the sampler does not use; a CDF is always below 1."""
    with mpmath.workprec(bits + 200):
        value = mpmath.ncdf((mpmath.mpf(k) + 0.5) / mpmath.mpf(sigma)) * mpmath.mpf(2) ** bits
        return min(int(mpmath.floor(value)), 2**bits - 1)


@pytest.mark.parametrize("sigma", [2.0**-20, 0.05, 0.3, 1.0, 7.99, 8.0, 15.404496, 511.7, 4096.0])
def test_table_is_what_mpmath_says(sigma):
    table = rounded.table(sigma)
    count = len(table.high)
    picked = sorted(
        {*range(min(6, count)), *range(count - min(6, count), count), *range(0, count, max(1, count // 60))}
    )
    for i in picked:
        assert _entry(table, i) == _exact(table.first + i, sigma, 128), i
    assert (np.diff(table.high.astype(np.float64)) >= 0).all()
    assert _entry(table, 0) == 0  # all that lies outside is decided by further bits
    assert _entry(table, count - 1) == ONES


@given(sigma=st.floats(8.0, 300.0), where=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_series_and_single_values_agree(sigma, where):
    reach = int(13.2 * sigma) + 2
    k = round(where * reach)
    assert rounded.lower_tail(sigma, reach)[k] == rounded.floor_cdf(-k - 1, sigma)


def _words(u: int) -> np.ndarray:
    return np.array([[u >> 64, u & (2**64 - 1)]], dtype=np.uint64)


@pytest.mark.parametrize("sigma", [0.3, 2.0, 100.0])
@pytest.mark.parametrize("k", [-2, -1, 0, 1, 3])
def test_one_unit_of_the_last_place_beside_an_edge(sigma, k):
    edge = _exact(k, sigma, 128)
    if not 0 < edge < ONES:
        pytest.skip("an edge that 128 bits do not see")
    assert [array.tolist() for array in rounded.lookup(_words(edge - 1), sigma)] == [[k], [False]]
    assert [array.tolist() for array in rounded.lookup(_words(edge + 1), sigma)] == [[k + 1], [False]]
    assert rounded.lookup(_words(edge), sigma)[1].tolist() == [True]


@pytest.mark.parametrize("sigma", [0.3, 2.0, 100.0, 2.0**17])
@pytest.mark.parametrize("k", [-1, 0, 2])
@pytest.mark.parametrize("ties", [16, 48, 100])
def test_a_tie_is_read_on_until_it_is_settled(sigma, k, ties):
    """U agrees with CDF(k + 1/2) on 128 bits and `ties` bytes more, and differs by one unit after that."""
    bits = 128 + 8 * ties
    edge = _exact(k, sigma, bits)
    for u, draw in ((edge - 1, k), (edge + 1, k + 1)):
        tail = (u & (2 ** (8 * ties) - 1)).to_bytes(ties, "big") + bytes(400)
        asked: list[int] = []

        def further(size: int, tail: bytes = tail, asked: list[int] = asked) -> bytes:
            asked.append(size)
            return tail[:size]

        assert rounded.resolve(u >> (8 * ties), 128, sigma, further) == draw
        assert max(asked) >= ties  # 32, 64, … bytes


@pytest.mark.parametrize("sigma", [0.3, 1.0, 40.0])
def test_tails_outside_the_table_are_settled(sigma):
    """200 zero bits and then ones: far beyond what 128 bits can tell, and symmetric."""
    for u, byte in ((0, b"\x00"), (ONES, b"\xff")):
        assert rounded.lookup(_words(u), sigma)[1].tolist() == [True]
        rest = byte * 9 + bytes([byte[0] ^ 0x80]) + bytes(100)
        draw = rounded.resolve(u, 128, sigma, lambda size, rest=rest: rest[:size])
        value = u << 8 * 64 | int.from_bytes(rest[:64], "big")
        assert _exact(draw - 1, sigma, 640) <= value <= _exact(draw, sigma, 640)
        assert abs(draw) >= int(13.2 * sigma)


@given(u=st.integers(0, ONES), sigma=st.sampled_from([0.3, 1.0, 37.5, 900.0]))
@settings(max_examples=100, deadline=None)
def test_table_and_slow_way_draw_the_same(u, sigma):
    draws, undecided = rounded.lookup(_words(u), sigma)
    slow = rounded.resolve(u, 128, sigma, lambda size: b"\x55" * size)
    assert undecided[0] or draws[0] == slow


class _Script:
    """A bit source that says what it is told."""

    def __init__(self, firsts: list[int], tail: bytes) -> None:
        self.data, self.tail = b"".join(u.to_bytes(16, "big") for u in firsts), tail
        self.asked: list[tuple[int, int]] = []

    def bits(self, label: int, block: int, size: int) -> bytes:
        assert (label, block) == (4, 0)
        return self.data[:size]

    def further(self, label: int, position: int, size: int) -> bytes:
        self.asked.append((label, position))
        return (self.tail * size)[:size]


def test_draws_come_from_the_injected_bits():
    edge = _exact(1, 2.0, 128)
    script = _Script([2**127, edge - 1, edge, edge + 1, 0], b"\x00")
    assert noise.draw_from(script, sigma_grid=2.0, label=4, size=4).tolist() == [0, 1, 1, 2]
    assert set(script.asked) == {(4, 2)}  # only the tie reads on; zeros lie below the edge
    script = _Script([edge], b"\xff")
    assert noise.draw_from(script, sigma_grid=2.0, label=4, size=1).tolist() == [2]
