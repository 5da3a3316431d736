"""Distances of a ceiling are of as many real records as there are samples, for they fall with that number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pe_beam.contracts.metric import Comparison, Metric
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.likened import likened
from pe_beam.modalities.relational.metrics import marginal_distances as relational_distances
from pe_beam.modalities.sequence.generator import SequenceGenerator
from pe_beam.modalities.sequence.metrics import sequence_distances
from pe_beam.modalities.sequence.schema import as_schema
from pe_beam.modalities.tabular import metrics
from pe_beam.modalities.text.metrics import lengths_and_words, mauve
from pe_beam.subsamples import chosen_rows
from tests.modalities.relational import shop
from tests.modalities.sequence.conftest import SCHEMA

ROWS, SAMPLES = 90, 30
NUMBER = {"type": "float", "min": 0, "max": 1}
COLUMNS = {"x": NUMBER, "c": {"type": "categorical", "values": ["u", "v", "w"]}, "y": NUMBER}


def _table(seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table({"x": rng.random(ROWS), "c": rng.choice(["u", "v", "w"], ROWS), "y": rng.random(ROWS)})


def _texts(seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table({"text": [" ".join(rng.choice(list("abcdefgh"), 1 + row % 7)) for row in range(ROWS)]})


def _events(seed: int) -> pa.Table:
    generator = SequenceGenerator(SequenceGenerator.Options(), labels=[None], schema=as_schema(SCHEMA))
    return generator.random([None] * ROWS, [keyed_rng(seed, 0, row, "test") for row in range(ROWS)]).select(["events"])


def _families(seed: int) -> pa.Table:
    return shop.families(ROWS, seed)


def _ceiling(make: Callable[[int], pa.Table], schema: Any) -> Comparison:
    training, held_out = (make(seed) for seed in (0, 1))
    rng = np.random.default_rng(2)
    return Comparison(
        iteration=None,
        samples=training.append_column("label", pa.nulls(ROWS, pa.string())),
        held_out=held_out.append_column("label", pa.nulls(ROWS, pa.string())),
        training=None,
        labels=None,
        recipe={"data": {"schema": schema}, "embedder": {"name": "tabular"}},
        seed=0,
        sample_count=SAMPLES,
        options={"way": "3"},
        sample_vectors=rng.normal(size=(ROWS, 4)).astype(np.float32),
        held_out_vectors=rng.normal(size=(ROWS, 4)).astype(np.float32),
    )


@pytest.mark.parametrize(
    ("make", "schema", "metric"),
    [
        (_table, {"columns": COLUMNS}, metrics.marginal_distances),
        (_table, {"columns": COLUMNS}, metrics.wide_marginals),
        (_table, {"columns": COLUMNS}, metrics.transport_distances),
        (_table, {"columns": COLUMNS}, metrics.associations),
        (_texts, None, lengths_and_words),
        (_texts, None, mauve),
        (_events, SCHEMA, sequence_distances),
        (_families, shop.recipe("")["data"]["schema"], relational_distances),
    ],
)
def test_a_ceiling_is_of_as_many_records_as_there_are_samples(
    make: Callable[[int], pa.Table], schema: Any, metric: Metric
) -> None:
    ceiling = _ceiling(make, schema)
    rows = chosen_rows(ROWS, SAMPLES, "ceiling")
    assert ceiling.sample_vectors is not None
    as_many = dataclasses.replace(
        ceiling, iteration=1, samples=ceiling.samples.take(rows), sample_vectors=ceiling.sample_vectors[rows]
    )
    found = metric(ceiling).figures
    assert found and found == metric(as_many).figures
    assert found != metric(dataclasses.replace(ceiling, iteration=1)).figures


def test_samples_stay_as_they_are() -> None:
    ceiling = _ceiling(_table, {"columns": COLUMNS})
    assert likened(dataclasses.replace(ceiling, iteration=1)).samples is ceiling.samples
    assert likened(dataclasses.replace(ceiling, sample_count=None)).samples is ceiling.samples
    assert likened(dataclasses.replace(ceiling, sample_count=ROWS + 1)).samples is ceiling.samples
    assert likened(dataclasses.replace(ceiling, sample_vectors=None)).samples.num_rows == SAMPLES
