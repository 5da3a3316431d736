"""A client's rows become one record, whatever else is there."""

from __future__ import annotations

import base64

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from apache_beam.transforms.util import Secret
from pyarrow import csv

from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import SourceBatch
from pe_beam.driver.loop import embed_only
from pe_beam.engine.graphs.ingest import private_records
from pe_beam.engine.run import open_run
from pe_beam.errors import DataError, StageError
from pe_beam.recipe.identity import to_plain
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.sources import source_at
from pe_beam.sources import clients
from pe_beam.sources.gathering import gathered, owned, trimmed
from pe_beam.sources.roles import ROUNDED
from tests.graphs import unpacked
from tests.modalities.sequence.conftest import RECIPE, visits


def rows_of(content, rows, faults=None, labels=None):
    """Rows (client, day, kind, ward, cost) with the columns of our own."""
    columns = pa.table(
        {name: [row[at] for row in rows] for at, name in enumerate(["-", "time", "kind", "ward", "cost"])}
    )
    payload, _ = content.tables["events"].rows.convert(columns.drop_columns(["-"]))
    names = [f"file:{i}" for i in range(len(rows))]
    batch = SourceBatch(payload, labels or [None] * len(rows), [row[0] for row in rows], names, faults or {})
    return owned(content, "events", batch, "")


def events_of(found, client):
    """(kind, gap) of a client's events."""
    return [(event["kind"], event["gap"]) for event in record_of(found, client)]


def record_of(found, client):
    [record] = [row for row in found.to_pylist() if row["-client"] == client]
    return record["-payload"]["events"]


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
    own = ["-client", "-payload", "-fault"]
    alone = gathered(content, rows_of(content, [row for row in ROWS if row[0] == "x"])).select(own)
    for _ in range(5):
        mixed = [ROWS[i] for i in rng.permutation(len(ROWS))]
        again = gathered(content, rows_of(content, mixed)).select(own)
        assert again.slice(0, 1).to_pylist() == alone.to_pylist()  # y comes or goes: x is the same


@pytest.mark.parametrize("keep", ["first", "last"])
def test_a_long_client_keeps_its_first_or_last_events(content, schema, keep):
    own = type(content)(schema.model_copy(update={"keep": keep}))
    long = [("z", f"2020-01-{day:02d}", "therapy", "ab"[day % 2], float(day)) for day in range(1, 11)]
    table = rows_of(own, [*long, *ROWS])
    costs = [event["cost"] for event in record_of(gathered(own, table), "z")]
    assert costs == ([1, 2, 3, 4] if keep == "first" else [7, 8, 9, 10])
    parts = pa.concat_tables(trimmed(own, table.slice(at, 3)) for at in range(0, len(table), 3))
    assert gathered(own, parts).equals(gathered(own, table))  # parts of a shuffle may be trimmed before
    assert trimmed(own, rows_of(own, long * 3)).num_rows <= own.schema.most + 3


def test_faults_are_the_clients_alone(content):
    rows = [*ROWS, (None, "2020-01-01", "therapy", "a", 1.0)]
    table = rows_of(content, rows, {1: Fault("column kind: not declared", "secret")}, ["l", "l", "l", "m", "l", "l"])
    found = {row["-client"]: (row["-fault"][0], row["-where"]) for row in gathered(content, table).to_pylist()}
    assert found == {
        "x": ("rows of one client with different labels", "file:0"),
        "y": ("column kind: not declared", "file:1"),
        None: ("missing client id", "file:5"),
    }


class OwnSecret(Secret):
    """A key of this test's own."""

    def get_secret_bytes(self):
        return base64.urlsafe_b64encode(bytes(32))


@pytest.mark.parametrize("flags", [[], ["--client_shuffle_key=own"]])
def test_a_shuffle_gathers_what_is_gathered_here(tmp_path, monkeypatch, flags):
    """In buckets, with or without a key that hides the clients; and the graph names no file."""
    monkeypatch.setattr(clients, "BUCKET_BYTES", 1000)
    monkeypatch.setattr(Secret, "parse_secret_option", lambda _: OwnSecret())
    csv.write_csv(visits(60), tmp_path / "visits.csv")
    recipe = parse_recipe({**RECIPE, "data": {**RECIPE["data"], "path": str(tmp_path / "visits.csv")}})
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.yaml").write_text(yaml.safe_dump(to_plain(recipe)))
    source = source_at(recipe, recipe.data.path, part=None, client=True)
    rows = [source.rows("events", piece) for piece in source.tables["events"].pieces()]
    here = gathered(source.content, pa.concat_tables(rows)).select(["-client", "-payload"])
    transform = private_records(open_run(str(tmp_path / "run")))
    with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
        found = pipeline | transform | beam.Map(lambda batch: (batch["source"][0].as_py(), batch.num_rows, batch))
        assert_that(found, lambda made: check(here, made))
        graph = pipeline.to_runner_api()
    steps = [step.unique_name for step in graph.components.transforms.values()]
    assert any("EncryptMessage" in name for name in steps) == bool(flags)
    assert b"visits" not in b"".join(unpacked(graph.SerializeToString()))


def check(here, made):
    assert len(made) > 1 and len({name for name, _, _ in made}) == len(made)
    there = pa.Table.from_batches([batch for _, _, batch in made]).select(here.column_names).sort_by("-client")
    assert there.to_pylist() == here.to_pylist()


def test_a_source_that_cannot_be_opened_on_a_worker_says_nothing_private():
    def opened():
        raise RuntimeError("patient 7")

    with pytest.raises(StageError, match=r"^stage ListFiles failed \(RuntimeError\)$"):
        list(clients._ListFilesFn(opened).process(0))


def test_an_id_that_names_no_client_harms_no_other(content):
    rows = [*ROWS, ("x", "2020-01-02", "therapy", "a", 1.0)]
    found = gathered(content, rows_of(content, rows, {5: ROUNDED}))
    assert len(events_of(found, "x")) == 3
    assert [row["-fault"][0] for row in found.to_pylist() if row["-fault"]] == [ROUNDED.kind]


def test_no_rows_are_no_records(tmp_path):
    csv.write_csv(visits(1).slice(0, 0), tmp_path / "visits.csv")
    recipe = parse_recipe({**RECIPE, "data": {**RECIPE["data"], "path": str(tmp_path / "visits.csv")}})
    with pytest.raises(DataError, match=r"data\.path: there is no record"):
        embed_only(recipe, "memory://sequences-empty")
