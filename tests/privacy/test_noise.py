import hashlib
import math

import numpy as np
import pytest
from scipy import stats

from pe_beam.errors import RecipeError
from pe_beam.privacy import noise, rounded

KEY = bytes(range(32))


def _chi_square_p(draws: np.ndarray, sigma: float) -> float:
    """Against the exact probabilities of every whole number expected 10 times or more; the rest in two tails."""
    reach = int(5 * sigma) + 2
    edges = stats.norm.cdf((np.arange(-reach, reach + 1) + 0.5) / sigma)
    expected = np.diff(edges, prepend=0, append=1) * len(draws)
    seen = np.bincount(np.clip(draws, -reach, reach + 1) + reach, minlength=len(expected)).astype(float)
    few = expected < 10
    first, last = np.flatnonzero(~few)[[0, -1]]

    def fold(x: np.ndarray) -> np.ndarray:
        body = x[first : last + 1].copy()
        body[0] += x[:first].sum()
        body[-1] += x[last + 1 :].sum()
        return body

    return float(stats.chisquare(fold(seen), fold(expected)).pvalue)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.7, 40.0])
def test_law_is_accepted_and_neighbouring_scales_rejected(sigma):
    """False alarm 1e-6 for a fresh key; this key is fixed, so that the test always says the same."""
    draws = noise.rounded_gaussian(key=KEY, sigma_grid=sigma, label=0, size=200_000)
    assert _chi_square_p(draws, sigma) > 1e-6
    assert _chi_square_p(draws, sigma * 2 / 3) < 1e-12
    assert _chi_square_p(draws, sigma * 3 / 2) < 1e-12


@pytest.mark.parametrize(("sigma", "size"), [(2.0, 5000), (700.0, 5000), (4096.0, 5000), (2.0**16, 600)])
def test_scale_is_accepted_and_neighbours_rejected(sigma, size):
    """Sum of squares over sigma^2 + 1/12 against chi-square, two-sided: false alarm 1e-6 for a fresh key."""
    draws = noise.rounded_gaussian(key=KEY, sigma_grid=sigma, label=1, size=size).astype(np.float64)

    def p(scale: float) -> float:
        below = stats.chi2.cdf(np.sum(draws**2) / (scale**2 + 1 / 12), size)
        return 2 * min(below, 1 - below)

    assert p(sigma) > 1e-6
    assert p(sigma * 2 / 3) < 1e-12
    assert p(sigma * 3 / 2) < 1e-12
    assert abs(draws.mean()) < 5 * sigma / math.sqrt(size)  # false alarm 6e-7


def test_whether_a_table_is_built_changes_no_draw(monkeypatch):
    fast = noise.rounded_gaussian(key=KEY, sigma_grid=200.0, label=3, size=300)
    monkeypatch.setattr(rounded, "WIDEST_TABLE", 1.0)
    assert (noise.rounded_gaussian(key=KEY, sigma_grid=200.0, label=3, size=300) == fast).all()


def test_the_first_draws_are_pinned():
    """Byte-for-byte repeatable across versions: a change here needs another noise.FORMAT."""
    draws = noise.rounded_gaussian(key=KEY, sigma_grid=100.0, label=2, size=5000, start=0)
    assert hashlib.sha256(draws.astype(">i8").tobytes()).hexdigest() == PINNED


PINNED = "11e7b50252960c34a9e99c330b2a46346b8dc6f1876999ea26a3a593310ca7df"


@pytest.mark.parametrize(
    ("start", "size"), [(0, 1), (0, 4097), (4095, 2), (4096, 4096), (5000, 5000), (9999, 1), (7, 0)]
)
def test_any_slice_is_the_slice_of_the_whole(start, size):
    whole = noise.rounded_gaussian(key=KEY, sigma_grid=5.0, label=1, size=10_000)
    part = noise.rounded_gaussian(key=KEY, sigma_grid=5.0, label=1, size=size, start=start)
    assert (part == whole[start : start + size]).all()
    assert part.dtype == np.int64


def test_labels_have_unrelated_streams():
    """Correlation of 10,000 independent pairs is below 0.05 but for a chance of 6e-7."""
    rows = [noise.rounded_gaussian(key=KEY, sigma_grid=5.0, label=label, size=10_000) for label in range(3)]
    matrix = np.corrcoef(rows)
    assert np.abs(matrix[np.triu_indices(3, 1)]).max() < 0.05


def test_stream_positions_and_purposes_do_not_meet():
    stream = noise.NoiseStream(KEY)
    seen = {stream.bits(label, block, 64) for label in range(3) for block in range(3)}
    seen |= {stream.further(label, place, 64) for label in range(3) for place in range(3)}
    assert len(seen) == 18
    assert stream.bits(1, 2)[:64] == stream.bits(1, 2, 64)
    assert len(stream.bits(1, 2)) == 16 * noise.BLOCK
    assert stream.further(1, 2, 64)[:32] == stream.further(1, 2, 32)
    assert KEY.hex() not in repr(stream)


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


@pytest.mark.parametrize(
    "change",
    [
        {"secret": bytes(32)},
        {"run_id": "aa"},
        {"run_id": "ab", "fingerprint": ""},
        {"fingerprint": "bb"},
        {"iteration": 2},
        {"sigma": math.nextafter(2.5, 3)},
        {"grid_bits": 8},
        {"counts_digest": b"d"},
    ],
)
def test_whatever_the_noise_belongs_to_changes_the_whole_stream(change):
    """Correlation of 10,000 independent pairs is below 0.05 but for a chance of 6e-7."""
    base = noise.rounded_gaussian(key=_key(), sigma_grid=50.0, label=0, size=10_000)
    other = noise.rounded_gaussian(key=_key(**change), sigma_grid=50.0, label=0, size=10_000)
    assert abs(np.corrcoef(base, other)[0, 1]) < 0.05
    assert (base == noise.rounded_gaussian(key=_key(), sigma_grid=50.0, label=0, size=10_000)).all()


def test_every_candidate_gets_noise_once_zeros_included():
    counts = np.zeros(3000, dtype=np.int64)
    labels = np.tile([2, 0, 7], 1000)
    noisy = noise.add_noise(counts=counts, labels=labels, sigma=20.0, grid_bits=8, key=KEY)
    for label in (0, 2, 7):
        drawn = noise.rounded_gaussian(key=KEY, sigma_grid=20.0 * 256, label=label, size=1000)
        assert (noisy[labels == label] * 256 == drawn).all()
    assert (counts == 0).all()
    more = noise.add_noise(counts=counts + 512, labels=labels, sigma=20.0, grid_bits=8, key=KEY)
    assert (more == noisy + 2).all()
    nothing = noise.add_noise(counts=counts + 512, labels=labels, sigma=0.0, grid_bits=8, key=b"")
    assert (nothing == 2.0).all()


def test_large_counts_are_exact_and_larger_ones_refused():
    most, label = np.array([2**52 - 1]), np.array([0])
    for bits in (0, 16):
        noisy = noise.add_noise(counts=most, labels=label, sigma=10.0, grid_bits=bits, key=KEY)
        drawn = noise.rounded_gaussian(key=KEY, sigma_grid=10.0 * 2**bits, label=0, size=1)
        assert int(noisy[0] * 2**bits) == int(most[0]) + int(drawn[0])


@pytest.mark.parametrize(
    "changed",
    [
        {"counts": np.array([2**52])},
        {"counts": np.array([-1])},
        {"counts": np.array([1.0])},
        {"counts": np.array([1, 2])},
        {"labels": np.array([-1])},
        {"grid_bits": 17},
        {"sigma": math.nan},
        {"sigma": -1.0},
        {"sigma": math.inf},
        {"key": b""},
    ],
)
def test_what_cannot_be_noised_exactly_is_refused(changed):
    fine = {"counts": np.array([1]), "labels": np.array([0]), "sigma": 1.0, "grid_bits": 0, "key": KEY}
    with pytest.raises(ValueError, match="wanted"):
        noise.add_noise(**(fine | changed))


def test_no_candidates_no_noise():
    none = np.array([], dtype=np.int64)
    assert noise.add_noise(counts=none, labels=none, sigma=1.0, grid_bits=0, key=KEY).shape == (0,)


def test_grid_bits():
    assert noise.grid_bits_for(10.0, "record") == 0
    assert [noise.grid_bits_for(sigma, "client") for sigma in (0.0, 0.01, 1.0, 16.0, 1e6)] == [16, 16, 12, 8, 8]
    for bad in (math.nan, -1.0, math.inf):
        with pytest.raises(RecipeError, match="sigma"):
            noise.grid_bits_for(bad, "client")
    with pytest.raises(RecipeError, match="unit"):
        noise.grid_bits_for(1.0, "user")
