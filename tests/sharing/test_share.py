"""What leaves: each form says what the release says and nothing else, and is read by what it is made for."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import shutil
from pathlib import Path

import jsonschema
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.engine.tables import table_bytes
from pe_beam.errors import InputError
from pe_beam.releases.reading import open_release
from pe_beam.sharing.share import share
from tests.releases.test_notebook import HOSTILE, PRIVACY, release_of

SCHEMA = yaml.safe_load(Path(__file__).with_name("registry-schema.yaml").read_text())
RECIPE = {
    **{"version": 1, "name": HOSTILE, "data": {"labels": [HOSTILE], "expected_records": 1000}},
    **{"modality": "tabular", "generator": {"name": HOSTILE}, "embedder": {"name": "e"}},
}


@pytest.fixture
def digits(small, runs, tmp_path):
    """A copy of a release of pictures: no recipe, ledger or private file lies beside it."""
    shutil.copytree(runs.finished(small) / "release", tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def made_up(name, payload, rows, modality="tabular", **changed):
    """A release of two records that no run has made, with hostile names."""
    release = release_of(f"memory://{name}", payload, rows)
    told = PRIVACY | {"unit": "record"} | changed
    release.folder.commit("privacy.json", json.dumps(told).encode(), replace=True)
    release.folder.commit("recipe.json", json.dumps(RECIPE | {"modality": modality}).encode(), replace=True)
    return release


def loaded(folder, cache):
    datasets = pytest.importorskip("datasets", reason="what datasets makes of the folder was NOT tested")
    datasets.disable_progress_bars()
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(cache))


def front_matter(folder):
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_a_dataset_folder_of_pictures_loads(digits, tmp_path):
    assert main(["export", str(digits), "--to", str(tmp_path / "hub"), "--as", "huggingface"]) == 0
    found, samples = loaded(tmp_path / "hub", tmp_path / "cache"), open_release(digits).samples()
    assert found.features["label"].names == [str(i) for i in range(10)]
    assert [found.features["label"].int2str(i) for i in found["label"]] == samples["label"].to_pylist()
    assert [each.tobytes() for each in found["image"]] == [each.tobytes() for each in open_release(digits).images()]
    card = (tmp_path / "hub/README.md").read_text()
    assert open_release(digits).privacy["statement"] in card.replace("\\", "")
    assert front_matter(tmp_path / "hub")["dataset_info"]["splits"][0]["num_examples"] == len(samples)
    there = sorted(str(path.relative_to(tmp_path / "hub")) for path in (tmp_path / "hub").rglob("*") if path.is_file())
    assert there == ["README.md", "data/train-00000-of-00001.parquet", "privacy.json", "recipe.json"]


def test_the_folder_keeps_what_the_hub_reads_by_itself(digits, tmp_path):
    """The conventions of the Hub, without its library: a struct of bytes and path, numbers for labels, features."""
    share(open_release(digits), tmp_path / "hub", "huggingface", iteration=0)
    table = pq.read_table(tmp_path / "hub/data/train-00000-of-00001.parquet")
    told = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert told["image"] == {"_type": "Image"} and told["label"]["_type"] == "ClassLabel"
    assert table.schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert len(table) == open_release(digits).population(0).num_rows
    assert front_matter(tmp_path / "hub")["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]


def test_tables_and_texts_load_with_their_types(tmp_path):
    when = datetime.datetime(2020, 1, 2, 3, 4)
    kinds = {"n": pa.int64(), "x": pa.float64(), "b": pa.bool_(), "d": pa.date32(), "t": pa.timestamp("us")}
    kinds |= {"many": pa.list_(pa.int32()), "s": pa.string()}
    rows = {"n": [1, None], "x": [0.5, 1.5], "b": [True, False], "d": [when.date()] * 2, "t": [when] * 2}
    rows |= {"many": [[1, 2], []], "s": [HOSTILE, "b"]}
    share(made_up("share-table", pa.schema(list(kinds.items())), rows), tmp_path / "hub", "huggingface")
    found = loaded(tmp_path / "hub", tmp_path / "cache")
    assert found.features["label"].names == [HOSTILE] and found["label"][:] == [0, 0]
    assert {name: found[name][:] for name in rows} == rows
    assert found.with_format("arrow")[:].schema.field("d").type == pa.date32()


def test_what_is_no_feature_is_named(tmp_path):
    payload = pa.schema([("pair", pa.struct([("a", pa.int64())]))])
    release = made_up("share-struct", payload, {"pair": [{"a": 1}, {"a": 2}]})
    with pytest.raises(InputError, match=r"column 'pair': struct.*no feature"):
        share(release, tmp_path / "hub", "huggingface")
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"embedder": "e"},
        {"generator": None},
        {"generators": {}},
        {"generators": [{"generator": {}}]},
        {"evolution": []},
        {"evolution": {"filters": ["x"]}},
        {"data": "x"},
        {"privacy": 3},
    ],
)
def test_a_recipe_of_another_form_is_damaged(tmp_path, changed):
    release = made_up("share-damaged", pa.schema([("text", pa.string())]), {"text": ["a", "b"]})
    release.folder.commit("recipe.json", json.dumps(RECIPE | changed).encode(), replace=True)
    with pytest.raises(InputError, match=r"recipe\.json: damaged"):
        share(release, tmp_path / "c.md", "checklist")


def test_names_and_labels_become_no_markup(tmp_path):
    release = made_up("share-hostile", pa.schema([("text", pa.string())]), {"text": ["a", "b"]}, modality="text")
    for form, name in (("huggingface", "hub"), ("registry", "e.yaml"), ("checklist", "c.md")):
        share(release, tmp_path / name, form)
    for page in ((tmp_path / "hub/README.md").read_text().split("---\n")[2], (tmp_path / "c.md").read_text()):
        assert not re.search(r"(?<!\\)<\w", page) and "\\<script\\>" in page
    entry = yaml.safe_load((tmp_path / "e.yaml").read_text())
    assert entry["deployment"]["basic"]["name"] == HOSTILE
    jsonschema.validate(entry, SCHEMA)


def test_the_registry_takes_the_entry(digits, tmp_path):
    share(open_release(digits), tmp_path / "digits.yaml", "registry")
    text = (tmp_path / "digits.yaml").read_text()
    entry, privacy = yaml.safe_load(text), open_release(digits).privacy
    jsonschema.validate(entry, SCHEMA)
    loss = entry["deployment"]["privacy_loss"]
    assert loss["privacy_parameters"] == {"epsilon": privacy["epsilon"], "delta": privacy["delta"]}
    assert loss["privacy_parameters_details"] == privacy["statement"] and loss["number_of_privacy_units"] == 360
    styles = {token.style for token in yaml.scan(text) if isinstance(token, yaml.ScalarToken)}
    assert styles <= {None, "'", '"', "|"}, "its check refuses folded texts"


def test_an_epsilon_is_never_shown_too_small(tmp_path):
    payload, rows = pa.schema([("text", pa.string())]), {"text": ["a", "b"]}
    release = made_up("share-epsilon", payload, rows, epsilon=1.00000001, unit="client")
    share(release, tmp_path / "e.yaml", "registry")
    loss = yaml.safe_load((tmp_path / "e.yaml").read_text())["deployment"]["privacy_loss"]
    assert loss["privacy_parameters"]["epsilon"] == 1.00001 and loss["privacy_unit"] == "User-level"
    assert "number_of_privacy_units" not in loss, "the guess is of records, and not of clients"
    share(release, tmp_path / "c.md", "checklist")
    assert "**Epsilon?** 1.00001" in (tmp_path / "c.md").read_text()


def test_a_window_of_a_stream_is_told_with_the_promise_of_the_stream(tmp_path):
    release = made_up("share-window", pa.schema([("text", pa.string())]), {"text": ["a", "b"]}, unit="client")
    told = RECIPE | {"modality": "text", "stream": {"client_windows": 4}}
    release.folder.commit("recipe.json", json.dumps(told).encode(), replace=True)
    with pytest.raises(InputError, match="one window of a stream; the stream's directory is wanted"):
        share(release, tmp_path / "e.yaml", "registry")
    share(release, tmp_path / "c.md", "checklist")
    assert "of this window alone" in (tmp_path / "c.md").read_text()
    stream = {"epsilon": 2.5, "delta": 1e-6, "statement": "All releases of this stream together.", "ledger": []}
    share(release, tmp_path / "e.yaml", "registry", promise=stream)
    entry = yaml.safe_load((tmp_path / "e.yaml").read_text())["deployment"]
    assert entry["privacy_loss"]["privacy_parameters"] == {"epsilon": 2.5, "delta": 1e-6}
    assert entry["privacy_loss"]["privacy_parameters_details"] == stream["statement"]
    assert entry["deployment_model"]["release_type"] == "Many releases"
    share(release, tmp_path / "hub", "huggingface", promise=stream)
    assert "| 2.5, 1e-06 |" in (tmp_path / "hub/README.md").read_text()


def test_the_checklist_answers_what_is_public_and_leaves_the_rest_open(digits, tmp_path):
    share(open_release(digits), tmp_path / "c.md", "checklist")
    text = (tmp_path / "c.md").read_text()
    answered, left = re.findall(r"- \[x\] \*\*(.*?)\*\* (.+)", text), re.findall(r"- \[ \] \*\*(.*?)\*\*\n", text)
    assert dict(answered)["Delta?"].startswith("1e-05") and len(left) > 15
    topics = re.findall(r"^## (.*)", text, re.MULTILINE)
    page = (Path(__file__).parents[2] / "docs/nist-sp-800-226.md").read_text()
    assert len(topics) == 9 and all(f"| {topic} |" in page for topic in topics)


@pytest.mark.parametrize(("iteration", "expected"), [(None, [1, 2]), (2, [2])])
def test_histograms_are_the_noisy_ones(digits, tmp_path, iteration, expected):
    share(open_release(digits), tmp_path / "h.csv", "histograms", iteration=iteration)
    table = pyarrow.csv.read_csv(tmp_path / "h.csv")
    assert sorted(set(table["iteration"].to_pylist())) == expected
    votes = [open_release(digits).histogram(t)["noisy_votes"].to_pylist() for t in expected]
    assert table["noisy_votes"].to_pylist() == [vote for each in votes for vote in each]


def test_what_was_measured_before_the_votes_is_told_and_written(tmp_path):
    """Counts of labels and columns, and the steps of `privacy.measure`, whose cells are lists of columns and groups."""
    more = {"measurements": [{"step": "singles", "noise_multiplier": 3.25}, {"step": "pairs", "noise_multiplier": 7}]}
    release = made_up("share-measured", pa.schema([("text", pa.string())]), {"text": ["a", "b"]}, **more)
    kinds = [("label", pa.string()), ("columns", pa.list_(pa.string())), ("groups", pa.list_(pa.int64()))]
    schema = pa.schema([*kinds, ("noisy_count", pa.float64())])
    cells = {"label": [None, "x"], "columns": [["a"], ["a", "b"]], "groups": [[0], [1, 2]], "noisy_count": [-1.0, 4.0]}
    data = table_bytes(pa.table(cells, schema=schema), schema)
    manifest = release.manifest(0)
    manifest["files"]["measured/1-singles.parquet"] = {"sha256": hashlib.sha256(data).hexdigest()}
    release.folder.commit("iteration=0000/measured/1-singles.parquet", data)
    release.folder.commit("iteration=0000/manifest.json", json.dumps(manifest).encode(), replace=True)
    share(release, tmp_path / "m.csv", "histograms", iteration=0)
    rows = pyarrow.csv.read_csv(tmp_path / "m.csv").to_pylist()
    assert [(row["columns"], row["groups"], row["noisy_count"]) for row in rows] == [
        ("a", "0", -1),
        ("a | b", "1 | 2", 4),
    ]
    for form, name in (("registry", "e.yaml"), ("checklist", "c.md"), ("huggingface", "hub")):
        share(release, tmp_path / name, form)
    for page in ("e.yaml", "c.md", "hub/README.md"):
        assert "in 2 step(s) (singles 3.25, pairs 7)" in (tmp_path / page).read_text()


def test_wrong_forms_paths_and_releases_are_refused(digits, tmp_path, capsys):
    wrong = [
        (["--to", "x.md", "--as", "nonsense"], "--as nonsense: not known; allowed: huggingface, registry"),
        (["--to", "x.txt", "--as", "registry"], "a file that ends in .yaml is wanted"),
        (["--to", "x.md", "--as", "checklist", "--iteration", "1"], "--iteration: not with --as checklist"),
        (["--to", "x.csv", "--as", "histograms", "--iteration", "9"], "iteration 9: this release has no such"),
        (
            ["--to", "x.csv", "--as", "histograms", "--iteration", "0"],
            "nothing was measured before the first iteration",
        ),
        (["--to", str(digits), "--as", "huggingface"], "an empty or new folder is wanted"),
        (["--to", "x", "--as", "huggingface", "--all"], "--as: not with --all"),
    ]
    for more, message in wrong:
        assert main(["export", str(digits), *more]) == 2
        assert message in capsys.readouterr().err
    part = digits / "iteration=0001/histogram/part-00000.parquet"
    part.chmod(0o600)
    whole = part.read_bytes()
    part.write_bytes(whole + b"x")
    assert main(["export", str(digits), "--to", str(tmp_path / "x.md"), "--as", "checklist"]) == 2
    assert "damaged" in capsys.readouterr().err and not (tmp_path / "x.md").exists()
    part.write_bytes(whole)
    (digits / "privacy.json").unlink()
    assert main(["export", str(digits), "--to", str(tmp_path / "x.md"), "--as", "checklist"]) == 2
    assert "not complete" in capsys.readouterr().err


def test_a_statement_that_the_ledger_denies_does_not_leave(runs, small, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(runs.finished(small), run)
    told = run / "release/privacy.json"
    told.chmod(0o600)
    told.write_text(json.dumps(json.loads(told.read_text()) | {"epsilon": 0.1}))
    assert main(["export", str(run), "--to", str(tmp_path / "e.yaml"), "--as", "registry"]) == 2
    assert "privacy.json: not what this run has made" in capsys.readouterr().err


def test_without_a_promise_nothing_is_registered_and_all_else_says_so(tmp_path):
    run = made_up("share-inf", pa.schema([("text", pa.string())]), {"text": ["a", "b"]}, epsilon="inf")
    with pytest.raises(InputError, match="a name with NOT-PRIVATE in it"):
        share(run, tmp_path / "hub", "huggingface")
    with pytest.raises(InputError, match="this run is NOT PRIVATE; the registry"):
        share(run, tmp_path / "NOT-PRIVATE.yaml", "registry")
    for form, name in (("huggingface", "NOT-PRIVATE"), ("checklist", "NOT-PRIVATE.md")):
        share(run, tmp_path / name, form)
    assert "> **NOT PRIVATE.**" in (tmp_path / "NOT-PRIVATE.md").read_text()
    assert "(NOT PRIVATE)" in front_matter(tmp_path / "NOT-PRIVATE")["pretty_name"]
    assert "differential-privacy" not in front_matter(tmp_path / "NOT-PRIVATE")["tags"]
