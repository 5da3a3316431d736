"""A generator: makes candidates from nothing and near a given one."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from pe_beam.contracts.options import Options
from pe_beam.contracts.service import Surroundings
from pe_beam.contracts.store import Folder


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where in the evolution a variation is asked for.

    Attributes:
      iteration: 1 to iterations.
      iterations: T, how many there are.
      degree: how far a variation may go from its parent, 0 (not at all) to 1 (as far as at random).
    """

    iteration: int
    iterations: int
    degree: float


@dataclass(frozen=True)
class Marginals:
    """Noisy one-way counts that a run has measured in iteration 0: public, as all that is noised.

    Attributes:
      labels: the declared labels; [None] without labels.
      counts: column -> float64 (labels, bins), as `Embedder.marginal_bins` cuts them.
      sigma: standard deviation of the noise on each count.
    """

    labels: Sequence[str | None]
    counts: Mapping[str, np.ndarray]
    sigma: float

    def totals(self) -> np.ndarray:
        """Noisy records by label, float64 (labels,): what the bins of each column add up to, averaged over columns.

        A column's sum has a variance proportional to its bins, so it is weighted by their inverse.
        """
        counts = list(self.counts.values())
        weights = np.array([1 / each.shape[1] for each in counts])
        sums = np.stack([each.sum(axis=1) for each in counts])
        totals: np.ndarray = (weights[:, None] * sums).sum(axis=0) / weights.sum()
        return totals


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What is around the rows that a `PaidGenerator` is asked for.

    Attributes:
      journal: a folder of this chunk alone for answers that have come in; it goes when the chunk is committed.
      population: gives the population that the parents are from, sorted by candidate_id, read once a process; None at
        random.
      ids: ids of the candidates that are asked for, or, of lookahead variations, of their parents; None: unknown.
    """

    journal: Folder | None = None
    population: Callable[[], pa.Table] | None = None
    ids: Sequence[int] | None = None


class Generator(abc.ABC):
    """Makes candidates from nothing (`random`) and near a given one (`vary`).

    Both return a table with a column `state` (string, JSON; null if nothing is to be remembered) and the
    modality's payload columns, one row a request, in order. All randomness comes from the generators handed
    in, one a row: the same row asks for the same thing whatever batch it comes in. Inputs are not mutated.
    """

    Options: ClassVar[type[Options]]
    modality: ClassVar[str | None] = None
    """Name of the modality whose candidates it makes; a recipe of another is refused. None: it makes do with any."""
    chunk_size: ClassVar[int] = 256
    """Rows generated and committed at a time. Part of the class, so that a resume cuts the same chunks."""
    remote: ClassVar[bool] = False
    """True where candidates are sent to a service outside this machine."""
    takes_schema: ClassVar[bool] = False
    """True where `__init__` also takes `schema=`: the modality's `schema_model`, as `data.schema` declares it."""
    takes_marginals: ClassVar[bool] = False
    """True where `seeded` draws by measured marginals (`privacy.marginals`)."""
    varies_any: ClassVar[bool] = False
    """True where `vary` does with the payload alone (`state` null): another's candidates can be handed over to it."""

    @abc.abstractmethod
    def __init__(self, options: BaseModel, *, labels: Sequence[str | None]) -> None:
        """Checks the options against the declared labels (`[None]` if there are none); raises RecipeError."""

    @abc.abstractmethod
    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """New candidates, one for each label given."""

    @abc.abstractmethod
    def vary(self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """One variation of each row of `parents` (columns `label`, `state` and the payload)."""

    def seeded(self, marginals: Marginals) -> Generator:
        """A generator that draws by measured marginals, which are noisy and so public; for `takes_marginals` alone."""
        raise NotImplementedError

    def attach(self, surroundings: Surroundings) -> None:  # noqa: B027
        """Told once which run it works in, before it is asked for anything; raises RecipeError."""

    def ready(self) -> None:  # noqa: B027
        """Asked on the driver before any budget is spent: is all there that generation needs? Raises PeBeamError."""

    def summary(self, made: pa.Table) -> dict[str, Any]:
        """What the manifest should say of new candidates (columns `label` and `state`): of them alone."""
        return {}


class PaidGenerator(Generator):
    """A generator whose answers cost enough to be kept one by one until their chunk is committed."""

    @abc.abstractmethod
    def random(
        self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> pa.Table:
        """As `Generator.random`."""

    @abc.abstractmethod
    def vary(
        self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> pa.Table:
        """As `Generator.vary`."""
