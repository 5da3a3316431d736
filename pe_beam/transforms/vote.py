"""Vote: turns embedded private records into the exact counts of their votes, as one tally."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from pe_beam.contracts.votes import BallotHandle, Grid, Tally, Unit
from pe_beam.errors import InputError
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.plain import PlainFn
from pe_beam.transforms.shuffle import GroupClients, is_hidden
from pe_beam.transforms.windows import demand_one_window
from pe_beam.voting.client import client_ballot
from pe_beam.voting.gather import Block, LabelGatherer
from pe_beam.voting.votes import read_batch, read_clients

Ballot = dict[int, int]
"""Sparse votes of one client: position -> votes."""
Voting = tuple[str, int, str]
"""The key of a client's votes: the digest of the candidates, their number (`Ballots.width`), and the client id."""
_NOBODY = ""
"""The client id of a batch without votes, which gives a histogram of zeros. No client has an empty id."""


class Vote(beam.PTransform):
    """`PCollection[pa.RecordBatch]` (label, vector[, client]) -> `PCollection[Tally]` of one element.

    A batch without rows gives zeros. So does an empty PCollection, if the candidates are there before it is read
    (`BallotHandle.is_there`, as those of `write_candidates` are); else it gives no tally, which tells it.

    Args:
      candidates: handle of the candidates: `Candidates`, or a handle of your own.
      unit: the privacy unit; its votes are bounded together. CLIENT adds one shuffle, keyed by client over all labels.
      grid: for CLIENT: the resolution of the counts. The mechanism of the histogram declares it.
      traces: the store that gets the trace of a failure in `private/errors`; None: only the error's type is reported.

    Raises:
      InputError: CLIENT has no grid, or the PCollection has windows, a trigger or no end. In workers: there are counts
        over two different candidate matrices.

    >>> from pe_beam.transforms.candidates import write_candidates
    >>> from pe_beam.voting.records import vector_batch
    >>> corners = write_candidates("memory://corners", np.array([[0, 0], [9, 9]], dtype=np.float32))
    >>> records = vector_batch(np.array([[1, 0], [8, 9], [9, 8]], dtype=np.float32), [None] * 3, None, {}, {None: 0})
    >>> with beam.Pipeline() as pipeline:
    ...     _ = pipeline | beam.Create([records]) | Vote(corners) | beam.Map(lambda tally: print(tally.counts))
    [1 2]
    """

    def __init__(
        self,
        candidates: BallotHandle,
        *,
        unit: Unit | str = Unit.RECORD,
        grid: Grid | None = None,
        traces: str | None = None,
    ) -> None:
        super().__init__()
        self._unit = Unit(unit)
        if self._unit is Unit.CLIENT and grid is None:
            raise InputError("Vote: unit client wants grid, which says how fine a client's counts are")
        self._candidates, self._grid, self._traces = candidates, grid, traces

    def expand(self, batches: beam.PCollection) -> beam.PCollection:  # noqa: D102
        demand_one_window(batches, "Vote")
        if self._unit is Unit.CLIENT:
            assert self._grid is not None
            votes = batches | "VoteByClient" >> beam.ParDo(_ClientVoteFn(self._candidates, self._traces))
            partial = _joined(votes) | "ScaleClients" >> beam.ParDo(_ScaleClientsFn(self._grid, self._traces))
        else:
            partial = batches | "Vote" >> beam.ParDo(_VoteFn(self._candidates, self._traces))  # (0, tally)
        if self._candidates.is_there:
            start = batches.pipeline | "Nobody" >> beam.Create([0], reshuffle=False)
            nobody = start | "NoVotes" >> beam.ParDo(_NoVotesFn(self._candidates, self._unit, self._grid, self._traces))
            partial = (partial, nobody) | "WithNobody" >> beam.Flatten()
        return sum_tallies(partial)


def sum_tallies(partial: beam.PCollection) -> beam.PCollection:
    """(0, tally) of bundles -> the tally of all; none if there are none."""
    total = partial | "SumVotes" >> beam.CombinePerKey(SumTalliesCombineFn())
    return total | "DropKey" >> beam.ParDo(_DropKeyFn())


@beam.typehints.with_input_types(pa.RecordBatch)
@beam.typehints.with_output_types(tuple[int, Tally])
class _VoteFn(PlainFn):
    """Counts the votes of batches and gives one tally per bundle. It is fused with the read."""

    def __init__(self, candidates: BallotHandle, traces: str | None) -> None:
        self._candidates, self._traces = candidates, traces

    def start_bundle(self) -> None:
        self._tally: Tally | None = None
        self._gathered = LabelGatherer()

    def process(self, batch: pa.RecordBatch) -> None:
        with guarded(self._traces, "Vote"):
            vectors, labels, _ = read_batch(batch)
            self._count(self._gathered.add(vectors, labels))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        with guarded(self._traces, "Vote"):
            if self._tally is not None:
                self._count(self._gathered.rest())
        if self._tally is not None:
            yield WindowedValue((0, self._tally), MIN_TIMESTAMP, [GlobalWindow()])

    def _count(self, blocks: Iterable[Block]) -> None:
        """Adds the votes of some blocks; of none, zeros: a bundle without votes gives them."""
        voted = self._candidates.load()  # a look at the store, so not for each block
        counts = np.zeros(voted.width, dtype=np.int64)
        for block in blocks:
            counts += np.bincount(voted.ballots(block.vectors, block.labels)[1], minlength=voted.width)
        self._tally = added(self._tally, Tally(voted.digest, counts, Unit.RECORD, voted.votes_per_record, 0))


@beam.typehints.with_output_types(tuple[int, Tally])
class _NoVotesFn(PlainFn):
    """Gives the tally of nobody: whether anybody votes at all must not decide whether there is one (rule 2)."""

    def __init__(self, candidates: BallotHandle, unit: Unit, grid: Grid | None, traces: str | None) -> None:
        self._candidates, self._unit, self._grid, self._traces = candidates, unit, grid, traces

    def process(self, _: int) -> Iterator[tuple[int, Tally]]:
        with guarded(self._traces, "Vote"):
            voted = self._candidates.load()
            votes, bits = voted.votes_per_record, 0
            if self._unit is Unit.CLIENT:
                assert self._grid is not None
                votes, bits = 1, self._grid.grid_bits()
            zeros = np.zeros(voted.width, dtype=np.int64)
        yield 0, Tally(voted.digest, zeros, self._unit, votes, bits)


@beam.typehints.with_input_types(pa.RecordBatch)
@beam.typehints.with_output_types(tuple[Voting, Ballot])
class _ClientVoteFn(PlainFn):
    """Gives the votes of each client of a batch. They are joined later over all labels and bundles."""

    def __init__(self, candidates: BallotHandle, traces: str | None) -> None:
        self._candidates, self._traces = candidates, traces

    def start_bundle(self) -> None:
        self._gathered = LabelGatherer()
        self._seen = False

    def process(self, batch: pa.RecordBatch) -> Iterator[tuple[Voting, Ballot]]:
        with guarded(self._traces, "Vote"):
            vectors, labels, clients = read_clients(batch)
            votes = self._cast(self._gathered.add(vectors, labels, clients))
        yield from votes

    def finish_bundle(self) -> Iterator[WindowedValue]:
        with guarded(self._traces, "Vote"):
            votes = self._cast(self._gathered.rest()) if self._seen else []
        for vote in votes:
            yield WindowedValue(vote, MIN_TIMESTAMP, [GlobalWindow()])

    def _cast(self, blocks: Iterable[Block]) -> list[tuple[Voting, Ballot]]:
        """Gives the votes of each client of some blocks; first nobody's, because a bundle without votes gives zeros."""
        voted = self._candidates.load()  # a look at the store, so not for each block
        ballots: dict[str, Ballot] = {} if self._seen else {_NOBODY: {}}
        self._seen = True
        for block in blocks:
            assert block.clients is not None
            rows, positions = voted.ballots(block.vectors, block.labels)
            for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
                ballot = ballots.setdefault(block.clients[row], {})
                ballot[position] = ballot.get(position, 0) + 1
        return [((voted.digest, voted.width, client), ballot) for client, ballot in ballots.items()]


@beam.typehints.with_input_types(tuple[Voting, Ballot])
@beam.typehints.with_output_types(tuple[int, Tally])
class _ScaleClientsFn(PlainFn):
    """Scales all votes of a client to whole numbers of norm 2^b at most, and sums them in the bundle (rule 1)."""

    def __init__(self, grid: Grid, traces: str | None) -> None:
        self._grid, self._traces = grid, traces

    def start_bundle(self) -> None:
        self._counts: dict[tuple[str, int], np.ndarray] = {}

    def process(self, keyed: tuple[Voting, Ballot]) -> None:
        (digest, width, _), ballot = keyed
        with guarded(self._traces, "ScaleClients"):
            if (digest, width) not in self._counts:
                self._counts[digest, width] = np.zeros(width, dtype=np.int64)
                self._bits = self._grid.grid_bits()
            for position, votes in client_ballot(ballot, self._bits).items():
                self._counts[digest, width][position] += votes

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for (digest, _), counts in self._counts.items():  # SumTalliesCombineFn refuses more than one
            tally = Tally(digest, counts, Unit.CLIENT, 1, self._bits)
            yield WindowedValue((0, tally), MIN_TIMESTAMP, [GlobalWindow()])


def _joined(votes: beam.PCollection) -> beam.PCollection:
    """Adds the votes of each client: (Voting, Ballot) -> (Voting, Ballot)."""
    if not is_hidden(votes):
        return votes | "JoinClients" >> beam.CombinePerKey(MergeBallotsCombineFn())
    return (
        votes
        | "HideClients" >> GroupClients()
        | "JoinClients" >> beam.CombineValues(MergeBallotsCombineFn()).with_output_types(tuple[Voting, Ballot])
    )


@beam.typehints.with_input_types(tuple[int, Tally])
@beam.typehints.with_output_types(Tally)
class _DropKeyFn(PlainFn):
    """Drops the key. A graph holds the name of a class, but all of a lambda."""

    def process(self, keyed: tuple[int, Tally]) -> Iterator[Tally]:
        yield keyed[1]


class MergeBallotsCombineFn(beam.CombineFn):
    """Adds sparse votes. They are integers, so every order of merging gives the same sum."""

    def create_accumulator(self) -> Ballot:  # noqa: D102
        return {}

    def add_input(self, total: Ballot, ballot: Ballot) -> Ballot:  # noqa: D102
        for position, votes in ballot.items():
            total[position] = total.get(position, 0) + votes
        return total

    def merge_accumulators(self, totals: Iterable[Ballot]) -> Ballot:  # noqa: D102
        merged: Ballot = {}
        for total in totals:
            self.add_input(merged, total)
        return merged

    def extract_output(self, total: Ballot) -> Ballot:  # noqa: D102
        return total


class SumTalliesCombineFn(beam.CombineFn):
    """Adds tallies over one candidate matrix. Raises InputError for two different matrices."""

    def create_accumulator(self) -> Tally | None:  # noqa: D102
        return None

    def add_input(self, total: Tally | None, tally: Tally) -> Tally:  # noqa: D102
        return added(total, tally)

    def merge_accumulators(self, totals: Iterable[Tally | None]) -> Tally | None:  # noqa: D102
        merged: Tally | None = None
        for total in totals:
            if total is not None:
                merged = added(merged, total)
        return merged

    def extract_output(self, total: Tally | None) -> Tally | None:  # noqa: D102
        return total


def added(total: Tally | None, tally: Tally) -> Tally:
    """Returns the sum of two tallies over one candidate matrix (rule 3). Raises InputError for two matrices."""
    if total is None:
        return tally
    if total.belongs() != tally.belongs() or total.counts.shape != tally.counts.shape:
        raise InputError(
            "private/counts: workers voted on different candidate matrices; run again once no other worker is at work"
        )
    return Tally(total.digest, total.counts + tally.counts, total.unit, total.votes_per_record, total.grid_bits)
