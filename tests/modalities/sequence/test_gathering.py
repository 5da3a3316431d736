"""A client's rows become one record, whatever else is there."""

from __future__ import annotations

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to
from pyarrow import csv

from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import SourceBatch
from pe_beam.engine.records import join_records, split_batch
from pe_beam.errors import EmptyInputError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.sources import source_at
from pe_beam.sources import events
from pe_beam.sources.gathering import gathered, owned, trimmed
from tests.modalities.sequence.conftest import RECIPE, visits


def rows_of(content, rows, faults=None, labels=None):
    """Rows (client, day, kind, ward, cost) with the columns of our own."""
    columns = pa.table(
        {name: [row[at] for row in rows] for at, name in enumerate(["-", "time", "kind", "ward", "cost"])}
    )
    payload, _ = content.rows.convert(columns.drop_columns(["-"]))
    names = [f"file:{i}" for i in range(len(rows))]
    return owned(SourceBatch(payload, labels or [None] * len(rows), [row[0] for row in rows], names, faults or {}))


def events_of(found, client):
    """(kind, gap) of a client's events."""
    [record] = [row for row in found.to_pylist() if row["-client"] == client]
    return [(event["kind"], event["gap"]) for event in record["events"]]


ROWS = [
    ("x", "2020-01-09", "discharge", "a", 1.0),
    ("y", "2020-03-01", "therapy", "b", 2.0),
    ("x", "2020-01-01", "surgery", "a", 3.0),
    ("x", "2020-01-01", "admission", None, 4.0),
    ("y", "2020-03-01", "therapy", "a", 2.0),
]


def test_events_are_in_order_with_gaps_between_them(content):
    found = gathered(content, rows_of(content, ROWS))
    assert events_of(found, "x") == [("admission", None), ("surgery", "0-1"), ("discharge", "7-30")]
    assert events_of(found, "y") == [("therapy", None), ("therapy", "0-1")]


def test_no_order_of_rows_and_no_other_client_changes_a_record(content):
    rng = np.random.default_rng(0)
    alone = gathered(content, rows_of(content, [row for row in ROWS if row[0] == "x"])).drop_columns(["-seen"])
    for _ in range(5):
        mixed = [ROWS[i] for i in rng.permutation(len(ROWS))]
        again = gathered(content, rows_of(content, mixed)).drop_columns(["-seen"])
        assert again.slice(0, 1).to_pylist() == alone.to_pylist()  # y comes or goes: x is the same


@pytest.mark.parametrize("keep", ["first", "last"])
def test_a_long_client_keeps_its_first_or_last_events(content, schema, keep):
    own = type(content)(schema.model_copy(update={"keep": keep}))
    long = [("z", f"2020-01-{day:02d}", "therapy", "ab"[day % 2], float(day)) for day in range(1, 11)]
    table = rows_of(own, [*long, *ROWS])
    [record] = [row for row in gathered(own, table).to_pylist() if row["-client"] == "z"]
    assert [e["cost"] for e in record["events"]] == ([1, 2, 3, 4] if keep == "first" else [7, 8, 9, 10])
    parts = pa.concat_tables(trimmed(own, table.slice(at, 3)) for at in range(0, len(table), 3))
    assert gathered(own, parts).equals(gathered(own, table))  # parts of a shuffle may be trimmed before
    assert trimmed(own, rows_of(own, long * 3)).num_rows <= own.most + 2


def test_faults_are_the_clients_alone(content):
    rows = [*ROWS, (None, "2020-01-01", "therapy", "a", 1.0)]
    table = rows_of(content, rows, {1: Fault("column kind: not declared", "secret")}, ["l", "l", "l", "m", "l", "l"])
    found = {row["-owner"]: row["-fault"] for row in gathered(content, table).to_pylist()}
    assert found["client y"][0] == "column kind: not declared"
    assert found["client x"][0] == "rows of one client with different labels"
    assert found["row file:5"][0] == "missing client id"


def test_a_shuffle_gathers_what_reading_gathers(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "BUCKET_BYTES", 1000)
    csv.write_csv(visits(60), tmp_path / "visits.csv")
    recipe = parse_recipe({**RECIPE, "data": {**RECIPE["data"], "path": str(tmp_path / "visits.csv")}})
    source = source_at(recipe, recipe.data.path, part=None, client=True)
    pieces = source.pieces()
    assert len(pieces) > 1 and sum(piece.stop - piece.start for piece in pieces) == 60
    with beam.Pipeline() as pipeline:
        found = pipeline | source.transform() | beam.FlatMap(split_batch) | beam.GroupByKey()
        names = found | beam.Map(lambda keyed: check(recipe, pieces, *join_records(*keyed)))
        assert_that(names, equal_to([piece.name for piece in pieces]))


def check(recipe, pieces, piece, table):
    """The records of a piece are the same by a shuffle and by reading, and so is their digest."""
    [same] = [other for other in pieces if other.name == piece.name]
    ways = [source_at(recipe, recipe.data.path, part=None, client=True, records=own) for own in (table, None)]
    one, two = ([batch.payload for batch in way.read(same)] for way in ways)
    assert pa.concat_tables(one).equals(pa.concat_tables(two))
    assert ways[0].digest(same) == ways[1].digest(same)
    return piece.name


def test_no_rows_are_an_empty_input(tmp_path):
    csv.write_csv(visits(1).slice(0, 0), tmp_path / "visits.csv")
    recipe = parse_recipe({**RECIPE, "data": {**RECIPE["data"], "path": str(tmp_path / "visits.csv")}})
    with pytest.raises(EmptyInputError):
        source_at(recipe, recipe.data.path, part=None).pieces()
