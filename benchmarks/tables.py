"""Figures of tables: Adult and breast cancer at epsilon 1, 30 iterations in time, ten million rows in memory.

    python benchmarks/tables.py adult --data ../shared/data/adult.csv
    python benchmarks/tables.py breast-cancer
    python benchmarks/tables.py iterations --data ../shared/data/adult.csv
    python benchmarks/tables.py rows --rows 10000000
    python benchmarks/tables.py --toy               on next to nothing; Adult is made up

Adult: 70 / 30 split, random_state 0; XGBoost (its defaults) is trained on 1,000 samples and tested on the 30%; total
variation distances are those of `pe_beam.modalities.tabular.metrics`, against the same 30%. Quality is the median over
seeds of the recipe, each with a secret of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import yaml
from _place import RECIPES

from pe_beam.contracts.metric import Comparison
from pe_beam.driver.loop import evolve
from pe_beam.engine.frozen import read_index
from pe_beam.engine.run import open_run
from pe_beam.engine.shards import listed
from pe_beam.modalities.tabular.metrics import classifiers, marginal_distances
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.recipe.identity import to_plain, to_yaml
from pe_beam.recipe.loading import load_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sources import source_at
from pe_beam.storage.parquet import read_parquet

_INNER = ["loop", "rows-in-one-process"]  # what the others start in a process of its own


def main() -> None:
    """Runs one of the four."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["adult", "breast-cancer", "iterations", "rows", *_INNER])
    parser.add_argument("--data", help="adult.csv, integer-coded")
    parser.add_argument("--seeds", type=int, help="runs of which the median is told (default: 3; breast cancer 5)")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--set", action="append", default=[], help="a.b=c of the recipe")
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.what is None and not options.toy:
        parser.error("adult, breast-cancer, iterations, rows or --toy is wanted")
    with tempfile.TemporaryDirectory() as folder:
        if options.toy:
            toy(Path(folder))
        elif options.what == "breast-cancer":
            quality("breast-cancer", Path(folder), options.seeds or 5, options.set)
        elif options.what == "adult":
            split(Path(options.data), Path(folder))
            real_subsample(Path(folder), options.seeds or 3)
            quality("adult", Path(folder), options.seeds or 3, options.set)
        elif options.what == "iterations":
            split(Path(options.data), Path(folder))
            iterations(Path(folder))
        elif options.what == "loop":
            loop(Path(options.data))
        elif options.what == "rows":
            rows(Path(folder), (options.rows // 10, options.rows))
        else:
            one_process(Path(os.environ["PE_BEAM_ROWS"]))


def toy(folder: Path) -> None:
    """Every measurement once, on a few made-up rows."""
    little = ["evolution.samples=40", "evolution.iterations=1", "evolution.population=40"]
    made_up(folder / "adult.csv", 600)
    split(folder / "adult.csv", folder)
    real_subsample(folder, 1, rows=100)
    quality("adult", folder, 1, little)
    iterations(folder, rounds=1, candidates=40, pairs=1, unrolled=False)
    rows(folder, [2000])


def made_up(path: Path, count: int) -> None:
    """A file of the columns that Adult's recipe declares, drawn evenly."""
    schema, rng = TableSchema.model_validate(_adult()["schema"]), np.random.default_rng(0)
    columns = {
        name: rng.integers(int(column.low), int(column.high) + 1, count) for name, column in schema.columns.items()
    }
    pyarrow.csv.write_csv(pa.table(columns | {"income>50K": rng.integers(0, 2, count)}), path)


def _adult() -> dict[str, Any]:
    return dict(yaml.safe_load((RECIPES / "adult.yaml").read_text())["data"])


def split(data: Path, folder: Path) -> None:
    """Cuts Adult as the figures of others do."""
    from sklearn.model_selection import train_test_split

    table = pyarrow.csv.read_csv(data)
    train, test = train_test_split(np.arange(table.num_rows), test_size=0.3, random_state=0)
    pyarrow.csv.write_csv(table.take(train), folder / "adult-train.csv")
    pyarrow.csv.write_csv(table.take(test), folder / "adult-test.csv")


def _recipe(name: str, folder: Path, overrides: list[str]) -> Recipe:
    paths = []
    if name == "adult":
        paths = [f"data.path={folder}/adult-train.csv", f"data.holdout={folder}/adult-test.csv"]
    return load_recipe(RECIPES / f"{name}.yaml", [*paths, *overrides])


def _records(run: Any, path: str, part: str) -> pa.Table:
    source = source_at(run.recipe, path, part=part)
    batches = [batch for piece in source.pieces() for batch in source.read(piece)]
    return pa.concat_tables([b.payload.append_column("label", pa.array(b.labels, pa.string())) for b in batches])


def _figures(recipe: Recipe, samples: pa.Table, held_out: pa.Table) -> dict[str, float]:
    comparison = Comparison(
        iteration=recipe.evolution.iterations,
        samples=samples,
        held_out=held_out,
        training=None,
        labels=recipe.data.labels,
        recipe=to_plain(recipe),
        seed=0,
    )
    found = {**classifiers(comparison).figures, **marginal_distances(comparison).figures}
    return {key: value for key, value in found.items() if key.startswith(("xgboost", "hist", "tvd"))}


def _tell(name: str, found: list[dict[str, float]]) -> None:
    for key in found[0]:
        values = [each[key] for each in found]
        listed = " ".join(f"{value:.3f}" for value in values)
        print(f"{name:16} {key:36} median {np.median(values):.3f}   ({listed})", flush=True)


def quality(name: str, folder: Path, seeds: int, overrides: list[str]) -> None:
    """Runs a shipped recipe with several seeds and tells medians."""
    found = []
    for seed in range(seeds):
        recipe, run_dir = _recipe(name, folder, [f"seed={seed}", *overrides]), folder / f"{name}-{seed}"
        began = time.time()
        evolve(recipe, run_dir)
        print(f"{name}, seed {seed}: {time.time() - began:.0f} s", flush=True)
        run = open_run(run_dir)
        holdout = recipe.data.holdout if isinstance(recipe.data.holdout, str) else recipe.data.path
        samples = pq.read_table(run_dir / "release/samples.parquet")
        found.append(_figures(recipe, samples, _records(run, holdout, "test")))
    _tell(name, found)


def real_subsample(folder: Path, seeds: int, *, rows: int = 1000) -> None:
    """What real training rows reach by the same measure."""
    from pe_beam.engine.run import Run

    recipe = _recipe("adult", folder, [])
    run = Run(str(folder), recipe)
    train, test = (_records(run, f"{folder}/adult-{part}.csv", part) for part in ("train", "test"))
    found = []
    for seed in range(seeds):
        chosen = np.random.default_rng(seed).choice(train.num_rows, rows, replace=False)
        found.append(_figures(recipe, train.take(chosen), test))
    _tell(f"{rows:,} real rows", found)


ROUNDS, CANDIDATES, PAIRS = 30, 1000, 3


def iterations(
    folder: Path, *, rounds: int = ROUNDS, candidates: int = CANDIDATES, pairs: int = PAIRS, unrolled: bool = True
) -> None:
    """The whole command, 30 iterations on 1,000 candidates, as the reference runs them; beside it a bare loop."""
    settings = {
        "evolution.iterations": rounds,
        "evolution.population": candidates,
        "evolution.smoothing": 0,
        "privacy.measure": "null",
        "evolution.repeats": "any",
        "evolution.draws": "weighted",
        "generator.steps": "uniform",
        "execution.blas_threads": 1,
    }
    recipe = _recipe("adult", folder, [f"{key}={value}" for key, value in settings.items()])
    (folder / "thirty.yaml").write_text(to_yaml(recipe))
    ours, bare = [], []
    for pair in range(pairs):
        run = ["-m", "pe_beam", "run", str(folder / "thirty.yaml"), "--run-dir", str(folder / f"thirty-{pair}")]
        ours.append(_timed(run))
        bare.append(_timed([__file__, "loop", "--data", str(folder / "adult-train.csv")]))
    if unrolled:
        _timed([*run[:-1], str(folder / "unrolled"), "--unroll"], "one job for all")
    for name, found in (("a job an iteration", ours), ("bare NumPy loop", bare)):
        listed = " ".join(f"{seconds:.1f}" for seconds in found)
        print(f"{rounds} iterations, {name}: median {np.median(found):.1f} s ({listed})", flush=True)


def _timed(arguments: list[str], name: str = "") -> float:
    """Seconds of a Python command, its start included."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    wall, spent = time.time() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before.ru_utime
    print(f"  {name or arguments[1]}: {wall:.1f} s, of processors {spent:.1f} s", flush=True)
    return wall


def loop(path: Path) -> None:
    """Tab-PE as a script would write it: float32, noise a float normal, ties as they fall, nothing kept."""
    schema, rng = TableSchema.model_validate(_adult()["schema"]), np.random.default_rng(0)
    columns = list(schema.columns.values())
    low, high = (np.array([getattr(column, end) for column in columns]) for end in ("low", "high"))
    choices = np.array([bool(column.choices) for column in columns])
    table = pyarrow.csv.read_csv(path)
    codes = np.column_stack([table[name].to_numpy() for name in schema.columns]).astype(np.float64)
    truth = table["income>50K"].to_numpy()

    def embedded(rows: np.ndarray) -> np.ndarray:
        parts = [
            np.eye(int(high[i]) + 1)[rows[:, i].astype(int)] / 3
            if choices[i]
            else ((rows[:, i] - low[i]) / (high[i] - low[i]))[:, None]
            for i in range(len(columns))
        ]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    records, labels = embedded(codes), np.arange(CANDIDATES) % 2
    made = np.round(low + rng.random((CANDIDATES, len(columns))) * (high - low))
    for turn in range(ROUNDS):
        degree, vectors = 0.1, embedded(made)
        for label in (0, 1):
            own = np.flatnonzero(labels == label)
            near = (records[truth == label] @ vectors[own].T - (vectors[own] ** 2).sum(axis=1) / 2).argmax(axis=1)
            votes = np.bincount(near, minlength=len(own)) + rng.normal(0, 21.6, len(own))
            shares = np.maximum(votes, 1e-9)
            made[own] = made[own][rng.choice(len(own), len(own), p=shares / shares.sum())]
        if turn + 1 < ROUNDS:
            drawn = np.round(low + rng.random(made.shape) * (high - low))
            moved = np.clip(np.round(made + rng.uniform(-degree, degree, made.shape) * (high - low)), low, high)
            made = np.where(choices, np.where(rng.random(made.shape) < degree, drawn, made), moved)
    print(made.mean(axis=0))


def _schema() -> dict[str, Any]:
    columns: dict[str, Any] = {f"x{i}": {"type": "float", "min": 0, "max": 1} for i in range(10)}
    columns |= {f"n{i}": {"type": "integer", "min": 0, "max": 999} for i in range(5)}
    columns |= {f"c{i}": {"type": "categorical", "values": list("abcdefgh")} for i in range(5)}
    return {"columns": columns}


def write_rows(path: Path, count: int) -> None:
    """20 columns: 10 floats, 5 whole numbers, 5 categories, in row groups of 65,536."""
    rng = np.random.default_rng(0)
    writer = None
    for start in range(0, count, 65_536):
        size = min(65_536, count - start)
        columns: dict[str, Any] = {f"x{i}": rng.random(size) for i in range(10)}
        columns |= {f"n{i}": rng.integers(0, 1000, size) for i in range(5)}
        letters = np.array(list("abcdefgh"))
        columns |= {f"c{i}": letters[rng.integers(0, 8, size)] for i in range(5)}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(
            path, table.schema, compression="none", use_dictionary=[f"c{i}" for i in range(5)]
        )
        writer.write_table(table)
    if writer:
        writer.close()


def rows(folder: Path, sizes: Sequence[int]) -> None:
    """Ingest and one vote on many rows, in a process of its own at each size: memory has to be the same."""
    for size in sizes:
        here = folder / str(size)
        here.mkdir()
        write_rows(here / "rows.parquet", size)
        (here / "size").write_text(str(size))
        command = [sys.executable, __file__, "rows-in-one-process"]
        subprocess.run(command, check=True, env={**os.environ, "PE_BEAM_ROWS": str(here)})
        for file in here.rglob("*.parquet"):
            file.unlink()


def one_process(folder: Path) -> None:
    """What a worker does: pieces are embedded, then voted on, one after the other; beside it a bare NumPy loop."""
    from threadpoolctl import threadpool_limits

    from pe_beam.driver.loop import embed_only
    from pe_beam.voting.votes import CandidateMatrix, Voter, read_batch

    size = int((folder / "size").read_text())
    recipe_data = {
        "name": "rows",
        "data": {"source": "parquet", "path": str(folder / "rows.parquet"), "schema": _schema()},
        "modality": "tabular",
        "generator": {"name": "tabular"},
        "embedder": {"name": "tabular"},
        "evolution": {"iterations": 1, "samples": 1000},
        "privacy": {"epsilon": 1, "delta": 1e-9},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe_data))
    with threadpool_limits(1):
        began, cpu = time.time(), time.process_time()
        embed_only(load_recipe(folder / "recipe.yaml"), folder / "run", [])
        told("ingest through Beam", size, began, cpu)
        run = open_run(folder / "run")
        rngs = [np.random.default_rng(i) for i in range(1000)]
        candidates = run.embedder.embed(run.generator.random([None] * 1000, rngs)).vectors
        matrix = CandidateMatrix(np.arange(1000), np.zeros(1000, np.int32), candidates)
        voter = Voter(matrix, distance="l2", votes_per_record=1)
        began, cpu, counts = time.time(), time.process_time(), np.zeros(1000, np.int64)
        for shard in (read_index(run) or {})["shards"]:
            vectors, labels, _ = read_batch(listed(read_parquet(run.store, shard["shard"])))
            counts += voter.count(vectors, labels)
        told("vote, exact", size, began, cpu)
        assert counts.sum() == size
        began, cpu, bare = time.time(), time.process_time(), np.zeros(1000, np.int64)
        half = (candidates**2).sum(axis=1) / 2
        for shard in (read_index(run) or {})["shards"]:
            vectors, _, _ = read_batch(listed(read_parquet(run.store, shard["shard"])))
            bare += np.bincount((vectors @ candidates.T - half).argmax(axis=1), minlength=1000)
        told("vote, bare NumPy loop", size, began, cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{size:>11,} rows: peak {peak:.0f} MB; counts that differ from NumPy's: {np.abs(counts - bare).sum() // 2}")


def told(what: str, size: int, began: float, cpu: float) -> None:
    """Wall time and processor time of a step."""
    wall, own = time.time() - began, time.process_time() - cpu
    print(f"{size:>11,} rows: {what:24} {wall:7.1f} s, {size / own:>10,.0f} rows a second of processor", flush=True)


if __name__ == "__main__":
    main()
