"""Metrics of tables: marginals, optimal transport, classifiers, associations, closeness. All of them are private."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from pe_beam.contracts.metric import Comparison, Measured, Series
from pe_beam.errors import InputError, MissingExtraError
from pe_beam.modalities.tabular.classifiers import classifiers, tabicl
from pe_beam.modalities.tabular.codec import encode_payload
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.comparing import binned, coded, grid_of, schema_of, shares, size_of, some, subsets
from pe_beam.modalities.tabular.disclosure import attribute_inference, repetitions
from pe_beam.modalities.tabular.embedder import TabularEmbedder, TabularEmbedderOptions
from pe_beam.modalities.tabular.schema import TableSchema

MAX_SUBSETS, WIDE_SUBSETS = 500, 100
MAX_WAY = 10
TRANSPORT_ROWS, TRANSPORT_SUBSETS = 300, 40
CLOSEST_ROWS = 2000


def marginal_distances(comparison: Comparison) -> Measured:
    """Returns total variation distances of 1-way and 2-way marginals, with the label: means over columns and pairs."""
    names, (made, real), sizes = binned(comparison)
    single = {
        name: 0.5 * float(np.abs(shares(made[:, i], size) - shares(real[:, i], size)).sum())
        for i, (name, size) in enumerate(zip(names, sizes, strict=True))
    }
    pairs, notes = subsets(len(names), 2, MAX_SUBSETS, comparison.seed)
    double = []
    for i, j in pairs:
        size = sizes[i] * sizes[j]
        a, b = (shares(each[:, i] * sizes[j] + each[:, j], size) for each in (made, real))
        double.append(0.5 * float(np.abs(a - b).sum()))
    figures = {"tvd_1way": float(np.mean(list(single.values())))}
    if double:
        figures["tvd_2way"] = float(np.mean(double))
    worst = dict(sorted(single.items(), key=lambda item: -item[1])[:30])
    chart = Series(
        title="Total variation distance by column (0: equal, 1: nothing in common)",
        x=list(worst),
        y={"samples": list(worst.values())},
        x_title="column",
    )
    return Measured(figures=figures, series=[chart], notes=notes)


def wide_marginals(comparison: Comparison) -> Measured:
    """Returns the mean total variation distance of marginals of `way` columns, the label included, if asked for."""
    if "way" not in comparison.options:
        return Measured(figures={})
    way = int(comparison.options["way"])
    names, (made, real), _ = binned(comparison)
    if len(names) < way:
        return Measured(figures={}, notes=[f"tvd_{way}way: the table has {len(names)} columns, the label included"])
    sets, notes = subsets(len(names), way, WIDE_SUBSETS, comparison.seed)
    both = np.concatenate([made, real])
    found = []
    for columns in sets:
        cells = np.zeros(len(both), dtype=np.int64)
        for i in columns:  # numbered anew each time, so that numbers of cells stay small
            cells = np.unique(cells * (int(both[:, i].max()) + 1) + both[:, i], return_inverse=True)[1]
        a, b = (shares(each, int(cells.max()) + 1) for each in (cells[: len(made)], cells[len(made) :]))
        found.append(0.5 * float(np.abs(a - b).sum()))
    return Measured(figures={f"tvd_{way}way": float(np.mean(found))}, notes=notes)


def transport_distances(comparison: Comparison) -> Measured:
    """Returns Wasserstein distances of 1-, 2- and 3-way marginals by exact optimal transport (POT).

    Numbers and positions of categories are scaled by the declared bounds to 0..1; missing values are at -0.5.
    Distances are Euclidean. The figure is the mean over columns, or over sets of columns.
    """
    try:
        import ot
    except ImportError:
        raise MissingExtraError("evaluate: optimal transport needs the package POT; install pe_beam[table]") from None
    rng = np.random.default_rng([comparison.seed, 1])
    columns, (made, real) = coded(comparison)
    labels = len(comparison.labels or [])
    scaled = [some(_scaled(each, columns, labels), TRANSPORT_ROWS, rng) for each in (made, real)]
    figures: dict[str, float] = {}
    notes = [f"Wasserstein: of {TRANSPORT_ROWS} rows and {TRANSPORT_SUBSETS} sets of columns at most"]
    for order in (1, 2, 3):
        sets, _ = subsets(len(columns), order, TRANSPORT_SUBSETS, comparison.seed)
        found = []
        for subset in sets:
            a, b = (each[:, list(subset)] for each in scaled)
            if order == 1:
                found.append(float(ot.wasserstein_1d(a[:, 0], b[:, 0])))
            else:
                costs = np.sqrt(((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2))
                found.append(float(ot.emd2(ot.unif(len(a)), ot.unif(len(b)), costs)))
        if found:
            figures[f"wasserstein_{order}way"] = float(np.mean(found))
    return Measured(figures=figures, notes=notes)


def associations(comparison: Comparison) -> Measured:
    """Returns the mean absolute difference of pairwise associations, 0 to 1, between samples and held-out records.

    The association is half of Pearson's correlation for two columns with an order, and Cramer's V of their bins for any
    other pair.
    """
    names, (made, real), sizes = binned(comparison)
    columns, (codes, others) = coded(comparison)
    for i, column in enumerate(columns):
        if column is not None and column.edges is not None:
            codes[:, i], others[:, i] = column.scaled(codes[:, i]), column.scaled(others[:, i])
    ordered = [column is not None and column.moves for column in columns]
    pairs, notes = subsets(len(names), 2, MAX_SUBSETS, comparison.seed)
    gaps = []
    for i, j in pairs:
        if ordered[i] and ordered[j]:
            gaps.append(abs(pearson(codes[:, i], codes[:, j]) - pearson(others[:, i], others[:, j])) / 2)
        else:
            a, b = (cramers_v(each[:, i], each[:, j], (sizes[i], sizes[j])) for each in (made, real))
            gaps.append(abs(a - b))
    return Measured(figures={"association_difference": float(np.mean(gaps))} if gaps else {}, notes=notes)


def closeness(comparison: Comparison) -> Measured:
    """Returns distances to the closest record. Samples that are nearer to training records may be memorised.

    Training and held-out records are cut to the same size. So a share of about one half means that training records are
    not closer.
    """
    if comparison.training is None:
        return Measured(figures={}, notes=["closest records: the training records are not at hand"])
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng([comparison.seed, 2])
    own = comparison.recipe["embedder"]
    options = TabularEmbedderOptions(hashed=own.get("hashed") if own["name"] == "tabular" else None)
    embedder = TabularEmbedder(options, schema=schema_of(comparison))
    size = min(comparison.training.num_rows, comparison.held_out.num_rows)
    made = some(embedder.embed(comparison.samples).vectors, CLOSEST_ROWS, rng)
    far = []
    for table in (comparison.training, comparison.held_out):
        vectors = some(embedder.embed(table).vectors, size, rng)
        far.append(NearestNeighbors(n_neighbors=1).fit(vectors).kneighbors(made)[0][:, 0])
    training, held_out = far
    share = (training < held_out).mean() + 0.5 * (training == held_out).mean()
    return Measured(
        figures={
            "closest_training_median": float(np.median(training)),
            "closest_held_out_median": float(np.median(held_out)),
            "closer_to_training_share": float(share),
        }
    )


METRICS = (
    marginal_distances,
    wide_marginals,
    transport_distances,
    classifiers,
    tabicl,
    associations,
    closeness,
    repetitions,
    attribute_inference,
)
OPTIONS = {"way": f"columns of a set (3 to {MAX_WAY}) whose joint marginals are compared as well"}


def read_options(given: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the options as they were given. Raises InputError for one that is not allowed."""
    way = given.get("way", "3")
    if not way.isascii() or not way.isdigit() or not 3 <= int(way) <= MAX_WAY:
        raise InputError(f"--set way={way}: a whole number from 3 to {MAX_WAY} is wanted; 1 and 2 are measured anyway")
    return given


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the correlation over rows that have both values; 0 if one of the columns does not vary."""
    both = ~(np.isnan(a) | np.isnan(b))
    if both.sum() < 2:
        return 0.0
    a, b = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0


def cramers_v(a: np.ndarray, b: np.ndarray, sizes: tuple[int, int]) -> float:
    """Returns Cramer's V of two columns of bins, 0 to 1; 0 if one of the columns does not vary.

    What chance gives is taken off (Bergsma 2013): of 300 codes in 4,000 rows that is .27 with any other column.
    """
    table = np.bincount(a * sizes[1] + b, minlength=sizes[0] * sizes[1]).reshape(sizes).astype(np.float64)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    rows, (height, width) = table.sum(), table.shape
    if min(height, width) < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / rows
    by_chance = (height - 1) * (width - 1) / (rows - 1)
    beyond = max(((table - expected) ** 2 / expected).sum() / rows - by_chance, 0.0)
    least = min(size - 1 - (size - 1) ** 2 / (rows - 1) for size in (height, width))
    return float(np.sqrt(min(beyond / least, 1.0))) if least > 0 else 0.0


def _scaled(codes: np.ndarray, columns: Sequence[Column | None], labels: int) -> np.ndarray:
    made = np.empty_like(codes)
    for i, column in enumerate(columns):
        made[:, i] = codes[:, i] / ((labels - 1.0) or 1.0) if column is None else column.scaled(codes[:, i])
    return np.where(np.isnan(made), -0.5, made)


def column_shares(table: pa.Table, schema: TableSchema) -> dict[str, np.ndarray]:
    """Returns column -> shares of its bins (`comparing.GRID` for numbers and dates, missing last), for the report."""
    codes = encode_payload(table, schema)
    found = {}
    for i, (name, column) in enumerate(schema.columns.items()):
        found[name] = shares(grid_of(codes[:, i], column), size_of(column))
    return found
