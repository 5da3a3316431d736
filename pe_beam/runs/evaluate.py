"""Quality of samples against real records. Not a release: it is written to private/ and read by nothing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from pe_beam.errors import DataError, InputError
from pe_beam.runs.closing import is_complete
from pe_beam.runs.run import Run, open_run
from pe_beam.runs.tables import read_bytes
from pe_beam.sources.base import Source

NOTICE = "NOT A RELEASE: computed from real records without noise; keep it private"


def evaluate(run_dir: str, *, against: str | None = None) -> dict[str, Any]:
    """Fréchet distance, and classifiers trained on samples and tested on real records.

    Args:
      run_dir: a complete run.
      against: real data of the same kind as the recipe's; default: its data.holdout.

    Raises:
      InputError: the run is not complete, or there is nothing to compare with.
      DataError: the real data cannot be read, or none of it can be used.
    """
    run = open_run(run_dir)
    if not is_complete(run):
        raise InputError(f"{run_dir}: this run is not complete yet; run it to its end first")
    real, real_labels = _real(run, _holdout(run, against))
    samples = read_bytes(run.store.read(f"{run.release}/samples.parquet"))
    made = run.new_embedder().embed(samples).vectors.astype(np.float64)
    made_labels = np.array(samples["label"].to_pylist(), dtype=object)
    if min(len(made), len(real)) < 2:
        raise InputError("evaluate: two samples and two real records are wanted at least")
    metrics = {"frechet_distance": frechet_distance(made, real)}
    if run.recipe.data.labels is not None and len(run.recipe.data.labels) > 1:
        metrics |= _classifiers(made, made_labels, real, real_labels)
    result = {"notice": NOTICE, "against": against or "data.holdout", "metrics": metrics}
    body = json.dumps(result, indent=1, allow_nan=False).encode()
    run.store.commit("private/evaluation/evaluation.json", body, replace=True)
    return result


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|mean a - mean b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), A and B the covariances (Heusel et al. 2017).

    Args:
      a: float64 (n, d), n at least 2.
      b: float64 (m, d), m at least 2.

    >>> x = np.random.default_rng(0).normal(size=(500, 3))
    >>> abs(frechet_distance(x, x)) < 1e-9
    True
    >>> round(frechet_distance(x, x + 2.0), 6)
    12.0
    """
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    shift = a.mean(axis=0) - b.mean(axis=0)
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def _holdout(run: Run, against: str | None) -> Source:
    data = run.recipe.data
    path = against or (data.holdout if isinstance(data.holdout, str) else data.path)
    if against is None and data.holdout is None:
        raise InputError("data.holdout: not in the recipe; name real data with --against PATH")
    return run.open_source(path, part="test" if against is None else None)


def _real(run: Run, source: Source) -> tuple[np.ndarray, np.ndarray]:
    vectors, labels = [], []
    embedder = run.new_embedder()
    for piece in source.pieces():
        for batch in source.read(piece):
            good = [
                row for row, label in enumerate(batch.labels) if row not in batch.faults and label in run.label_codes
            ]
            embedded = embedder.embed(batch.payload.take(good))
            keep = [i for i in range(len(good)) if i not in embedded.faults]
            vectors.append(embedded.vectors[keep].astype(np.float64))
            labels += [batch.labels[good[i]] for i in keep]
    if len(labels) < 2:
        raise DataError("evaluate: the real data hold fewer than 2 records that can be used")
    return np.concatenate(vectors), np.array(labels, dtype=object)


def _classifiers(
    made: np.ndarray, made_labels: np.ndarray, real: np.ndarray, real_labels: np.ndarray
) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    codes = {label: code for code, label in enumerate(sorted(set(made_labels)))}
    train = np.array([codes[label] for label in made_labels])
    test = np.array([codes.get(label, -1) for label in real_labels])
    models = {"svc_rbf_accuracy": SVC(), "logistic_regression_accuracy": LogisticRegression()}
    return {name: float((model.fit(made, train).predict(real) == test).mean()) for name, model in models.items()}
