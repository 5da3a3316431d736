"""Records: why one cannot be used, and the files of a population."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

POPULATION = "population/part-{:05d}.parquet"
"""File name of a part of a released population, relative to the folder of its iteration."""


@dataclass(frozen=True)
class Fault:
    """Why a record cannot be used.

    Attributes:
      kind: one of a few fixed phrases, for the data holder's terminal.
      detail: private, for `private/rejects/`.
      variety: in which way it is of this kind: one of a few fixed phrases as well; empty: there is one way.
    """

    kind: str
    detail: str = ""
    variety: str = ""


def population_files(manifest: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Returns the name and the number of rows of each part of a population, in order.

    Args:
      manifest: the manifest of the iteration. If the population has one part, the manifest does not give the part's
        rows: the part holds all candidates.

    >>> population_files({"files": {"population/part-00000.parquet": {}}, "candidates": {"a": 3, "b": 4}})
    [('population/part-00000.parquet', 7)]
    """
    files = {name: about for name, about in manifest.get("files", {}).items() if name.startswith("population/")}
    every = sum(manifest["candidates"].values())
    return [(name, int(files[name].get("rows", every))) for name in sorted(files)] or [(POPULATION.format(0), every)]
