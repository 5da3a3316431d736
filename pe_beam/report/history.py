"""Reads a release folder, iteration by iteration: populations, noisy histograms, recipe, promise."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.contracts.record import population_files
from pe_beam.contracts.store import Folder
from pe_beam.privacy import accounting
from pe_beam.privacy.subsampled import Spending
from pe_beam.recipe.ancestry import as_run
from pe_beam.recipe.bounds import votes_bound
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sections.start import Ancestor
from pe_beam.storage.parquet import parquet_file, read_parquet

_HISTOGRAM = "histogram/part-00000.parquet"
_BOUGHT = "labels/part-00000.parquet"


@dataclass(frozen=True, eq=False)
class History:
    """A release. It reads files when they are needed, and opens nothing outside its folder.

    Attributes:
      folder: `release` or `release-NOT-PRIVATE`.
      recipe: content of `recipe.json`, without paths and names of private columns.
      privacy: content of `privacy.json`; for an unfinished run also `rounds_spent`, from its ledger.
      complete: False for an unfinished run.
    """

    folder: Folder
    recipe: Mapping[str, Any]
    privacy: Mapping[str, Any]
    complete: bool = True

    @cached_property
    def iterations(self) -> list[int]:
        """Returns the numbers of the existing populations, 0 to T in a complete run."""
        found: list[int] = []
        while self.folder.exists(_of(len(found), "manifest.json")):
            found.append(len(found))
        return found

    @property
    def last(self) -> int:
        """Returns the number of the newest population."""
        return self.iterations[-1]

    @property
    def rounds_spent(self) -> int:
        """Returns the number of noisy histograms for which budget is spent.

        It is all of them in a complete run. In an unfinished run it may exceed the number of existing histograms.
        """
        return int(self.privacy.get("rounds_spent", self.privacy["iterations"]))

    @property
    def private(self) -> bool:
        """Returns whether the release makes a promise: False at epsilon = inf, or after a start without one."""
        return self.privacy["epsilon"] != "inf"

    @property
    def noisy(self) -> bool:
        """Returns whether votes got noise. A run may add noise and make no promise, for what it started from."""
        return self.privacy["mechanism"] != "none"

    @property
    def start(self) -> Mapping[str, Any] | None:
        """Returns what privacy.json says of the release that the run starts from, or None if it starts at random."""
        found: Mapping[str, Any] | None = self.privacy.get("start")
        return found

    @cached_property
    def added(self) -> list[float]:
        """Returns the noise multipliers of earlier releases whose cost is added to this one's."""
        own = (self.privacy["unit"], self.privacy["adjacency"])
        every = [] if self.start is None else [Ancestor.model_validate(each) for each in self.start["ancestors"]]
        runs = [as_run(each) for each in every if each.data == 0 and (each.unit, each.adjacency) == own]
        return [spent.noise_multiplier for run in runs for spent in run.spent]

    @cached_property
    def labels(self) -> list[str | None]:
        """Returns the declared labels, or [None] without labels."""
        declared = self.recipe["data"]["labels"]
        return [None] if declared is None else list(declared)

    @property
    def generators(self) -> list[str]:
        """Returns the registered names of the generator, or of several generators."""
        holders = self.recipe.get("generators") or [self.recipe]
        return list(dict.fromkeys(holder["generator"]["name"] for holder in holders))

    @property
    def makers(self) -> list[str]:
        """Returns the recipe's names of several generators, or an empty list if there is only one generator."""
        return [maker["name"] for maker in self.recipe.get("generators") or []]

    @cached_property
    def manifest(self) -> Callable[[int], dict[str, Any]]:
        """Returns what gives the manifest of an iteration, which is read once."""
        return functools.cache(self._manifest)  # of this object: a cache of the class would keep each History alive

    def _manifest(self, iteration: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.folder.read(_of(iteration, "manifest.json")))
        return found

    def size(self, iteration: int) -> int:
        """Returns the number of rows of a population, all labels together."""
        return sum(self.manifest(iteration)["candidates"].values())

    def population(self, iteration: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns a population, sorted by candidate_id.

        `columns` names the columns to read, because all columns of 100,000 pictures are large.
        """
        return pa.concat_tables([read_parquet(self.folder, name, columns) for name in self._parts(iteration)])

    def records(self, iteration: int, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Returns some records of a population by candidate_id.

        It reads one row group at a time, so that memory does not grow with the population.
        """
        wanted = pa.array(sorted(set(ids)), pa.int64())
        found: dict[int, dict[str, Any]] = {}
        for name in self._parts(iteration) if len(wanted) else ():
            with parquet_file(self.folder, name) as file:
                for group in range(file.num_row_groups):
                    own = file.read_row_group(group, columns=["candidate_id"])["candidate_id"]
                    mask = pc.is_in(own, value_set=wanted)
                    if pc.any(mask).as_py():
                        rows = file.read_row_group(group).filter(mask).to_pylist()
                        found |= {row["candidate_id"]: row for row in rows}
        return found

    def _parts(self, iteration: int) -> list[str]:
        return [_of(iteration, name) for name, _ in population_files(self.manifest(iteration))]

    def histogram(self, iteration: int) -> pa.Table:
        """Returns noisy votes on population t-1 (columns candidate_id, label, noisy_votes), for t from 1 on."""
        return read_parquet(self.folder, _of(iteration, _HISTOGRAM))

    @cached_property
    def votes(self) -> Callable[[int], np.ndarray]:
        """Returns what gives noisy votes on population t-1, float64, in order of candidate_id. They are read once."""
        return functools.cache(self._votes)

    def _votes(self, iteration: int) -> np.ndarray:
        return self.histogram(iteration)["noisy_votes"].to_numpy()

    def sigma(self, iteration: int) -> float:
        """Returns the standard deviation of the noise of iteration t, in votes; 0 at epsilon = inf."""
        return float(self.privacy["noise_multiplier"][iteration - 1]) * self.sensitivity

    @cached_property
    def sensitivity(self) -> float:
        """Returns the L2 sensitivity of a histogram that the plan allows for, in votes."""
        return accounting.sensitivity(
            unit=self.privacy["unit"], adjacency=self.privacy["adjacency"], votes_per_record=self.votes_bound
        )

    @cached_property
    def votes_bound(self) -> int:
        """Returns the most votes of one record in an iteration."""
        # The bound follows from numbers and labels alone. recipe.json leaves out where the private data are.
        told = {name: value for name, value in self.recipe.items() if name in Recipe.model_fields}
        return votes_bound(Recipe.model_validate(told | {"data": told["data"] | {"path": "left out"}}))

    def thresholds(self, iteration: int) -> dict[str | None, float | None]:
        """Returns the threshold in votes of each label in iteration t; None if selection is by rank."""
        noted = self.manifest(iteration)["selection"]["threshold"]
        return {label: noted[label or ""] for label in self.labels}

    def multipliers(self, iteration: int) -> list[float]:
        """Returns the noise multipliers spent up to iteration t, with the initial measurement and what is added."""
        bought = self.privacy["label_shares_noise_multiplier"]
        spent = [float(z) for z in self.privacy["noise_multiplier"][:iteration]]
        return [*self.added, *([] if bought is None else [float(bought)]), *spent]

    def spendings(self, iteration: int) -> list[Spending]:
        """Returns what is spent up to iteration t, including the initial measurement, which sees all units.

        With what earlier releases have spent it is added up as if all units had voted.
        """
        spent, rate = self.multipliers(iteration), 1.0 if self.added else float(self.privacy.get("sampling_rate", 1))
        first = len(spent) - iteration
        return [Spending(z, rate if place >= first else 1.0) for place, z in enumerate(spent)]

    def bought(self) -> pa.Table:
        """Returns the noisy label counts or marginals of the initial measurement."""
        return read_parquet(self.folder, _of(0, _BOUGHT))

    def measured(self) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Returns each step of `privacy.measure`, as privacy.json has it, and what it counted."""
        steps = self.privacy.get("measurements", [])
        names = [_of(0, f"measured/{place}-{each['step']}.json") for place, each in enumerate(steps, start=1)]
        return [(each, json.loads(self.folder.read(name))) for each, name in zip(steps, names, strict=True)]


def _of(iteration: int, name: str) -> str:
    return f"iteration={iteration:04d}/{name}"
