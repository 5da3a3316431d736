"""Streams of table rows that drift and jump, and a stream's evolution as a plain NumPy loop: no Beam, no files.

Noise here is NumPy's, for speed: these are benchmarks on public data, never a release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import yaml
from _place import RECIPES

from pe_beam.contracts.generator import Step
from pe_beam.contracts.metric import Comparison
from pe_beam.engine.run import Run
from pe_beam.modalities.tabular.metrics import marginal_distances, transport_distances
from pe_beam.recipe.identity import to_plain
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import make_plan
from pe_beam.selection.samplers import draw
from pe_beam.selection.threshold import threshold_in_votes, weights_above
from pe_beam.voting.votes import CandidateMatrix, Voter

JUMP = 8
"""The window, from 0, at which data jump."""


@dataclass(frozen=True)
class Days:
    """Windows of rows, and what is declared of them.

    Attributes:
      schema: of the table.
      figure: the distance that is told, as the metrics of tables name it.
      rows: index of a window and a generator -> table of private rows and table of held-out rows.
      settings: of the recipe, by dotted key.
    """

    schema: dict[str, Any]
    figure: str
    rows: Callable[[int, np.random.Generator], tuple[pa.Table, pa.Table]]
    settings: Mapping[str, Any]


def clusters(size: int, *, seed: int, jumps: bool, columns: int = 3, groups: int = 5) -> Days:
    """Normal clusters in a unit cube, whose centres walk; at a jump all of them are elsewhere."""
    names = [f"x{i}" for i in range(columns)]

    def centres(window: int) -> np.ndarray:
        after = jumps and window >= JUMP
        rng = np.random.default_rng([seed, int(after)])
        begin, way = rng.uniform(0.15, 0.85, (groups, columns)), rng.normal(size=(groups, columns))
        at = begin + 0.02 * window * way / np.linalg.norm(way, axis=1, keepdims=True)
        return 1 - np.abs(1 - np.abs(at) % 2)  # walls throw them back

    def rows(window: int, rng: np.random.Generator) -> tuple[pa.Table, pa.Table]:
        at, both = centres(window), []
        for _ in range(2):
            found = at[rng.integers(0, groups, size)] + rng.normal(0, 0.04, (size, columns))
            both.append(pa.table(dict(zip(names, np.clip(found, 0, 1).T, strict=True))))
        return both[0], both[1]

    schema = {"columns": {name: {"type": "float", "min": 0, "max": 1} for name in names}}
    return Days(schema, f"wasserstein_{min(columns, 3)}way", rows, {"generator.steps": "gaussian"})


def adult(size: int, *, path: Path, jumps: bool) -> Days:
    """Adult in the order of age, which is left out: people grow older by and by, or all at once by half a life."""
    columns = dict(yaml.safe_load((RECIPES / "adult.yaml").read_text())["data"]["schema"]["columns"])
    table = pyarrow.csv.read_csv(path).take(np.random.default_rng(0).permutation(pyarrow.csv.read_csv(path).num_rows))
    order = np.argsort(table["age"].to_numpy(), kind="stable")
    del columns["age"]
    columns["income>50K"] = {"type": "categorical", "values": [0, 1]}
    table = table.take(order).select(list(columns))
    for name, column in columns.items():
        if column["type"] == "categorical":
            column["values"] = [str(value) for value in column["values"]]
            table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.string()))

    def rows(window: int, rng: np.random.Generator) -> tuple[pa.Table, pa.Table]:
        place = window if not jumps else window // 4 if window < JUMP else 11 + (window - JUMP) // 4
        own = rng.permutation(2 * size) + 2 * size * place
        return table.take(own[:size]), table.take(own[size:])

    return Days({"columns": columns}, "tvd_2way", rows, {"generator.steps": "redraw"})


def recipe_of(days: Days, settings: Mapping[str, Any]) -> Recipe:
    """The recipe of one window."""
    raw: dict[str, Any] = {
        "name": "drift",
        "data": {"source": "parquet", "path": "none.parquet", "schema": days.schema},
        "modality": "tabular",
        "generator": {"name": "tabular"},
        "embedder": {"name": "tabular"},
        "evolution": {"samples": 500},
        "privacy": {"epsilon": 1, "delta": 1e-5},
    }
    for key, value in {**days.settings, **settings}.items():
        section, name = key.split(".")
        raw[section][name] = value
    return parse_recipe(raw)


@dataclass(frozen=True)
class Way:
    """How a stream goes on: its name, share of new candidates (1: cold), and settings of the recipe."""

    name: str
    fresh: float
    settings: Mapping[str, Any]


def distances(days: Days, way: Way, *, windows: int, seed: int) -> list[float]:
    """Distance of each window's samples to the held-out rows of that window."""
    run = Run("memory://nowhere", recipe_of(days, way.settings))
    rng, rows = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    samples: pa.Table | None = None
    found = []
    for window in range(windows):
        private, held_out = days.rows(window, rows)
        samples = _evolved(run, private, _started(run, samples, way.fresh, rng), rng)
        found.append(distance(days, run.recipe, samples, held_out))
    return found


def floor(days: Days, *, windows: int, seed: int) -> list[float]:
    """The distance of the private rows themselves, as many as there are samples."""
    recipe, rows = recipe_of(days, {}), np.random.default_rng([seed, 2])
    pairs = [days.rows(window, rows) for window in range(windows)]
    return [distance(days, recipe, private.slice(0, recipe.evolution.samples), held_out) for private, held_out in pairs]


def _started(run: Run, before: pa.Table | None, fresh: float, rng: np.random.Generator) -> pa.Table:
    """The first population of a window: new candidates, and for the rest some of the samples before."""
    size = make_plan(run.recipe).candidates[0]
    population = run.generator.random([None] * size, rng.spawn(size))
    if before is None or fresh == 1:
        return population
    kept = min(size - int(np.floor(size * fresh + 0.5)), before.num_rows)
    chosen = rng.choice(before.num_rows, kept, replace=False)
    return pa.concat_tables([before.take(chosen), population.slice(0, size - kept)])


def _evolved(run: Run, private: pa.Table, population: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Samples of one window."""
    evolution, plan = run.recipe.evolution, make_plan(run.recipe)
    real = run.embedder.embed(private).vectors
    for t in range(1, evolution.iterations + 1):
        turn, sigma, vectors = evolution.turn(t), plan.schedule.sigmas[t - 1], run.embedder.embed(population).vectors
        matrix = CandidateMatrix(np.arange(len(vectors)), np.zeros(len(vectors), np.int32), vectors)
        counts = Voter(matrix, distance="l2", votes_per_record=1).count(real, np.zeros(len(real), np.int32))
        noisy = counts + rng.normal(0, sigma, len(counts))
        height = threshold_in_votes(turn.threshold, sigma)
        assert height is not None
        drawn = draw(weights_above(noisy, height)[0], plan.candidates[t] // turn.family, method=turn.selection, rng=rng)
        parents = population.take(np.repeat(np.arange(len(drawn)), drawn))
        step = Step(iteration=t, iterations=evolution.iterations, degree=evolution.degrees()[t - 1])
        own = parents.append_column("label", pa.nulls(parents.num_rows, pa.string()))
        made = [run.generator.vary(own, step, rng.spawn(parents.num_rows)) for _ in range(turn.variations)]
        population = pa.concat_tables([parents] * turn.keep_parents + [x.select(parents.column_names) for x in made])
    return population


def distance(days: Days, recipe: Recipe, samples: pa.Table, held_out: pa.Table) -> float:
    """The distance of samples to held-out rows, in the figure that is told of these windows."""
    label = pa.nulls(samples.num_rows, pa.string())
    comparison = Comparison(
        iteration=recipe.evolution.iterations,
        samples=samples.select(held_out.column_names).add_column(0, "label", label),
        held_out=held_out.add_column(0, "label", pa.nulls(held_out.num_rows, pa.string())),
        training=None,
        labels=None,
        recipe=to_plain(recipe),
        seed=0,
    )
    measure = marginal_distances if days.figure.startswith("tvd") else transport_distances
    return measure(comparison).figures[days.figure]
