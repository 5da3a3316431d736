"""The contract of generators and embedders as checks that anyone can run on their own, in any test framework.

>>> from pe_beam.modalities.image.text_render import TextRender, TextRenderOptions
>>> from pe_beam.modalities.image import MODALITY
>>> check_generator(TextRender(TextRenderOptions(side=16), labels=["a"]), MODALITY, labels=["a"])
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pe_beam.keyed import keyed_rng
from pe_beam.modalities.base import Embedder, Generator, Modality, Step


class ContractError(AssertionError):
    """A generator or an embedder breaks its contract; the message says how."""


def _hold(fine: bool, what: str) -> None:
    if not fine:
        raise ContractError(what)


def _rngs(ids: Sequence[int], purpose: str) -> list[np.random.Generator]:
    return [keyed_rng(0, 1, i, purpose) for i in ids]


def check_generator(
    generator: Generator, modality: Modality, *, labels: Sequence[str | None], deterministic: bool = True
) -> None:
    """Runs a generator through its contract on 8 candidates.

    Args:
      generator: built for `labels`.
      modality: whose payload it makes.
      labels: declared labels; [None] if there are none.
      deterministic: whether the same keys have to give the same bytes (not so for remote services).

    Raises:
      ContractError: shape, columns, state, determinism, or dependence on the batch.
    """
    asked = [labels[i % len(labels)] for i in range(8)]
    made = generator.random(asked, _rngs(range(8), "random"))
    _check_rows(made, 8, modality, "random")
    parents = made.append_column("label", pa.array(asked, pa.string()))
    step = Step(iteration=1, iterations=2, degree=0.5)
    before = parents.slice(0)
    varied = generator.vary(parents, step, _rngs(range(8), "vary"))
    _check_rows(varied, 8, modality, "vary")
    _hold(parents.equals(before), "vary: the parents were changed")
    nothing = generator.vary(parents.slice(0, 0), step, [])
    _check_rows(nothing, 0, modality, "vary of nothing")
    if deterministic:
        again = generator.random(asked, _rngs(range(8), "random"))
        _hold(again.equals(made), "random: the same keys gave other candidates")
        alone = generator.vary(parents.slice(3, 1), step, _rngs([3], "vary"))
        _hold(alone.equals(varied.slice(3, 1)), "vary: a row depends on the batch that it comes in")


def _check_rows(made: pa.Table, count: int, modality: Modality, what: str) -> None:
    _hold(made.num_rows == count, f"{what}: {made.num_rows} rows where {count} were asked for")
    wanted = {"state", *modality.payload.names}
    _hold(set(made.column_names) == wanted, f"{what}: columns {made.column_names} where {sorted(wanted)} are wanted")
    for state in made["state"].to_pylist():
        if state is not None:
            json.loads(state)
    for field in modality.payload:
        _hold(made.schema.field(field.name).type == field.type, f"{what}: {field.name} is not {field.type}")


def check_embedder(embedder: Embedder, records: pa.Table, *, bad: pa.Table | None = None) -> None:
    """Runs an embedder through its contract.

    Args:
      embedder: any.
      records: at least two rows that it can embed.
      bad: rows that it has to report as faults.

    Raises:
      ContractError: shape, dtype, values that are not finite, wrong faults, or changed input.
    """
    found = embedder.embed(records)
    shape = (records.num_rows, embedder.dimension)
    _hold(found.vectors.shape == shape, f"embed: shape {found.vectors.shape} where {shape} is wanted")
    _hold(found.vectors.dtype == np.float32, f"embed: {found.vectors.dtype} where float32 is wanted")
    _hold(not found.faults, "embed: good records were called faulty")
    _hold(bool(np.isfinite(found.vectors).all()), "embed: values that are not finite")
    _hold(len(np.unique(found.vectors, axis=0)) > 1, "embed: different records became one vector")
    _hold(
        embedder.embed(records.slice(0, 0)).vectors.shape == (0, embedder.dimension), "embed: nothing has a shape too"
    )
    if bad is not None:
        faults = embedder.embed(bad).faults
        _hold(sorted(faults) == list(range(bad.num_rows)), "embed: bad records were not called faulty")
        _hold(all(fault.kind for fault in faults.values()), "embed: a fault without a kind")
