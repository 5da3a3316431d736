"""The evolution of the digits recipe as a plain NumPy loop: no Beam, no files. For tuning and for comparison.

    python benchmarks/digits_sketch.py [--set a.b=c]... [--seeds 3] [--toy]

Noise here is NumPy's, for speed: this is a benchmark on public data, never a release. Prints the medians of the
Fréchet distance to the holdout and of the accuracy of an RBF SVC, and the seconds of a run.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pyarrow as pa
from _place import RECIPES

from pe_beam.contracts.generator import Step
from pe_beam.engine.run import Run
from pe_beam.metrics.distances import frechet_distance
from pe_beam.metrics.moments import Moments
from pe_beam.recipe.loading import load_recipe
from pe_beam.recipe.plan import make_plan
from pe_beam.recipe.sources import source_at
from pe_beam.selection.samplers import draw
from pe_beam.selection.smoothing import Round, smoothed_votes
from pe_beam.selection.threshold import auto_threshold, threshold_in_votes, weights_above
from pe_beam.voting.votes import CandidateMatrix, Voter


def load_digits(run: Run, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and label codes of one part of the digits."""
    source = source_at(run.recipe, run.recipe.data.path, part=part)
    batches = [batch for piece in source.pieces() for batch in source.read(piece)]
    vectors = np.concatenate([run.embedder.embed(batch.payload).vectors for batch in batches])
    return vectors, run.recipe.codes([label for batch in batches for label in batch.labels])


def evolve_in_numpy(run: Run, seed: int, real: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and label codes of the samples after all iterations."""
    rng = np.random.default_rng(seed)
    plan = make_plan(run.recipe)
    evolution = run.recipe.evolution
    labels = np.repeat(np.arange(10), plan.candidates[0] // 10)
    population = run.generator.random([str(x) for x in labels], rng.spawn(len(labels)))
    rounds: list[list[Round]] = [[] for _ in range(10)]
    for t in range(1, evolution.iterations + 1):
        vectors = run.embedder.embed(population).vectors
        matrix = CandidateMatrix(np.arange(len(labels)), labels.astype(np.int32), vectors)
        counts = Voter(matrix, distance="l2", votes_per_record=1).count(real, codes)
        sigma = plan.schedule.sigmas[t - 1]
        noisy = counts + rng.normal(0, sigma, len(counts)) if sigma else counts.astype(float)
        parents: list[int] = []
        for label in range(10):
            rows = np.flatnonzero(labels == label)
            height = threshold_in_votes(evolution.threshold, sigma)
            height = auto_threshold(noisy[rows], sigma) if height is None else height
            votes, left = noisy[rows], np.ones(len(rows))
            if evolution.smoothing and sigma:
                rounds[label].append(Round(vectors[rows], votes, sigma))
                votes, deviations = smoothed_votes(rounds[label], evolution.smoothing)
                left = deviations / sigma
            weights, _ = weights_above(votes, height * left)
            draws = draw(weights, plan.candidates[t] // 10, method=evolution.selection, rng=rng)
            parents += np.repeat(rows, draws).tolist()
        labels = labels[parents]
        chosen = population.take(pa.array(parents)).append_column("label", pa.array([str(x) for x in labels]))
        step = Step(iteration=t, iterations=evolution.iterations, degree=run.recipe.evolution.degrees()[t - 1])
        population = run.generator.vary(chosen, step, rng.spawn(len(labels)))
    return run.embedder.embed(population).vectors, labels


def main() -> None:
    """Prints one line: medians over seeds."""
    from sklearn.svm import SVC

    parser = argparse.ArgumentParser()
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.toy:
        options.seeds, options.set = 1, [*options.set, "evolution.iterations=1", "evolution.samples=100"]
    run = Run("memory://nowhere", load_recipe(RECIPES / "digits.yaml", options.set))
    real, codes = load_digits(run, "train")
    held, held_codes = load_digits(run, "test")
    rows = []
    for seed in range(options.seeds):
        began = time.perf_counter()
        made, labels = evolve_in_numpy(run, seed, real, codes)
        seconds = time.perf_counter() - began
        score = SVC().fit(made, labels).score(held, held_codes)
        moments, *others = (Moments.of(vectors) for vectors in (made, held, real))
        rows.append((score, *(frechet_distance(moments, other) for other in others), seconds))
    svc, fd, fd_train, seconds = np.median(rows, axis=0)
    print(f"{options.set}: SVC {svc:.3f}  FD holdout {fd:.3f} train {fd_train:.3f}  {seconds:.1f} s")


if __name__ == "__main__":
    main()
