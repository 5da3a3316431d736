"""The constructors for Beam YAML on plain values and rows. tests/test_wheel.py runs Beam's own reading of YAML."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import yaml

from pe_beam.errors import InputError
from pe_beam.storage import open_store
from pe_beam.transforms import beam_yaml
from tests.whole_runs import ROOT

MEAN = {"epsilon": 1000.0, "delta": 0.5}
"""Noise that rounds to nothing: exact counts are seen in tests of something else."""


def paid(store: Path, name: str = "votes", **more: Any) -> dict[str, Any]:
    return {"store": str(store), "name": name, **MEAN, **more}


def test_the_provider_file_names_what_is_there_and_is_documented() -> None:
    """Beam reads types off annotations, which must be no texts, and descriptions off docstrings."""
    (provider,) = yaml.safe_load((ROOT / "templates/yaml/providers.yaml").read_text())
    assert set(provider["transforms"]) == {"EmbedRecords", "Vote", "NoisyHistogram"}
    for name, path in provider["transforms"].items():
        assert path == f"{beam_yaml.__name__}.{name}"
        made = getattr(beam_yaml, name)
        own = {key: each for key, each in inspect.signature(made.__init__).parameters.items() if key != "self"}
        assert not any(isinstance(each.annotation, str) for each in own.values())
        assert set(re.findall(r"^ +(\w+): ", made.__doc__, re.M)) >= set(own)


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


def test_again_it_is_the_same_without_a_secret_and_other_data_are_refused(tmp_path: Path) -> None:
    mechanism = {**paid(tmp_path), "epsilon": 0.5, "delta": 1e-6}
    rows = [beam.Row(x=1.0)] * 3
    found = counts(rows, TWO, mechanism)
    assert found != [3, 0], "false alarms: 1 in 200"
    assert not (tmp_path / "votes/private/secret.key").exists()
    assert counts(rows, TWO, mechanism) == found
    assert len((tmp_path / "votes/ledger.jsonl").read_text().splitlines()) == 1
    with pytest.raises(Exception, match="other counts are committed; one ledger entry pays for one histogram"):
        counts(rows[1:], TWO, mechanism)


def test_an_empty_input_counts_zeros(tmp_path: Path) -> None:
    assert counts([], TWO, paid(tmp_path)) == [0, 0]


def test_a_record_that_is_no_number_abstains(tmp_path: Path) -> None:
    rows = [beam.Row(x=value) for value in (1.0, math.nan, 9.0, math.inf, 8.0)]
    assert counts(rows, TWO, paid(tmp_path)) == [1, 2]


@pytest.mark.filterwarnings("error")  # one would tell of a record in a worker's log
def test_no_number_stops_a_pipeline_or_is_heard_of(tmp_path: Path) -> None:
    """Whole numbers that no float64 holds exactly are rounded, and what float32 does not hold abstains."""
    rows = [beam.Row(x=value) for value in (1, 9, 2**53 + 1, -(2**63))]
    assert counts(rows, TWO, paid(tmp_path)) == [2, 2]
    rows = [beam.Row(x=value) for value in (1.0, 9.0, 1e300)]
    assert counts(rows, TWO, paid(tmp_path, "floats")) == [1, 1]


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
