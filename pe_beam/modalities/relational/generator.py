"""Generator `relational`: draws whole families from the schema or from measured marginals, and varies them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.generator import Marginals, Step
from pe_beam.errors import RecipeError, StageError
from pe_beam.measuring.shares import shares_of
from pe_beam.modalities.relational.children import ChildModel, Drawn, fit_children
from pe_beam.modalities.relational.codec import Families, decode, encode
from pe_beam.modalities.relational.schema import as_schema
from pe_beam.modalities.tabular.codec import encode_payload
from pe_beam.modalities.tabular.constraints import obey
from pe_beam.modalities.tabular.generator import Tabular, TabularOptions
from pe_beam.modalities.tabular.marginals import bin_of, code_in, uniform_shares
from pe_beam.modalities.tabular.mending import DRAWS, mend

_DRAWS = 2  # uniform numbers per value of a child: which bin, the place in it
_FATE = 3  # uniform numbers per child of a variation: whether it changes, from which column on, whether it goes
_TRIES = 20
_REDRAWS = 200  # of a child that cannot be repaired; a recipe that would want more than `_TRIES` is refused beforehand
_CHECKED = 512  # parents beside which children have to be possible, before data are read
_FITTED = 8192  # parents on which the children's columns are fitted


class RelationalOptions(contracts.Options):
    """Options of the generator `relational`. The mutation rate is `evolution.degree`."""

    missing: float = Field(0.1, ge=0, lt=1, description="share of missing values at random, where they are declared")


class Relational(contracts.Generator):
    """Draws a parent and the number of its children as `tabular` draws a row, then each child given both.

    Without measured marginals values are uniform within what the schema declares. With marginals of pairs, a child's
    column follows from the parent's columns, the number of children and the child's columns before it (`children`).

    A variation draws each of the parent's values, and the number of children, again with probability `degree`. If the
    number falls, random children go; if it rises, new ones are drawn. A child that stays is drawn again from a random
    column on with probability `degree`. Constraints hold for every row of both tables, and for a child with its parent.
    """

    modality = "relational"
    Options: ClassVar[type[contracts.Options]] = RelationalOptions
    chunk_size = 2048
    takes_schema = True
    takes_marginals = True
    takes_pairs = True
    varies_any = True

    def __init__(self, options: BaseModel, *, labels: Sequence[str | None], schema: Any) -> None:
        """Takes RelationalOptions and a RelationalSchema. Raises RecipeError for impossible constraints."""
        own = RelationalOptions.model_validate(options.model_dump())
        self._schema = as_schema(schema)
        self._above = self._schema.parent_with_count
        try:
            self._parent = Tabular(
                TabularOptions(steps="redraw", missing=own.missing), labels=labels, schema=self._above
            )
        except RecipeError as error:
            raise RecipeError(str(error).replace("data.schema.", "data.schema.parent.", 1)) from None
        self._columns = list(self._schema.child.columns.values())
        self._labels = {label: code for code, label in enumerate(labels)}
        self._model = ChildModel(
            [uniform_shares(column, own.missing) for column in self._columns], [()] * len(self._columns)
        )
        self._unmeasured = self._model
        self._constraints = self._schema.constraints_of_children
        if self._constraints:
            self._check_constraints()

    def _check_constraints(self) -> None:
        """Raises RecipeError if some children, drawn for random parents, cannot be made to obey."""
        rngs = [np.random.Generator(np.random.Philox(key=i)) for i in range(_CHECKED)]
        above = encode_payload(self._parent.random([next(iter(self._labels))] * len(rngs), rngs), self._above)
        one, labels = np.arange(len(rngs)), np.zeros(len(rngs), dtype=np.int64)
        drawn = self._fresh(labels, above, _uniforms(rngs, (len(self._columns), _DRAWS)))
        fine = self._mended(drawn, one, above, labels, rngs)
        self._draw_again(drawn, fine, one, above=above, labels=labels, rngs=rngs, tries=_TRIES)
        if not fine.all():
            raise RecipeError(
                "data.schema: what constraints and child.constraints want of children cannot be met together within "
                "the bounds beside each parent (what two columns of a parent obey is declared in parent.constraints)"
            )

    def seeded(self, marginals: Marginals) -> Relational:
        """See Generator. Parents, numbers of children and children follow the marginals of their label."""
        made, above = copy.copy(self), list(self._above.columns)
        made._parent = self._parent.seeded(_only(marginals, above))
        made._labels = {label: code for code, label in enumerate(marginals.labels)}
        totals = marginals.totals()
        made._model = fit_children(marginals, len(above), made._parents(shares_of(totals, float(totals.sum()))))
        return made

    def _parents(self, label_shares: np.ndarray) -> Drawn:
        """Returns parents to fit children on, which have at least one child. They are the same in every process."""
        rng = np.random.Generator(np.random.Philox(key=0))
        labels = np.sort(rng.choice(len(label_shares), _FITTED, p=label_shares))
        names = {code: label for label, code in self._labels.items()}
        rngs = [np.random.Generator(np.random.Philox(key=1 + i)) for i in range(_FITTED)]
        codes = encode_payload(self._parent.random([names[code] for code in labels.tolist()], rngs), self._above)
        codes[:, -1] = np.maximum(codes[:, -1], 1)
        return Drawn(labels, self._bins(codes), rng)

    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """See Generator."""
        above = encode_payload(self._parent.random(labels, rngs), self._above)
        counts = above[:, -1].astype(np.int64)
        shape = (self._schema.child.most, len(self._columns), _DRAWS)
        rows, places = np.nonzero(np.arange(shape[0]) < counts[:, None])
        uniforms = _uniforms(rngs, shape)[rows, places]
        return self._finished(above, rows, self._codes_of(labels), rngs, uniforms=uniforms)

    def vary(self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """See Generator. `step.degree` is the mutation rate."""
        before = encode(parents, self._schema)
        labels = parents["label"].to_pylist()
        table = parents.select(["label", *self._schema.parent.columns])
        table = table.append_column(self._schema.count, pa.array(before.counts))
        above = encode_payload(self._parent.vary(table, step, rngs), self._above)
        most, width = self._schema.child.most, len(self._columns)
        uniforms = _uniforms(rngs, (most, _FATE + _DRAWS * width))
        places = np.arange(most)
        there = places < before.counts[:, None]
        dense = np.full((len(labels), most, width), np.nan)
        dense[before.owners, before.places] = before.children
        # those that stay come first, in random order, so that of too many random ones go
        order = np.argsort(np.where(there, uniforms[:, :, 2], 2.0), axis=1, kind="stable")
        dense = np.take_along_axis(dense, order[:, :, None], axis=1)
        rows, at = np.nonzero(places < above[:, -1][:, None])
        stays = there.sum(axis=1)[rows] > at
        own = uniforms[rows, at]
        changed = np.where(own[:, 0] < step.degree, (own[:, 1] * width).astype(np.int64), width)
        first = np.where(stays, changed, 0)
        draws = own[:, _FATE:].reshape(len(own), width, _DRAWS)
        return self._finished(above, rows, self._codes_of(labels), rngs, uniforms=draws, old=(dense[rows, at], first))

    def _finished(
        self,
        above: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        rngs: Sequence[np.random.Generator],
        *,
        uniforms: np.ndarray,
        old: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> pa.Table:
        """Returns families whose children obey the constraints. A child that does not is drawn anew, as a whole.

        Args:
          above: float64 (n, columns of the parent and the number of children).
          rows: int64 (children,), whose child each is, ascending.
          labels: int64 (n,).
          rngs: the streams of the n rows.
          uniforms: float64 (children, columns, 2).
          old: children that stay, and from which column on each is drawn; None: all are drawn.
        """
        children = self._fresh(labels[rows], above[rows], uniforms, old)
        fine = self._mended(children, rows, above, labels, rngs)
        self._draw_again(children, fine, rows, above=above, labels=labels, rngs=rngs, tries=_REDRAWS)
        if not fine.all():  # what is likely obeys hardly ever, so anything will do
            plain = copy.copy(self)
            plain._model = self._unmeasured
            plain._draw_again(children, fine, rows, above=above, labels=labels, rngs=rngs, tries=_REDRAWS)
        if not fine.all():
            raise StageError("generator: the constraints of data.schema on children could not be met by a random row")
        counts = np.bincount(rows, minlength=len(above))
        made = decode(Families(above[:, :-1], counts, children), self._schema)
        return made.add_column(0, "state", pa.nulls(len(above), pa.string()))

    def _draw_again(
        self,
        children: np.ndarray,
        fine: np.ndarray,
        rows: np.ndarray,
        *,
        above: np.ndarray,
        labels: np.ndarray,
        rngs: Sequence[np.random.Generator],
        tries: int,
    ) -> None:
        """Draws children anew, in place, that do not obey their constraints, as whole rows.

        Args:
          children: float64 (children, columns).
          fine: bool (children,), which of them obey.
          rows, above, labels, rngs: as in `_finished`.
          tries: how often.
        """
        for _ in range(tries):
            again = np.flatnonzero(~fine)
            if not len(again):
                return
            own = _uniforms([rngs[row] for row in rows[again].tolist()], (len(self._columns), _DRAWS))
            part = self._fresh(labels[rows[again]], above[rows[again]], own)
            fine[again] = self._mended(part, rows[again], above, labels, rngs)
            children[again] = part

    def _fresh(
        self,
        labels: np.ndarray,
        above: np.ndarray,
        uniforms: np.ndarray,
        old: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Returns codes of children, float64 (n, columns), drawn column by column given their parents' codes."""
        children = np.empty((len(labels), len(self._columns))) if old is None else old[0].copy()
        first = np.zeros(len(labels), dtype=np.int64) if old is None else old[1]
        bins = np.hstack([self._bins(above), np.zeros(children.shape, dtype=np.int64)])
        for i, column in enumerate(self._columns):
            drawn = self._model.drawn(i, labels, bins, uniforms[:, i, 0])
            anew = first <= i
            children[anew, i] = code_in(drawn[anew], uniforms[anew, i, 1], column)
            bins[:, above.shape[1] + i] = bin_of(children[:, i], column)
        return children

    def _bins(self, above: np.ndarray) -> np.ndarray:
        """Returns the bins of parents and numbers of children, int64 (n, m)."""
        return np.column_stack([bin_of(above[:, i], each) for i, each in enumerate(self._above.columns.values())])

    def _mended(
        self,
        children: np.ndarray,
        rows: np.ndarray,
        above: np.ndarray,
        labels: np.ndarray,
        rngs: Sequence[np.random.Generator],
    ) -> np.ndarray:
        """Draws values of children anew that break a constraint, and repairs the rest. Returns which obey, bool (n,).

        Args:
          children: float64 (children, columns), changed in place.
          rows, above, labels, rngs: as in `_finished`.
        """
        if not self._constraints:
            return np.ones(len(children), dtype=bool)
        first = above.shape[1]
        codes = np.hstack([above[rows], children])

        def weights(i: int, some: np.ndarray) -> np.ndarray:
            own = [bin_of(codes[some, first + at], column) for at, column in enumerate(self._columns)]
            bins = np.column_stack([self._bins(codes[some, :first]), *own])
            return self._model.weights(i - first, labels[rows[some]], bins)

        mend(
            codes,
            self._schema.all_columns,
            self._constraints,
            weights=weights,
            places=lambda i, bins, uniform: code_in(bins, uniform, self._columns[i - first]),
            uniforms=lambda some: _uniforms([rngs[row] for row in rows[some].tolist()], (DRAWS,)),
            fixed=frozenset(self._above.columns),
        )
        children[:] = codes[:, first:]
        return self._obey(above[rows], children)

    def _obey(self, above: np.ndarray, children: np.ndarray) -> np.ndarray:
        """Repairs children in place, beside their parents. Returns which obey every constraint, bool (children,)."""
        codes = np.hstack([above, children])
        fine = obey(codes, self._schema.all_columns, self._constraints, frozenset(self._above.columns))
        children[:] = codes[:, above.shape[1] :]
        return fine

    def _codes_of(self, labels: Sequence[str | None]) -> np.ndarray:
        return np.array([self._labels.get(label, 0) for label in labels], dtype=np.int64)


def _only(marginals: Marginals, names: Sequence[str]) -> Marginals:
    """Returns the marginals of some columns."""

    def among(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: value for name, value in found.items() if name in names}

    pairs = {pair: counts for pair, counts in marginals.pairs.items() if set(pair) <= set(names)}
    groups = among(marginals.groups)
    return Marginals(marginals.labels, among(marginals.counts), marginals.sigma, groups, pairs, marginals.pair_sigma)


def _uniforms(rngs: Sequence[np.random.Generator], shape: tuple[int, ...]) -> np.ndarray:
    """Draws uniform numbers for each row from its own stream: float64 (n, *shape)."""
    return np.array([rng.random(shape) for rng in rngs]).reshape(len(rngs), *shape)
