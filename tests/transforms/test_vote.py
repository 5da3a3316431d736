"""Vote and its CombineFns on plain PCollections, without a run directory, beside a direct NumPy computation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that
from apache_beam.transforms import trigger, window

from pe_beam.contracts.votes import BallotHandle, Ballots, Grid, Tally, Unit
from pe_beam.errors import InputError, StageError
from pe_beam.transforms.vote import MergeBallotsCombineFn, SumTalliesCombineFn, Vote
from pe_beam.voting.nearest import reference_nearest
from pe_beam.voting.votes import CandidateMatrix, Voter
from tests.voting.dense import scale_client

CANDIDATES = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
RECORDS = np.random.default_rng(1).standard_normal((100, 3)).astype(np.float32)
CLIENTS = [f"client {row % 17}" for row in range(100)]


@dataclass(frozen=True)
class Given(BallotHandle):
    """The matrix itself, which is small here."""

    votes: int = 1
    vectors: np.ndarray = field(default_factory=lambda: CANDIDATES)

    def load(self) -> Ballots:
        ids, labels = np.arange(len(self.vectors)), np.zeros(len(self.vectors), dtype=np.int32)
        matrix = CandidateMatrix(ids, labels, self.vectors, digest="digest")
        return Voter(matrix, distance="l2", votes_per_record=self.votes)


class FineGrid(Grid):
    def grid_bits(self) -> int:
        return 10


def batches(size: int, *, client: bool = False) -> list[pa.RecordBatch]:
    made = []
    for start in range(0, len(RECORDS), size):
        vectors = RECORDS[start : start + size]
        columns = {
            "label": pa.array([0] * len(vectors), pa.int32()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 3),
        }
        if client:
            columns["client"] = pa.array(CLIENTS[start : start + size])
        made.append(pa.RecordBatch.from_pydict(columns))
    return made


def one(check):
    """A matcher of a PCollection of exactly one tally."""

    def matcher(found):
        (tally,) = found
        check(tally)

    return matcher


@pytest.mark.parametrize(("size", "votes"), [(7, 1), (100, 3), (33, 12), (33, 20)])
def test_votes_are_those_of_the_definition_whatever_the_batches(size: int, votes: int) -> None:
    nearest = reference_nearest(RECORDS, CANDIDATES, distance="l2", votes=votes)
    wanted = np.bincount(nearest.ravel(), minlength=12).tolist()

    def check(tally: Tally) -> None:
        assert tally.counts.tolist() == wanted and tally.counts.dtype == np.int64
        assert tally.belongs() == ("digest", Unit.RECORD, votes, 0)

    with Pipeline() as pipeline:
        assert_that(pipeline | beam.Create(batches(size)) | Vote(Given(votes)), one(check))


def test_a_client_votes_once_over_all_its_batches() -> None:
    nearest = reference_nearest(RECORDS, CANDIDATES, distance="l2", votes=1)[:, 0]
    wanted = np.zeros(12, dtype=np.int64)
    for client in set(CLIENTS):
        own = nearest[[row for row, name in enumerate(CLIENTS) if name == client]]
        wanted += scale_client(np.bincount(own, minlength=12), 10)

    def check(tally: Tally) -> None:
        assert tally.counts.tolist() == wanted.tolist()
        assert tally.belongs() == ("digest", Unit.CLIENT, 1, 10)

    with Pipeline() as pipeline:
        voted = pipeline | beam.Create(batches(9, client=True)) | Vote(Given(), unit=Unit.CLIENT, grid=FineGrid())
        assert_that(voted, one(check))


@dataclass(frozen=True)
class Labelled(BallotHandle):
    """Candidates of four labels, three each."""

    def load(self) -> Ballots:
        labels = np.arange(12, dtype=np.int32) % 4
        matrix = CandidateMatrix(np.arange(12), labels, CANDIDATES, digest="digest")
        return Voter(matrix, distance="l2", votes_per_record=1)


@pytest.mark.parametrize("unit", list(Unit))
@pytest.mark.parametrize("size", [1, 13, 100])
@pytest.mark.parametrize("flags", [[], ["--direct_runner_bundle_repeat=1"]])
def test_records_are_gathered_by_label_over_batches_and_bundles(unit: Unit, size: int, flags: list[str]) -> None:
    labels = np.arange(100, dtype=np.int32) % 5  # a label has no candidates
    voter = Labelled().load()
    rows, positions = voter.ballots(RECORDS, labels)
    wanted = np.zeros(12, dtype=np.int64)
    if unit is Unit.RECORD:
        wanted = np.bincount(positions, minlength=12)
    else:
        for client in set(CLIENTS):
            own = [place for row, place in zip(rows, positions, strict=True) if CLIENTS[row] == client]
            wanted += scale_client(np.bincount(own, minlength=12), 10)

    def check(tally: Tally) -> None:
        assert tally.counts.tolist() == wanted.tolist()

    made = [
        batch.set_column(0, "label", pa.array(labels[start : start + batch.num_rows]))
        for start, batch in zip(range(0, 100, size), batches(size, client=True), strict=True)
    ]
    with Pipeline(options=PipelineOptions(flags)) as pipeline:
        voted = pipeline | beam.Create(made) | beam.Reshuffle() | Vote(Labelled(), unit=unit, grid=FineGrid())
        assert_that(voted, one(check))


@pytest.mark.parametrize("unit", list(Unit))
def test_a_batch_without_rows_is_a_histogram_of_zeros(unit: Unit) -> None:
    empty = batches(100, client=True)[0].slice(0, 0)

    def check(tally: Tally) -> None:
        assert tally.counts.tolist() == [0] * 12

    with Pipeline() as pipeline:
        assert_that(pipeline | beam.Create([empty]) | Vote(Given(), unit=unit, grid=FineGrid()), one(check))


def test_clients_want_a_grid_and_client_ids() -> None:
    with pytest.raises(InputError, match="wants grid"):
        Vote(Given(), unit=Unit.CLIENT)
    with pytest.raises(Exception, match=r"stage Vote failed \(ValueError\)") as caught, Pipeline() as pipeline:
        _ = pipeline | beam.Create(batches(50)) | Vote(Given(), unit=Unit.CLIENT, grid=FineGrid())
    assert StageError.__name__ in str(caught.value) or isinstance(caught.value, StageError)


WINDOWED = {
    "fixed": beam.WindowInto(window.FixedWindows(60)),
    "sliding": beam.WindowInto(window.SlidingWindows(60, 10)),
    "trigger": beam.WindowInto(
        window.GlobalWindows(),
        trigger=trigger.Repeatedly(trigger.AfterCount(2)),
        accumulation_mode=trigger.AccumulationMode.DISCARDING,
    ),
}


@pytest.mark.parametrize("unit", list(Unit))
@pytest.mark.parametrize("how", list(WINDOWED))
def test_windows_and_triggers_are_refused(how: str, unit: Unit) -> None:
    """Each window and each pane would bound a client's votes by itself, and their sum is in one histogram."""
    pipeline = beam.Pipeline()
    given = pipeline | beam.Create(batches(9, client=True)) | WINDOWED[how]
    with pytest.raises(InputError, match="Vote: records in windows"):
        _ = given | Vote(Given(), unit=unit, grid=FineGrid())
    endless = pipeline | "Endless" >> beam.Create(batches(9, client=True))
    endless.is_bounded = False
    with pytest.raises(InputError, match="without an end"):
        _ = endless | "Again" >> Vote(Given(), unit=unit, grid=FineGrid())


def tally(digest: str = "a", *, votes: int = 1, width: int = 3) -> Tally:
    return Tally(digest, np.ones(width, dtype=np.int64), Unit.RECORD, votes, 0)


def test_tallies_add_up_in_any_order_and_are_left_as_they_are() -> None:
    add, given = SumTalliesCombineFn(), [tally(), tally(), tally()]
    for order in itertools.permutations([None, *given]):
        assert add.extract_output(add.merge_accumulators(order)).counts.tolist() == [3, 3, 3]
    assert all(each.counts.tolist() == [1, 1, 1] for each in given)
    assert add.extract_output(add.merge_accumulators([add.create_accumulator()])) is None


@pytest.mark.parametrize("other", [tally("b"), tally(votes=2), tally(width=4)])
def test_votes_over_two_matrices_are_never_added(other: Tally) -> None:
    add = SumTalliesCombineFn()
    with pytest.raises(InputError, match="different candidate matrices"):
        add.add_input(tally(), other)
    with pytest.raises(InputError, match="different candidate matrices"):
        add.merge_accumulators([tally(), None, other])


def test_ballots_merge_in_any_order() -> None:
    merge, ballots = MergeBallotsCombineFn(), [{1: 2}, {1: 1, 5: 1}, {}]
    for order in itertools.permutations(ballots):
        assert merge.extract_output(merge.merge_accumulators(order)) == {1: 3, 5: 1}
    assert ballots == [{1: 2}, {1: 1, 5: 1}, {}]
