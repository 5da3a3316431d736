"""A look at what a recipe would make, before anything is spent: a handful of candidates and a variation of each.

No private data are read. A service is really asked and really paid, for these few candidates; its account is not that
of a run, so a run's ceiling is untouched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.embedder import Embedder, checked_vectors
from pe_beam.contracts.generator import Chunk, Exchange, Generator, PaidGenerator, Step, checked_rows
from pe_beam.contracts.store import Folder
from pe_beam.driver.parts import check_parts
from pe_beam.engine.layout import PRIVATE_SERVICES, PUBLIC_SERVICES
from pe_beam.errors import InputError
from pe_beam.keyed import keyed_rng
from pe_beam.recipe.costs import Costs, estimate_costs
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.parts import find_modality, new_embedder, new_generator
from pe_beam.services.record import UNIT, read_totals
from pe_beam.storage import open_store
from pe_beam.voting.nearest import normalise_rows

MOST = 64
"""Largest number of candidates of a preview."""
_SMALL, _LARGE = 0.02, 0.9


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One candidate of a preview.

    Attributes:
      record: `candidate_id`, `parent_id`, `label`, `origin` and the payload, as a view takes it.
      exchanges: what the model was told and what it answered, rejected answers included, in order.
      nearest: (candidate_id, distance) of the nearest other new candidate, or, for a variation, of its parent; None:
        there is none, or one of the two cannot be embedded.
      fault: the kind of fault if it cannot be embedded.
    """

    record: Mapping[str, Any]
    exchanges: Sequence[Exchange]
    nearest: tuple[int, float] | None
    fault: str | None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a preview has found. Distances are Euclidean in the embedding (cosine: of vectors of length 1).

    Attributes:
      name: the recipe's.
      made, varied: new candidates, and one variation of each, in the same order.
      spread: median distance between two new candidates; None: fewer than two could be embedded.
      moved: median distance of a variation from its parent; None likewise.
      duplicates: how many new candidates equal an earlier one.
      unchanged: how many variations equal their parent.
      summary: what a manifest would say of the new candidates and of the variations (rejected answers by kind).
      used: calls, tokens and money that the preview took at the service; empty without one.
      calls: candidates that the whole run asks for.
      costs: the estimate for the whole run; None: nothing costs by the call.
      notes: what a run does otherwise, and what looks wrong.
    """

    name: str
    made: Sequence[Shown]
    varied: Sequence[Shown]
    spread: float | None
    moved: float | None
    duplicates: int
    unchanged: int
    summary: Mapping[str, Any]
    used: Mapping[str, Any]
    calls: int
    costs: Costs | None
    notes: Sequence[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as one JSON object; bytes of a payload are given by their number."""
        return {
            "name": self.name,
            "new": [_plain(one) for one in self.made],
            "varied": [_plain(one) for one in self.varied],
            "median_distance_between_new": self.spread,
            "median_distance_to_parent": self.moved,
            "duplicates": self.duplicates,
            "unchanged": self.unchanged,
            "summary": dict(self.summary),
            "used": dict(self.used),
            "generator_calls": self.calls,
            "costs": None if self.costs is None else self.costs.to_json(),
            "notes": list(self.notes),
        }


def make_preview(recipe: Recipe, count: int = 8) -> Preview:
    """Makes and varies a few candidates of a recipe, with the random streams of a run's first candidates.

    Args:
      recipe: from `load_recipe`.
      count: number of new candidates, 1 to `MOST`. The labels take turns.

    Raises:
      InputError: the recipe or the count is wrong.
      PeBeamError: a service or a model fails, or none of its answers can be used.
    """
    if not 1 <= count <= MOST:
        raise InputError(f"--count {count}: 1 to {MOST} is wanted")
    check_parts(recipe)
    with tempfile.TemporaryDirectory(prefix="pe-beam-preview-") as scratch:
        store = open_store(scratch)
        services = Folder(store, PUBLIC_SERVICES)
        generator = new_generator(recipe, services)
        embedder = new_embedder(recipe, Folder(store, PRIVATE_SERVICES))
        generator.ready()
        embedder.ready()
        generator.ready_here()
        embedder.ready_here()
        hand = _Hand(recipe, generator, Folder(store, "work/journal"))
        made, asked = hand.random(count)
        varied, answered = hand.vary(made)
        used = _used(recipe, services)
        vectors, faults = _embedded(recipe, embedder, made)
        others, missed = _embedded(recipe, embedder, varied)
    same = [a == b for a, b in zip(_contents(recipe, made), _contents(recipe, varied), strict=True)]
    between, steps = _distances(vectors, vectors), np.linalg.norm(vectors - others, axis=1)
    spread, moved = _median(between[np.triu_indices(count, 1)]), _median(steps)
    return Preview(
        name=recipe.name,
        made=[
            Shown(record=record, exchanges=asked.get(row, ()), nearest=_nearest(between, row), fault=faults.get(row))
            for row, record in enumerate(made.to_pylist())
        ],
        varied=[
            Shown(
                record=record,
                exchanges=answered.get(row, ()),
                nearest=None if np.isnan(steps[row]) else (record["parent_id"], float(steps[row])),
                fault=missed.get(row),
            )
            for row, record in enumerate(varied.to_pylist())
        ],
        spread=spread,
        moved=moved,
        duplicates=count - len(set(_contents(recipe, made))),
        unchanged=sum(same),
        summary={"new": generator.summary(made), "varied": generator.summary(varied)},
        used=used,
        calls=recipe.evolution.generator_calls(range(recipe.evolution.iterations + 1)),
        costs=estimate_costs(recipe),
        notes=[*_otherwise(recipe), *_doubts(spread, moved)],
    )


class _Hand:
    """Asks a generator for a few rows, and keeps what it was told and what it answered."""

    def __init__(self, recipe: Recipe, generator: Generator, journal: Folder) -> None:
        self._recipe, self._generator, self._journal = recipe, generator, journal
        self._heard: list[Exchange] = []
        generator.listen(self._heard.append)

    def random(self, count: int) -> tuple[pa.Table, dict[int, list[Exchange]]]:
        labels = self._recipe.label_list
        turns = [labels[row % len(labels)] for row in range(count)]
        ids = list(range(count))
        rngs = [keyed_rng(self._recipe.seed, 0, row, "random") for row in ids]
        made = self._generator.random(turns, rngs, **self._about("random", ids, None))
        return self._table(made, ids, [None] * count, turns, "random"), self._told()

    def vary(self, parents: pa.Table) -> tuple[pa.Table, dict[int, list[Exchange]]]:
        evolution, before = self._recipe.evolution, parents["candidate_id"].to_pylist()
        step = Step(iteration=1, iterations=evolution.iterations, degree=evolution.degrees()[0])
        ids = [len(before) + row for row in before]
        rngs = [keyed_rng(self._recipe.seed, 1, row, "vary") for row in ids]
        made = self._generator.vary(parents, step, rngs, **self._about("vary", ids, parents))
        return self._table(made, ids, before, parents["label"].to_pylist(), "varied"), self._told()

    def _about(self, name: str, ids: list[int], population: pa.Table | None) -> dict[str, Any]:
        if not isinstance(self._generator, PaidGenerator):
            return {}
        shown = None if population is None else lambda: population
        return {"chunk": Chunk(journal=self._journal / name, population=shown, ids=ids)}

    def _told(self) -> dict[int, list[Exchange]]:
        told: dict[int, list[Exchange]] = {}
        for exchange in self._heard:
            told.setdefault(exchange.row, []).append(exchange)
        self._heard.clear()
        return told

    def _table(self, made: pa.Table, ids: list[int], parents: list[Any], labels: list[Any], origin: str) -> pa.Table:
        made = checked_rows(made, len(ids), find_modality(self._recipe).payload.names)
        told = {
            "candidate_id": pa.array(ids, pa.int64()),
            "parent_id": pa.array(parents, pa.int64()),
            "label": pa.array(labels, pa.string()),
            "origin": [origin] * len(ids),
        }
        return pa.table({**told, **{name: made[name] for name in made.column_names}})


def _embedded(recipe: Recipe, embedder: Embedder, records: pa.Table) -> tuple[np.ndarray, dict[int, str]]:
    """Returns vectors, float64 (n, d), NaN where a record cannot be embedded, and the kinds of these faults."""
    found = embedder.embed(records.select(find_modality(recipe).payload.names))
    faults = {row: fault.kind for row, fault in found.faults.items()}
    vectors = checked_vectors(found, records.num_rows, embedder.dimension)
    if recipe.evolution.distance == "cosine":
        vectors, zero = normalise_rows(vectors)
        faults = dict.fromkeys(np.flatnonzero(zero).tolist(), "zero vector") | faults
    wide = vectors.astype(np.float64)
    wide[list(faults)] = np.nan
    return wide, faults


def _contents(recipe: Recipe, records: pa.Table) -> list[str]:
    """Returns what tells records with different contents apart."""
    return [repr(row) for row in records.select(["label", *find_modality(recipe).payload.names]).to_pylist()]


def _distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.linalg.norm(some[:, None] - others[None], axis=2)


def _nearest(between: np.ndarray, row: int) -> tuple[int, float] | None:
    own = [(float(d), other) for other, d in enumerate(between[row]) if other != row and not np.isnan(d)]
    if not own:
        return None
    distance, other = min(own)
    return other, distance


def _median(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def _used(recipe: Recipe, services: Folder) -> dict[str, Any]:
    total, price = read_totals(services / "llm"), recipe.execution.llm.price
    if total is None:
        return {}
    found = {"calls": total.calls, "input_tokens": total.input, "output_tokens": total.output}
    return found | ({} if price is None else {"money": total.money / UNIT, "currency": price.currency})


def _otherwise(recipe: Recipe) -> list[str]:
    """Returns what a run of the recipe does otherwise."""
    notes = []
    if recipe.privacy.counts_columns:
        notes.append("a run draws by counts of columns that it buys; without data, columns are drawn evenly here")
    if recipe.evolution.start is not None:
        notes.append("a run starts from the release of evolution.start; here all candidates are new")
    return notes


def _doubts(spread: float | None, moved: float | None) -> list[str]:
    """Returns what looks wrong about the distances."""
    if spread is None or moved is None:
        return []
    if spread == 0:
        return ["half of the pairs of new candidates lie at one point of the embedding: votes cannot tell them apart"]
    share = moved / spread
    if share < _SMALL:
        return [f"a variation moves {share:.1%} of the distance between new candidates: it hardly explores"]
    if share > _LARGE:
        return [f"a variation moves {share:.0%} of the distance between new candidates: it forgets its parent"]
    return []


def _plain(one: Shown) -> dict[str, Any]:
    record = {key: {"bytes": len(value)} if isinstance(value, bytes) else value for key, value in one.record.items()}
    return {
        **record,
        "exchanges": [{"prompt": each.prompt, "answer": each.answer} for each in one.exchanges],
        "nearest": None if one.nearest is None else {"candidate_id": one.nearest[0], "distance": one.nearest[1]},
        "fault": one.fault,
    }
