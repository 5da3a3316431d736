"""Embedder `sequence`: maps a sequence of events to a point by its content, its order, its gaps and its length."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.embedder import Embedding
from pe_beam.errors import RecipeError
from pe_beam.modalities.sequence.events import Sequences, faults_of, read_payload
from pe_beam.modalities.sequence.schema import GAP, as_schema

MAX_DIMENSION = 20_000
LENGTH, TRANSITION = "length", "transition"
_ROWS = 512
"""Rows of which counts are made at a time, for they are wide."""
_FINE = 4
"""Whole number that one event of a sequence counts, so that scaled counts are nearly in proportion."""


class SequenceEmbedderOptions(contracts.Options):
    """Weights of the parts of a vector; each part but the length has norm 1 before."""

    kinds: float = Field(1.0, gt=0, le=100, description="weight of which kinds of events there are")
    transitions: float = Field(1.0, gt=0, le=100, description="weight of which event follows which")
    attributes: float = Field(0.5, gt=0, le=100, description="weight of gaps, and of each attribute, by kind of event")
    length: float = Field(1.0, gt=0, le=100, description="weight of the length, from 0 to 1 for the greatest")
    full: float | None = Field(
        None,
        ge=1,
        le=1000,
        description="norm up to which a sequence's measured counts are whole (about the root of its number of events, "
        "more if it repeats itself); those beyond are scaled down to it; less noise if small; null: (2 most)^0.5",
    )


class SequenceEmbedder(contracts.Embedder):
    """Maps a sequence to roots of shares: of kinds, of transitions, and of gaps and attributes by kind; and its length.

    A transition is a pair of consecutive events. Beginning and end count as events there, so the first kind and the
    last are in it. Roots of shares of one sequence have norm 1, and their distance is that of Hellinger.

    What is counted of a vector (`privacy.marginals`) is its length, and the transitions, gaps and attributes of all its
    events. A client's counts are bounded by their norm: those of a sequence beyond `full` are scaled down.
    """

    modality = "sequence"
    Options: ClassVar[type[contracts.Options]] = SequenceEmbedderOptions
    takes_schema = True

    def __init__(self, options: BaseModel, *, schema: Any) -> None:
        """Takes SequenceEmbedderOptions and a SequenceSchema. Raises RecipeError for vectors that are too long."""
        self._options = SequenceEmbedderOptions.model_validate(options.model_dump())
        self._schema = as_schema(schema)
        kinds = len(self._schema.kinds)
        self._full = self._options.full or float(np.sqrt(2 * self._schema.most))
        self._bins = self._schema.attribute_bins()
        own = {"kinds": kinds, TRANSITION: (kinds + 1) ** 2, **{name: kinds * n for name, n in self._bins.items()}}
        ends = np.cumsum([1, *own.values()]).tolist()
        self._places = {name: slice(ends[i], ends[i + 1]) for i, name in enumerate(own)}
        self.dimension = ends[-1]
        self.counts_several = frozenset({TRANSITION, *self._bins})  # type: ignore[misc]
        if self.dimension > MAX_DIMENSION:
            raise RecipeError(
                f"data.schema: vectors of {self.dimension} coordinates ((kinds + 1)^2, and kinds times the bins of "
                f"gaps and attributes); {MAX_DIMENSION} at most are allowed: declare fewer kinds or bins"
            )

    def _weight(self, name: str) -> float:
        own = {"kinds": self._options.kinds, TRANSITION: self._options.transitions}
        return own.get(name, self._options.attributes)

    def embed(self, records: pa.Table) -> Embedding:
        """See Embedder."""
        found = read_payload(records, self._schema)
        faults = faults_of(found, self._schema)
        vectors = np.zeros((len(found.lengths), self.dimension), dtype=np.float32)
        for row, part in enumerate(_single(found)):
            if row not in faults:
                vectors[row, 0] = self._options.length * int(part.lengths[0]) / self._schema.most
                for name, cells in self._cells(part).items():
                    place = self._places[name]
                    counts = np.bincount(cells, minlength=place.stop - place.start)
                    if len(cells):
                        vectors[row, place] = self._weight(name) * np.sqrt(counts / len(cells))
        return Embedding(vectors, faults)

    def _cells(self, one: Sequences) -> dict[str, np.ndarray]:
        """Returns part -> cell of each event of one sequence; of transitions one more."""
        kinds = len(self._schema.kinds)
        path = np.concatenate([[kinds], one.kinds, [kinds]])
        found = {"kinds": one.kinds, TRANSITION: path[:-1] * (kinds + 1) + path[1:]}
        for name, bins in one.bins(self._schema).items():
            cells = one.kinds * self._bins[name] + bins
            found[name] = cells[1:] if name == GAP else cells
        return found

    def marginal_sizes(self) -> dict[str, int]:
        """See Embedder: length, transitions (from, to), and gaps and attributes (kind, bin).

        All but the length have one bin more, the rest: what a sequence lacks of the norm that all of them have.
        """
        kinds = len(self._schema.kinds)
        own = {name: kinds * bins + 1 for name, bins in self._bins.items()}
        return {LENGTH: self._schema.most, TRANSITION: (kinds + 1) ** 2 + 1, **own}

    def marginal_ballots(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See Embedder. All columns of all sequences have nearly one norm, so that none is scaled unlike others."""
        parts = [self._counted(vectors[at : at + _ROWS], at) for at in range(0, max(len(vectors), 1), _ROWS)]
        row, place, cell = (np.concatenate(each) for each in zip(*parts, strict=True))
        return row, place, cell

    def _counted(self, vectors: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns `marginal_ballots` of some rows, of which this is the first."""
        lengths = np.rint(vectors[:, 0].astype(np.float64) * self._schema.most / self._options.length).astype(np.int64)
        rows, norm = np.arange(len(vectors)), round(_FINE * self._full)
        bins = np.clip(lengths - 1, 0, self._schema.most - 1)
        found = [(np.repeat(rows, norm), np.zeros(norm * len(rows), np.int64), np.repeat(bins, norm))]
        for column, name in enumerate(list(self.marginal_sizes())[1:], start=1):
            shares = (vectors[:, self._places[name]].astype(np.float64) / self._weight(name)) ** 2
            events = lengths + {TRANSITION: 1, GAP: -1}.get(name, 0)
            whole = _bounded(np.rint(shares * events[:, None]).astype(np.int64), norm)
            own, cells = np.nonzero(whole)
            times = whole[own, cells]
            found.append((np.repeat(own, times), np.full(int(times.sum()), column), np.repeat(cells, times)))
        row, place, cell = (np.concatenate(each) for each in zip(*found, strict=True))
        return row + first, place, cell


def _bounded(counts: np.ndarray, norm: int) -> np.ndarray:
    """Returns counts times `_FINE`, scaled down to the norm where theirs is larger, and the rest up to it as the last.

    Args:
      counts: int64 (n, cells), 0 or more.
      norm: the norm that each row has then, but for rounding.
    """
    fine = _FINE * counts
    norms = np.sqrt((fine.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    scaled = np.where(norms > norm, np.rint(fine * (norm / np.maximum(norms, 1.0))), fine)
    rest = np.rint(np.sqrt(np.maximum(float(norm**2) - norms**2, 0.0)))
    return np.hstack([scaled, rest]).astype(np.int64)


def _single(found: Sequences) -> list[Sequences]:
    """Returns each sequence by itself."""
    ends = np.cumsum(found.lengths)[:-1]
    parts = [np.split(each, ends) for each in (found.kinds, found.gaps, found.codes)]
    pairs = enumerate(zip(*parts, strict=True)) if len(found.lengths) else ()
    return [Sequences(found.lengths[i : i + 1], *part) for i, part in pairs]
