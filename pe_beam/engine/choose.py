"""Turns a noisy histogram into the rows of the next population. It is public post-processing and costs no budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.steps import SELECTION
from pe_beam.engine.balancing import balanced_draws, balances
from pe_beam.engine.counting import noisy_label_shares
from pe_beam.engine.manifests import manifest_of
from pe_beam.engine.matrices import make_matrix
from pe_beam.engine.measurements import read_marginals
from pe_beam.engine.memory import remembered
from pe_beam.engine.populations import read_histogram
from pe_beam.engine.repeats import keeps_count, kept_once, modelled_repeats
from pe_beam.engine.run import Run
from pe_beam.engine.settling import freed
from pe_beam.engine.spending import sigma_of
from pe_beam.keyed import keyed_rng
from pe_beam.recipe.sections.evolution import Evolution, Turn
from pe_beam.selection.quotas import largest_remainder
from pe_beam.selection.samplers import draw
from pe_beam.selection.smoothing import Round, smoothed_votes
from pe_beam.selection.threshold import auto_threshold, threshold_in_votes, weights_above
from pe_beam.selection.totals import Total, brought_to
from pe_beam.voting.votes import CandidateMatrix

_LEAST_OF_CLIENT = 0.5  # votes for each in a measured column


def choose(run: Run, iteration: int) -> tuple[pa.Table, dict[str, Any]]:
    """Selects parents label by label, and decides which are kept, which are varied, and how often.

    Returns:
      A SELECTION table sorted by candidate_id, and notes for the manifest (threshold by label, fallbacks).
    """
    histogram = read_histogram(run, iteration)
    codes = run.recipe.codes(histogram["label"].to_pylist())
    noisy = _noisy_votes(run, iteration, histogram["noisy_votes"].to_numpy(), codes)
    released, sigma = _released(run, iteration), sigma_of(run, iteration)
    older = remembered(run)
    variations, keep = run.recipe.evolution.family_at(iteration)
    places = run.recipe.evolution.populations()[iteration] // (variations + keep)
    quotas = largest_remainder(noisy_label_shares(run), places)
    turn = run.recipe.evolution.turn(iteration)
    draws, expected = np.zeros(len(noisy), dtype=np.int64), np.zeros(len(noisy))
    notes: dict[str, Any] = {"threshold": {}, "fallback": {}}
    for code, label in enumerate(run.recipe.label_list):
        rows = np.flatnonzero(codes == code)
        # A label at a time, for they are copies of vectors.
        rounds = [*older[code], *(each.of_label(code) for each in released)] if released else []
        weights, threshold, fallback = _weights(run.recipe.evolution, turn, sigma, noisy[rows], rounds)
        rng = keyed_rng(run.recipe.seed, iteration, -1, f"select/{code}")
        draws[rows] = draw(weights, quotas[code], method=turn.selection, rng=rng)
        if balances(run, iteration):  # draws by rank have weights that may add up to 0
            expected[rows] = weights / weights.sum() * quotas[code]
        notes["threshold"][label or ""] = threshold
        if fallback:
            notes["fallback"][label or ""] = fallback
    if balances(run, iteration):
        draws, notes["balance"] = balanced_draws(run, iteration, codes, draws, expected)
    given = draws * (variations + keep)
    kept = np.flatnonzero(draws > 0) if keep else np.zeros(0, dtype=np.int64)
    kept = freed(run, iteration, kept, int(given.sum()))
    if keeps_count(run, iteration):
        notes["modelled_repeats"] = modelled_repeats(run, iteration, _labels(run, codes, given))
        kept = kept[kept_once(run, iteration, kept, notes["modelled_repeats"])]
    return _families(run, iteration, histogram, given, kept), notes


def _labels(run: Run, codes: np.ndarray, rows: np.ndarray) -> list[str | None]:
    """Returns the labels of the next population's rows, given the number of rows that each candidate gives."""
    labels = run.recipe.label_list
    return [labels[code] for code in np.repeat(codes, rows).tolist()]


@dataclass(frozen=True)
class _Released:
    """What an iteration voted on and released: candidates, their noisy votes, float64 (m,), and sigma, in votes."""

    matrix: CandidateMatrix
    noisy: np.ndarray
    sigma: float

    def of_label(self, code: int) -> Round:
        """Returns what was released for one label. Without labels its vectors are those of the file, not copied."""
        rows = self.matrix.labels == code
        vectors = self.matrix.vectors if rows.all() else self.matrix.vectors[rows]
        return Round(vectors, self.noisy[rows], self.sigma)


def _released(run: Run, iteration: int) -> list[_Released]:
    """Returns what iterations 1 to t released. It is empty without smoothing, and for votes without noise."""
    if not run.recipe.evolution.smoothing or not run.recipe.noisy:
        return []
    found = []
    for t in range(1, iteration + 1):
        matrix = make_matrix(run, t)
        noisy = _noisy_votes(run, t, read_histogram(run, t)["noisy_votes"].to_numpy(), matrix.labels)
        found.append(_Released(matrix, noisy, sigma_of(run, t)))
    return found


def _noisy_votes(run: Run, iteration: int, noisy: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Returns noisy votes, float64 (m,): those of each label brought to the number of its records, if it was measured.

    Each record casts as many votes. A client's add up to another number in votes than in columns, so the sum of all
    votes says how they compare, if noise leaves anything of it. Recipes with `privacy.marginals` keep their bytes.
    """
    privacy = run.recipe.privacy
    if privacy.measure is None:
        return noisy
    marginals, found, rate = read_marginals(run), noisy.copy(), float(privacy.sampling_rate)
    totals, variance, sigma = np.maximum(marginals.totals(), 0.0), marginals.total_variance(), sigma_of(run, iteration)
    by_record = run.recipe.vote_unit == "record"
    of_client = max(noisy.sum() / max(rate * float(totals.sum()), 1.0), _LEAST_OF_CLIENT)
    for code, records in enumerate(totals.tolist()):
        rows = np.flatnonzero(codes == code)
        cast = rate * (min(run.recipe.evolution.votes_per_record, len(rows)) if by_record else of_client)
        of_sample = records * (1 - rate) / rate  # the chance of who votes, as a variance of records
        found[rows] = brought_to(noisy[rows], sigma, Total(cast * records, cast**2 * (variance + of_sample)))
    return found


def _weights(
    evolution: Evolution, turn: Turn, sigma: float, noisy: np.ndarray, rounds: list[Round]
) -> tuple[np.ndarray, float | None, str | None]:
    """Returns selection weights of one label's candidates, the threshold (in votes), and the fallback if one was used.

    Pooled votes are less noisy, so the threshold of each candidate is lowered in proportion to its noise.
    """
    left: np.ndarray | float = 1.0
    if rounds:
        noisy, deviations = smoothed_votes(rounds, evolution.smoothing)
        left = deviations / sigma
    if turn.selection == "rank":
        return noisy, None, None
    threshold = threshold_in_votes(turn.threshold, sigma)
    if threshold is None:
        threshold = auto_threshold(noisy, sigma)
    weights, fallback = weights_above(noisy, threshold * left)
    return weights, threshold, fallback


def _families(run: Run, iteration: int, histogram: pa.Table, rows: np.ndarray, kept: np.ndarray) -> pa.Table:
    """Returns the SELECTION table.

    A parent that is kept is kept once. All other places of its family are variations.

    Args:
      run: the run.
      iteration: 1 or more.
      histogram: the candidates in order.
      rows: int64 (m,), the number of rows that each candidate gives.
      kept: int64, places of the candidates that are kept.
    """
    ids = histogram["candidate_id"].to_numpy()
    labels = np.array(histogram["label"].to_pylist(), dtype=object)
    made = rows.copy()
    made[kept] -= 1
    # New ids follow the declared order of labels, so that the chunks of a label stay together.
    codes = run.recipe.codes(labels.tolist())
    order = np.lexsort((np.arange(len(ids)), codes))
    parents = np.repeat(order, made[order])
    first = manifest_of(run, iteration - 1)["next_candidate_id"]
    own = np.concatenate([kept, parents])
    return pa.table(
        [
            pa.array(np.concatenate([ids[kept], first + np.arange(len(parents))]), pa.int64()),
            pa.array(ids[own], pa.int64()),
            pa.array(own, pa.int64()),
            pa.array(labels[own].tolist(), pa.string()),
            pa.array(np.arange(len(own)) < len(kept)),
        ],
        schema=SELECTION,
    )
