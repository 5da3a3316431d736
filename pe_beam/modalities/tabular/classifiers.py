"""Metrics of classifiers that are trained on samples and tested on held-out records. All of them are private."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.metric import Comparison, Measured
from pe_beam.errors import MissingExtraError
from pe_beam.modalities.tabular.codec import encode_payload
from pe_beam.modalities.tabular.schema import TableSchema, as_schema
from pe_beam.subsamples import chosen_rows

CHECKPOINT = "PE_BEAM_TABICL"
"""Environment variable of `evaluate` with the path of TabICL's weights. Without it the hub's cache is used."""
TABICL_ROWS, TABICL_CELLS, TABICL_COLUMNS = 1_000, 30_000, 500
"""Largest number of rows per side, of values per side, and of columns: 1,000 and 1,000 rows of 14 columns took 46 s
on 2 cores."""


def classifiers(comparison: Comparison) -> Measured:
    """Returns accuracy, macro F1 and AUC, 0 to 1, of gradient boosting on held-out records, trained on samples.

    It uses scikit-learn's histogram gradient boosting, and XGBoost if it is installed, each with its defaults. AUC of
    several labels is the unweighted mean of one label against the rest.
    """
    labels = len(comparison.labels or [])
    if labels < 2:
        return Measured(figures={})
    x, y = _coded(comparison, comparison.samples)
    if len(np.unique(y)) < 2:
        return Measured(figures={}, notes=["classifiers: the samples have one label only"])
    test, truth = _coded(comparison, comparison.held_out)
    figures: dict[str, float] = {}
    for name, probabilities in _predicted(_schema(comparison), x, y, test).items():
        figures |= _scores(name, truth, _widened(probabilities, y, labels))
    return Measured(figures=figures)


def tabicl(comparison: Comparison) -> Measured:
    """Returns the same figures for TabICL (arXiv 2502.05564), a network that predicts labels with samples as its input.

    TabICL has its defaults. `PE_BEAM_TABICL` names its weights; else they are in the model hub's cache on this machine.
    They are never downloaded. If they are absent or cannot be used, there are no figures, and a note says why.

    Raises:
      MissingExtraError: the package is not installed.
    """
    labels, columns = len(comparison.labels or []), len(_schema(comparison).columns)
    if labels < 2:
        return Measured(figures={})
    try:
        from tabicl import TabICLClassifier
    except ImportError:
        raise MissingExtraError("evaluate: TabICL needs the package tabicl; install pe_beam[tabicl]") from None
    if columns > TABICL_COLUMNS:
        return Measured(figures={}, notes=[f"TabICL is left out: more than {TABICL_COLUMNS} columns"])
    rows = min(TABICL_ROWS, TABICL_CELLS // columns)
    x, y = _coded(comparison, _some(comparison.samples, rows, "train"))
    if len(np.unique(y)) < 2:
        return Measured(figures={})  # `classifiers` has said so
    test, truth = _coded(comparison, _some(comparison.held_out, rows, "test"))
    path = os.environ.get(CHECKPOINT) or None
    try:
        model = TabICLClassifier(model_path=path, allow_auto_download=False, device=_device())
        probabilities = model.fit(x, y).predict_proba(test)
    except Exception as error:  # a broken file can raise anything, and the other figures are useful without it
        return Measured(figures={}, notes=[f"TabICL is left out: {_why(path, error)}"])
    if not np.isfinite(probabilities).all():
        return Measured(figures={}, notes=["TabICL is left out: it gave no probabilities"])
    figures = _scores("tabicl", truth, _widened(probabilities, y, labels))
    return Measured(figures=figures, notes=[f"TabICL: trained and tested on {rows:,} rows at most"])


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _why(path: str | None, error: Exception) -> str:
    """Returns why TabICL gave nothing. Of an error it has only the type, because the message may contain a value."""
    if path is None and isinstance(error, ValueError) and "not cached" in str(error):
        return f"its weights are not on this machine; name a checkpoint with the environment variable {CHECKPOINT}"
    if path is not None and not os.path.isfile(path):  # noqa: PTH113 - what the variable holds need not be a path
        return f"the environment variable {CHECKPOINT} names no file"
    return f"its checkpoint cannot be used ({type(error).__name__})"


def _coded(comparison: Comparison, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Returns codes, float64 (n, m), and positions of the labels, int64 (n,)."""
    code = {label: i for i, label in enumerate(comparison.labels or [])}
    return encode_payload(table, _schema(comparison)), np.array([code[label] for label in table["label"].to_pylist()])


def _schema(comparison: Comparison) -> TableSchema:
    return as_schema(comparison.recipe["data"]["schema"])


def _some(table: pa.Table, most: int, part: str) -> pa.Table:
    """Returns at most `most` rows, the same on every machine."""
    return table.take(chosen_rows(table.num_rows, most, f"tabicl/{part}"))


def _widened(probabilities: np.ndarray, y: np.ndarray, labels: int) -> np.ndarray:
    """Extends probabilities of the labels in y to all declared labels, with 0 for the others."""
    whole = np.zeros((len(probabilities), labels))
    whole[:, np.unique(y)] = probabilities
    return whole


def _predicted(schema: TableSchema, x: np.ndarray, y: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """Returns classifier -> probabilities of the labels in y, in order, float64 (rows of test, labels)."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    known, dense = np.unique(y, return_inverse=True)
    x = np.where(np.isnan(x).all(axis=0), 0.0, x)  # scikit-learn refuses a column in which all values are missing
    categories = [not column.moves and len(column.choices) <= 255 for column in schema.columns.values()]
    trees = HistGradientBoostingClassifier(categorical_features=categories, random_state=0).fit(x, dense)
    found = {"hist_gradient_boosting": np.asarray(trees.predict_proba(test))}
    try:
        import xgboost
    except ImportError:
        return found
    boosted = xgboost.XGBClassifier(random_state=0, n_jobs=1).fit(x, dense)
    found["xgboost"] = np.asarray(boosted.predict_proba(test)).reshape(len(test), len(known))
    return found


def _scores(name: str, truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    predicted = probabilities.argmax(axis=1)
    scores: dict[str, Any] = {
        "accuracy": accuracy_score(truth, predicted),
        "macro_f1": f1_score(truth, predicted, average="macro", zero_division=0),
    }
    present = [i for i in range(probabilities.shape[1]) if 0 < (truth == i).sum() < len(truth)]
    if probabilities.shape[1] == 2:
        present = [i for i in present if i == 1]
    if present:
        scores["auc"] = np.mean([roc_auc_score(truth == i, probabilities[:, i]) for i in present])
    return {f"{name}_{key}": float(value) for key, value in scores.items()}
