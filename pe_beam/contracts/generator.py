"""The contract of a generator, which makes new candidates and variations of given ones."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from pe_beam.contracts.options import Options
from pe_beam.contracts.service import Surroundings
from pe_beam.contracts.store import Folder
from pe_beam.errors import StageError


@dataclass(frozen=True, kw_only=True)
class Step:
    """The step of the evolution for which a variation is made.

    Attributes:
      iteration: 1 to iterations.
      iterations: T, the number of iterations.
      degree: how far a variation may be from its parent, 0 (not at all) to 1 (as far as a random candidate).
    """

    iteration: int
    iterations: int
    degree: float


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A question to a model and what came back.

    Attributes:
      row: the place of the candidate among the rows that are asked for.
      prompt: all that the model was told, as text.
      answer: the answer as it came, before cleaning; None if it is not a text.
    """

    row: int
    prompt: str
    answer: str | None = None


@dataclass(frozen=True)
class Joint:
    """Noisy counts of columns that were chosen or declared to go together. They are public.

    Attributes:
      columns: two or more. Joints of one measurement close no circle: each shares one column at most with those before.
      groups: of each column int64 (bins,), the group of each bin.
      counts: float64 (labels, groups of each column), or (1, groups of each column) over all labels.
      sigma: standard deviation of the noise on each count.
    """

    columns: tuple[str, ...]
    groups: tuple[np.ndarray, ...]
    counts: np.ndarray
    sigma: float


class Within(NamedTuple):
    """Where in the bins of a column its records lie.

    Attributes:
      shares: float64 (ordered bins, slices), of a bin's records; each row adds up to 1.
      often: bool (ordered bins, slices), where a single value of a slice comes often.
    """

    shares: np.ndarray
    often: np.ndarray


@dataclass(frozen=True)
class Marginals:
    """Noisy one-way counts, the initial measurement of a run before its votes. They are public, because they are noisy.

    Attributes:
      labels: the declared labels; [None] without labels.
      counts: column -> float64 (labels, bins), with the bins of `Embedder.marginal_bins`.
      sigma: standard deviation of the noise on each count.
      groups: column -> int64 (bins,), the group of each bin; empty if pairs of columns are not measured.
      pairs: two columns -> float64 (groups, groups), noisy counts over all labels.
      pair_sigma: standard deviation of the noise on each of these.
      joints: what is counted beyond that by `privacy.measure`.
      several: columns in which a record has several bins, so that their sums say nothing of the number of records.
      estimated: whether counts are estimates by all that was measured, whose noise is below `sigma`.
      within: column -> where in its bins records lie, if slices of them were counted.
    """

    labels: Sequence[str | None]
    counts: Mapping[str, np.ndarray]
    sigma: float
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)
    pair_sigma: float = 0.0
    joints: Sequence[Joint] = ()
    several: Collection[str] = ()
    estimated: bool = False
    within: Mapping[str, Within] = field(default_factory=dict)

    def totals(self) -> np.ndarray:
        """Returns the noisy number of records per label, float64 (labels,): the sum of the bins, averaged over columns.

        The variance of a column's sum is proportional to its number of bins, so its weight is 1 / bins.
        """
        counts = [each for column, each in self.counts.items() if column not in self.several]
        weights = np.array([1 / each.shape[1] for each in counts])
        sums = np.stack([each.sum(axis=1) for each in counts])
        totals: np.ndarray = (weights[:, None] * sums).sum(axis=0) / weights.sum()
        return totals

    def total_variance(self) -> float:
        """Returns the variance of the noise on each of `totals`; of estimated counts that of the counts themselves."""
        return self.sigma**2 / sum(1 / each.shape[1] for name, each in self.counts.items() if name not in self.several)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The context of the rows that a `PaidGenerator` has to make.

    Attributes:
      journal: a folder of this chunk alone, for answers that have arrived. It is deleted when the chunk is committed.
      population: returns the population of the parents, sorted by candidate_id. It is read once per process. None for
        `random`.
      ids: ids of the candidates to make, or, for lookahead variations, ids of their parents; None: unknown.
    """

    journal: Folder | None = None
    population: Callable[[], pa.Table] | None = None
    ids: Sequence[int] | None = None


def checked_rows(made: pa.Table, rows: int, payload: Sequence[str] = ()) -> pa.Table:
    """Returns what a generator has made, if it is what was asked for: so many rows, with `state` and the payload.

    Raises:
      StageError: it is something else. Candidates are public, and so the message may say what.
    """
    if not isinstance(made, pa.Table):
        raise StageError(f"generator: {type(made).__name__} came back where a pyarrow.Table is wanted")
    missing = [name for name in ("state", *payload) if name not in made.column_names]
    if missing:
        raise StageError(f"generator: no column {missing[0]!r} came back; wanted: {', '.join(('state', *payload))}")
    kind = made.schema.field("state").type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise StageError(f"generator: column 'state' is {kind}; text (JSON) or null is wanted")
    if made.num_rows != rows:
        raise StageError(f"generator: {made.num_rows} rows came back where {rows} were asked for")
    return made


class Generator(abc.ABC):
    """Makes new candidates (`random`) and variations of given ones (`vary`).

    Both return a table with a column `state` (string, JSON; null if there is nothing to remember) and the
    modality's payload columns, one row per request, in order. All randomness comes from the arguments `rngs`,
    one per row: the request of a row is the same in every batch. Inputs are not mutated.
    """

    Options: ClassVar[type[Options]]
    modality: ClassVar[str | None] = None
    """Name of the modality whose candidates it makes. A recipe of another modality is refused. None: any modality."""
    chunk_size: ClassVar[int] = 256
    """Number of rows generated and committed at a time. It is part of the class, so that a resume cuts the same chunks.
    """
    remote: ClassVar[bool] = False
    """True if candidates are sent to a service outside this machine."""
    takes_schema: ClassVar[bool] = False
    """True if `__init__` also takes `schema=`: the modality's `schema_model`, as `data.schema` declares it."""
    takes_marginals: ClassVar[bool] = False
    """True if `seeded` draws by measured marginals (`privacy.marginals`)."""
    takes_pairs: ClassVar[bool] = False
    """True if `seeded` also draws by columns counted together (`privacy.marginals.pairs`, `privacy.measure`)."""
    takes_slices: ClassVar[bool] = False
    """True if `seeded` also draws by where in their bins records lie (`privacy.measure.slices`)."""
    redraws: ClassVar[bool] = False
    """True if it has `redraw`, so that rows of the last population repeat no more than they should."""
    settles: ClassVar[bool] = False
    """True if it has `settled`, so that columns of the last population are counted as they were measured."""
    varies_any: ClassVar[bool] = False
    """True if `vary` needs only the payload (`state` may be null). It can then vary another generator's candidates."""

    @abc.abstractmethod
    def __init__(self, options: BaseModel, *, labels: Sequence[str | None]) -> None:
        """Checks the options against the declared labels (`[None]` if there are none). Raises RecipeError."""

    @abc.abstractmethod
    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Returns new candidates, one for each label given."""

    @abc.abstractmethod
    def vary(self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Returns one variation of each row of `parents` (columns `label`, `state` and the payload)."""

    def seeded(self, marginals: Marginals) -> Generator:
        """Returns a generator that draws by measured marginals, which are noisy and so public.

        It is called only if `takes_marginals` is true.
        """
        raise NotImplementedError

    def redraw(self, rows: pa.Table, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Returns each of the rows (columns `label`, `state` and the payload) changed a little, as `vary` does.

        It is called only if `redraws` is true, for rows that are equal to others by accident (`evolution.repeats`), and
        again with its own answer where that is equal to another row, too.
        """
        raise NotImplementedError

    def settled(self, rows: pa.Table, beyond: Mapping[str, np.ndarray], rng: np.random.Generator) -> pa.Table:
        """Returns rows of which a few values are moved to other bins, where counts of columns come nearer by that.

        It is called only if `settles` is true, on a generator that is `seeded`.

        Args:
          rows: columns `label`, `state` and the payload, of the last population.
          beyond: column -> float64 (labels, bins), by how many rows all counts are above what is wanted. It is changed
            in place, for the rows that come next.
          rng: source of randomness.
        """
        raise NotImplementedError

    def attach(self, surroundings: Surroundings) -> None:  # noqa: B027
        """Receives the run that it works in. It is called once, before other methods. Raises RecipeError."""

    def ready(self) -> None:  # noqa: B027
        """Raises PeBeamError if anything that it needs is missing. The driver calls it before budget is spent."""

    def ready_here(self) -> None:  # noqa: B027
        """Raises PeBeamError if this machine lacks what it needs, such as a GPU.

        The driver calls it after `ready` if all workers run on its machine.
        """

    def listen(self, heard: Callable[[Exchange], None]) -> None:  # noqa: B027
        """Has `heard` called with each exchange with a model, rejected ones included. `pe-beam preview` shows them."""

    def summary(self, made: pa.Table) -> dict[str, Any]:
        """Returns what the manifest says about new candidates (columns `label` and `state`), and about no others."""
        return {}


class PaidGenerator(Generator):
    """A generator whose answers are expensive. Each answer is kept until its chunk is committed."""

    @abc.abstractmethod
    def random(
        self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> pa.Table:
        """See `Generator.random`."""

    @abc.abstractmethod
    def vary(
        self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> pa.Table:
        """See `Generator.vary`."""
