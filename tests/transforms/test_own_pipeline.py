"""The pipeline of docs/examples/own_pipeline, and attacks on the mechanism that it ends in."""

from __future__ import annotations

import runpy
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

import pe_beam
from pe_beam.contracts.votes import Tally, Unit
from pe_beam.errors import InputError, SecretError
from pe_beam.privacy import accounting
from pe_beam.storage import open_store
from pe_beam.voting.nearest import reference_nearest

EXAMPLE = Path(__file__).parents[2] / "docs/examples/own_pipeline/own_pipeline.py"


def test_the_example_releases_noisy_counts_of_the_nearest_towns(tmp_path: Path) -> None:
    example = runpy.run_path(str(EXAMPLE))
    found = example["main"](tmp_path)
    exact = np.zeros(8)
    for part in range(10):
        batch = example["people"](part)
        vectors = np.stack([batch["x"].to_numpy(), batch["y"].to_numpy()], axis=1).astype(np.float32)
        exact += np.bincount(reference_nearest(vectors, example["TOWNS"], distance="l2", votes=1)[:, 0], minlength=8)
    noise = found["noisy_votes"].to_numpy() - exact
    assert (noise == np.round(noise)).all() and noise.any()
    assert (
        np.abs(noise).max()
        < 6 * pe_beam.open_mechanism(open_store(tmp_path / "homes"), "homes", epsilon=1, delta=1e-6).sigma
    )
    assert not (tmp_path / "homes/private/secret.key").exists()
    again = example["main"](tmp_path)  # a second run draws no second noise, and needs no secret
    assert again.equals(found)


@pytest.mark.parametrize("unit", Unit)
def test_no_record_at_all_has_a_histogram_of_noise(tmp_path: Path, unit: Unit) -> None:
    """Neighbours of a single record have none: whether there is a histogram would tell them apart (rule 2)."""
    store = open_store(tmp_path)
    mechanism = pe_beam.open_mechanism(open_store(tmp_path / "m"), "m", epsilon=1, delta=1e-5, unit=unit)
    towns = pe_beam.write_candidates(str(tmp_path), np.eye(3, dtype=np.float32))
    with beam.Pipeline() as pipeline:
        vectors = pipeline | beam.Create([], reshuffle=False).with_output_types(pa.RecordBatch)
        _ = (
            vectors
            | pe_beam.Vote(towns, unit=unit, grid=mechanism)
            | pe_beam.NoisyHistogram(mechanism, commit=str(tmp_path))
        )
    assert len(mechanism.noisy(store)) == 3


def tally(*counts: int, votes: int = 1, unit: Unit = Unit.RECORD, bits: int = 0) -> Tally:
    return Tally("digest", np.array(counts, dtype=np.int64), unit, votes, bits)


@pytest.fixture
def mechanism(tmp_path: Path) -> pe_beam.GaussianMechanism:
    return pe_beam.open_mechanism(open_store(tmp_path / "m"), "m", epsilon=1, delta=1e-5)


def test_the_entry_is_written_before_anything_is_counted(mechanism, tmp_path) -> None:
    assert len((tmp_path / "m/ledger.jsonl").read_text().splitlines()) == 1
    multiplier = mechanism.noise_multiplier
    assert accounting.spent_epsilon([multiplier], 1e-5) <= 1
    assert accounting.spent_epsilon([multiplier * 0.999], 1e-5) > 1


def test_one_entry_pays_for_one_histogram(mechanism, tmp_path) -> None:
    store = open_store(tmp_path / "out")
    mechanism.commit_counts(store, tally(5, 0, 7))
    first = mechanism.noisy(store)
    mechanism.commit_counts(store, tally(5, 0, 7))  # a retry
    assert mechanism.noisy(store).equals(first)
    with pytest.raises(InputError, match="other counts are committed"):
        mechanism.commit_counts(store, tally(5, 0, 8))
    # Nor elsewhere: the pledge lies beside the ledger entry.
    other = open_store(tmp_path / "elsewhere")
    mechanism.commit_counts(other, tally(5, 0, 8))
    with pytest.raises(InputError, match="other counts were given noise before"):
        mechanism.noisy(other)
    third = open_store(tmp_path / "third")
    mechanism.commit_counts(third, tally(5, 0, 7))
    assert mechanism.noisy(third).equals(first)


def test_equal_counts_over_other_candidates_are_another_histogram(mechanism, tmp_path) -> None:
    """Whether they are equal is exact: who chooses candidates could ask again and again, and pays for one answer."""
    counts, told = np.array([5, 0, 7]), []
    mechanism.commit_counts(open_store(tmp_path / "out"), Tally("digest", counts, Unit.RECORD, 1, 0))
    mechanism.noisy(open_store(tmp_path / "out"))
    for name, other in (("equal", counts), ("unequal", counts + 1)):
        store = open_store(tmp_path / name)
        mechanism.commit_counts(store, Tally("other", other, Unit.RECORD, 1, 0))
        with pytest.raises(InputError) as caught:
            mechanism.noisy(store)
        told.append(str(caught.value))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "wrong", [tally(1, votes=2), tally(1, unit=Unit.CLIENT), tally(1, bits=1)], ids=["votes", "unit", "grid"]
)
def test_votes_beyond_what_noise_is_for_are_refused(mechanism, tmp_path, wrong) -> None:
    with pytest.raises(InputError, match=r"casts more than|another unit or on another grid"):
        mechanism.commit_counts(open_store(tmp_path / "out"), wrong)


def test_opened_again_it_is_the_same_and_with_other_values_refused(mechanism, tmp_path) -> None:
    own = open_store(tmp_path / "m")
    assert pe_beam.open_mechanism(own, "m", epsilon=1, delta=1e-5) == mechanism
    before = (tmp_path / "m/ledger.jsonl").read_bytes()
    for changed in ({"epsilon": 2}, {"delta": 1e-6}, {"votes_per_record": 4}, {"adjacency": "replace-one"}):
        with pytest.raises((InputError, SecretError)):
            pe_beam.open_mechanism(own, "m", **{"epsilon": 1, "delta": 1e-5, **changed})
    with pytest.raises(SecretError):
        pe_beam.open_mechanism(own, "another", epsilon=1, delta=1e-5)
    assert (tmp_path / "m/ledger.jsonl").read_bytes() == before


def test_another_secret_draws_nothing(mechanism, tmp_path) -> None:
    store = open_store(tmp_path / "out")
    mechanism.commit_counts(store, tally(5, 0, 7))
    key = tmp_path / "m/private/secret.key"
    key.unlink()
    with pytest.raises(SecretError):
        mechanism.noisy(store)
    key.write_bytes(bytes(32))
    with pytest.raises(SecretError, match="another secret"):
        mechanism.noisy(store)


def test_candidates_that_were_changed_are_refused(tmp_path: Path) -> None:
    handle = pe_beam.write_candidates(str(tmp_path), np.eye(3, dtype=np.float32))
    pe_beam.write_candidates(str(tmp_path), np.zeros((3, 3), dtype=np.float32))
    with pytest.raises(InputError, match="another file lies there"):
        handle.load()
    assert isinstance(handle, pe_beam.Candidates)
