"""Keyed draws: the hash bit for bit beside NumPy, the law of the draws, and rows that know nothing of their batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from pe_beam.modalities.text import draws
from pe_beam.modalities.text.draws import KeyedDraws, row_keys, uniforms, weyl


def _splitmix(state: int) -> int:
    """One output of SplitMix64 after the state was advanced, in Python's whole numbers."""
    most = (1 << 64) - 1
    z = state & most
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & most
    z = (z ^ z >> 27) * 0x94D049BB133111EB & most
    return z ^ z >> 31


GAMMA = 0x9E3779B97F4A7C15


def _reference(seed: int, step: int, token: int) -> np.float32:
    key = _splitmix(seed + (step + 1) * GAMMA)
    bits = _splitmix(key + (token // 2 + 1) * GAMMA)
    half = (bits >> 32 if token % 2 else bits) & 0xFFFFFFFF
    size = abs(half - (1 << 32) if half >> 31 else half)
    return np.clip(np.float32(size) * np.float32(2.0**-31), np.float32(2.0**-32), np.float32(1 - 2.0**-24))


def test_the_reference_is_splitmix64():
    """The first outputs for the seed 1234567, as published with Vigna's and Java's implementations."""
    told = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [_splitmix(1234567 + (i + 1) * GAMMA) for i in range(5)] == told


@pytest.mark.parametrize("tokens", [7, 64])
def test_uniforms_equal_the_reference_to_the_last_bit(tokens):
    seeds, steps = [0, 1, 2**31 - 1, 123456789], 5
    keys = row_keys(seeds, steps)
    for step in range(steps):
        found = uniforms(keys[step], weyl(-(-tokens // 2), "cpu"))[:, :tokens]
        wanted = np.array([[_reference(seed, step, token) for token in range(tokens)] for seed in seeds])
        assert wanted.dtype == np.float32 and np.array_equal(found.numpy().view(np.uint32), wanted.view(np.uint32))


def test_uniforms_are_uniform_apart_and_never_at_the_ends():
    keys = row_keys(range(40), 3)
    found = torch.stack([uniforms(keys[step], weyl(5000, "cpu")) for step in range(3)]).numpy()
    assert found.shape == (3, 40, 10_000) and found.min() > 0 and found.max() < 1
    assert kstest(found.ravel(), "uniform").pvalue > 1e-6
    assert abs(found - np.float32(0.5)).mean() == pytest.approx(0.25, abs=5 * 0.1443 / np.sqrt(found.size))
    flat = found.reshape(120, -1)
    apart = np.corrcoef(flat) - np.eye(120)
    assert abs(apart).max() < 6 / np.sqrt(flat.shape[1])
    halves = np.corrcoef(flat[:, ::2].ravel(), flat[:, 1::2].ravel())[0, 1]
    assert abs(halves) < 6 / np.sqrt(flat.size / 2), "both halves of one output"


def _state_of(output: int) -> int:
    """The state that SplitMix64 mixes to this output."""
    most, z = (1 << 64) - 1, output
    for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        start = z
        for _ in range(64 // shift + 1):
            z = start ^ z >> shift
        z = z * pow(factor, -1, 1 << 64) & most
    return z


@pytest.mark.parametrize(
    ("halves", "wanted"),
    [
        ((0, 0), (2.0**-32, 2.0**-32)),
        ((1 << 31, 0), (1 - 2.0**-24, 2.0**-32)),
        ((1, (1 << 32) - 3), (2.0**-31, 3 * 2.0**-31)),
    ],
)
def test_the_ends_of_the_interval_are_left_out(halves, wanted):
    state = _state_of(halves[1] << 32 | halves[0])
    assert _splitmix(state) == halves[1] << 32 | halves[0]
    key = torch.from_numpy(np.array([state], dtype=np.uint64).view(np.int64))
    assert uniforms(key, torch.tensor([0])).tolist() == [list(wanted)]


def _drawn(logits, seeds, *, step=0, temperature=1.0, top_p=1.0, top_k=0):
    rows = len(seeds)
    made = KeyedDraws(seeds=seeds, temperatures=[temperature] * rows, top_p=[top_p] * rows, top_k=top_k, steps=step + 1)
    return made(logits.expand(rows, -1), step).argmax(dim=-1).numpy()


def _law(logits, *, temperature=1.0, top_p=1.0, top_k=0):
    """By the definition, in float64: temperature, then top_k, then the fewest tokens that hold top_p."""
    scaled = logits.double().numpy() / temperature
    p = np.exp(scaled - scaled.max())
    if top_k:
        p[p < np.sort(p)[-top_k]] = 0
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    p[order[np.cumsum(p[order]) - p[order] >= top_p]] = 0
    return p / p.sum()


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 0.6}, {"top_p": 0.7}, {"top_k": 9}, {"temperature": 1.5, "top_k": 30, "top_p": 0.8}]
)
def test_draws_follow_the_law(how):
    """20,000 draws of one step from 60 tokens (chi-square, false alarm 1e-6); nothing outside the kept ones."""
    logits = torch.randn(60, generator=torch.Generator().manual_seed(1)) * 2
    law = _law(logits, **how)
    seen = np.bincount(_drawn(logits, range(20_000), **how), minlength=60)
    assert not seen[law == 0].any()
    often = law * 20_000 >= 5
    rest = law[~often].sum() * 20_000
    tail = ([seen[~often].sum()], [rest]) if rest else ([], [])
    assert chisquare(np.append(seen[often], tail[0]), np.append(law[often] * 20_000, tail[1])).pvalue > 1e-6
    steps = KeyedDraws(
        seeds=[5],
        temperatures=[how.get("temperature", 1.0)],
        top_p=[how.get("top_p", 1.0)],
        top_k=how.get("top_k", 0),
        steps=3000,
    )
    one = np.bincount([int(steps(logits[None], step).argmax()) for step in range(3000)], minlength=60)
    often = law * 3000 >= 5
    rest = law[~often].sum() * 3000
    tail = ([one[~often].sum()], [rest]) if rest else ([], [])
    assert chisquare(np.append(one[often], tail[0]), np.append(law[often] * 3000, tail[1])).pvalue > 1e-6, "one row"


def test_a_flat_law_over_a_large_vocabulary():
    """Places of 600 draws among 151,936 equal tokens are uniform, and few come twice."""
    logits = torch.zeros(151_936)
    seen = np.concatenate([_drawn(logits, range(start, start + 200)) for start in range(0, 600, 200)])
    assert kstest(seen / 151_936, "uniform").pvalue > 1e-6
    twice = len(seen) - len(np.unique(seen))
    assert abs(twice - 600**2 / 2 / 151_936) < 6 * np.sqrt(600**2 / 2 / 151_936)


@pytest.mark.parametrize("block", [1 << 18, 100, 350])
def test_a_row_draws_the_same_in_any_batch(monkeypatch, block):
    monkeypatch.setattr(draws, "_SORTED_BLOCK", block)
    logits = torch.randn(12, 101, generator=torch.Generator().manual_seed(0)) * 3
    how = {
        "seeds": list(range(12)),
        "temperatures": [0.0, 0.5, 1.0, 1.7] * 3,
        "top_p": [1.0, 0.9, 0.3, 1.0, 0.8, 1.0] * 2,
    }
    whole = KeyedDraws(**how, top_k=40, steps=3)
    for rows in (list(range(12))[::-1], [3], [0, 4], [7, 2, 9]):
        some = KeyedDraws(**{name: [values[row] for row in rows] for name, values in how.items()}, top_k=40, steps=3)
        for step in range(3):
            assert torch.equal(some(logits[rows], step), whole(logits, step)[rows])


def test_likeliest_masked_and_half_precision_tokens():
    logits = torch.tensor([[1.0, 5.0, -torch.inf, 4.9], [-torch.inf, -torch.inf, 0.0, -torch.inf]])
    greedy = KeyedDraws(seeds=[1, 2], temperatures=[0.0, 0.0], top_p=[1.0, 1.0], top_k=0, steps=1)
    assert greedy(logits, 0).argmax(dim=-1).tolist() == [1, 2]
    cold = KeyedDraws(seeds=[1, 2], temperatures=[1e-6, 0.0], top_p=[1.0, 0.5], top_k=0, steps=1)
    assert cold(logits, 0).argmax(dim=-1).tolist() == [1, 2]
    for step in range(200):
        hot = KeyedDraws(seeds=[1, 2], temperatures=[100.0, 3.0], top_p=[1.0, 0.99], top_k=0, steps=200)
        assert hot(logits.bfloat16(), step).argmax(dim=-1).tolist()[0] != 2
        assert hot(logits, step).argmax(dim=-1).tolist()[1] == 2
    assert set(_drawn(torch.zeros(10), range(500), top_p=0.35)) == {0, 1, 2, 3}, "of equals the first"
