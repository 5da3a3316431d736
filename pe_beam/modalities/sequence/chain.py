"""A Markov chain of events with a distribution of lengths, and of gaps and attributes by kind. NumPy only."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from pe_beam.contracts.generator import Marginals
from pe_beam.measuring.shares import shares_of
from pe_beam.modalities.sequence.embedder import LENGTH, TRANSITION
from pe_beam.modalities.sequence.schema import SequenceSchema

_LEAST = 1e-9


@dataclass(frozen=True)
class Chain:
    """The chain of one label. K is the number of kinds; beginning and end of a sequence are the state K.

    Attributes:
      lengths: float64 (most,), shares of the lengths 1 to most.
      moves: float64 (K + 1, K + 1), by row: how likely each event follows; rows add up to 1.
      bins: gap and attributes -> float64 (K, bins), by kind; rows add up to 1.
    """

    lengths: np.ndarray
    moves: np.ndarray
    bins: dict[str, np.ndarray]

    @functools.cached_property
    def ahead(self) -> np.ndarray:
        """How likely a sequence ends in exactly 0, 1, ... further events, by kind, scaled: float64 (most, K)."""
        return self._ahead[0]

    @functools.cached_property
    def _ahead(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns `ahead`, and the logarithm of how likely the chain alone gives each length, float64 (most,)."""
        inner, found, scales = self.moves[: self.kinds, : self.kinds], [self.moves[: self.kinds, self.kinds]], [0.0]
        for _ in range(len(self.lengths)):
            largest = found[-1].max()
            scales[-1] += np.log(max(largest, _LEAST))
            found[-1] = found[-1] / largest if largest > 0 else np.ones(self.kinds)
            found.append(inner @ found[-1])
            scales.append(scales[-1])
        ahead = np.stack(found[:-1])
        return ahead, np.log(ahead @ self.moves[self.kinds, : self.kinds] + _LEAST) + scales[:-1]

    @property
    def kinds(self) -> int:
        """K."""
        return len(self.moves) - 1

    def steps(self, before: np.ndarray, left: np.ndarray) -> np.ndarray:
        """Returns how likely each kind comes next, float64 (n, K), not scaled.

        Args:
          before: int64 (n,), the event before; K at the beginning.
          left: int64 (n,), the number of events that follow the next one.
        """
        found: np.ndarray = self.moves[before, : self.kinds] * self.ahead[left] + _LEAST
        return found

    def between(self, before: int, after: int) -> np.ndarray:
        """Returns how likely each kind is between two events, float64 (K,), not scaled."""
        found: np.ndarray = self.moves[before, : self.kinds] * self.moves[: self.kinds, after] + _LEAST
        return found

    def logarithm(self, kinds: np.ndarray) -> float:
        """Returns the logarithm of how likely a sequence of kinds is, length included."""
        path = np.concatenate([[self.kinds], kinds, [self.kinds]])
        steps = np.log(self.moves[path[:-1], path[1:]] + _LEAST).sum()
        length = len(kinds) - 1
        return float(steps - self._ahead[1][length] + np.log(self.lengths[length] + _LEAST))


def uniform_chain(schema: SequenceSchema) -> Chain:
    """Returns the chain in which every declared length, kind and bin is equally likely."""
    kinds = len(schema.kinds)
    moves = np.full((kinds + 1, kinds + 1), 1 / kinds)
    moves[kinds, kinds] = 0.0
    bins = {name: np.full((kinds, n), 1 / n) for name, n in schema.attribute_bins().items()}
    return Chain(np.full(schema.most, 1 / schema.most), moves, bins)


def fit_chains(marginals: Marginals, schema: SequenceSchema) -> list[Chain]:
    """Returns the chain of each label from measured counts. All of it is post-processing of released numbers."""
    return [_fit(marginals, place, schema) for place in range(len(marginals.labels))]


def _fit(marginals: Marginals, label: int, schema: SequenceSchema) -> Chain:
    kinds = len(schema.kinds)
    transitions = marginals.counts[TRANSITION][label][:-1].reshape(kinds + 1, kinds + 1).copy()  # without the rest
    transitions[kinds, kinds] = -np.inf  # a sequence has one event at least
    joint = _shares(transitions.ravel()).reshape(kinds + 1, kinds + 1)
    usual = joint.sum(axis=0)
    moves = _rows(joint, usual)
    moves[kinds, kinds] = 0.0
    moves /= np.maximum(moves.sum(axis=1, keepdims=True), _LEAST)
    bins = {}
    for name, n in schema.attribute_bins().items():
        own = _shares(marginals.counts[name][label][:-1]).reshape(kinds, n)
        bins[name] = _rows(own, own.sum(axis=0))
    lengths = _shares(marginals.counts[LENGTH][label])
    return Chain(lengths, moves, bins)


def _shares(counts: np.ndarray) -> np.ndarray:
    """Returns shares from noisy counts; a count of minus infinity has no share."""
    found = np.zeros(len(counts))
    allowed = np.isfinite(counts)
    found[allowed] = shares_of(counts[allowed], float(counts[allowed].sum()))
    return found


def _rows(joint: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Returns rows that add up to 1; a row without any share is as usual."""
    totals = joint.sum(axis=1, keepdims=True)
    return np.where(totals > _LEAST, joint / np.maximum(totals, _LEAST), usual / max(usual.sum(), _LEAST))
