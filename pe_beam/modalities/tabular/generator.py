"""Generator `tabular`: draws rows from the schema, and mutates rows, as in Tab-PE (arXiv 2606.08259)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field
from scipy.special import ndtri

from pe_beam import contracts
from pe_beam.contracts.generator import Marginals, Step
from pe_beam.contracts.newer import NEWER
from pe_beam.errors import RecipeError, StageError
from pe_beam.measuring.shares import shares_of
from pe_beam.modalities.tabular.codec import decode_payload, encode_payload
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.constraints import broken_by, obey
from pe_beam.modalities.tabular.forest import Forest, fit_forest, forest_of
from pe_beam.modalities.tabular.marginals import bin_of, uniform_shares
from pe_beam.modalities.tabular.mending import DRAWS, mend
from pe_beam.modalities.tabular.places import Places
from pe_beam.modalities.tabular.schema import as_schema
from pe_beam.modalities.tabular.settling import settle

_DRAWS = 4  # uniform numbers per value: whether to mutate, which bin, the place in it, how far to move
_TRIES = 20
_REDRAWS = 200  # of a row that cannot be repaired; a recipe that would want more than `_TRIES` is refused beforehand
_WITHIN = 0.75  # of rows that repeat: how often a number moves within its bin, where one can


class TabularOptions(contracts.Options):
    """Options of the generator `tabular`. The mutation rate is `evolution.degree`."""

    steps: Literal["uniform", "gaussian", "redraw"] = Field(
        "uniform",
        description="how numbers, dates and ordinals vary: always by U(-rate, rate) or N(0, rate^2) times the range, "
        "or drawn anew with probability rate as categories are",
    )
    missing: float = Field(0.1, ge=0, lt=1, description="share of missing values at random, where they are declared")
    differ: Annotated[bool, NEWER] = Field(
        False,
        description="a variation that equals its parent is changed in one column: a number within its bin, a category "
        "drawn anew; so rows repeat less",
    )


class Tabular(contracts.Generator):
    """Draws values uniformly from what the schema declares, or by measured marginals of each label.

    With measured pairs of columns, or cliques of more, values are drawn along a forest of those that go together
    (`forest`): a new row from its root on, and a value that a variation draws anew given the others of its row.

    A variation draws a category again with probability `degree`, and may draw the same one. Numbers move as `steps`
    says, are rounded if they are whole, and stay within bounds. Constraints hold for every row: a row that breaks one
    is repaired. A variation that cannot be repaired equals its parent.
    """

    modality = "tabular"
    Options: ClassVar[type[contracts.Options]] = TabularOptions
    chunk_size = 4096
    takes_schema = True
    takes_marginals = True
    takes_pairs = True
    takes_slices = True
    redraws = True
    settles = True
    varies_any = True

    def __init__(self, options: BaseModel, *, labels: Sequence[str | None], schema: Any) -> None:
        """Takes TabularOptions and a TableSchema. Raises RecipeError for constraints that exclude each other."""
        self._options = TabularOptions.model_validate(options.model_dump())
        self._schema = as_schema(schema)
        self._names = list(self._schema.columns)
        self._columns = list(self._schema.columns.values())
        self._labels = {label: code for code, label in enumerate(labels)}
        self._shares = [uniform_shares(column, self._options.missing) for column in self._columns]
        self._forest: Forest | None = None
        self._places = [Places(column) for column in self._columns]
        self._roomy = np.array([column.roomy for column in self._columns], dtype=bool)
        rngs = [np.random.Generator(np.random.Philox(key=i)) for i in range(64)]
        self._unmeasured: Tabular | None = None
        if self._schema.constraints:
            codes, fine = self._obeying(np.zeros(64, dtype=np.int64), rngs, tries=_TRIES)
            if not fine.all():
                first = broken_by(codes, self._schema.columns, self._schema.constraints)[~fine].min()
                raise RecipeError(
                    f"data.schema.constraints.{first}: hardly any values meet it together with the others"
                )

    def seeded(self, marginals: Marginals) -> Tabular:
        """See Generator. Random rows and redrawn values follow the marginals of their label."""
        made = copy.copy(self)
        made._unmeasured = self
        counts = [marginals.counts[name] for name in self._names]
        totals = marginals.totals()
        made._labels = {label: code for code, label in enumerate(marginals.labels)}
        made._shares = [
            np.stack([shares_of(row, total) for row, total in zip(each, totals, strict=True)]) for each in counts
        ]
        made._places = [
            Places(column, marginals.within.get(name)) for name, column in zip(self._names, self._columns, strict=True)
        ]
        if marginals.joints:
            places = {name: place for place, name in enumerate(self._names)}
            made._forest = forest_of(made._shares, totals, places, marginals.joints)
        elif marginals.pairs:
            made._forest = self._fitted(marginals, made._shares, shares_of(totals, float(totals.sum())))
        return made

    def _fitted(self, marginals: Marginals, shares: list[np.ndarray], label_shares: np.ndarray) -> Forest:
        places = {name: place for place, name in enumerate(self._names)}
        return fit_forest(
            shares,
            label_shares,
            [marginals.groups[name] for name in self._names],
            {(places[a], places[b]): counts for (a, b), counts in marginals.pairs.items()},
            marginals.pair_sigma,
        )

    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """See Generator."""
        own = self._codes_of(labels)
        codes, fine = self._obeying(own, rngs, tries=_REDRAWS)
        if self._unmeasured is not None and not fine.all():  # what is likely obeys hardly ever, so anything will do
            rest = np.flatnonzero(~fine)
            some = [rngs[row] for row in rest.tolist()]
            codes[rest], fine[rest] = self._unmeasured._obeying(own[rest], some, tries=_REDRAWS)
        if not fine.all():
            raise StageError("generator: the constraints of data.schema could not be met by a random row")
        return self._table(codes)

    def _obeying(
        self, labels: np.ndarray, rngs: Sequence[np.random.Generator], *, tries: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws rows, and those again that cannot be made to obey. Returns their codes and which obey, bool (n,).

        A row of which two conditions want different things of one column cannot be repaired: there are no such rows.
        """
        codes = self._drawn(labels, self._uniforms(rngs))
        fine = self._mended(codes, labels, rngs)
        for _ in range(tries):
            again = np.flatnonzero(~fine)
            if not len(again):
                break
            some = [rngs[row] for row in again.tolist()]
            part = self._drawn(labels[again], self._uniforms(some))
            fine[again] = self._mended(part, labels[again], some)
            codes[again] = part
        return codes, fine

    def vary(self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """See Generator. `step.degree` is the mutation rate."""
        before = encode_payload(parents, self._schema)
        own = self._codes_of(parents["label"].to_pylist())
        uniforms = self._uniforms(rngs)
        if self._forest is not None:
            return self._finished(before, self._varied(before, own, uniforms, step.degree), own, rngs)
        drawn = self._drawn(own, uniforms)
        codes = before.copy()
        for i, column in enumerate(self._columns):
            anew = uniforms[:, i, 0] < step.degree
            if column.moves and self._options.steps != "redraw":
                codes[:, i] = self._moved(codes[:, i], uniforms[:, i, 3], column, step.degree)
                if not column.missing:
                    continue
                anew &= np.isnan(codes[:, i]) | np.isnan(drawn[:, i])  # a move cannot begin or end at a missing value
            codes[anew, i] = drawn[anew, i]
        return self._finished(before, codes, own, rngs)

    def redraw(self, rows: pa.Table, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """See Generator. Mostly a number moves within its bin, where it has room there; else a column is drawn anew."""
        before = encode_payload(rows, self._schema)
        labels = self._codes_of(rows["label"].to_pylist())
        codes = self._changed(before, labels, rngs, within=_WITHIN)
        fine = self._mended(codes, labels, rngs, near=True)
        codes[~fine] = before[~fine]
        return self._table(codes)

    def settled(self, rows: pa.Table, beyond: Mapping[str, np.ndarray], rng: np.random.Generator) -> pa.Table:
        """See Generator. A value that moves is drawn in its new bin; a row that would break a constraint stays."""
        codes, labels = encode_payload(rows, self._schema), self._codes_of(rows["label"].to_pylist())
        bins = self._bins(codes)

        def weights(i: int, some: np.ndarray) -> np.ndarray:
            return self._weights(i, labels[some], bins[some])

        def move(i: int, row: int, target: int) -> bool:
            after = codes[row : row + 1].copy()
            after[0, i] = self._places[i].codes(np.array([target]), rng.random(1))[0]
            wanted = after.copy()
            if not self._obey(after).all() or not _equal(after, wanted).all():
                return False
            codes[row], bins[row, i] = after[0], target
            return True

        for i, name in enumerate(self._names):
            own = bins[:, i].copy()
            settle(own, labels, beyond[name], weights=partial(weights, i), move=partial(move, i), rng=rng)
        return self._table(codes)

    def _finished(
        self, before: np.ndarray, codes: np.ndarray, labels: np.ndarray, rngs: Sequence[np.random.Generator]
    ) -> pa.Table:
        """Returns variations that obey the constraints and, with `differ`, do not equal their parents."""
        fine = self._mended(codes, labels, rngs, near=self._options.steps != "redraw")
        codes[~fine] = before[~fine]
        for _ in range(_TRIES if self._options.differ else 0):
            same = np.flatnonzero(_equal(codes, before))
            if not len(same):
                break
            some = [rngs[row] for row in same.tolist()]
            changed = self._changed(before[same], labels[same], some)
            obeys = self._mended(changed, labels[same], some, near=True)
            codes[same[obeys]] = changed[obeys]
        return self._table(codes)

    def _changed(
        self, codes: np.ndarray, labels: np.ndarray, rngs: Sequence[np.random.Generator], *, within: float = 0.0
    ) -> np.ndarray:
        """Returns rows with one column each drawn anew: within its bin if it is a number that has a bin to move in.

        With probability `within` it is one of those numbers, where the row has one.
        """
        uniform = np.array([rng.random(4 if within else 3) for rng in rngs])
        chosen = np.minimum((uniform[:, 0] * len(self._columns)).astype(int), len(self._columns) - 1)
        if within:
            roomy = self._roomy[None, :] & ~np.isnan(codes)
            places = np.floor(uniform[:, 0] * roomy.sum(axis=1)).astype(int)
            number = (np.cumsum(roomy, axis=1) > places[:, None]).argmax(axis=1)
            chosen = np.where((uniform[:, 3] < within) & roomy.any(axis=1), number, chosen)
        bins = self._bins(codes)
        found = codes.copy()
        for i, column in enumerate(self._columns):
            rows = np.flatnonzero(chosen == i)
            if not len(rows):
                continue
            near = self._places[i].codes(bins[rows, i], uniform[rows, 2])
            fresh = self._fresh(i, labels[rows], bins[rows], uniform[rows, 1])
            anew = self._places[i].codes(fresh, uniform[rows, 2])
            stays = column.moves & ~np.isnan(codes[rows, i]) & (near != codes[rows, i])
            found[rows, i] = np.where(stays, near, anew)
        return found

    def _bins(self, codes: np.ndarray) -> np.ndarray:
        """Returns the bins of codes, int64 (n, m)."""
        return np.column_stack([bin_of(codes[:, i], column) for i, column in enumerate(self._columns)])

    def _fresh(self, i: int, labels: np.ndarray, bins: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Returns new bins of a column, int64 (n,): given the others of the row by a forest, or the label alone."""
        if self._forest is not None:
            return self._forest.drawn(i, labels, bins, uniform, around=True)
        edges = np.cumsum(self._shares[i], axis=1)
        edges[:, -1] = 1.0
        rows = edges[labels] if len(edges) > 1 else np.broadcast_to(edges[0], (len(labels), edges.shape[1]))
        found: np.ndarray = (rows <= uniform[:, None]).sum(axis=1)
        return found

    def _varied(self, before: np.ndarray, labels: np.ndarray, uniforms: np.ndarray, rate: float) -> np.ndarray:
        """Returns varied codes by a forest: values that are drawn anew follow the others of their row, one by one."""
        assert self._forest is not None
        codes = before.copy()
        bins = self._bins(codes)
        for i in self._forest.order:
            column = self._columns[i]
            anew = uniforms[:, i, 0] < rate
            drawn = self._places[i].codes(self._fresh(i, labels, bins, uniforms[:, i, 1]), uniforms[:, i, 2])
            if column.moves and self._options.steps != "redraw":
                codes[:, i] = self._moved(codes[:, i], uniforms[:, i, 3], column, rate)
                anew &= (np.isnan(codes[:, i]) | np.isnan(drawn)) if column.missing else False
            codes[anew, i] = drawn[anew]
            bins[:, i] = bin_of(codes[:, i], column)
        return codes

    def _moved(self, values: np.ndarray, uniform: np.ndarray, column: Column, rate: float) -> np.ndarray:
        far = 2 * uniform - 1 if self._options.steps == "uniform" else ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))
        if column.edges is not None:
            return column.unscaled(np.clip(column.scaled(values) + far * rate, 0.0, 1.0))
        moved = values + far * rate * (column.high - column.low)
        return np.clip(column.nearest(moved), column.low, column.high)

    def _uniforms(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Draws uniform numbers for each row, value and use: float64 (n, m, 4), from each row's own stream."""
        shape = (len(self._columns), _DRAWS)
        return np.array([rng.random(shape) for rng in rngs]).reshape(len(rngs), *shape)

    def _codes_of(self, labels: Sequence[str | None]) -> np.ndarray:
        return np.array([self._labels.get(label, 0) for label in labels], dtype=np.int64)

    def _drawn(self, labels: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Returns new values of all columns, float64 (n, m)."""
        codes = np.empty(uniforms.shape[:2])
        if self._forest is not None:
            bins = np.zeros(codes.shape, dtype=np.int64)
            for i in self._forest.order:
                bins[:, i] = self._forest.drawn(i, labels, bins, uniforms[:, i, 1])
                codes[:, i] = self._places[i].codes(bins[:, i], uniforms[:, i, 2])
            return codes
        for i, places in enumerate(self._places):
            codes[:, i] = places.codes(self._fresh(i, labels, codes, uniforms[:, i, 1]), uniforms[:, i, 2])
        return codes

    def _weights(self, i: int, labels: np.ndarray, bins: np.ndarray) -> np.ndarray:
        """Returns how likely bins of a column are given the others of the row, float64 (n, bins): in proportion."""
        if self._forest is not None:
            return self._forest.weights(i, labels, bins, around=True)
        own = self._shares[i]
        return own[labels] if len(own) > 1 else np.repeat(own, len(labels), axis=0)

    def _mended(
        self, codes: np.ndarray, labels: np.ndarray, rngs: Sequence[np.random.Generator], *, near: bool = False
    ) -> np.ndarray:
        """Draws values anew that break a constraint, repairs the rest, in place. Returns which rows obey, bool (n,).

        With `near` a value stays in its bin where it can: it has moved, and was not drawn.
        """
        mend(
            codes,
            self._schema.columns,
            self._schema.constraints,
            weights=lambda i, rows: self._weights(i, labels[rows], self._bins(codes[rows])),
            places=lambda i, bins, uniform: self._places[i].codes(bins, uniform),
            between=lambda i, low, high: self._places[i].between(low, high),
            uniforms=lambda rows: np.array([rngs[row].random(DRAWS) for row in rows.tolist()]).reshape(-1, DRAWS),
            near=near,
        )
        return self._obey(codes)

    def _obey(self, codes: np.ndarray) -> np.ndarray:
        """Repairs rows in place. Returns which rows obey every constraint, bool (n,)."""
        return obey(codes, self._schema.columns, self._schema.constraints)

    def _table(self, codes: np.ndarray) -> pa.Table:
        payload = decode_payload(codes, self._schema)
        return payload.add_column(0, "state", pa.nulls(len(codes), pa.string()))


def _equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns which rows of codes are equal, bool (n,); a missing value equals a missing one."""
    same: np.ndarray = ((a == b) | (np.isnan(a) & np.isnan(b))).all(axis=1)
    return same
