"""Records in memory become a run like any other, and nothing is declared by looking at them."""

from __future__ import annotations

import ast
import enum
import importlib
import io
import json
import re
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pydantic import BaseModel, Field

import pe_beam
from pe_beam.cli.main import main
from pe_beam.driver import finalize
from pe_beam.errors import InputError, PeBeamWarning
from pe_beam.modalities.image.codec import encode_png
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.reading import read_column
from pe_beam.python.declaring import declared
from pe_beam.python.landing import LANDED, as_columns, as_table
from pe_beam.python.published import read_off
from pe_beam.recipe.advice import advise
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.plan import make_plan
from tests.whole_runs import UNREPORTED, release_digests

ROOT = Path(__file__).parents[2]
synthesize_module = importlib.import_module("pe_beam.python.synthesize")  # the package names its function so
SCHEMA = {
    "columns": {"age": {"type": "integer", "min": 0, "max": 99}, "job": {"type": "categorical", "values": ["a", "b"]}}
}
RNG = np.random.default_rng(7)
TABLE = pa.table(
    {
        "age": RNG.integers(0, 100, 200),
        "job": RNG.choice(["a", "b"], 200),
        "y": RNG.choice(["no", "yes"], 200),
        "unused": RNG.normal(size=200),
    }
)
CALL = {"epsilon": 1, "delta": 1e-5, "schema": SCHEMA, "labels": ["no", "yes"], "label": "y", "samples": 20}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "secret").write_bytes(bytes(range(32)))
    with pytest.MonkeyPatch.context() as patch:  # as in conftest.py, which comes later than this
        patch.setattr(finalize, "report_bytes", lambda *given, **named: UNREPORTED)
        return folder, pe_beam.synthesize(TABLE, folder / "run", **CALL, secret_file=folder / "secret")


def test_it_is_the_run_of_the_recipe_on_that_file(made, tmp_path):
    """Byte for byte, run by the command line on a copy of the file."""
    folder, run = made
    recipe = yaml.safe_load((folder / "run/recipe.yaml").read_text())
    assert recipe["data"]["source"] == "parquet" and recipe["data"]["path"] == str(folder / "run" / LANDED)
    (tmp_path / "elsewhere.parquet").write_bytes((folder / "run" / LANDED).read_bytes())
    recipe["data"]["path"] = str(tmp_path / "elsewhere.parquet")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    line = ["run", str(tmp_path / "recipe.yaml"), "--run-dir", str(tmp_path / "run")]
    assert main([*line, "--secret-file", str(folder / "secret")]) == 0
    assert release_digests(tmp_path / "run") == release_digests(folder / "run")
    assert run.records().column_names == ["age", "job", "y"] and run.records().num_rows == 20


def test_a_guess_of_the_number_of_records_gives_the_plan_that_is_recommended(monkeypatch, tmp_path):
    """The recipe is `init`'s; overrides stay, and are taken into account."""
    recipes = []
    monkeypatch.setattr(synthesize_module, "evolve", lambda recipe, *given, **named: recipes.append(recipe))
    for place, more in enumerate(({}, {"evolution.iterations": 2}, {"privacy.marginals.budget": 0.3})):
        given = CALL | {"expected_records": 5000, "overrides": more}
        pe_beam.synthesize(TABLE, tmp_path / str(place), **given)
    usual, shorter, own = recipes
    wanted = advise(usual, make_plan(usual))
    assert {name: step.budget for name, step in usual.privacy.measure.steps.items()} == wanted.steps
    assert usual.evolution.iterations == wanted.iterations and usual.evolution.population == wanted.population
    assert usual.evolution.smoothing == wanted.smoothing and usual.evolution.draws == "balanced"
    assert shorter.evolution.iterations == 2 and shorter.privacy.measure is not None
    assert own.privacy.measure is None and own.privacy.marginals.budget == 0.3
    unsaid = {"privacy.epsilon": None, "privacy.noise_multiplier": 5}  # no advice on these but the first
    for place, more in enumerate((unsaid, {"privacy.epsilon": float("inf")}, {"privacy.sampling_rate": 0.5})):
        pe_beam.synthesize(TABLE, tmp_path / f"more{place}", **CALL | {"expected_records": 5000, "overrides": more})
    assert recipes[3].privacy.measure is not None and recipes[4].privacy.measure is recipes[5].privacy.measure is None
    pe_beam.synthesize(TABLE, tmp_path / "all", **CALL | {"expected_records": 5000, "samples": None})
    assert recipes[-1].evolution.samples == 4000


def test_only_what_is_wanted_lands_and_nobody_else_reads_it(made):
    import pyarrow.parquet as pq

    folder, _ = made
    assert pq.read_schema(folder / "run" / LANDED).names == ["age", "job", "y"]
    assert (folder / "run/private").stat().st_mode & 0o077 == 0
    assert not any("unused" in path.read_text(errors="replace") for path in (folder / "run/release").rglob("*.json"))


def test_a_complete_run_wants_no_records_and_an_unfinished_one_its_own(made, tmp_path):
    folder, run = made
    again = pe_beam.synthesize(TABLE, folder / "run", **CALL)
    assert again.samples().equals(run.samples())
    for others in (TABLE.slice(1), TABLE.drop_columns(["job"])):  # the samples of last week, without a word
        with pytest.warns(PeBeamWarning, match="records: others than those.*A new run_dir"):
            assert pe_beam.synthesize(others, folder / "run", **CALL).samples().equals(run.samples())
    stop = lambda release: 1 / 0  # noqa: E731
    with pytest.raises(pe_beam.errors.PeBeamError, match="ZeroDivisionError"):
        pe_beam.synthesize(TABLE, tmp_path / "run", **CALL, on_iteration=stop, secret_file=folder / "secret")
    with pytest.raises(InputError, match="records: not those that this run began with"):
        pe_beam.synthesize(TABLE.slice(1), tmp_path / "run", **CALL)
    with pytest.raises(InputError, match=r"privacy\.epsilon"):
        pe_beam.synthesize(TABLE.slice(1), tmp_path / "run", **CALL | {"epsilon": 2})
    pe_beam.synthesize(TABLE, tmp_path / "run", **CALL)
    assert release_digests(tmp_path / "run") == release_digests(folder / "run")


def test_evolve_takes_records_in_place_of_what_the_recipe_reads(made, tmp_path):
    """Of a recipe on any source: the release is that of `synthesize`, whose recipe has the same words."""
    folder, _ = made
    recipe = yaml.safe_load((folder / "run/recipe.yaml").read_text())
    recipe["data"] |= {"source": "csv", "path": str(tmp_path / "nowhere.csv"), "separator": ";"}
    call = {"secret_file": folder / "secret", "records": TABLE}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    found = pe_beam.evolve(tmp_path / "mine.yaml", tmp_path / "run", **call)
    assert release_digests(tmp_path / "run") == release_digests(folder / "run")
    assert found.recipe.data.path == str(tmp_path / "run" / LANDED)
    with pytest.raises(InputError, match="records: there is no column 'job'"):
        pe_beam.evolve(parse_recipe(recipe), tmp_path / "other", records=TABLE.drop_columns(["job"]))
    with pytest.raises(InputError, match="run_dir: memory:// is for examples"):
        pe_beam.evolve(parse_recipe(recipe), "memory://no", records=TABLE)


PUBLISHED = pa.table({"age": [3, 90, 41], "job": ["a", "c", "a"], "y": ["no", "yes", "no"]})


def test_public_records_declare_a_table_and_a_domain_widens_them(tmp_path):
    run = pe_beam.synthesize(
        TABLE.select(["age", "job", "y"]), tmp_path / "run", epsilon=1, delta=1e-5, samples=10, public=PUBLISHED,
        domain={"age": {"min": 0, "max": 99}, "job": {"values": ["a", "b"]}}, label="y",
        overrides={"evolution.iterations": 1, "privacy.marginals": None},
    )  # fmt: skip
    columns = run.recipe.data.table_schema["columns"]
    assert (
        columns["age"]["max"] == 99 and columns["age"]["type"] == "integer" and columns["job"]["values"] == ["a", "b"]
    )
    assert run.recipe.data.labels == ["no", "yes"] and set(run.samples()["label"].to_pylist()) == {"no", "yes"}


def test_bounds_of_a_public_file_are_its_own_and_its_labels_too(tmp_path):
    PUBLISHED.to_pandas().to_csv(tmp_path / "public.csv", index=False)
    for public in (PUBLISHED, tmp_path / "public.csv"):
        found = read_off(public, "y", None)
        assert found.schema["columns"]["age"] | {"min": 3, "max": 90} == found.schema["columns"]["age"]
        assert found.schema["columns"]["job"]["values"] == ["a", "c"]
        assert found.labels == ["no", "yes"] and found.columns == {"label": "y"}
    with pytest.warns(PeBeamWarning, match="public: column 'empty' is left out of the schema"):
        assert "empty" not in read_off(PUBLISHED.append_column("empty", pa.nulls(3)), "y", "who").schema["columns"]


def test_what_is_one_column_or_has_several_splits(tmp_path):
    pandas = pytest.importorskip("pandas", reason="a Series was NOT tested")
    assert as_columns(pandas.Series(["a", "b"])) == {"text": ["a", "b"]}
    gaps = as_columns(pandas.Series(["a", None, float("nan"), pandas.NA], dtype=object))
    assert as_table(gaps, ["text"])["text"].to_pylist() == ["a", None, None, None]
    datasets = pytest.importorskip("datasets", reason="datasets was NOT tested")
    held = datasets.DatasetDict(train=datasets.Dataset.from_dict({"text": ["a"]}))
    with pytest.raises(InputError, match="records: a DatasetDict has several splits; one of them"):
        as_columns(held)


def test_a_transform_of_a_dataset_is_not_passed_over():
    datasets = pytest.importorskip("datasets", reason="datasets was NOT tested")
    held = datasets.Dataset.from_dict({"age": [1]}).with_transform(lambda batch: {"age": [2] * len(batch["age"])})
    with pytest.raises(InputError, match=r"records: a Dataset with a transform; one that records\.map"):
        as_columns(held)


def test_pictures_may_be_a_column_of_a_frame():
    """docs/python.md said so, and only bytes were taken."""
    pandas = pytest.importorskip("pandas", reason="pandas was NOT tested")
    from PIL import Image

    pixels = RNG.integers(0, 255, (3, 4, 5, 3), dtype=np.uint8)
    wanted = [encode_png(each) for each in pixels]
    for held in ([*map(Image.fromarray, pixels)], [*pixels], wanted):
        frame = pandas.DataFrame({"scan": pandas.Series([*held, None], dtype=object)})
        assert as_table(as_columns(frame), ["scan"])["scan"].to_pylist() == [*wanted, None]


@pytest.mark.parametrize("library", ["pandas", "polars", "datasets"])
def test_whatever_holds_them_the_file_is_the_same(library):
    module = pytest.importorskip(library, reason=f"{library} was NOT tested")
    plain = TABLE.to_pydict()
    frame = {"pandas": "DataFrame", "polars": "DataFrame"}.get(library)
    held = getattr(module, frame)(plain) if frame else module.Dataset.from_dict(plain)
    names = ["age", "job", "y"]
    assert as_table(as_columns(held), names).equals(TABLE.select(names).replace_schema_metadata(None))
    if library == "pandas":
        held["job"] = held["job"].astype("category")
        held.index = held.index[::-1]
    if library == "polars":
        held = held.with_columns(module.col("job").cast(module.Categorical))
    assert as_table(as_columns(held), names).equals(TABLE.select(names))


SUMMER, WINTER = timezone(timedelta(hours=2)), timezone(timedelta(hours=1))


@pytest.mark.parametrize("kind", ["date", "datetime"])
def test_a_date_is_read_as_its_own_zone_has_it_and_not_as_the_first_records(kind):
    """One record more moved the days of all others, which no noise covers; drivers give summer and winter times so."""
    pandas = pytest.importorskip("pandas", reason="pandas was NOT tested")
    bounds = {"date": ("2026-01-01", "2026-12-31"), "datetime": ("2026-01-01T00:00:00", "2026-12-31T00:00:00")}[kind]
    column = Column.model_validate({"type": kind, "min": bounds[0], "max": bounds[1], "missing": True})
    july, first = datetime(2026, 7, 1, 0, 30, tzinfo=SUMMER), datetime(2026, 3, 1, tzinfo=WINTER)

    def read(*values):
        held = as_table(as_columns(pandas.DataFrame({"at": pandas.Series(values, dtype=object)})), ["at"])
        codes, faults = read_column(held["at"].combine_chunks(), column)
        assert not any(where.any() for where in faults.values())
        return codes[-1]

    wanted = july.date().toordinal() - 719163 if kind == "date" else july.timestamp()
    before = [[], [first], [july], [None, pandas.NaT, first], [datetime(2026, 3, 1)], [pandas.Timestamp(first)]]
    assert [read(*others, july) for others in [*before, [date(2026, 3, 1)]]] == [wanted] * 7


def test_pictures_and_texts():
    pixels = RNG.integers(0, 255, (3, 4, 5, 3), dtype=np.uint8)
    from PIL import Image

    expected = [encode_png(each) for each in pixels]
    for held in (pixels, list(pixels), [Image.fromarray(each) for each in pixels], expected):
        assert as_table(as_columns(held), ["image"])["image"].to_pylist() == expected
    assert as_table(as_columns(["a", "b"]), ["text"]).to_pydict() == {"text": ["a", "b"]}
    runs = pa.compute.run_end_encode(pa.array(["a", "a", None]))
    assert as_table({"text": runs}, ["text"])["text"].combine_chunks() == pa.array(["a", "a", None])
    datasets = pytest.importorskip("datasets", reason="datasets was NOT tested")
    held = datasets.Dataset.from_dict({"image": [Image.fromarray(each) for each in pixels]})
    assert as_table(as_columns(held), ["image"])["image"].type == pa.binary()


@pytest.mark.parametrize(
    "kind", ["CMYK", "YCbCr", "F", "LAB", "HSV", "RGBa", "P", "LA", "I;16", "I", "png", "turned", "cut short", "empty"]
)
def test_odd_pictures_in_memory_are_what_their_files_are(kind):
    """Of a file they are converted, turned or a reject; in memory Pillow itself failed, or they lay on their side."""
    from PIL import Image

    from pe_beam.contracts.record import Fault
    from pe_beam.modalities.image.codec import decode_image

    pixels, sink = RNG.integers(0, 255, (6, 9, 3), dtype=np.uint8), io.BytesIO()
    held = Image.fromarray(pixels)
    if kind in ("turned", "cut short"):
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was held upright
        held.save(sink, "JPEG", exif=exif)
        held = Image.open(io.BytesIO(sink.getvalue()[: -40 if kind == "cut short" else None]))
    elif kind in ("I;16", "I", "F"):
        held = Image.fromarray(pixels[:, :, 0].astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[kind]))
    elif kind == "png":  # of 16 bits, which some Pillows open with the mode I
        held = Image.fromarray(pixels[:, :, 0].astype(np.int32))
        held.format = "PNG"
    elif kind in ("LAB", "empty"):
        held = Image.new("LAB", (9, 6)) if kind == "LAB" else Image.new("RGB", (0, 0))
    else:
        held = held.convert("RGBA").convert(kind) if kind in ("RGBa", "LA") else held.convert(kind)
    found = decode_image(as_table(as_columns([held]), ["image"])["image"][0].as_py(), mode="RGB")
    if kind in ("F", "I", "LAB", "cut short", "empty"):
        said = "image that cannot be read" if kind in ("cut short", "empty") else "image of 32-bit, float or Lab values"
        assert isinstance(found, Fault) and found.kind == said
    else:
        assert found.size == ((6, 9) if kind == "turned" else (9, 6))


def test_pictures_run(tmp_path):
    pixels = RNG.integers(0, 255, (60, 8, 8), dtype=np.uint8)
    run = pe_beam.synthesize(
        pixels, tmp_path / "run", epsilon=1, delta=1e-5, label=[i % 2 for i in range(60)], labels=["0", "1"],
        generator={"name": "text-render", "side": 16}, embedder={"name": "pixels", "size": 8}, samples=10,
        overrides={"evolution.iterations": 1},
    )  # fmt: skip
    assert run.iterations == [0, 1] and len(run.images()) == 10


SECRET = "a-private-value"


@pytest.mark.parametrize(
    ("records", "changes", "message"),
    [
        (3, {}, "records: int cannot be taken; allowed: a pandas or polars"),
        ([], {}, "records: list cannot be taken.*one record at least"),
        ([SECRET, 3], {}, "records: list cannot be taken"),
        ([[1, 2], [3, 4]], {}, "records: list of list cannot be taken"),
        ([SECRET.encode(), object()], {"schema": None}, "records: object is neither a text nor a picture|generator:"),
        ([{"age": 3, "job": "a"}], {}, r"records: list of dict cannot be taken.*pandas.DataFrame\(records\)"),
        ([1.5, 2.5], {}, "records: list of float cannot be taken; allowed"),
        (TABLE, {"labels": "no"}, "labels: a list of labels is wanted, not one text"),
        (TABLE, {"schema": SCHEMA["columns"]}, "schema: 'age', 'job': columns stand below 'columns'"),
        (TABLE, {"schema": None}, "schema: the columns of a table are declared"),
        (TABLE, {"schema": 3}, "schema: int declares no columns; allowed: a Pydantic model"),
        (TABLE, {"label": "z"}, "records: there is no column 'z'; there are: age, job, y, unused"),
        (TABLE, {"domain": {"z": {"min": 0}}}, "domain: 'z' is no column of the schema"),
        (TABLE, {"epsilon": -1}, "privacy: epsilon: from 0.001"),
        (TABLE, {"schema": None, "modality": "text"}, "generator: modality 'text' has no default.*llm"),
        (TABLE, {"modality": "text"}, "schema: is for tables; modality 'text' takes none"),
        (TABLE, {"public": TABLE, "schema": None}, "public: these are the private records; other records"),
        (TABLE, {"public": TABLE.slice(3)}, "public: not beside a schema"),
        (TABLE, {"public": ["a"], "schema": None, "modality": "text"}, "public: is for tables; modality 'text'"),
        (["a.png"], {"schema": None, "modality": "image"}, r"texts are no pictures; of paths, \[PIL.Image.open"),
        (TABLE, {"public": "nowhere.csv", "schema": None}, "public: is not there, or no file"),
        (TABLE, {"beam_options": "--runner=DirectRunner"}, "beam_options: a list of flags is wanted"),
        (TABLE, {"progress": "yes"}, "progress: str takes no lines"),
        (TABLE, {"on_iteration": [print, "x"]}, "on_iteration: a function is wanted, or a list"),
        (TABLE, {"overrides": ["evolution.iterations=1"]}, "overrides: a mapping is wanted, such as {'evolution"),
        (TABLE, {"columns": ["age"]}, "columns: a mapping is wanted"),
        (TABLE, {"domain": ["age"]}, "domain: a mapping is wanted"),
        (TABLE, {"client": 3}, "client: int is no name"),
        (TABLE, {"label": 3}, "label: the name of a column is wanted"),
        (TABLE, {"modality": "tabel"}, "modality: 'tabel' is not known; did you mean 'tabular'"),
        (TABLE, {"generator": date}, "generator: a type is none; its name is wanted.*pe_beam.generators"),
    ],
)
def test_errors_name_the_argument(tmp_path, records, changes, message):
    with pytest.raises(InputError, match=message) as error:
        pe_beam.synthesize(records, tmp_path / "run", **CALL | changes)
    assert SECRET not in str(error.value)
    assert not (tmp_path / "run/private").exists()


def test_a_label_misspelt_is_told_before_metadata_are_asked_for_it(tmp_path):
    """Metadata of SDV would want the values of the label, which the call has named otherwise."""
    columns = {"age": {"sdtype": "numerical"}, "y": {"sdtype": "categorical"}, "income": {"sdtype": "categorical"}}
    given = {"schema": {"columns": columns}, "domain": {"age": {"min": 0, "max": 99}}, "label": "incom"}
    table = pa.table({"age": [1, 2], "y": ["a", "b"], "income": ["no", "yes"]})
    with pytest.raises(InputError, match=r"no column 'incom'; did you mean 'income'\?"):
        pe_beam.synthesize(table, tmp_path / "run", **CALL | given)


def test_labels_of_a_set_come_in_one_order_whatever_its_own_is(monkeypatch, tmp_path):
    """A set of texts has another order in each process: the same cell in a new notebook would be another recipe."""
    seen = []
    monkeypatch.setattr(synthesize_module, "evolve", lambda recipe, *given, **named: seen.append(recipe))
    for place, labels in enumerate([{"no", "yes", "u", "v", "w"}, frozenset("wvu") | {"yes", "no"}]):
        pe_beam.synthesize(TABLE, tmp_path / str(place), **CALL | {"labels": labels})
    assert [recipe.data.labels for recipe in seen] == [["no", "u", "v", "w", "yes"]] * 2


def test_labels_may_be_numbers_of_numpy(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(synthesize_module, "evolve", lambda recipe, *given, **named: seen.append(recipe))
    pe_beam.synthesize(TABLE, tmp_path / "run", **CALL | {"labels": np.arange(2)})
    assert seen[0].data.labels == ["0", "1"]


def test_labels_of_a_column_of_booleans_are_what_python_calls_them(tmp_path):
    table = TABLE.set_column(TABLE.column_names.index("y"), "y", pa.array([y == "yes" for y in TABLE["y"].to_pylist()]))
    run = pe_beam.synthesize(table, tmp_path / "run", **CALL | {"labels": [True, np.False_]})
    assert set(run.samples()["label"].to_pylist()) == {"true", "false"} and run.status()["state"] == "complete"


def test_a_field_of_a_struct_is_reached_with_dots_as_in_a_file(tmp_path):
    table = TABLE.append_column("home", pa.array([{"city": city} for city in TABLE["job"].to_pylist()]))
    table = table.rename_columns(["age", "a.b", "y", "unused", "home"])
    assert as_table(as_columns(table), ["home.city", "a.b"]).column_names == ["home", "a.b"]
    with pytest.raises(InputError, match=r"there is no column 'age\.city'"):
        as_table(as_columns(table), ["age.city"])
    with pytest.raises(InputError, match=r"there is no column 'home\.town'"):
        as_table(as_columns(table), ["home.town"])


def test_names_may_be_spelled_as_in_files(made, tmp_path):
    """docs/tables.md: blanks around them, and any Unicode form; a message showed two names that look alike."""
    folder, _ = made
    table = TABLE.rename_columns([" age", "job", "y ", "unused"])
    run = pe_beam.synthesize(table, tmp_path / "run", **CALL, secret_file=folder / "secret")
    assert run.to_pandas().columns.tolist() == ["age", "job", "y"]
    assert as_table(as_columns(pa.table({"Gro\u0308\u00dfe": [1]})), ["Gr\u00f6\u00dfe"]).num_rows == 1
    with pytest.raises(InputError, match="'age' is the name of several columns"):
        as_table(as_columns(table.rename_columns([" age", "age ", "y", "unused"])), ["age"])


def test_a_label_without_its_public_list_is_refused_and_not_left_out(tmp_path):
    with pytest.raises(InputError, match="labels: label is given without them"):
        pe_beam.synthesize(TABLE, tmp_path / "run", **(CALL | {"labels": None}))
    assert not (tmp_path / "run").exists()


def test_a_column_of_mixed_values_is_said_without_them(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas was NOT tested")
    frame = pandas.DataFrame({"age": [1, SECRET], "job": ["a", "b"], "y": ["no", "yes"]}, dtype=object)
    with pytest.raises(InputError, match="records: column 'age' cannot be converted") as error:
        pe_beam.synthesize(frame, tmp_path / "run", **CALL)
    assert SECRET not in str(error.value) and error.value.__cause__ is None


@pytest.mark.parametrize("odd", [np.float64(0.3), 1, date(2020, 1, 1), datetime(2020, 1, 1)])
def test_one_value_of_another_kind_does_not_change_those_of_others(odd):
    """In one column Arrow reads 0.7 as float32 as 0.699999988, a number as a date, or dies of both."""
    for values in ([odd, np.float32(0.1), np.float32(0.7)], [odd, 1, 2] if isinstance(odd, date) else [0.5, "a", odd]):
        with pytest.raises(InputError, match="column 'x' cannot be converted; values of one type are wanted"):
            as_table({"x": values}, ["x"])
    for fine in ([1, 2.5, None, np.int64(3)], [None, float("nan"), "a"], [b"a", bytearray(b"b")], [[1], (2,)]):
        assert as_table({"x": fine}, ["x"]).num_rows == len(fine)


def test_where_no_record_may_stop_a_run_they_are_read_from_files(made, tmp_path):
    """One value of another type would stop the run, and so tell that it is there."""
    folder, _ = made
    recipe = yaml.safe_load((folder / "run/recipe.yaml").read_text())
    recipe["data"] |= {"never_stop": True}
    with pytest.raises(InputError, match=r"records: not with data\.never_stop"):
        pe_beam.evolve(parse_recipe(recipe), tmp_path / "run", records=TABLE)
    with pytest.raises(InputError, match=r"records: not with data\.never_stop"):
        pe_beam.synthesize(TABLE, tmp_path / "run", **CALL, overrides={"data.never_stop": True})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("nowhere", [None, 3, b"run", ""])
def test_what_names_no_folder_makes_none(monkeypatch, tmp_path, nowhere):
    """A folder `None` had the private records."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"run directory: .* names none; a path, or the URL"):
        pe_beam.synthesize(TABLE, nowhere, **CALL)
    assert not [*tmp_path.iterdir()]


def test_a_lazy_frame_has_to_be_collected():
    polars = pytest.importorskip("polars", reason="polars was NOT tested")
    with pytest.raises(InputError, match=r"records: a LazyFrame .*records\.collect\(\)"):
        as_columns(polars.LazyFrame({"age": [1]}))


def test_memory_is_refused():
    with pytest.raises(InputError, match="run_dir: memory:// is for examples"):
        pe_beam.synthesize(TABLE, "memory://no", **CALL)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Person(BaseModel):
    age: Annotated[int, Field(ge=0, lt=120)]
    weight: float | None = Field(None, ge=1.5, le=300)
    job: Literal["a", "b"]
    color: Color
    smokes: bool
    born: Annotated[date, Field(ge=date(1900, 1, 1), le=date(2020, 1, 1))]


SDV = {
    "METADATA_SPEC_VERSION": "V1",
    "tables": {
        "people": {
            "primary_key": "id",
            "columns": {
                "id": {"sdtype": "id"},
                "age": {"sdtype": "numerical", "computer_representation": "Int64"},
                "job": {"sdtype": "categorical"},
                "seen": {"sdtype": "datetime", "datetime_format": "%Y-%m-%d"},
            },
        }
    },
}
DOMAIN = {
    "id": None,
    "age": {"min": 0, "max": 99},
    "job": {"values": ["a", "b"]},
    "seen": {"min": "2000-01-01", "max": "2030-01-01"},
}


def parsed(schema, **data):
    raw = {"name": "x", "data": {"source": "parquet", "path": "x", "schema": schema, **data}, "modality": "tabular"}
    raw |= {"generator": {"name": "tabular"}, "embedder": {"name": "tabular"}, "evolution": {"samples": 10}}
    return parse_recipe(raw | {"privacy": {"epsilon": 1, "delta": 1e-5}}).data.table_schema["columns"]


def test_a_pydantic_model_is_a_declaration():
    columns = parsed(declared(Person, {}, {}))
    assert columns["age"]["min"] == 0 and columns["age"]["max"] == 119 and columns["age"]["type"] == "integer"
    assert columns["weight"]["missing"] and columns["weight"]["max"] == 300
    assert columns["color"]["values"] == ["red", "blue"] and columns["smokes"]["type"] == "boolean"
    assert columns["born"]["min"] == "1900-01-01"
    assert "job" not in declared(Person, {}, {"label": "job"})["columns"]


def test_sdv_metadata_want_a_domain_beside_them(tmp_path):
    (tmp_path / "metadata.json").write_text(json.dumps(SDV))
    for schema in (SDV, tmp_path / "metadata.json", str(tmp_path / "metadata.json")):
        columns = parsed(declared(schema, DOMAIN, {}))
        assert {name: column["type"] for name, column in columns.items()} == {
            "age": "integer",
            "job": "categorical",
            "seen": "date",
        }
        with pytest.raises(InputError, match=r"metadata of SDV.*read off the records.*domain=") as error:
            declared(schema, {"age": {"min": 0}}, {})
        assert [line.strip().removeprefix("data.schema.columns.") for line in str(error.value).split("\n")[1:]] == [
            "id: null, which leaves it out (its sdtype is id), or a type and what belongs to it",
            "age: max",
            "job: values",
            "seen: min, max",
        ]


def test_a_recipe_and_a_call_read_metadata_alike(tmp_path):
    """Of SDV and of DPSDA: the same file with the same words beside it is the same schema, labels and clients apart."""
    dpsda = {"cat_columns": ["job", "y"], "int_columns": ["age"], "float_columns": [], "label_columns": ["y"]}
    beside = {"age": DOMAIN["age"], "job": DOMAIN["job"]}
    for metadata, domain in ((SDV, DOMAIN), (dpsda, beside)):
        (tmp_path / "metadata.json").write_text(json.dumps(metadata))
        path = str(tmp_path / "metadata.json")
        by_call = declared(path, domain, {"label": "y"})
        assert parsed(by_call) == parsed({"file": path, "columns": domain}, columns={"label": "y"})
        assert declared(metadata, domain, {"label": "y"}) == by_call
    with pytest.raises(InputError, match=r"metadata of DPSDA.*label=NAME(.|\n)*data.columns.label: \[y\]"):
        declared(dpsda | {"cat_columns": ["job"]}, beside, {})


def test_a_file_of_our_own_form_takes_a_domain_too(tmp_path):
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(SCHEMA))
    found = declared(tmp_path / "schema.yaml", {"age": {"max": 90}, "job": None}, {})
    assert found["columns"] == {"age": {"type": "integer", "min": 0, "max": 90}}
    with pytest.raises(InputError, match="domain: 'aeg' is no column of the schema"):
        declared(tmp_path / "schema.yaml", {"aeg": {"max": 90}}, {})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({**SDV, "tables": {}}, "without columns; those of one table are wanted"),
        ({"METADATA_SPEC_VERSION": "V1"}, "without columns"),
        ({"METADATA_SPEC_VERSION": "V1", "columns": {"who": {"sdtype": "email"}}}, r"who: null.*its sdtype is email"),
        ("nowhere.json", r"data.schema nowhere.json: cannot be read"),
    ],
)
def test_what_sdv_has_and_tables_have_not_is_refused(schema, message):
    with pytest.raises(InputError, match=message):
        declared(schema, {}, {})


def test_a_model_with_a_free_text_is_refused():
    class Free(BaseModel):
        note: str

    class Open(BaseModel):
        weight: float = Field(gt=0, le=3)

    with pytest.raises(InputError, match="field 'note' of the model has a type"):
        declared(Free, {}, {})
    with pytest.raises(InputError, match="field 'weight': gt of float: ge and le are wanted"):
        declared(Open, {}, {})


def test_a_model_says_steps_and_what_may_be_none():
    class Doses(BaseModel):
        dose: float = Field(ge=0, le=10, multiple_of=0.5)
        rest: Annotated[float, Field(ge=0, le=1)] | None
        visits: int = Field(ge=0, le=9, multiple_of=1)

    assert declared(Doses, {}, {})["columns"] == {
        "dose": {"type": "float", "min": 0, "max": 10, "multiple_of": 0.5},
        "rest": {"type": "float", "min": 0, "max": 1, "missing": True},
        "visits": {"type": "integer", "min": 0, "max": 9},
    }

    class Pairs(BaseModel):
        shoes: int = Field(ge=0, le=8, multiple_of=2)

    with pytest.raises(InputError, match="field 'shoes': multiple_of of int: it is kept for float alone"):
        declared(Pairs, {}, {})


def test_the_page_runs_as_it_stands(tmp_path, monkeypatch):
    """The five lines of docs/python.md, and those after them."""
    pandas = pytest.importorskip("pandas", reason="docs/python.md was NOT tested: pandas is wanted")
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    pandas.DataFrame({"age": TABLE["age"], "job": TABLE["job"], "y": TABLE["y"]}).to_csv("people.csv", index=False)
    names: dict = {}
    for block in blocks[:2]:
        exec(block, names)
    assert len(names["samples"]) == 1000 and list(names["samples"].columns) == ["age", "job", "y"]
    assert len(ast.parse(blocks[0]).body) == 5  # the import, the records, what is declared, the run, the samples
