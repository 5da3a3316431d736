"""Coins: from the secret and the position alone, the same in every cutting, and at the rate that is accounted for."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.privacy.coins import Coins

ABOUT: dict[str, Any] = {"run_id": "a" * 64, "fingerprint": "b" * 64, "iteration": 1}
SECRET = bytes(range(32))


def coins(rate: float = 0.5, secret: bytes = SECRET, **changed: Any) -> Coins:
    return Coins(secret, **{**ABOUT, **changed}, rate=rate)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 9000), min_size=2, max_size=6))
def test_they_are_the_same_in_every_cutting(cuts: list[int]) -> None:
    whole = coins().of_rows("shard", 0, 9000)
    edges = sorted({0, 9000, *cuts})
    parts = [coins().of_rows("shard", a, b - a) for a, b in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_anything_that_they_belong_to_gives_others() -> None:
    first = coins().of_rows("shard", 0, 256)
    others = [
        coins(iteration=2).of_rows("shard", 0, 256),
        coins(run_id="c" * 64).of_rows("shard", 0, 256),
        coins(fingerprint="c" * 64).of_rows("shard", 0, 256),
        coins(secret=bytes(32)).of_rows("shard", 0, 256),
        coins().of_rows("another", 0, 256),
        coins().of_rows("shard", 256, 256),
    ]
    for other in others:
        assert 70 < int((first != other).sum()) < 186  # 128 +- 7 standard deviations
    assert (first == coins().of_rows("shard", 0, 256)).all()


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.5, 0.999])
def test_their_share_is_the_rate(rate: float) -> None:
    """Six standard deviations: a false alarm in 5e8 runs."""
    count = 200_000
    rows = coins(rate).of_rows("shard", 0, count).mean()
    clients = coins(rate).of_clients([f"client {number}" for number in range(20_000)]).mean()
    assert abs(rows - rate) < 6 * math.sqrt(rate * (1 - rate) / count)
    assert abs(clients - rate) < 6 * math.sqrt(rate * (1 - rate) / 20_000)


def test_a_rate_of_one_is_everybody_and_the_smallest_nobody() -> None:
    assert coins(1.0).of_rows("shard", 0, 5000).all()
    assert not coins(1e-18).of_rows("shard", 0, 5000).any()
    assert coins(0.3)._below <= 0.3 * 2**64


def test_all_records_of_a_client_share_its_coin() -> None:
    names = [f"c{number}" for number in range(100)] * 3
    found = coins().of_clients(names)
    np.testing.assert_array_equal(found[:100], found[100:200])
    np.testing.assert_array_equal(found[:100], found[200:])
    np.testing.assert_array_equal(found[:100][::-1], coins().of_clients(names[:100][::-1]))
    assert not (found[:100] == coins(iteration=2).of_clients(names[:100])).all()


def copies_tell(coin: Callable[[np.ndarray], np.ndarray], trials: int = 40, copies: int = 64) -> bool:
    """The attack of rule 11: all copies of a record vote, or none does. Whether an attacker sees that.

    With independent coins of 1/2 a group is all or none with probability 2^-63.
    """
    rng = np.random.default_rng(0)
    groups = [coin(np.repeat(rng.normal(size=(1, 4)).astype(np.float32), copies, axis=0)) for _ in range(trials)]
    return any(group.all() or not group.any() for group in groups)


def test_copies_of_a_record_do_not_tell_its_coin_and_coins_of_the_content_would() -> None:
    position = iter(range(0, 1 << 20, 64))

    def by_content(vectors: np.ndarray) -> np.ndarray:
        return np.array([hashlib.sha256(SECRET + row.tobytes()).digest()[0] < 128 for row in vectors])

    assert not copies_tell(lambda vectors: coins().of_rows("shard", next(position), len(vectors)))
    assert copies_tell(by_content)


@pytest.mark.parametrize(("secret", "rate"), [(b"short", 0.5), (SECRET, 0.0), (SECRET, 1.5)])
def test_wrong_secrets_and_rates_are_refused(secret: bytes, rate: float) -> None:
    with pytest.raises(ValueError, match="coins"):
        coins(rate, secret)
