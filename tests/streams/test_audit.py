"""An adversary sees each release before it says in which window its record will be: it learns no more than one window.

Each bin is a game of its own. The adversary's record would vote for that bin alone, in a window that it chooses by the
noisy votes so far. It then guesses from all releases whether the record was there. From its hits and false alarms
follows the least mu of Gaussian differential privacy that any such mechanism has (arXiv 1905.02383).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, norm

from pe_beam.privacy import noise
from pe_beam.streams.promise import promise
from tests.streams.drifting import stream_recipe

GAMES, WINDOWS = 40_000, 4


def _release(counts: np.ndarray, sigma: float, *, world: int, window: int) -> np.ndarray:
    key = noise.noise_key(
        secret=bytes([world, window]) * 16,
        run_id="audit",
        fingerprint=f"{world}/{window}",
        iteration=1,
        sigma=sigma,
        grid_bits=0,
        counts_digest=counts.tobytes()[:32],
    )
    return noise.add_noise(counts=counts, labels=np.zeros(GAMES, np.int32), sigma=sigma, grid_bits=0, key=key)


def _evidence(sigma: float, *, there: bool, twice: bool, world: int) -> np.ndarray:
    """What the adversary adds up in each game: the noisy votes of the windows that its record was to be in."""
    waits, left, seen = np.ones(GAMES, bool), np.full(GAMES, 2 if twice else 1), np.zeros(GAMES)
    last = np.full(GAMES, np.inf)
    for window in range(WINDOWS):
        # it joins where the release before was low, and in the last windows at the latest
        joins = waits & ((last < 0) | (window >= WINDOWS - left))
        counts = np.where(joins & there, 1, 0).astype(np.int64)
        last = _release(counts, sigma, world=world, window=window)
        seen += np.where(joins, last, 0)
        left -= joins
        waits = left > 0
    return seen


def _least_mu(sigma: float, *, twice: bool) -> float:
    """The lower bound of mu that holds with a probability of 99.9%."""
    inside = _evidence(sigma, there=True, twice=twice, world=1)
    outside = _evidence(sigma, there=False, twice=twice, world=2)
    threshold = np.median(outside) + sigma / 2
    hits, alarms = int((inside > threshold).sum()), int((outside > threshold).sum())
    low = beta.ppf(5e-4, hits, GAMES - hits + 1)
    high = beta.ppf(1 - 5e-4, alarms + 1, GAMES - alarms)
    return float(norm.ppf(low) - norm.ppf(high))


@pytest.fixture(scope="module")
def claim(tmp_path_factory):
    said = promise(stream_recipe(tmp_path_factory.mktemp("audit"), privacy__epsilon=4))
    return said["mu"], said["noise_multiplier"][0]


def test_who_chooses_its_window_late_learns_no_more_than_the_promise(claim):
    mu, sigma = claim
    found = _least_mu(sigma, twice=False)
    assert 0.8 * mu < found <= mu


def test_a_record_in_two_windows_is_seen(claim):
    mu, sigma = claim
    assert _least_mu(sigma, twice=True) > mu
