"""Generator `sequence`: draws sequences of events from a Markov chain, and varies single events and their order."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from pe_beam import contracts
from pe_beam.contracts.generator import Marginals, Step
from pe_beam.modalities.sequence.chain import Chain, fit_chains, uniform_chain
from pe_beam.modalities.sequence.events import NO_GAP, Sequences, read_payload, write_payload
from pe_beam.modalities.sequence.schema import GAP, as_schema
from pe_beam.modalities.tabular.marginals import code_in

EDITS = ("replace", "insert", "delete", "swap", "redraw")


@dataclass
class _Events:
    """One sequence that is being changed: kinds int64 (m,), bins int64 (m, 1 + attributes), codes (m, attributes)."""

    kinds: np.ndarray
    bins: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.kinds)


class SequenceGenerator(contracts.Generator):
    """Draws a length, then kinds of events one after the other, then gaps and attributes by kind.

    Every declared length, kind and bin is equally likely, or as measured (`privacy.marginals`): then an event follows
    from the one before and from how many are still to come.

    A variation makes `degree` times its length of edits, at least one: an event is replaced, inserted, deleted, swapped
    with its neighbour, or its gap or one attribute drawn anew. What makes a sequence less likely by the chain is done
    with that probability only (Metropolis et al. 1953); a replaced event is drawn given its neighbours.
    """

    modality = "sequence"
    Options: ClassVar[type[contracts.Options]] = contracts.Options
    takes_schema = True
    takes_marginals = True
    varies_any = True
    chunk_size = 1024

    def __init__(self, options: BaseModel, *, labels: Sequence[str | None], schema: Any) -> None:
        """Takes no options, and a SequenceSchema."""
        self._schema = as_schema(schema)
        self._names = list(self._schema.attribute_bins())
        self._chains: dict[str | None, Chain] = dict.fromkeys(labels, uniform_chain(self._schema))

    def seeded(self, marginals: Marginals) -> SequenceGenerator:
        """See Generator."""
        made = copy.copy(self)
        made._chains = dict(zip(marginals.labels, fit_chains(marginals, self._schema), strict=True))
        return made

    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """See Generator."""
        pairs = zip(labels, rngs, strict=True)
        return self._table([self._drawn(self._chains[label], rng) for label, rng in pairs])

    def vary(self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """See Generator. `step.degree` is the share of events that are edited; 0 changes nothing."""
        found = read_payload(parents, self._schema)
        bins = np.column_stack([*found.bins(self._schema).values()])
        made = []
        for row, (label, rng) in enumerate(zip(parents["label"].to_pylist(), rngs, strict=True)):
            place = slice(found.starts[row], found.starts[row] + found.lengths[row])
            chain = self._chains[label]
            events = _Events(found.kinds[place], bins[place], found.codes[place])
            events.bins[0, 0] = _choose(chain.bins[GAP][events.kinds[0]], rng)  # where another event comes first
            edits = max(1, round(step.degree * len(events))) if step.degree else 0
            for _ in range(edits):
                events = self._edited(events, chain, rng)
            made.append(events)
        return self._table(made)

    def _drawn(self, chain: Chain, rng: np.random.Generator) -> _Events:
        length = 1 + _choose(chain.lengths, rng)
        kinds = np.empty(length, dtype=np.int64)
        before = chain.kinds
        for place in range(length):
            before = _choose(chain.steps(np.array([before]), np.array([length - 1 - place]))[0], rng)
            kinds[place] = before
        return _joined([self._event(int(kind), chain, rng) for kind in kinds])

    def _event(self, kind: int, chain: Chain, rng: np.random.Generator) -> _Events:
        """Returns an event of this kind, with its gap and attributes."""
        bins = np.array([_choose(chain.bins[name][kind], rng) for name in self._names], dtype=np.int64)
        columns = self._schema.attributes.values()
        codes = [float(code_in(bins[i : i + 1], rng.random(1), c)[0]) for i, c in enumerate(columns, start=1)]
        return _Events(np.array([kind]), bins[None, :], np.array(codes, dtype=np.float64)[None, :])

    def _edited(self, old: _Events, chain: Chain, rng: np.random.Generator) -> _Events:
        """Returns a sequence with one edit."""
        edit = EDITS[int(rng.integers(len(EDITS)))]
        at = int(rng.integers(len(old) + int(edit == "insert")))
        if edit == "redraw":
            return self._redrawn(old, at, chain, rng)
        new = self._proposed(edit, old, at, chain, rng)
        if new is not None:
            gain = chain.logarithm(new.kinds) - chain.logarithm(old.kinds)
            if edit == "insert":  # an event is drawn between its neighbours, and could be deleted at any place
                gain -= self._likely(new.kinds, at, chain)
            elif edit == "delete":
                gain += self._likely(old.kinds, at, chain)
            if np.log(max(rng.random(), 1e-300)) < gain:
                return new
        return self._replaced(old, min(at, len(old) - 1), chain, rng)

    def _proposed(self, edit: str, old: _Events, at: int, chain: Chain, rng: np.random.Generator) -> _Events | None:
        """Returns a sequence with an event more, one less or two swapped, or None where that cannot be."""
        if edit == "insert" and len(old) < self._schema.most:
            before, after = self._around(old.kinds, at, at)
            event = self._event(_choose(chain.between(before, after), rng), chain, rng)
            return _spliced(old, at, at, event)
        if edit == "delete" and len(old) > 1:
            keep = np.arange(len(old)) != at
            return _Events(old.kinds[keep], old.bins[keep], old.codes[keep])
        if edit == "swap" and at + 1 < len(old):
            order = np.arange(len(old))
            order[[at, at + 1]] = at + 1, at
            bins = old.bins[order]
            bins[:, 0] = old.bins[:, 0]  # gaps stay where they are
            return _Events(old.kinds[order], bins, old.codes[order])
        return None

    def _likely(self, kinds: np.ndarray, at: int, chain: Chain) -> float:
        """Returns the logarithm of how likely the event at a place is drawn between its neighbours."""
        weights = chain.between(*self._around(kinds, at, at + 1))
        return float(np.log(weights[kinds[at]] / weights.sum()))

    def _replaced(self, old: _Events, at: int, chain: Chain, rng: np.random.Generator) -> _Events:
        """Returns a sequence with one event drawn anew, given its neighbours."""
        before, after = self._around(old.kinds, at, at + 1)
        return _spliced(old, at, at + 1, self._event(_choose(chain.between(before, after), rng), chain, rng))

    def _around(self, kinds: np.ndarray, start: int, stop: int) -> tuple[int, int]:
        """Returns the events before `start` and from `stop` on; beginning and end are the state K."""
        ends = len(self._schema.kinds)
        return int(kinds[start - 1]) if start else ends, int(kinds[stop]) if stop < len(kinds) else ends

    def _redrawn(self, old: _Events, at: int, chain: Chain, rng: np.random.Generator) -> _Events:
        """Returns a sequence with the gap or one attribute of an event drawn anew."""
        anew = self._event(int(old.kinds[at]), chain, rng)
        which = int(rng.integers(len(self._names)))
        made = _Events(old.kinds, old.bins.copy(), old.codes.copy())
        made.bins[at, which] = anew.bins[0, which]
        if which:
            made.codes[at, which - 1] = anew.codes[0, which - 1]
        return made

    def _table(self, made: Sequence[_Events]) -> pa.Table:
        lengths = np.array([len(events) for events in made], dtype=np.int64)
        kinds = np.concatenate([np.empty(0, np.int64), *(events.kinds for events in made)])
        bins = np.concatenate([np.empty((0, len(self._names)), np.int64), *(events.bins for events in made)])
        codes = np.concatenate([np.empty((0, len(self._names) - 1)), *(events.codes for events in made)])
        found = Sequences(lengths, kinds, bins[:, 0], codes)
        # A first event has none; what became second by an edit needs one.
        gaps = np.where(found.is_first, NO_GAP, found.gaps)
        payload = write_payload(Sequences(lengths, kinds, gaps, codes), self._schema)
        return payload.add_column(0, "state", pa.nulls(len(made), pa.string()))


def _joined(parts: Sequence[_Events]) -> _Events:
    return _Events(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("kinds", "bins", "codes")))


def _spliced(old: _Events, start: int, stop: int, event: _Events) -> _Events:
    """Returns a sequence with an event in place of those from `start` to `stop`."""
    parts = [_Events(old.kinds[own], old.bins[own], old.codes[own]) for own in (slice(start), slice(stop, None))]
    return _joined([parts[0], event, parts[1]])


def _choose(weights: np.ndarray, rng: np.random.Generator) -> int:
    """Returns a position, drawn by weights, which need not add up to 1."""
    edges = np.cumsum(weights)
    return min(int(np.searchsorted(edges, rng.random() * edges[-1], side="right")), len(weights) - 1)
