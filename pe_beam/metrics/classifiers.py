"""Trains classifiers on one set of labelled vectors and tests them on another: how well vectors predict labels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

# Imported at the top: two threads that import scikit-learn at the same time can break each other's import.
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from pe_beam.subsamples import chosen_rows

TRAIN_ROWS, TEST_ROWS = 5_000, 5_000
"""Largest numbers of training and test rows of a classifier. The time of an SVC grows with the square of its rows. An
accuracy on 5,000 records has a standard deviation of 0.007 (at an accuracy of 0.5)."""


def classifier_figures(
    vectors: np.ndarray, codes: np.ndarray, real: np.ndarray, real_codes: np.ndarray
) -> dict[str, float]:
    """Trains classifiers on `vectors` and tests them on `real`.

    Args:
      vectors: float32 (n, d), n at least 1.
      codes: int (n,), labels of `vectors`.
      real: float32 (m, d), m at least 1.
      real_codes: int (m,), labels of `real`. A label that is not in `codes` counts as an error.

    Returns:
      svc_rbf_*, logistic_regression_*, knn_*: accuracy, macro_f1 (over the labels of the test rows) and auc (mean over
      those labels of one label against the rest; absent if the test rows have only one label).
    """
    test = chosen_rows(len(real), TEST_ROWS, "classifier/test")
    real, real_codes = real[test].astype(np.float64), real_codes[test]
    rows = chosen_rows(len(vectors), TRAIN_ROWS, "classifier/train")
    vectors, codes = vectors[rows].astype(np.float64), codes[rows]

    def measured(named: tuple[str, Any]) -> dict[str, float]:
        predicted, scores = _fitted(named[1], vectors, codes, real)
        return {f"{named[0]}_{key}": value for key, value in _figures(real_codes, predicted, scores).items()}

    figures: dict[str, float] = {}
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # an SVC uses only one core
        warnings.simplefilter("ignore")  # no convergence within max_iter: the figures are still those of this model
        for found in pool.map(measured, _models(len(rows))):
            figures |= found
    return figures


def cross_figures(vectors: np.ndarray, codes: np.ndarray) -> dict[str, float]:
    """Trains on each half of real records and tests on the other half. Returns the means, as `classifier_figures`."""
    rows = chosen_rows(len(vectors), len(vectors) // 2, "classifier/half")
    half = np.zeros(len(vectors), dtype=bool)
    half[rows] = True
    pair = [classifier_figures(vectors[a], codes[a], vectors[~a], codes[~a]) for a in (half, ~half)]
    return {key: (pair[0][key] + pair[1][key]) / 2 for key in pair[0] if key in pair[1]}


def _models(rows: int) -> Iterator[tuple[str, Any]]:
    yield "svc_rbf", SVC()
    yield "logistic_regression", LogisticRegression(max_iter=300)
    yield "knn", KNeighborsClassifier(min(5, rows))


def _fitted(
    model: Any, vectors: np.ndarray, codes: np.ndarray, real: np.ndarray
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Returns the predicted labels of `real`, and the scores of each trained label."""
    classes = np.unique(codes)
    if len(classes) == 1:  # one label only: it is predicted for every row
        return np.repeat(classes, len(real)), {}
    model.fit(vectors, codes)
    if hasattr(model, "predict_proba"):
        scores = model.predict_proba(real)
        predicted = model.classes_[scores.argmax(axis=1)]
    else:
        scores, predicted = model.decision_function(real), model.predict(real)
    if scores.ndim == 1:
        scores = np.stack([-scores, scores], axis=1)
    return predicted, {int(code): scores[:, column] for column, code in enumerate(model.classes_)}


def _figures(codes: np.ndarray, predicted: np.ndarray, scores: dict[int, np.ndarray]) -> dict[str, float]:
    present = np.unique(codes)
    figures = {
        "accuracy": float((predicted == codes).mean()),
        "macro_f1": float(f1_score(codes, predicted, labels=present, average="macro", zero_division=0)),
    }
    if len(present) > 1:
        nothing = np.zeros(len(codes))
        areas = [roc_auc_score(codes == code, scores.get(int(code), nothing)) for code in present]
        figures["auc"] = float(np.mean(areas))
    return figures
