"""The privacy claim, attacked: a lower bound on epsilon beside the claim, and faulty builds that must be caught.

    python benchmarks/audit.py [--draws 16000] [--repeats 20] [--workers 2] [--toy]

An attacker who knows all records but one, the canary, looks at a release and says whether the canary was in. All that
makes a release runs here in memory by the product's own functions: the plan's sigma (`make_plan`), votes (`Voter`,
`client_ballot`), measured cells (`measurements.Cells`), the key and the noise (`noise_key`, `add_noise`), a secret
of its own for every draw. Canaries are as bad as the claim allows: their votes have the largest norm, on candidates
that nobody else votes for. Every release is asked for twice, as a retry does, and the attacker sees both.

What the attacker thresholds is the likelihood ratio of the two cases, or how many of the canary's candidates show
exactly no vote (noise that was left away). Which of the two, and the threshold, are chosen on one half of the draws;
the other half gives the rates, with Clopper-Pearson bounds that hold together at 99%. From these follow, at delta:

- `any`: ln((TPR - delta) / FPR), or the same for the canary's absence: no mechanism with a smaller epsilon does this.
- `Gaussian`: the least mu with TPR <= Phi(mu + Phi^-1(FPR)), as epsilon at delta. The claim is one of mu, as noise
  multipliers in `privacy.json`, so that a bound above it is a breach; it needs far fewer draws.

A build is caught where either bound lies above the claim; a sound one is, by chance, in at most 1% of audits for each
of the two bounds. The faults are put into the product's functions here: noise at 2/3, no noise where the exact count is
zero, and a fresh stream for every attempt.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any
from unittest import mock

import _place  # noqa: F401
import numpy as np
import pyarrow as pa
from scipy.stats import beta, norm

from pe_beam.engine import counting
from pe_beam.engine.measurements import Cells
from pe_beam.engine.run import Run
from pe_beam.privacy import accounting, noise
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import make_plan
from pe_beam.voting.client import client_ballot
from pe_beam.voting.votes import CandidateMatrix, Voter

DELTA = 1e-5
CONFIDENCE, TOY_CONFIDENCE = 0.99, 0.9999
CHOOSING = 1 - 1e-6  # a threshold is chosen by bounds so wide that no lucky tail is taken
EPSILONS = (1.0, 4.0, 8.0)


@dataclass(frozen=True)
class Histogram:
    """One noisy histogram of a release: exact counts with the canary and without, on the grid."""

    iteration: int
    counts: tuple[np.ndarray, np.ndarray]  # out, in
    digests: tuple[bytes, bytes]
    codes: np.ndarray
    sigma: float
    bits: int

    @property
    def difference(self) -> np.ndarray:
        """What the canary changes, in votes."""
        return (self.counts[1] - self.counts[0]) / 2.0**self.bits


@dataclass(frozen=True)
class Release:
    """What is released of a run whose populations do not depend on the data: what a selection makes of it is free."""

    run_id: str
    histograms: list[Histogram]
    claimed_mu: float
    used: float  # norm of the canary's votes over what the plan allows for, in the histogram where it is least

    def scores(self, canary: int) -> tuple[float, float]:
        """One run with a secret of its own, asked for twice: the attacker's two statistics, higher where in."""
        secret = os.urandom(noise.KEY_BYTES)
        ratio, silent = 0.0, 0
        for part in self.histograms:
            seen = [self._attempt(part, canary, secret) for _ in range(2)]
            difference = part.difference
            mean = (seen[0] + seen[1]) / 2
            ratio += float((mean - part.counts[0] / 2.0**part.bits) @ difference) / part.sigma**2
            quiet = (seen[0] == 0) & (seen[1] == 0)
            silent += int(quiet[difference < 0].sum()) - int(quiet[difference > 0].sum())
        return ratio, float(silent)

    def _attempt(self, part: Histogram, canary: int, secret: bytes) -> np.ndarray:
        key = noise.noise_key(
            secret=secret,
            run_id=self.run_id,
            fingerprint="of the audit",
            iteration=part.iteration,
            sigma=part.sigma,
            grid_bits=part.bits,
            counts_digest=part.digests[canary],
        )
        counts = part.counts[canary]
        return noise.add_noise(counts=counts, labels=part.codes, sigma=part.sigma, grid_bits=part.bits, key=key)


# --- releases ----------------------------------------------------------------------------------------------


def _recipe(epsilon: float, *, votes: int = 1, samples: int = 8, **privacy: Any) -> Recipe:
    labels = ["a", "b"]
    return parse_recipe(
        {
            "name": "audit",
            "data": {"source": "folder", "path": "private", "labels": labels},
            "modality": "image",
            "generator": {"name": "text-render"},
            "embedder": {"name": "pixels"},
            "evolution": {"iterations": 1, "samples": samples, "votes_per_record": votes},
            "privacy": {"epsilon": epsilon, "delta": DELTA, **privacy},
        }
    )


def _voter(codes: np.ndarray, votes: int) -> tuple[CandidateMatrix, Voter]:
    """Candidates on a line, ten apart: who votes for whom is plain."""
    vectors = 10 * np.arange(len(codes), dtype=np.float32)[:, None]
    matrix = CandidateMatrix(np.arange(len(codes)), codes, vectors)
    return matrix, Voter(matrix, distance="l2", votes_per_record=votes)


def _at(*places: float) -> np.ndarray:
    return 10 * np.array(places, dtype=np.float32)[:, None]


def _release(recipe: Recipe, made: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Release:
    """From exact counts by iteration (codes, without the canary, with it), on the grid."""
    run, schedule = Run("memory://nowhere", recipe), make_plan(recipe).schedule
    histograms, shares = [], []
    for iteration, (codes, out, within) in made.items():
        sigma = schedule.sigmas[iteration - 1] if iteration else schedule.label_sigma
        multiplier = schedule.noise_multipliers[iteration - 1] if iteration else schedule.label_noise_multiplier
        assert sigma is not None and multiplier is not None
        bits = noise.grid_bits_for(sigma, recipe.privacy.unit)
        counts = (out.astype(np.int64), within.astype(np.int64))
        tables = [pa.table({"candidate_id": np.arange(len(c)), "label": ["a"] * len(c), "count": c}) for c in counts]
        digests = (counting.counts_digest(tables[0]), counting.counts_digest(tables[1]))
        histograms.append(Histogram(iteration, counts, digests, codes, sigma, bits))
        shares.append(float(np.linalg.norm(histograms[-1].difference)) * multiplier / sigma)
    mu = math.sqrt(sum(1 / z**2 for z in schedule.all_multipliers))
    return Release(run.run_id, histograms, mu, min(shares))


def several_votes(epsilon: float) -> Release:
    """Four votes a record: the canary's four lie on candidates without any other."""
    recipe = _recipe(epsilon, votes=4, samples=16)
    codes = np.repeat(np.arange(2, dtype=np.int32), 8)
    _, voter = _voter(codes, 4)
    others = np.concatenate([_at(1.5), _at(1.4), _at(9.5)])
    labels = np.array([0, 0, 1], dtype=np.int32)
    out = voter.count(others, labels)
    return _release(recipe, {1: (codes, out, out + voter.count(_at(5.5), np.zeros(1, dtype=np.int32)))})


def replaced(epsilon: float) -> Release:
    """Replace-one: the canary votes here, or there."""
    recipe = _recipe(epsilon, adjacency="replace-one")
    codes = np.repeat(np.arange(2, dtype=np.int32), 4)
    _, voter = _voter(codes, 1)
    labels = np.array([0, 0, 1], dtype=np.int32)
    here, there = (voter.count(_at(0, 1, place), labels) for place in (5, 6))
    return _release(recipe, {1: (codes, here, there)})


def client(epsilon: float) -> Release:
    """A client with eight records of two labels; others vote elsewhere."""
    recipe = _recipe(epsilon, unit="client")
    codes = np.repeat(np.arange(2, dtype=np.int32), 4)
    matrix, voter = _voter(codes, 1)
    bits = noise.grid_bits_for(make_plan(recipe).schedule.sigmas[0], "client")

    def ballot(places: list[float], labels: list[int]) -> np.ndarray:
        _, positions = voter.ballots(_at(*places), np.array(labels, dtype=np.int32))
        votes: dict[int, int] = {}
        for position in positions.tolist():
            votes[position] = votes.get(position, 0) + 1
        counts = np.zeros(len(matrix.ids), dtype=np.int64)
        for position, entry in client_ballot(votes, bits).items():
            counts[position] += entry
        return counts

    out = ballot([0, 0, 4], [0, 0, 1]) + ballot([1], [0])
    return _release(recipe, {1: (codes, out, out + ballot([2, 2, 3, 3, 6, 6, 7, 7], [0] * 4 + [1] * 4))})


def marginals(epsilon: float) -> Release:
    """Bought marginals of three columns, then a vote on candidates of the same table: the budget is spent on both."""
    columns = {name: {"type": "categorical", "values": list("uvwxyz")} for name in ("first", "second", "third")}
    recipe = parse_recipe(
        {
            "name": "audit",
            "data": {"source": "csv", "path": "private.csv", "columns": {"label": "label"}, "labels": ["a", "b"]}
            | {"schema": {"columns": columns}},
            "modality": "tabular",
            "generator": {"name": "tabular"},
            "embedder": {"name": "tabular"},
            "evolution": {"iterations": 1, "samples": 8},
            "privacy": {"epsilon": epsilon, "delta": DELTA, "marginals": {"budget": 0.5}},
        }
    )
    run = Run("memory://nowhere", recipe)

    def vectors(rows: list[str]) -> np.ndarray:
        table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(columns)})
        return run.embedder.embed(table).vectors

    def counts(rows: list[str]) -> tuple[np.ndarray, np.ndarray]:
        mine, labels = vectors(rows), np.zeros(len(rows), dtype=np.int32)
        cells = Cells(run).tally([(run.embedder.marginal_bins(mine), labels)]).counts
        return cells, voter.count(mine, labels)

    codes = np.repeat(np.arange(2, dtype=np.int32), 4)
    matrix = CandidateMatrix(np.arange(8), codes, vectors(["uuu", "vvv", "www", "xxx"] * 2))
    voter = Voter(matrix, distance="l2", votes_per_record=1)
    others = counts(["uuu", "uuv", "vvv"])
    canary = counts(["xxx"])
    bought = (np.zeros(len(others[0]), dtype=np.int32), others[0], others[0] + canary[0])
    return _release(recipe, {0: bought, 1: (codes, others[1], others[1] + canary[1])})


SETTINGS: dict[str, Callable[[float], Release]] = {
    "k votes (k = 4)": several_votes,
    "marginals, then votes": marginals,
    "client": client,
    "replace-one": replaced,
}


# --- faults ------------------------------------------------------------------------------------------------


def _two_thirds() -> Any:
    drawn = noise.rounded_gaussian
    faulty = functools.wraps(drawn)(lambda *, sigma_grid, **rest: drawn(sigma_grid=sigma_grid * 2 / 3, **rest))
    return mock.patch.object(noise, "rounded_gaussian", faulty)


def _skipped() -> Any:
    added = noise.add_noise

    def faulty(*, counts: np.ndarray, **rest: Any) -> np.ndarray:
        return np.where(counts == 0, 0.0, added(counts=counts, **rest))

    return mock.patch.object(noise, "add_noise", faulty)


def _redrawn() -> Any:
    keyed = noise.noise_key

    def faulty(*, counts_digest: bytes, **rest: Any) -> bytes:
        return keyed(counts_digest=counts_digest + os.urandom(8), **rest)

    return mock.patch.object(noise, "noise_key", faulty)


BUILDS: dict[str, Callable[[], Any]] = {
    "sound": contextlib.nullcontext,
    "noise at 2/3": _two_thirds,
    "no noise on empty": _skipped,
    "redrawn on a retry": _redrawn,
}


# --- bounds ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """One audit: lower bounds on epsilon at delta, and the claim's mu."""

    any: float
    gaussian: float
    mu: float
    claimed_mu: float
    used: float

    def caught(self, epsilon: float) -> bool:
        """Whether a bound lies above the claim."""
        return max(self.any, self.gaussian) > epsilon


def _rates(hits: np.ndarray, draws: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Clopper-Pearson: lower and upper bounds on a rate. The two that a test uses hold together."""
    level = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        low, high = beta.ppf(level, hits, draws - hits + 1), beta.ppf(1 - level, hits + 1, draws - hits)
    return np.where(hits == 0, 0.0, low), np.where(hits == draws, 1.0, high)


def _bounds(
    within: np.ndarray, out: np.ndarray, thresholds: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """For each threshold: epsilon of any mechanism, and mu."""
    hits, alarms = ((scores[:, None] >= thresholds).sum(axis=0) for scores in (within, out))
    found, false = _rates(hits, len(within), confidence)[0], _rates(alarms, len(out), confidence)[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        present = np.log(np.maximum(found - DELTA, 0) / false)
        absent = np.log(np.maximum((1 - false) - DELTA, 0) / (1 - found))
        mu = norm.ppf(found) - norm.ppf(false)
    return np.maximum(0, np.maximum(present, absent)), np.maximum(0, np.where(np.isnan(mu), 0, mu))


def audit(setting: str, epsilon: float, build: str, draws: int, confidence: float = CONFIDENCE) -> Found:
    """Draws releases with the canary and without, and bounds epsilon from below."""
    release = SETTINGS[setting](epsilon)
    with BUILDS[build]():
        within, out = (np.array([release.scores(canary) for _ in range(draws)]) for canary in (1, 0))
    half = draws // 2
    best: list[tuple[float, float]] = [(-1.0, 0.0), (-1.0, 0.0)]  # of each bound: on the first half, on the second
    for column in range(within.shape[1]):
        mine, other = within[:, column], out[:, column]
        thresholds = np.unique(np.quantile(np.concatenate([mine[:half], other[:half]]), np.linspace(0, 1, 400)))
        for which, values in enumerate(_bounds(mine[:half], other[:half], thresholds, CHOOSING)):
            place = int(np.argmax(values))
            if values[place] > best[which][0]:
                kept = _bounds(mine[half:], other[half:], thresholds[place : place + 1], confidence)[which]
                best[which] = (float(values[place]), float(kept[0]))
    mu = best[1][1]
    gaussian = accounting.spent_epsilon([1 / mu], DELTA) if mu else 0.0
    return Found(best[0][1], gaussian, mu, release.claimed_mu, release.used)


# --- tables ------------------------------------------------------------------------------------------------


def _audits(pool: ProcessPoolExecutor, tasks: list[tuple[str, float, str, int, float]]) -> Iterator[Found]:
    return pool.map(audit, *zip(*tasks, strict=True))


def sound(pool: ProcessPoolExecutor, draws: int, confidence: float) -> bool:
    """The table of lower bounds; whether all stay below the claim."""
    tasks = [(setting, epsilon, "sound", draws, confidence) for setting in SETTINGS for epsilon in EPSILONS]
    print(f"lower bounds on epsilon at delta = {DELTA:g}, {confidence:.4g} confidence, {draws:,} draws in and out each")
    print(f"{'setting':<24}{'claim':>7}{'Gaussian':>10}{'any':>8}{'mu claimed':>12}{'mu found':>10}{'canary norm':>13}")
    fine = True
    for (setting, epsilon, *_), found in zip(tasks, _audits(pool, tasks), strict=True):
        row = f"{found.gaussian:>10.2f}{found.any:>8.2f}{found.claimed_mu:>12.3f}{found.mu:>10.3f}{found.used:>13.3f}"
        print(f"{setting:<24}{epsilon:>7g}{row}{'  ABOVE THE CLAIM' if found.caught(epsilon) else ''}", flush=True)
        fine &= not found.caught(epsilon)
    return fine


def faulty(pool: ProcessPoolExecutor, settings: list[str], draws: int, repeats: int, epsilon: float) -> bool:
    """The table of builds that are caught; whether every faulty one is, and no sound one."""
    print(f"\ncaught at epsilon {epsilon:g}, of {repeats} audits each with {draws:,} draws in and out each")
    print(f"{'build':<24}" + "".join(f"{setting:>24}" for setting in settings))
    fine = True
    for build in BUILDS:
        tasks = [(setting, epsilon, build, draws, CONFIDENCE) for setting in settings for _ in range(repeats)]
        caught = np.array([found.caught(epsilon) for found in _audits(pool, tasks)]).reshape(len(settings), repeats)
        print(f"{build:<24}" + "".join(f"{f'{n} of {repeats}':>24}" for n in caught.sum(axis=1)), flush=True)
        fine &= bool(caught.all()) if build != "sound" else not caught.any()
    return fine


def main() -> None:
    """Prints both tables; status 1 where a sound build is above its claim, or a faulty one is not caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=16_000, help="of each case, for the lower bounds")
    parser.add_argument("--fault-draws", type=int, default=3_000, help="of each case, for the builds")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--epsilon", type=float, default=4.0, help="at which builds are tried")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.toy:
        options.draws, options.fault_draws, options.repeats, options.epsilon = 100, 1000, 1, 8.0
    settings = list(SETTINGS)[: 1 if options.toy else None]
    began = time.monotonic()
    with ProcessPoolExecutor(options.workers) as pool:
        fine = sound(pool, options.draws, TOY_CONFIDENCE if options.toy else CONFIDENCE)
        fine &= faulty(pool, settings, options.fault_draws, options.repeats, options.epsilon)
    print(f"\n{time.monotonic() - began:.0f} s with {options.workers} processes")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
