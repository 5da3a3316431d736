"""Delta and Iceberg tables at a pinned version, written with their own libraries."""

from __future__ import annotations

import datetime
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.source import Source
from pe_beam.errors import DataError, InputError
from pe_beam.recipe.sources import find_source, open_source

deltalake = pytest.importorskip("deltalake")
pyiceberg = pytest.importorskip("pyiceberg")

TEXT = FieldContent(pa.schema([("text", pa.string())]))
DAY = datetime.date(2026, 1, 2)


def opened(source: str, path: Any, columns: dict[str, str] | None = None, *, label: str = "", **options: Any) -> Source:
    return open_source(
        source=source,
        path=str(path),
        content=TEXT,
        columns=(columns or {}) | ({"label": label} if label else {}),
        labelled=bool(label),
        client=False,
        options=find_source(source).Options.model_validate(options),
    )


def rows(source: Source) -> list[tuple[Any, Any]]:
    source = pickle.loads(pickle.dumps(source))  # noqa: S301
    batches = [batch for piece in source.pieces() for batch in source.read(piece)]
    return sorted(
        ((text, label) for b in batches for text, label in zip(b.payload["text"].to_pylist(), b.labels, strict=True)),
        key=str,
    )


def digests(source: Source) -> list[tuple[str, str]]:
    return [(piece.name, source.digest(piece)) for piece in source.pieces()]


# --- Delta ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def delta(tmp_path: Path) -> str:
    place = str(tmp_path / "table")
    first = pa.table(
        {"text": ["a", "b", "c"], "year": [2025, 2026, 2026], "who": ["x y", "p/q=1%", None], "d": [DAY] * 3}
    )
    deltalake.write_deltalake(place, first, partition_by=["year", "who", "d"])
    deltalake.write_deltalake(place, first.slice(0, 1).set_column(0, "text", pa.array(["later"])), mode="append")
    return place


def test_a_version_of_a_delta_table_is_read_with_its_partition_columns(delta: str) -> None:
    assert rows(opened("delta", delta, label="who", version=0)) == [("a", "x y"), ("b", "p/q=1%"), ("c", None)]
    assert rows(opened("delta", delta, label="year", version=1)) == [
        ("a", "2025"), ("b", "2026"), ("c", "2026"), ("later", "2025"),
    ]  # fmt: skip
    assert {label for _, label in rows(opened("delta", delta, label="d", version=1))} == {"2026-01-02"}


def test_a_version_stays_what_it_was(delta: str, tmp_path: Path) -> None:
    before = digests(opened("delta", delta, label="who", version=0))
    deltalake.DeltaTable(delta).delete("year = 2025")
    deltalake.DeltaTable(delta).optimize.compact()
    assert digests(opened("delta", delta, label="who", version=0)) == before
    (tmp_path / "moved").mkdir()
    moved = Path(delta).rename(tmp_path / "moved" / "t")
    assert digests(opened("delta", moved, label="who", version=0)) == before
    assert rows(opened("delta", moved, version=0)) == [("a", None), ("b", None), ("c", None)]


def test_a_column_that_older_files_lack_is_null(delta: str) -> None:
    more = pa.table({"text": ["n"], "year": [1], "who": ["n"], "d": [DAY], "body": ["new"]})
    deltalake.write_deltalake(delta, more, mode="append", schema_mode="merge")
    found = rows(opened("delta", delta, {"text": "body"}, version=2))
    assert found == [("new", None), *[(None, None)] * 4]


def test_delta_tables_that_are_more_than_plain_parquet_are_refused(delta: str, tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"]})
    mapped = str(tmp_path / "mapped")
    deltalake.write_deltalake(mapped, table)
    log = Path(mapped) / "_delta_log"
    first = (log / "00000000000000000000.json").read_text()
    (log / "00000000000000000000.json").write_text(
        first.replace('"minReaderVersion":1,"minWriterVersion":2', '"minReaderVersion":2,"minWriterVersion":5').replace(
            '"configuration":{}',
            '"configuration":{"delta.columnMapping.mode":"name","delta.columnMapping.maxColumnId":"1"}',
        )
    )
    with pytest.raises(DataError, match=r"data\.path: (the table has features|there is no Delta table)"):
        opened("delta", mapped, version=0).pieces()
    vectors = str(tmp_path / "vectors")
    deltalake.write_deltalake(vectors, table, configuration={"delta.enableDeletionVectors": "true"})
    if "deletionVectors" in (deltalake.DeltaTable(vectors).protocol().reader_features or ()):
        with pytest.raises(DataError, match=r"data\.path: the table has features .*\(deletionVectors\)"):
            opened("delta", vectors, version=0).pieces()


@pytest.mark.parametrize("damage", ["no table", "no version", "a log that is cut short", "a file that is gone"])
def test_delta_tables_that_cannot_be_read(damage: str, delta: str, tmp_path: Path) -> None:
    place, version = delta, 1
    if damage == "no table":
        place = str(tmp_path / "zzsecret")
    elif damage == "no version":
        version = 9
    elif damage == "a log that is cut short":
        log = Path(delta) / "_delta_log" / "00000000000000000001.json"
        log.write_text(log.read_text()[:40])
    else:
        next(Path(delta).rglob("*.parquet")).unlink()
    with pytest.raises(DataError, match=r"^data\.path: ") as caught:
        opened("delta", place, version=version).pieces()
    assert "zzsecret" not in str(caught.value) and "part-" not in str(caught.value)


def test_a_version_has_to_be_named() -> None:
    for source in ("delta", "iceberg"):
        with pytest.raises(ValueError, match="Field required"):
            find_source(source).Options.model_validate({})


# --- Iceberg --------------------------------------------------------------------------------------------------------


@pytest.fixture
def iceberg(tmp_path: Path) -> Any:
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("x", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("space")
    rows = pa.table({"text": ["a", "b", "c"], "year": [2025, 2026, 2026], "d": [DAY] * 3})
    table = catalog.create_table("space.t", rows.schema)
    with table.update_spec() as change:
        change.add_identity("year")
        change.add_identity("d")
    table.append(rows)
    return table


def current(table: Any) -> int:
    found: int = table.current_snapshot().snapshot_id
    return found


def test_a_snapshot_of_an_iceberg_table_is_read(iceberg: Any) -> None:
    first = current(iceberg)
    iceberg.append(pa.table({"text": ["later"], "year": [1], "d": [DAY]}))
    for label, values in [("year", ["2025", "2026", "2026"])]:
        found = rows(opened("iceberg", iceberg.metadata_location, label=label, snapshot=first))
        assert found == list(zip("abc", values, strict=True))
    found = rows(opened("iceberg", iceberg.metadata_location, snapshot=current(iceberg)))
    assert [text for text, _ in found] == ["a", "b", "c", "later"]
    before = digests(opened("iceberg", iceberg.metadata_location, snapshot=first))
    iceberg.append(pa.table({"text": ["more"], "year": [1], "d": [DAY]}))
    assert digests(opened("iceberg", iceberg.metadata_location, snapshot=first)) == before


def test_renamed_columns_are_refused_where_a_file_has_the_old_name(iceberg: Any) -> None:
    old = current(iceberg)
    with iceberg.update_schema() as change:
        change.rename_column("text", "body")
    iceberg.append(pa.table({"body": ["new"], "year": [1], "d": [DAY]}))
    with pytest.raises(DataError, match=r"data\.columns\.text: 'body': a file of data\.path has that column under"):
        opened("iceberg", iceberg.metadata_location, {"text": "body"}, snapshot=current(iceberg)).pieces()
    with pytest.raises(DataError, match=r"data\.columns\.text: 'text': no column of that name in the table"):
        opened("iceberg", iceberg.metadata_location, snapshot=current(iceberg)).pieces()
    assert len(rows(opened("iceberg", iceberg.metadata_location, snapshot=old))) == 3


def test_a_column_that_was_dropped_and_made_again_is_another(iceberg: Any) -> None:
    with iceberg.update_schema() as change:
        change.add_column("note", pyiceberg.types.StringType())
    iceberg.append(pa.table({"text": ["d"], "year": [1], "d": [DAY], "note": ["old"]}))
    found = rows(opened("iceberg", iceberg.metadata_location, label="note", snapshot=current(iceberg)))
    assert found == [("a", None), ("b", None), ("c", None), ("d", "old")]
    with iceberg.update_schema() as change:
        change.delete_column("note")
    with iceberg.update_schema() as change:
        change.add_column("note", pyiceberg.types.StringType())
    iceberg.append(pa.table({"text": ["e"], "year": [1], "d": [DAY], "note": ["new"]}))
    with pytest.raises(DataError, match="another column under that name"):
        opened("iceberg", iceberg.metadata_location, label="note", snapshot=current(iceberg)).pieces()


def test_delete_files_are_refused(iceberg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyIceberg writes no delete files, so the plan of one is made up from a real one."""
    from pyiceberg.table import DataScan, FileScanTask

    number, real = current(iceberg), DataScan.plan_files

    def planned(self: Any) -> list[FileScanTask]:
        tasks = list(real(self))
        return [FileScanTask(tasks[0].file, delete_files={tasks[0].file}), *tasks[1:]]

    monkeypatch.setattr(DataScan, "plan_files", planned)
    with pytest.raises(DataError, match=r"data\.path: the snapshot has delete files"):
        opened("iceberg", iceberg.metadata_location, snapshot=number).pieces()


@pytest.mark.parametrize("cut", ["manifest", "list"])
def test_a_damaged_manifest_is_not_taken_for_deletes(cut: str, iceberg: Any) -> None:
    """It is told as what it is, by the recipe key: it was a stage that failed, or a snapshot with delete files."""
    snapshot = iceberg.current_snapshot()
    [manifest] = snapshot.manifests(iceberg.io)
    named = manifest.manifest_path if cut == "manifest" else snapshot.manifest_list
    file = Path(named.removeprefix("file://"))
    whole = file.read_bytes()
    half = len(whole) // 2
    damages = [whole[:2], b"no Avro", whole[:-40] + bytes(24) + whole[-16:], whole[:half] + b"\xff" * 9 + whole[half:]]
    for at, damaged in enumerate(damages):
        file.write_bytes(damaged)
        key = f"data.path/{cut}{at}"  # what was listed once is kept
        source = open_source(
            source="iceberg",
            path=iceberg.metadata_location,
            content=TEXT,
            columns={},
            labelled=False,
            client=False,
            key=key,
            options=find_source("iceberg").Options.model_validate({"snapshot": snapshot.snapshot_id}),
        )
        with pytest.raises(DataError, match=f"^{key}: a manifest of the snapshot, or the list of them, is damaged"):
            source.pieces()


def test_iceberg_tables_that_are_not_there(iceberg: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.options\.snapshot: 5 is no snapshot"):
        opened("iceberg", iceberg.metadata_location, snapshot=5).pieces()
    with pytest.raises(DataError, match=r"data\.path: there is no such Iceberg table"):
        opened("iceberg", tmp_path / "no.metadata.json", snapshot=5).pieces()
    (tmp_path / "x.metadata.json").write_text("{}")
    with pytest.raises(DataError, match=r"data\.path: what is there is no metadata"):
        opened("iceberg", tmp_path / "x.metadata.json", snapshot=5).pieces()
    with pytest.raises(InputError, match=r"data\.options\.catalog"):
        opened("iceberg", "space.t", snapshot=5, catalog="nosuch").pieces()
    Path(iceberg.metadata_location.removeprefix("file://")).unlink()
    with pytest.raises(DataError, match=r"data\.path: "):
        opened("iceberg", iceberg.metadata_location, snapshot=current(iceberg)).pieces()


def test_an_empty_snapshot_is_an_empty_input(iceberg: Any) -> None:
    iceberg.delete()
    with pytest.raises(DataError, match="has no rows"):
        opened("iceberg", iceberg.metadata_location, snapshot=current(iceberg)).pieces()
