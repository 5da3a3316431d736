"""Metrics of texts against real ones: lengths, vocabulary, MAUVE. All of them are private."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.metric import Comparison, Measured, Series
from pe_beam.modalities.likened import likened
from pe_beam.modalities.text.words import tokens_of

_MAUVE_ROWS, _MAUVE_SCALE, _MAUVE_POINTS = 5000, 5.0, 25
_VOCABULARY = 5000
_BINS = (5, 10, 20, 40, 80, 160, 320, 640)


def lengths_and_words(comparison: Comparison) -> Measured:
    """Returns words and signs a text, and the distance of vocabularies: half the L1 distance, 0 (same) to 1."""
    comparison = likened(comparison)
    made, real = words_of(comparison.samples), words_of(comparison.held_out)
    sizes = [np.array([len(words) for words in own]) for own in (made, real)]
    counts = [Counter(word for words in own for word in words) for own in (made, real)]
    known = [word for word, _ in (counts[0] + counts[1]).most_common(_VOCABULARY)]
    shares = [np.array([count[word] for word in known], dtype=float) for count in counts]
    distance = 0.5 * float(np.abs(shares[0] / max(shares[0].sum(), 1) - shares[1] / max(shares[1].sum(), 1)).sum())
    edges = [0, *_BINS, 10**9]
    spread = [np.histogram(size, edges)[0] / max(len(size), 1) for size in sizes]
    names = [f"{low + 1}-{high}" if high < 10**9 else f"over {low}" for low, high in itertools.pairwise(edges)]
    return Measured(
        figures={
            "words_a_text": float(sizes[0].mean()),
            "words_a_text_held_out": float(sizes[1].mean()),
            "length_ks": _ks(sizes[0], sizes[1]),
            "vocabulary_distance": distance,
            "different_texts": len(set(comparison.samples["text"].to_pylist())) / comparison.samples.num_rows,
        },
        series=[
            Series(
                title="Words a text",
                x=names,
                y={"samples": spread[0].tolist(), "held-out": spread[1].tolist()},
                x_title="words",
                y_title="share of texts",
            )
        ],
    )


def words_of(table: pa.Table) -> list[list[str]]:
    """Returns the words and signs of each text, in lower case."""
    return [[token.strip().lower() for token in tokens_of(text)] for text in table["text"].to_pylist()]


def _ks(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the largest difference of two distribution functions."""
    grid = np.unique(np.concatenate([a, b]))
    return float(
        np.abs(
            np.searchsorted(np.sort(a), grid, "right") / len(a) - np.searchsorted(np.sort(b), grid, "right") / len(b)
        ).max()
    )


def mauve(comparison: Comparison) -> Measured:
    """Returns MAUVE (Pillutla et al. 2021, arXiv 2102.01454) in the recipe's embedding, from 0 to 1 (the same)."""
    from pe_beam import registry

    comparison = likened(comparison)
    count = min(_MAUVE_ROWS, comparison.samples.num_rows, comparison.held_out.num_rows)
    rng = np.random.default_rng(comparison.seed)
    rows = [np.sort(rng.permutation(table.num_rows)[:count]) for table in (comparison.samples, comparison.held_out)]
    if count < 20:
        return Measured(figures={}, notes=["MAUVE is left out: it wants 20 texts on each side."])
    if comparison.sample_vectors is not None and comparison.held_out_vectors is not None:
        known = comparison.sample_vectors[rows[0]], comparison.held_out_vectors[rows[1]]
        return Measured(figures={"mauve": mauve_of(*known, seed=comparison.seed)})
    part: dict[str, Any] = dict(comparison.recipe["embedder"])
    cls = registry.find("embedders", part.pop("name"), key="embedder.name")
    if cls.remote:
        return Measured(figures={}, notes=["MAUVE is left out: the embedder is a remote service."])
    embedder = cls(cls.Options.model_validate(part))
    vectors = []
    for table, own in zip((comparison.samples, comparison.held_out), rows, strict=True):
        embedded = embedder.embed(table.take(pa.array(own)))
        good = [row for row in range(count) if row not in embedded.faults]
        vectors.append(embedded.vectors[good])
    if min(map(len, vectors)) < 20:
        return Measured(figures={}, notes=["MAUVE is left out: it wants 20 texts on each side."])
    return Measured(figures={"mauve": mauve_of(vectors[0], vectors[1], seed=comparison.seed)})


def mauve_of(a: np.ndarray, b: np.ndarray, *, seed: int = 0) -> float:
    """Returns the area under the divergence curve of two sets of vectors, quantised together.

    As in the paper: PCA to 90% of the variance of unit vectors, k-means with a tenth of the smaller count as clusters
    (2 to 500), Kullback-Leibler divergences to mixtures, exp(-5 KL), trapezoid over 25 mixtures.

    Args:
      a: float32 (n, d).
      b: float32 (m, d).
      seed: seed of k-means.
    """
    import faiss
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    joined = normalize(np.concatenate([a, b]).astype(np.float64))
    reduced = PCA(n_components=0.9, svd_solver="full").fit_transform(joined) if joined.shape[1] > 1 else joined
    clusters = max(2, min(500, min(len(a), len(b)) // 10))
    points = np.ascontiguousarray(reduced, dtype=np.float32)
    means = faiss.Kmeans(
        points.shape[1], clusters, niter=100, nredo=2, seed=seed % 2**31, min_points_per_centroid=1, verbose=False
    )
    means.train(points)
    places = means.index.search(points, 1)[1][:, 0]
    p = np.bincount(places[: len(a)], minlength=clusters) / len(a)
    q = np.bincount(places[len(a) :], minlength=clusters) / len(b)
    return _area(p, q)


def _area(p: np.ndarray, q: np.ndarray) -> float:
    """Returns the area under (exp(-c KL(q|r)), exp(-c KL(p|r))) over mixtures r, with corners (0, 1) and (1, 0)."""
    curve = [(0.0, 1.0)]
    for weight in np.linspace(1 - 1e-6, 1e-6, _MAUVE_POINTS):
        mixed = weight * p + (1 - weight) * q
        curve.append((math.exp(-_MAUVE_SCALE * _kl(q, mixed)), math.exp(-_MAUVE_SCALE * _kl(p, mixed))))
    curve.append((1.0, 0.0))
    xs, ys = np.array(sorted(curve)).T
    return float(np.trapezoid(ys, xs))


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    own = p > 0
    return float((p[own] * np.log(p[own] / q[own])).sum())
