import math

import mpmath
import numpy as np
import pytest
from scipy import stats

from pe_beam.privacy import noise

KEY = bytes(range(32))
DRAWS = 200_000


def _exact(sigma: float, k: np.ndarray) -> np.ndarray:
    return stats.norm.cdf((k + 0.5) / sigma) - stats.norm.cdf((k - 0.5) / sigma)


def _chi_square_p(draws: np.ndarray, sigma: float) -> float:
    reach = max(1, math.floor(3 * sigma))
    k = np.arange(-reach, reach + 1)
    seen = np.array([(draws == i).sum() for i in k])
    expected = _exact(sigma, k) * len(draws)
    seen = np.append(seen, len(draws) - seen.sum())
    expected = np.append(expected, len(draws) - expected.sum())
    return float(stats.chisquare(seen, expected).pvalue)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.7306, 40.0])
def test_law_is_accepted_and_neighbouring_scales_rejected(sigma):
    """False alarm: the stream is fixed, so none; for a fresh key it would be 1e-6."""
    draws = noise.rounded_gaussian(key=KEY, sigma_grid=sigma, label=0, size=DRAWS)
    assert _chi_square_p(draws, sigma) > 1e-6
    assert _chi_square_p(draws, sigma * 2 / 3) < 1e-9
    assert _chi_square_p(draws, sigma * 3 / 2) < 1e-9


def test_table_and_slow_path_agree(monkeypatch):
    fast = noise.rounded_gaussian(key=KEY, sigma_grid=200.0, label=3, size=400)
    monkeypatch.setattr(noise, "_WIDEST_TABLE", 1.0)
    assert (noise.rounded_gaussian(key=KEY, sigma_grid=200.0, label=3, size=400) == fast).all()


def test_a_tie_with_the_table_is_settled_by_further_bits():
    sigma = 2.0
    edge = noise._cdf(1, sigma, 128)  # U of 128 bits equals the floor at k = 1: below or above it?
    finer = noise._cdf(1, sigma, 256) & (2**128 - 1)

    def continued(below: int):
        return lambda size: ((finer + below) << 128).to_bytes(32, "big")[:size]

    assert noise.exact_draw(edge, 128, sigma, continued(-1)) == 1
    assert noise.exact_draw(edge, 128, sigma, continued(+1)) == 2
    words = np.array([[edge >> 64, edge & (2**64 - 1)]], dtype=np.uint64)
    assert noise._lookup(words, sigma)[1].tolist() == [True]


def test_tails_outside_the_table_are_settled():
    for bits in (0, 2**128 - 1):
        words = np.array([[bits >> 64, bits & (2**64 - 1)]], dtype=np.uint64)
        assert noise._lookup(words, 1.0)[1].tolist() == [True]
    assert noise.exact_draw(0, 128, 1.0, lambda size: b"\x01" * size) <= -13
    assert noise.exact_draw(2**128 - 1, 128, 1.0, lambda size: b"\xfe" * size) >= 13


def test_table_is_what_mpmath_says():
    first, high, low = noise._table(1.5)
    with mpmath.workprec(400):
        for i in range(0, len(high), 3):
            want = mpmath.ncdf((mpmath.mpf(first + i) + 0.5) / 1.5) * 2**128
            assert int(mpmath.floor(want)) == (int(high[i]) << 64 | int(low[i]))


def test_positions_are_independent_of_the_size_asked_for():
    long = noise.rounded_gaussian(key=KEY, sigma_grid=5.0, label=1, size=10_000)
    assert (noise.rounded_gaussian(key=KEY, sigma_grid=5.0, label=1, size=4097) == long[:4097]).all()
    other = noise.rounded_gaussian(key=KEY, sigma_grid=5.0, label=2, size=10_000)
    assert abs(np.corrcoef(long, other)[0, 1]) < 0.05


def _key(**changed: object) -> bytes:
    fields = {
        "secret": KEY,
        "run_id": "a",
        "fingerprint": "b",
        "iteration": 1,
        "sigma": 2.5,
        "grid_bits": 0,
        "counts_digest": b"c",
    }
    return noise.noise_key(**(fields | changed))  # type: ignore[arg-type]


def test_whatever_the_noise_belongs_to_changes_the_whole_stream():
    base = noise.rounded_gaussian(key=_key(), sigma_grid=50.0, label=0, size=2000)
    changes = [
        {"secret": bytes(32)},
        {"run_id": "aa"},
        {"fingerprint": "bb"},
        {"iteration": 2},
        {"sigma": math.nextafter(2.5, 3)},
        {"grid_bits": 8},
        {"counts_digest": b"d"},
    ]
    for change in changes:
        other = noise.rounded_gaussian(key=_key(**change), sigma_grid=50.0, label=0, size=2000)
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.12, change  # 5 sigma of an independent stream


def test_every_candidate_gets_noise_once_zeros_included():
    counts = np.zeros(3000, dtype=np.int64)
    labels = np.repeat([0, 1, 2], 1000)
    noisy = noise.add_noise(counts=counts, labels=labels, sigma=20.0, grid_bits=8, key=KEY)
    assert (noisy * 256 == np.round(noisy * 256)).all()
    assert np.std(noisy) == pytest.approx(20.0, rel=0.1)
    assert (noise.add_noise(counts=counts + 1, labels=labels, sigma=20.0, grid_bits=0, key=KEY) % 1 == 0).all()
    nothing = noise.add_noise(counts=counts + 512, labels=labels, sigma=0.0, grid_bits=8, key=b"")
    assert (nothing == 2.0).all()


def test_grid_bits():
    assert noise.grid_bits_for(10.0, "record") == 0
    assert noise.grid_bits_for(0.01, "client") == 16
    assert noise.grid_bits_for(1e6, "client") == 8
