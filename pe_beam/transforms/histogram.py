"""NoisyHistogram: turns exact counts into one noisy histogram."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa

from pe_beam.contracts.mechanism import Mechanism
from pe_beam.contracts.votes import Tally
from pe_beam.storage import open_store
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.plain import PlainFn


class NoisyHistogram(beam.PTransform):
    """`PCollection[Tally]` of one element -> `PCollection[pa.Table]` of one: a noisy count for every candidate.

    Exact counts are committed before noise is drawn for them. A retry, a resume or a second worker finds these counts
    and draws the same noise. Different noise is never drawn for them.

    Args:
      mechanism: a mechanism that a ledger entry pays for. The entry pays for this one histogram.
      commit: URI of the store where counts and histogram are each committed once.

    >>> import numpy as np
    >>> from pe_beam.contracts.votes import Unit
    >>> from pe_beam.privacy.mechanism import open_mechanism
    >>> paid = open_mechanism(open_store("memory://paid"), "towns", epsilon=1, delta=1e-6)
    >>> tally = Tally("", np.array([30, 0, 12]), Unit.RECORD, votes_per_record=1, grid_bits=0)
    >>> with beam.Pipeline() as pipeline:
    ...     noisy = pipeline | beam.Create([tally]) | NoisyHistogram(paid, commit="memory://paid")
    ...     _ = noisy | beam.Map(lambda table: print(table.num_rows, table.column_names))
    3 ['position', 'noisy_votes']
    """

    def __init__(self, mechanism: Mechanism, *, commit: str) -> None:
        super().__init__()
        self._about = mechanism, commit

    def expand(self, tallies: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            tallies
            | "CommitCounts" >> beam.ParDo(_CommitCountsFn(*self._about))  # gives 0 after the commit
            | "AddNoise" >> beam.ParDo(_AddNoiseFn(*self._about))
        )


class _MechanismFn(PlainFn):
    """Base of the DoFns of one mechanism."""

    def __init__(self, mechanism: Mechanism, commit: str) -> None:
        self._mechanism, self._commit = mechanism, commit


@beam.typehints.with_input_types(Tally)
@beam.typehints.with_output_types(int)
class _CommitCountsFn(_MechanismFn):
    """Commits the exact counts once. The output is the same for the worker that commits first and for any other."""

    def process(self, tally: Tally) -> Iterator[int]:
        with guarded(self._commit, "CommitCounts"):
            self._mechanism.commit_counts(open_store(self._commit), tally)
        yield 0


@beam.typehints.with_input_types(int)
@beam.typehints.with_output_types(pa.Table)
class _AddNoiseFn(_MechanismFn):
    """Draws the noise for the committed counts, not for its input."""

    def process(self, _: int) -> Iterator[pa.Table]:
        with guarded(self._commit, "AddNoise"):
            histogram = self._mechanism.noisy(open_store(self._commit))
        yield histogram
