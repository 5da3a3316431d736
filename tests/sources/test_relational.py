"""Two tables as one record a client: what is joined, kept, and refused; a client's rows alone decide about it."""

from __future__ import annotations

import csv
import functools
import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.contracts.options import Options
from pe_beam.contracts.source import TOLD, SourceBatch, SourceRequest
from pe_beam.engine.records import join_records, split_batch
from pe_beam.errors import DataError, RecipeError
from pe_beam.modalities.relational.codec import RelationalContent
from pe_beam.sources.gathering import gathered, owned, trimmed
from pe_beam.sources.relational import RelationalOptions, RelationalSource
from tests.modalities.relational.shop import schema

ADULT = ["A", "family", "north", "40", "30", "true"]


def order(key: str, day: int, amount: Any = 10) -> list[str]:
    return [key, f"2025-01-{day:02d}", "food", str(amount), "app", "false"]


CUSTOMERS = [
    ADULT,
    ["B", *ADULT[1:]],
    ["", *ADULT[1:]],
    ["D", *ADULT[1:]],
    ["D", *ADULT[1:]],
    ["E", *ADULT[1:]],
    ["F", *ADULT[1:]],
]
ORDERS = [
    *(order("A", day) for day in (5, 3, 9, 1)),
    order("B", 2),
    order("", 2),
    order("X", 4),
    order("X", 5),
    order("E", 1, amount=501),
]


def source(
    folder: Path, records: pa.Table | None = None, options: Any = None, key: str = "data.path", **child: Any
) -> RelationalSource:
    files = {name: {"source": "csv", "file": f"{table}.csv"} for name, table in (("parent", "c"), ("child", "o"))}
    return RelationalSource.open(
        SourceRequest(
            path=str(folder),
            content=RelationalContent(schema(**child)),
            columns={},
            labelled=False,
            client=True,
            options=RelationalOptions.model_validate(options or files),
            key=key,
            records=records,
        )
    )


def write(folder: Path, customers: list[list[str]], orders: list[list[str]]) -> None:
    declared = schema()
    for name, table, rows in (("c", declared.parent, customers), ("o", declared.child, orders)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["customer_id", *table.columns], *rows])


_JOINED: list[pa.RecordBatch] = []


def _look(batches: list[pa.RecordBatch]) -> None:
    """Keeps what a pipeline of this process yields. It is pickled by its name."""
    _JOINED[:] = batches


def joined(folder: Path, **child: Any) -> dict[str, tuple[SourceBatch, int]]:
    """The records by the places of their first rows."""
    with beam.Pipeline() as pipeline:
        opened = functools.partial(source, folder, **child)
        assert_that(pipeline | opened().transform(opened), _look)
    pieces: dict[Any, list[bytes]] = {}
    for batch in _JOINED:
        for place, packed in split_batch(batch):
            pieces.setdefault(place, []).append(packed)
    made = {}
    for place, parts in pieces.items():
        piece, table = join_records(place, parts)
        for batch in source(folder, table, **child).read(piece):
            made |= {where: (batch, row) for row, where in enumerate(batch.rows)}
    return made


def test_a_client_is_a_record_and_what_is_wrong_with_it_is_told(tmp_path: Path) -> None:
    write(tmp_path, CUSTOMERS, ORDERS)
    found = joined(tmp_path, most=3)
    kinds = {place: batch.faults[row].kind for place, (batch, row) in found.items() if row in batch.faults}
    assert kinds == {
        "parent:c.csv:2": "parent row: missing client id",
        "parent:c.csv:3": "key that comes more than once in the parent table",
        "child:o.csv:8": "child row: column amount: value out of its declared bounds",
        "child:o.csv:5": "child row: missing client id",
        "child:o.csv:6": "child rows whose key is in no row of the parent table",
    }
    fine = {
        batch.clients[row]: batch.payload["orders"][row].as_py()
        for place, (batch, row) in found.items()
        if place not in kinds
    }
    days = {client: [own["day"].day for own in orders] for client, orders in fine.items()}
    assert days == {"A": [1, 3, 5], "B": [2], "F": []}
    told = {fact.removeprefix(TOLD) for batch, _ in found.values() for fact in batch.seen if fact.startswith(TOLD)}
    assert [fact.partition(";")[0] for fact in told] == ["clients have more rows than data.schema.child.most"]


def rows_of(content: RelationalContent, name: str, rows: list[list[str]]) -> pa.Table:
    """Rows of a table as they are shuffled."""
    part = content.tables[name].rows
    own = {column: [row[at + 1] for row in rows] for at, column in enumerate(part.payload.names)}
    payload, faults = part.convert(pa.table({column: pa.array(texts, pa.string()) for column, texts in own.items()}))
    places = [f"{name[0]}.csv:{at}" for at in range(len(rows))]
    return owned(content, name, SourceBatch(payload, [None] * len(rows), [row[0] for row in rows], places, faults), "")


@settings(max_examples=30)
@given(st.data())
def test_what_is_kept_of_a_client_follows_from_its_rows_in_any_order_and_parts(data: st.DataObject) -> None:
    last = data.draw(st.booleans())
    content = RelationalContent(schema(most=3, keep="last" if last else "first"))
    days = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    rows = pa.concat_tables(
        [
            rows_of(content, "parent", [ADULT, ["B", *ADULT[1:]]]),
            rows_of(content, "child", [order("B", 1), *(order("A", day) for day in days)]),
        ]
    )
    rows = rows.take(pa.array(data.draw(st.permutations(range(len(rows))))))
    cut = data.draw(st.integers(1, len(rows) - 1))
    parts = pa.concat_tables([trimmed(content, rows.slice(0, cut)), trimmed(content, rows.slice(cut))])
    made, other = gathered(content, parts).to_pylist()
    assert [own["day"].day for own in made["-payload"]["orders"]] == (sorted(days)[-3:] if last else sorted(days)[:3])
    assert (made["-client"], made["-where"], made["-fault"]) == ("A", "parent:p.csv:0", None)
    assert len(other["-payload"]["orders"]) == 1
    assert any(fact.startswith(TOLD) for fact in made["-seen"]) == (len(days) > 3)


def test_rows_of_others_change_nothing_of_a_client(tmp_path: Path) -> None:
    write(tmp_path, CUSTOMERS[:2], [*ORDERS[:4], *(order("B", day, amount=day) for day in range(1, 20))])
    batch, row = joined(tmp_path, most=3)["parent:c.csv:0"]
    assert [own["day"].day for own in batch.payload["orders"][row].as_py()] == [1, 3, 5]


def test_the_source_is_for_its_modality_and_names_columns_by_table(tmp_path: Path) -> None:
    from pe_beam.modalities.image import MODALITY

    request = {"path": str(tmp_path), "labelled": False, "client": True, "options": Options()}
    with pytest.raises(RecipeError, match="is for modality relational"):
        RelationalSource.open(SourceRequest(content=MODALITY.reader(), columns={}, **request))
    with pytest.raises(RecipeError, match="'age' is not wanted"):
        options = RelationalOptions.model_validate(
            {name: {"source": "csv", "file": "x.csv"} for name in ("parent", "child")}
        )
        content = RelationalContent(schema())
        RelationalSource.open(SourceRequest(content=content, columns={"age": "a"}, **request | {"options": options}))
    named = {"source": "csv", "file": "x.csv", "columns": {"client": "buyer"}}
    options = RelationalOptions.model_validate({"parent": {"source": "csv", "file": "x.csv"}, "child": named})
    with pytest.raises(RecipeError, match=r"'client' is not wanted there; data\.schema\.child\.key"):
        RelationalSource.open(SourceRequest(content=content, columns={}, **request | {"options": options}))


def test_a_column_that_no_child_has_is_refused_though_parents_have_one_of_that_name(tmp_path: Path) -> None:
    parent = {
        "customer_id": 1,
        "segment": "family",
        "region": "north",
        "age": 40,
        "income": 30,
        "member": True,
        "day": 1,
    }
    child = {"customer_id": 1, "kind": "food", "amount": 10, "channel": "app", "returned": False}
    for name, row in (("c", parent), ("o", child)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    options = {name: {"source": "jsonl", "file": f"{table}.jsonl"} for name, table in (("parent", "c"), ("child", "o"))}
    found = source(tmp_path, options=options)
    rows = [found.rows(name, piece) for name, table in found.tables.items() for piece in table.pieces()]
    seen = {fact for facts in pa.concat_tables(rows)["-seen"].to_pylist() for fact in facts or ()}
    with pytest.raises(DataError, match=r"data\.options\.child\.columns\.day: 'day': no record"):
        found.refuse(seen)


def test_messages_on_a_holdout_name_it_and_the_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^data\.holdout: data\.options\.parent\.file: no CSV files at"):
        source(tmp_path, key="data.holdout").files()
