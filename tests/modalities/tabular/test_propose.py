"""What is proposed for public files as people have them: forms, words and the types that pandas gives."""

from __future__ import annotations

import csv
import datetime as dt
import zoneinfo
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.contracts.asking import Asker
from pe_beam.init.main import write_recipe
from pe_beam.modalities.tabular.codec import TableContent
from pe_beam.modalities.tabular.propose import propose_schema
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.recipe.sources import open_source

MISSING = {"missing": True}
WILD: dict[str, tuple[list[str], dict[str, Any]]] = {
    "age": (["79.0", "28.0", "", "NA"], {"type": "integer", "min": 28, "max": 79, "nulls": ["NA"]} | MISSING),
    "member": (["1.0", "0.0", "1.0", ""], {"type": "boolean"} | MISSING),
    "agrees": (["Yes", "no", "no", "?"], {"type": "boolean", "true_words": ["yes"], "false_words": ["no"]} | MISSING),
    "price": (["1.234,50 €", "3 €", "-5,5", "0"], {"type": "float", "decimal": ",", "thousands": ".", "units": ["€"]}),
    "sold": (["1,234", "(56)", "2,345,678", "9"], {"type": "integer", "thousands": ",", "parentheses": True}),
    "rate": (["12 %", "3.5 %", "4%", "-"], {"type": "float", "units": ["%"], "nulls": ["-"]} | MISSING),
    "born": (["31.12.1999", "1.2.2001", "NaT", ""], {"type": "date", "format": "%d.%m.%Y", "nulls": ["NaT"]} | MISSING),
    "visit": (["2024-01-31 00:00:00"] * 4, {"type": "date", "min": "2024-01-31"}),
    "seen": (["1/31/2024 1:05 PM"] * 4, {"type": "datetime", "format": "%m/%d/%Y %I:%M %p"}),
    "short": (["31/12/99", "1/2/24", "3/4/05", "5/6/07"], {"format": "%d/%m/%y", "min": "1999-12-31"}),
    "city": (["NA", "Oslo", "Rome", "-"], {"type": "categorical", "values": ["-", "NA", "Oslo", "Rome"]}),
    "zip": (["01067", "10115", "NA", ""], {"values": ["01067", "10115"], "nulls": ["NA"]} | MISSING),
    "address": (["10.0.0.1", "192.168.0.1", "10.0.0.2", "::1"], {"type": "categorical"}),
}  # fmt: skip


def test_forms_are_proposed_and_take_the_very_file(tmp_path: Path) -> None:
    path = tmp_path / "public.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(WILD)
        writer.writerows(zip(*(texts for texts, _ in WILD.values()), strict=True))
    found = propose_schema(path, public=True)
    columns = found["schema"]["columns"]
    for name, (_, wanted) in WILD.items():
        assert {key: columns[name].get(key) for key in wanted} == wanted, name
    assert found["notes"] == {} and found["dropped"] == {}
    content = TableContent(TableSchema.model_validate(yaml.safe_load(yaml.safe_dump(found["schema"]))))
    where: dict[str, Any] = {"source": "csv", "path": str(path), "columns": {}, "labelled": False, "client": False}
    source = open_source(content=content, **where)
    (batch,) = [batch for piece in source.pieces() for batch in source.read(piece)]
    assert not batch.faults
    first = {name: str(value) for name, value in batch.payload.to_pylist()[0].items()}
    assert first == {
        **{"age": "79", "member": "True", "agrees": "True", "price": "1234.5", "sold": "1234", "rate": "12.0"},
        **{"born": "1999-12-31", "visit": "2024-01-31", "seen": "2024-01-31 13:05:00", "short": "1999-12-31"},
        **{"city": "NA", "zip": "01067", "address": "10.0.0.1"},
    }


@pytest.mark.parametrize(
    ("texts", "note"),
    [
        (["1/2/2024", "3/4/2024"], "its dates may be %m/%d/%Y as well as %d/%m/%Y"),
        (["1,234", "5,678"], "the decimal sign ',' as well"),
        (["1", "2", "3", "lost"], "'lost' is no number"),
    ],
)
def test_what_may_be_read_otherwise_is_noted(tmp_path: Path, texts: list[str], note: str) -> None:
    (tmp_path / "p.csv").write_text("x\n" + "".join(f'"{text}"\n' for text in texts))
    assert note in propose_schema(tmp_path / "p.csv", public=True)["notes"]["x"]


def test_types_that_pandas_gives_are_taken_for_what_they_were(tmp_path: Path) -> None:
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    nights = [dt.datetime(2024, 1, 1, tzinfo=berlin), dt.datetime(2024, 7, 1, tzinfo=berlin), None]
    table = pa.table(
        {
            "age": [79.0, float("nan"), 28.0],
            "member": [1.0, 0.0, None],
            "constant": [1.0, 1.0, 1.0],
            "spent": [1.5, 2.0, None],
            "large": [2.0**53, 1.0, None],
            "night": pa.array(nights, pa.timestamp("ns", "Europe/Berlin")),
            "plain": pa.array([dt.datetime(2024, 1, 1), dt.datetime(1950, 1, 2), None], pa.timestamp("us")),
            "hour": pa.array([dt.datetime(2024, 1, 1, 1), dt.datetime(2024, 1, 2), None], pa.timestamp("ms")),
            "code": pa.array(["1", "2", "1"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    found = propose_schema(tmp_path / "p.parquet", public=True)["schema"]["columns"]
    assert {name: column["type"] for name, column in found.items()} == {
        **{"age": "integer", "member": "boolean", "constant": "integer", "spent": "float", "large": "float"},
        **{"night": "date", "plain": "date", "hour": "datetime", "code": "categorical"},
    }
    assert (found["age"]["min"], found["age"]["max"], found["age"]["missing"]) == (28, 79, True)
    assert (found["night"]["min"], found["night"]["max"]) == ("2024-01-01", "2024-07-01")
    assert found["plain"]["min"] == "1950-01-02"
    payload, faults = TableContent(TableSchema.model_validate({"columns": found})).convert(table)
    assert not faults and payload["night"].to_pylist() == [dt.date(2024, 1, 1), dt.date(2024, 7, 1), None]


def test_init_writes_forms_that_the_recipe_reads_back(tmp_path: Path) -> None:
    rows = [f'{"NA" if i % 9 == 0 else i},"{i},5",{"yes" if i % 2 else "no"},{i % 28 + 1}.1.2024' for i in range(60)]
    (tmp_path / "public.csv").write_text("\n".join(["n,x,agrees,day", *rows]) + "\n")
    given_ = {"data.path": "/nowhere/t.csv", "modality": "tabular", "data.expected_records": "20000"}
    given_ |= {"public": str(tmp_path / "public.csv")}
    recipe, _ = write_recipe(Asker(given_, interactive=False), str(tmp_path / "made.yaml"))
    assert isinstance(recipe.data.table_schema, dict)
    columns = recipe.data.table_schema["columns"]
    assert columns["n"]["nulls"] == ["NA"] and columns["x"]["decimal"] == ","
    assert columns["agrees"]["true_words"] == ["yes"] and columns["day"]["format"] == "%d.%m.%Y"
