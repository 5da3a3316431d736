"""Two tables from files to files: a run in memory, its export, its report and its evaluation."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import pe_beam
from pe_beam.contracts.asking import Asker
from pe_beam.contracts.store import Folder
from pe_beam.driver.export import export
from pe_beam.driver.loop import embed_only, evolve
from pe_beam.engine.graphs.ingest import private_records
from pe_beam.engine.run import open_run
from pe_beam.errors import DataError, InputError, RecipeError
from pe_beam.evaluation.evaluate import evaluate
from pe_beam.evaluation.setting import Setting
from pe_beam.evaluation.sources import transforms_of
from pe_beam.init.main import write_recipe
from pe_beam.modalities.relational import modality_of
from pe_beam.modalities.relational.schema import as_schema
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.parts import new_embedder
from pe_beam.report.build import history_of
from pe_beam.storage import open_store
from pe_beam.testing import check_view
from tests.graphs import unpacked
from tests.modalities.relational.shop import families, maker, recipe, schema
from tests.whole_runs import ROOT, UNREPORTED

RUN = "memory://relational"
TABLES = {"parent": "customers", "child": "orders"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    maker().write(folder, 400)
    return folder


@pytest.fixture(scope="module")
def run(tables: Path) -> str:
    told = recipe(tables, evolution__samples=300, data__holdout={"share": 0.4})
    with pytest.MonkeyPatch.context() as patch:  # the report is looked at in a test of its own
        patch.setattr("pe_beam.driver.finalize.report_bytes", lambda *_, **__: UNREPORTED)
        evolve(parse_recipe(told), RUN)
    return RUN


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_export_has_two_tables_whose_keys_fit_and_are_none_of_the_datas(run: str, tmp_path: Path) -> None:
    made = export(run, tmp_path / "made.csv")
    assert [path.name for path in made] == ["made-customers.csv", "made-orders.csv"]
    customers, orders = map(rows, made)
    assert [row["customer_id"] for row in customers] == [str(i) for i in range(1, 301)]
    owners = [int(row["customer_id"]) for row in orders]
    assert set(owners) <= set(range(1, 301))
    assert max(np.bincount(owners)) <= 8
    days = [(int(row["customer_id"]), row["day"]) for row in orders]
    assert days == sorted(days)
    export(run, tmp_path / "made")
    assert pq.read_table(tmp_path / "made/customers.parquet").num_rows == 300
    assert pq.read_table(tmp_path / "made/orders.parquet").column_names == list(orders[0])
    with pytest.raises(InputError, match="an empty or new folder"):
        export(run, tmp_path / "made")


def test_the_release_says_client_and_holds_no_key(run: str) -> None:
    store = open_store(run)
    for name in store.list_files("release"):
        assert not re.search(rb"C\d{6}|customer_id", store.read(name)), name
    privacy = json.loads(store.read("release/privacy.json"))
    assert privacy["unit"] == "client"
    assert "one client more or fewer" in privacy["statement"]
    assert privacy["spent_epsilon"] <= 4


def test_no_graph_names_a_file_of_the_data(run: str, tables: Path) -> None:
    """Neither that of ingest nor that of an evaluation, which reads held-out clients and those that voted."""
    own = open_run(run)
    Setting(against=None, populations=(0, 1)).save(own)
    transforms = {"ingest": private_records(own), **transforms_of(own)}
    assert len(transforms) == 3
    pipeline = beam.Pipeline()
    for name, transform in transforms.items():
        _ = pipeline | name >> transform
    graph = b"\n".join(unpacked(pipeline.to_runner_api().SerializeToString()))
    assert b"private_cuttable" in graph
    assert not [word for word in (str(tables), "orders.csv", "customer_id") if word.encode() in graph]


@pytest.mark.reported
def test_an_evaluation_measures_both_tables_and_what_is_across(run: str) -> None:
    found = evaluate(run)
    assert "cannot be read as they voted" not in json.dumps(found)
    last = found["metrics"]
    assert 0 < last["tvd_across_2way"] < 0.6
    page = open_store(run).read("private/evaluation/evaluation.html").decode()
    assert page.count('class="fm"') >= 2  # a sample beside the client that is closest to it


def test_the_page_shows_a_recipe() -> None:
    page = (ROOT / "docs/relational.md").read_text(encoding="utf-8")
    block, _ = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    found = parse_recipe({"name": "shown", "evolution": {"samples": 10}} | yaml.safe_load(block))
    assert found.vote_unit == "record"
    assert found.privacy.unit == "client"


def test_init_asks_for_both_tables(tables: Path, tmp_path: Path) -> None:
    given = {"data.path": str(tables), "modality": "relational", "look": True}
    with pytest.raises(InputError) as caught:
        write_recipe(Asker(given, interactive=False), str(tmp_path / "no.yaml"))
    wanted = ("parent.file", "child.file", "parent.key", "child.most", "expected_records", "--public PARENT,CHILD")
    assert all(key in str(caught.value) for key in wanted)
    given |= {f"data.options.{name}.file": f"{table}.csv" for name, table in TABLES.items()}
    given |= {"data.expected_records": "20000", "data.schema.child.most": "8", "data.columns.label": "member"}
    public = tmp_path / "public"
    maker().write(public, 400)
    given |= {"data.labels": "true, false", "public": ",".join(str(public / f"{name}.csv") for name in TABLES.values())}
    unseen = {key: answer for key, answer in given.items() if key != "look"}
    with pytest.raises(InputError, match=r"parent\.key") as caught:
        write_recipe(Asker(unseen, interactive=False), str(tmp_path / "no.yaml"))
    assert "no column" not in str(caught.value)  # a child's key is not made up of the parent's that is missing
    made, _ = write_recipe(Asker(given, interactive=False, sink=io.StringIO()), str(tmp_path / "made.yaml"))
    assert (made.data.source, made.privacy.unit, made.data.columns) == ("relational", "client", {"label": "member"})
    declared = as_schema(made.data.table_schema)
    assert (declared.parent.name, declared.parent.key, declared.child.key) == ("customers", *["customer_id"] * 2)
    assert set(declared.parent.columns) == {"segment", "region", "age", "income"}
    embed_only(made, "memory://relational-asked")  # what was read off the files fits them
    own = given | {"data.schema.child.columns.day.type": "date", "data.schema.parent.columns.age.type": "integer"}
    del own["public"]
    with pytest.raises(InputError) as caught:
        write_recipe(Asker(own, interactive=False), str(tmp_path / "no.yaml"))
    assert all(
        key in str(caught.value) for key in ("parent.columns.age.min", "child.columns.day.max", "child.columns.kind")
    )
    with pytest.raises(InputError, match=r"data\.options\.child\.file: no csv files there"):
        write_recipe(Asker(given | {"data.options.child.file": "x.csv"}, interactive=False), str(tmp_path / "no.yaml"))


def test_init_takes_what_a_look_shows_and_refuses_the_private_tables_as_public(tables: Path, tmp_path: Path) -> None:
    """Semicolons are read off the header, and a key that the child table does not have is asked for."""
    for name in ("private", "public"):
        (tmp_path / name).mkdir()
        for table in TABLES.values():
            text = (tables / f"{table}.csv").read_text().replace(",", ";")
            if table == "orders":
                text = text.replace("customer_id", "buyer", 1)
            (tmp_path / name / f"{table}.csv").write_text(text)
    given = {f"data.options.{name}.file": f"{table}.csv" for name, table in TABLES.items()}
    given |= {"data.path": str(tmp_path / "private"), "modality": "relational", "look": True}
    given |= {"data.expected_records": "20000", "data.schema.child.most": "8", "data.schema.parent.key": "customer_id"}
    given["public"] = ",".join(str(tmp_path / "private" / f"{table}.csv") for table in TABLES.values())
    with pytest.raises(InputError) as caught:
        write_recipe(Asker(given, interactive=False), str(tmp_path / "no.yaml"))
    assert "data.schema.child.key=... is missing" in str(caught.value)
    given["data.schema.child.key"] = "buyer"
    with pytest.raises(InputError, match="these are the private records"):
        write_recipe(Asker(given, interactive=False), str(tmp_path / "no.yaml"))
    given["public"] = given["public"].replace("private", "public")
    made, _ = write_recipe(Asker(given, interactive=False, sink=io.StringIO()), str(tmp_path / "made.yaml"))
    assert made.data.separator == ";"
    assert as_schema(made.data.table_schema).child.key == "buyer"


def few(tables: Path, folder: Path, customers: int) -> Path:
    """A folder with the first customers of the shop and their orders."""
    folder.mkdir()
    keys = {f"C{i:06d}" for i in range(customers)}
    for name in ("customers", "orders"):
        head, *lines = (tables / f"{name}.csv").read_text().splitlines()
        (folder / f"{name}.csv").write_text("\n".join([head, *(line for line in lines if line[:7] in keys)]) + "\n")
    return folder


def test_tables_may_move_and_their_rows_may_not_change(tables: Path, tmp_path: Path) -> None:
    there, store = few(tables, tmp_path / "there", 40), "memory://relational-moved"
    embed_only(parse_recipe(recipe(there)), store)
    here = few(tables, tmp_path / "here", 40)
    embed_only(parse_recipe(recipe(here)), store)
    orders = (here / "orders.csv").read_text()
    (here / "orders.csv").write_text(orders.replace("food", "toys", 1))
    with pytest.raises(DataError, match="the private data differ"):
        embed_only(parse_recipe(recipe(here)), store)


def test_rows_that_fit_no_client_are_told_by_kind_alone(tables: Path, tmp_path: Path) -> None:
    folder = few(tables, tmp_path / "few", 40)
    (folder / "customers.csv").write_text("\n".join((folder / "customers.csv").read_text().splitlines()[:20]))
    with pytest.raises(DataError, match="child rows whose key is in no row of the parent table") as told:
        embed_only(parse_recipe(recipe(folder)), "memory://relational-orphans")
    assert not re.search(r"C\d{6}", str(told.value))


def test_a_client_is_the_unit_and_tables_lie_below_the_path(tables: Path) -> None:
    with pytest.raises(RecipeError, match=r"privacy.unit: client is wanted for modality"):
        parse_recipe(recipe(tables, privacy__unit="record"))
    with pytest.raises(InputError, match="records: modality relational has records of several tables"):
        pe_beam.evolve(parse_recipe(recipe(tables)), tables / "run", records=pa.table({"age": [1]}))
    other = recipe(tables)
    other["data"]["schema"]["child"]["key"] = "buyer"
    with pytest.raises(DataError, match=r"data.schema.child.key: 'buyer': no column of that name"):
        embed_only(parse_recipe(other), "memory://relational-buyer")
    told = parse_recipe(recipe(tables / "nowhere"))
    with pytest.raises(DataError, match=r"data.options.(parent|child).file: no CSV files"):
        embed_only(told, "memory://relational-nowhere")


def test_the_report_shows_families_and_the_columns_of_both_tables(run: str) -> None:
    own = modality_of(schema())
    records = families(30).append_column("candidate_id", pa.array(range(30))).to_pylist()
    check_view(own, records)
    assert own.view is not None
    view = own.view()
    owner = next(record for record in records if len(record["orders"]) > 1)
    fragment = str(view.fragment(owner, large=True))
    assert all(order["kind"] in fragment for order in owner["orders"])
    assert "<mark>" in str(view.fragment(owner, {**owner, "orders": owner["orders"][1:]}, large=True))
    titles = [section.title for section in view.sections(history_of(Folder(open_store(run), "release")))]
    assert titles == [
        *("Columns of customers", "Pairs of columns of customers", "Rows of customers"),
        *("Columns of orders", "Pairs of columns of orders"),
    ]


def test_draws_of_families_are_not_balanced() -> None:
    with pytest.raises(RecipeError, match=r"evolution\.draws: .* several bins of a column"):
        new_embedder(parse_recipe(recipe("", evolution__draws="balanced")))
