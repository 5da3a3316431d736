"""The public transforms from Beam YAML, by Beam's own reading of it, beside a direct NumPy computation."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import apache_beam as beam
import jinja2
import numpy as np
import pytest
import yaml
from sklearn.datasets import load_iris

from pe_beam.errors import InputError
from pe_beam.privacy.ledger import parse_ledger
from pe_beam.storage import open_store
from pe_beam.transforms import beam_yaml
from tests.whole_runs import ROOT

yaml_main = pytest.importorskip("apache_beam.yaml.main", reason="Beam YAML was NOT tested: no apache-beam[yaml]")
pytestmark = pytest.mark.xdist_group("launch")  # a test there runs Beam YAML too; its imports take ten seconds
FOLDER = ROOT / "templates/yaml"
SIZES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
MEAN = {"epsilon": 1000.0, "delta": 0.5}
"""Noise that rounds to nothing: exact counts are seen in tests of something else."""


def paid(store: Path, name: str = "votes", **more: Any) -> dict[str, Any]:
    return {"store": str(store), "name": name, **MEAN, **more}


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 flowers as a file with a header: public data."""
    path = tmp_path_factory.mktemp("iris") / "iris.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([SIZES, *load_iris().data.tolist()])
    return path


def run_flowers(iris: Path, folder: Path) -> list[dict[str, Any]]:
    told = {"data": str(iris), "store": str(folder / "store"), "output": str(folder / "counts.json")}
    file = FOLDER / "flowers.yaml"
    yaml_main.run([f"--yaml_pipeline_file={file}", f"--jinja_variables={json.dumps(told)}"])
    (made,) = folder.glob("counts.json*")
    rows = [json.loads(line) for line in made.read_text().splitlines()]
    made.unlink()
    return sorted(rows, key=lambda row: row["position"])


def test_the_template_ends_in_one_noisy_count_for_each_declared_flower(iris: Path, tmp_path: Path) -> None:
    found = run_flowers(iris, tmp_path)
    whole = yaml.safe_load(jinja2.Template((FOLDER / "flowers.yaml").read_text()).render(store="", data="", output=""))
    declared = np.array([list(row.values()) for row in whole["pipeline"]["transforms"][2]["config"]["candidates"]])
    nearest = ((load_iris().data[:, None] - declared) ** 2).sum(axis=2).argmin(axis=1)
    exact = np.bincount(nearest, minlength=4)
    assert [row["name"] for row in found] == ["setosa", "versicolor", "virginica", "none of these"]
    noise = np.array([row["noisy_votes"] for row in found]) - exact
    (line,) = parse_ledger(open_store(tmp_path / "store/flowers").read("ledger.jsonl"))[0]
    assert (noise == np.round(noise)).all() and noise.any()
    assert np.abs(noise).max() < 6 * line.sigma, "false alarms: 4 x 2e-9"
    assert not (tmp_path / "store/flowers/private/secret.key").exists()
    # Again: the same counts, the same one line, and no secret is needed.
    assert run_flowers(iris, tmp_path) == found
    assert len((tmp_path / "store/flowers/ledger.jsonl").read_text().splitlines()) == 1


def test_other_data_under_one_name_are_refused(iris: Path, tmp_path: Path) -> None:
    run_flowers(iris, tmp_path)
    fewer = tmp_path / "fewer.csv"
    fewer.write_text("".join(iris.read_text().splitlines(keepends=True)[:-40]))
    with pytest.raises(Exception, match="other counts are committed; one ledger entry pays for one histogram"):
        run_flowers(fewer, tmp_path)


def test_the_provider_file_names_what_is_there() -> None:
    (provider,) = yaml.safe_load((FOLDER / "providers.yaml").read_text())
    from apache_beam.yaml.yaml_provider import ExternalProvider

    made = ExternalProvider.provider_from_spec(str(FOLDER / "providers.yaml"), provider)
    assert set(made.provided_transforms()) == {"EmbedRecords", "Vote", "NoisyHistogram"}
    for name in made.provided_transforms():
        fields = {field.name: field for field in made.config_schema(name).fields}
        assert fields and all(field.description for field in fields.values()), "Beam documents it by these"


def counts(
    rows: list[beam.Row], candidates: list[dict[str, Any]], mechanism: dict[str, Any], **more: Any
) -> list[float]:
    """The votes by the constructors alone, for a mechanism whose noise rounds to nothing."""
    both = {"embedder": {"columns": ["x"]}} | more
    unit = mechanism.get("unit", "record")
    with beam.Pipeline() as pipeline:
        _ = (
            pipeline
            | beam.Create(rows)
            | beam_yaml.EmbedRecords(**both, unit=unit)
            | beam_yaml.Vote(candidates, mechanism, **both)
            | beam_yaml.NoisyHistogram(mechanism)
        )
    paid_for = beam_yaml.MechanismOptions(**mechanism).open()
    return list(paid_for.noisy(open_store(mechanism["store"]))["noisy_votes"].to_pylist())


TWO = [{"x": 0.0}, {"x": 10.0}]


def test_an_empty_input_counts_zeros(tmp_path: Path) -> None:
    assert counts([], TWO, paid(tmp_path)) == [0, 0]


def test_a_record_that_is_no_number_abstains(tmp_path: Path) -> None:
    rows = [beam.Row(x=value) for value in (1.0, math.nan, 9.0, math.inf, 8.0)]
    assert counts(rows, TWO, paid(tmp_path)) == [1, 2]


def test_labels_are_compared_as_texts_and_undeclared_ones_abstain(tmp_path: Path) -> None:
    rows = [beam.Row(x=9.0, label=label) for label in (1, 1, 2, 3)]
    candidates = [{"x": 0.0, "label": 1}, {"x": 0.0, "label": "2"}]
    assert counts(rows, candidates, paid(tmp_path), labels=[1, 2]) == [2, 1]


def test_a_client_has_one_vote_in_all(tmp_path: Path) -> None:
    rows = [beam.Row(x=0.0, client=client) for client in "aaaaaaaab"]
    found = counts(rows, TWO, paid(tmp_path, unit="client"))
    assert found == pytest.approx([2, 0], abs=0.1)


def test_texts_are_embedded_by_an_embedder_of_the_package(tmp_path: Path) -> None:
    rows = [beam.Row(text=text) for text in ("good food", "good food indeed", "bad service", "")]
    more = {"embedder": {"name": "hashed-words", "dimension": 64}, "distance": "cosine"}
    candidates = [{"text": "good food"}, {"text": "bad service"}]
    assert counts(rows, candidates, paid(tmp_path), **more) == [2, 1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"candidates": []}, "candidates: a list of mappings with the same keys is wanted"),
        ({"candidates": [{"x": 1.0}, {"y": 1.0}]}, "candidates: a list of mappings with the same keys is wanted"),
        ({"candidates": [{"x": 1.0}, {"x": math.nan}]}, "candidates: number 1: number that is missing or not finite"),
        ({"candidates": [{"y": 1.0}]}, "embedder.columns: x: no such column in the rows"),
        ({"embedder": {}}, r"embedder: {columns: \[...\]} or {name: ..., options} is wanted"),
        ({"embedder": {"columns": []}}, "embedder.columns: Tuple should have at least 1 item"),
        ({"embedder": {"name": "pixls"}}, "embedder.name: 'pixls' is not known; did you mean 'pixels'"),
        ({"embedder": {"name": "pixels", "sise": 3}}, "embedder.sise: Extra inputs are not permitted"),
        ({"embedder": {"name": "tabular"}}, "embedder.name: this one wants a declared schema"),
        ({"mechanism": {"epsilon": 0}}, "mechanism.epsilon: Input should be greater than 0"),
        ({"mechanism": {"delta": 1}}, "mechanism.delta: Input should be less than 1"),
        ({"mechanism": {"sigma": 1}}, "mechanism.sigma: Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_is_said_when_the_pipeline_is_built_and_spends_nothing(
    wrong: dict[str, Any], said: str, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"candidates": TWO, "mechanism": paid(tmp_path), "embedder": {"columns": ["x"]}}
    merged = {
        key: {**value, **wrong.get(key, {})} if key == "mechanism" else wrong.get(key, value)
        for key, value in given.items()
    }
    with pytest.raises(InputError, match=said):
        beam_yaml.Vote(**merged)
    assert not list(tmp_path.rglob("ledger.jsonl"))


def test_a_wrong_number_of_names_is_said(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="names: 2 are wanted"), beam.Pipeline() as pipeline:
        _ = (
            pipeline
            | beam.Create([beam.Row(x=1.0)])
            | beam_yaml.EmbedRecords({"columns": ["x"]})
            | beam_yaml.Vote(TWO, paid(tmp_path), {"columns": ["x"]})
            | beam_yaml.NoisyHistogram(paid(tmp_path), names=["only one"])
        )


def test_values_of_records_are_in_no_message(tmp_path: Path) -> None:
    """Rule 7: a column that holds what is no number stops the pipeline, and the message holds the stage alone."""
    with pytest.raises(Exception) as said, beam.Pipeline() as pipeline:
        _ = pipeline | beam.Create([beam.Row(x="a private word")]) | beam_yaml.EmbedRecords({"columns": ["x"]})
    assert "stage EmbedRecords failed" in str(said.value)
    assert "private word" not in str(said.value)
