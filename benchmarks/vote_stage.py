"""The vote stage beside the search that it is built on and faiss alone: time, gain that is kept, peak memory.

    python benchmarks/vote_stage.py [--records 150000] [--vectors gauss] [--repeats 3] [--json stage.json]
    python benchmarks/vote_stage.py --records 1000000 --engines int8 --tenth      # a tenth of the records as well
    python benchmarks/vote_stage.py --toy

Writes a run directory, its shards by the code of ingest, and the same vectors as one file (1.5 GB each for a million
of 384 dimensions) below --scratch, and deletes both at the end. Every measurement is a process of its own, in turn:

- faiss: `IndexFlatL2.search` with k = 1, arrays in memory; the search alone is timed.
- search: an engine by `flat_search` on the same arrays, a batch at a time; the search alone is timed.
- stage: shard names -> `pe_beam.engine.graphs.iteration.Count` -> a file of counts, on Beam's FnApiRunner; making and
  starting the pipeline and all reading are timed. `start` is what the first stage of a process takes longer: one of a
  single shard goes before it, which imports what the engine wants (torch), tries engines (`auto`), and loads the
  candidates. A process pays it once, whatever number of iterations it works on.

`workers` 2 are threads of one process with one thread of BLAS each (`execution.parallelism`, `execution.blas_threads`).
`faiss / this` is the gain, by processor time and by the clock. `kept` is the share of the search's gain that the stage
keeps (time of the search / time of the stage), and `with start` the same of a process that lives for one vote. Figures
are medians. Peaks are of the whole process (VmHWM, so Linux only). All exact counts have to be the same ones.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _place  # noqa: F401  (the repository is on the path from here)
import numpy as np
import pyarrow as pa
import yaml
from _machine import Row, show

from pe_beam.contracts.embedder import Embedder, Embedding

_TOPICS = 200
_SHARD = 8192  # rows
_RECIPE: Row = {
    "name": "vote-stage",
    "data": {"source": "sklearn", "path": "digits", "labels": ["all"], "expected_records": 1000},
    "modality": "image",
    "generator": {"name": "text-render"},
    "embedder": {"name": "pixels"},
    "evolution": {"iterations": 1, "samples": 10},
    "privacy": {"epsilon": 1, "delta": 1e-5, "adjacency": "add-or-remove-one", "unit": "record"},
}


class Normal:
    """Isotropic normal vectors: no structure, the worst case for bounds."""

    def __init__(self, dimension: int, rng: np.random.Generator) -> None:
        self._dimension, self._rng = dimension, rng

    def draw(self, count: int) -> np.ndarray:
        """Float32 (count, d)."""
        return self._rng.standard_normal((count, self._dimension), dtype=np.float32)

    def candidates(self, count: int) -> np.ndarray:
        """Float32 (count, d)."""
        return self.draw(count)


class Sentences:
    """Unit vectors with the look of sentence embeddings: topics, a slowly falling spectrum, and isotropic noise."""

    def __init__(self, dimension: int, rng: np.random.Generator) -> None:
        spectrum = np.arange(1, dimension + 1) ** -0.4
        axes, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
        self._basis = (spectrum[:, None] * axes).astype(np.float32)
        self._rng = rng
        self._topics = self._spread(_TOPICS)

    def _normal(self, count: int, scale: float = 1.0) -> np.ndarray:
        return self._rng.standard_normal((count, len(self._basis)), dtype=np.float32) * np.float32(scale)

    def _spread(self, count: int) -> np.ndarray:
        return _unit(self._normal(count) @ self._basis)

    def draw(self, count: int) -> np.ndarray:
        """Float32 (count, d), unit rows."""
        topics = self._topics[self._rng.integers(0, len(self._topics), count)]
        return _unit(topics + self._spread(count) + self._normal(count, 0.15 / len(self._basis) ** 0.5))

    def candidates(self, count: int) -> np.ndarray:
        """Float32 (count, d), of which 5% are copies, 5% a last digit away and 5% 1e-3 away from others."""
        vectors, few = self.draw(count), count // 20
        if not few:  # vectors[-0:] would be all of them
            return vectors
        vectors[-few:] = vectors[:few]
        vectors[-2 * few : -few] = np.nextafter(vectors[:few], np.float32(1))
        vectors[-3 * few : -2 * few] = _unit(vectors[few : 2 * few] + self._normal(few, 1e-3 / len(self._basis) ** 0.5))
        return vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


_VECTORS: dict[str, Callable[[int, np.random.Generator], Any]] = {"topics": Sentences, "gauss": Normal}


def write_run(
    folder: Path, *, records: int, candidates: int, dimension: int, vectors: str = "topics", plain: bool = True
) -> None:
    """Writes a run directory as it is when iteration 1 votes and, if `plain`, the records as one file of float32."""
    from pe_beam.contracts.source import SourceBatch
    from pe_beam.engine import ingest, tables
    from pe_beam.engine.run import Run
    from pe_beam.recipe.loading import parse_recipe

    recipe: Row = _RECIPE | {"data": _RECIPE["data"] | {"expected_records": records}}  # `auto` goes by it
    run = Run(str(folder), parse_recipe(recipe))
    run.store.commit("recipe.yaml", yaml.safe_dump(recipe).encode())
    made = _VECTORS[vectors](dimension, np.random.default_rng(0))
    run.store.commit(run.layout.work(1, "matrix.npy"), tables.save_array(made.candidates(candidates)))
    population = pa.table({"candidate_id": np.arange(candidates), "label": ["all"] * candidates})
    schema = pa.schema([("candidate_id", pa.int64()), ("label", pa.string())])
    run.store.commit(run.layout.public(0, "population/part-00000.parquet"), tables.table_bytes(population, schema))
    manifest = {"candidates": {"all": candidates}, "next_candidate_id": candidates, "files": {}}
    run.store.commit(run.layout.public(0, "manifest.json"), json.dumps(manifest).encode())

    run.__dict__["embedder"] = _handing_on(dimension)  # so that ingest itself writes the shards
    with (folder / "records.float32").open("wb") as file:
        for start in range(0, records, _SHARD):
            drawn = made.draw(min(_SHARD, records - start))
            if plain:
                file.write(drawn.tobytes())
            column = pa.FixedSizeListArray.from_arrays(pa.array(drawn.ravel()), dimension)
            rows = len(drawn)
            batch = SourceBatch(pa.table({"vector": column}), ["all"] * rows, [None] * rows, [""] * rows)
            sink = io.BytesIO()
            ingest._write_shard(run, iter([batch]), sink, [])
            run.store.commit(f"private/embeddings/{start:012d}.parquet", sink.getvalue())


def _handing_on(dimension: int) -> Embedder:
    """An embedder whose vectors are what the payload holds already."""

    class HandingOn(Embedder):
        def __init__(self) -> None:
            self.dimension = dimension

        def embed(self, records: pa.Table) -> Embedding:
            return Embedding(_numbers(records))

    return HandingOn()


def _numbers(payload: pa.Table) -> np.ndarray:
    column = payload["vector"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


def read_alone(folder: Path) -> None:
    """Reads and decodes all shards of a run directory, and does nothing with them."""
    import pyarrow.parquet as pq

    from pe_beam.engine.shards import listed
    from pe_beam.voting.votes import read_batch

    for shard in sorted((folder / "private" / "embeddings").iterdir()):
        for batch in pq.ParquetFile(shard, pre_buffer=False, buffer_size=4 << 20).iter_batches(_SHARD):
            read_batch(listed(batch))


def _clock(work: Callable[[], object]) -> Row:
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def stage(folder: Path, options: argparse.Namespace) -> Row:
    """The Beam stage on the first `records`, in this process; before it, on one shard. Wants `engine` and `workers`."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from pe_beam.engine.graphs.iteration import Count

    execution = {"search_engine": options.engine} | ({"blas_threads": 1} if options.workers > 1 else {})
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"execution": execution}))
    several = [f"--direct_num_workers={options.workers}", "--direct_running_mode=multi_threading"]
    flags = ["--runner=FnApiRunner", *(several if options.workers > 1 else [])]
    shards = sorted((folder / "private" / "embeddings").iterdir())[: -(-options.records // _SHARD)]
    names, target = [str(shard.relative_to(folder)) for shard in shards], folder / "counts.npy"

    def run(names: list[str]) -> None:
        with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
            shards = pipeline | "Shards" >> beam.Create(names) | "SpreadShards" >> beam.Reshuffle()
            counts = shards | "Count" >> Count(str(folder), 1, unit="record")
            _ = counts | "Save" >> beam.Map(lambda tally: np.save(target, tally.counts))

    first, again, whole = (_clock(lambda some=some: run(some)) for some in (names[:1], names[:1], names))
    return whole | {"start": first["cpu"] - again["cpu"]} | _told(np.load(target))


def _searched(folder: Path, options: argparse.Namespace) -> Row:
    """An engine's own search, arrays in memory, in this process."""
    from pe_beam.voting.nearest import flat_search

    queries, candidates = _arrays(folder, options.records)
    search = flat_search(candidates, distance="l2", votes=1, search_engine=options.engine)
    search.nearest(queries[:_SHARD])  # torch sets up its products
    found: list[np.ndarray] = []
    parts = range(0, len(queries), _SHARD)
    times = _clock(lambda: found.extend(search.nearest(queries[at : at + _SHARD]) for at in parts))
    return times | _told(np.bincount(np.concatenate(found).ravel(), minlength=len(candidates)))


def _faiss(folder: Path, options: argparse.Namespace) -> Row:
    """faiss's own search, arrays in memory, in this process. Its votes are not exact."""
    import faiss

    queries, candidates = _arrays(folder, options.records)
    index = faiss.IndexFlatL2(candidates.shape[1])
    index.add(candidates)
    return _clock(lambda: index.search(queries, 1)) | {"votes": len(queries), "counts": None}


def _arrays(folder: Path, records: int) -> tuple[np.ndarray, np.ndarray]:
    candidates = np.load(folder / "work" / "iteration=0001" / "matrix.npy")
    numbers = np.fromfile(folder / "records.float32", dtype=np.float32, count=records * candidates.shape[1])
    return numbers.reshape(-1, candidates.shape[1]), candidates


def _told(counts: np.ndarray) -> Row:
    return {"votes": int(counts.sum()), "counts": hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest()}


_MEASURES = {"faiss": _faiss, "search": _searched, "stage": stage}


def _peak() -> float:
    """Largest resident memory of this process so far, MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def measure(
    what: str, folder: Path, *, records: int, engine: str = "auto", workers: int = 1, threads: int | None = None
) -> Row:
    """One measurement in a fresh process; prints it. None: as many threads as BLAS takes by itself."""
    command = [sys.executable, __file__, "--only", what, "--scratch", str(folder), "--records", str(records)]
    command += ["--engine", engine or "auto", "--workers", str(workers)]
    bound = {} if threads is None else {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | bound)
    result: Row = json.loads(done.stdout.splitlines()[-1])
    figures = f"{result['seconds']:8.2f} s  CPU {result['cpu']:8.2f} s  peak {result['peak']:7.0f} MB"
    print(f"{what:>6} {engine:>5} {records:>10,} records, workers {workers} {figures}", flush=True)
    return result


_Key = tuple[str, str, int, int]
"""What is measured, engine, workers, records."""


def compare(options: argparse.Namespace) -> list[Row]:
    """Writes the data, measures in turn, and returns medians."""
    whole, tenth = options.records, -(-options.records // (10 * _SHARD)) * _SHARD
    asked: list[_Key] = [("faiss", "", 1, whole)]
    for engine in options.engines:
        asked += [("search", engine, 1, whole), ("stage", engine, 1, whole)]
        asked += [("stage", engine, options.workers, whole)] if options.workers > 1 else []
        asked += [("stage", engine, 1, tenth)] if options.tenth else []
    turns: dict[_Key, list[Row]] = {key: [] for key in asked}
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="vote-stage-") as name:
        sizes = {key: getattr(options, key) for key in ("records", "candidates", "dimension", "vectors")}
        write_run(Path(name), **sizes)
        for _ in range(options.repeats):
            for key in asked:
                what, engine, workers, records = key
                settings = {"engine": engine, "workers": workers, "threads": options.threads}
                turns[key].append(measure(what, Path(name), records=records, **settings))
    exact = {turn["counts"] for (_, _, _, records), of in turns.items() if records == whole for turn in of}
    if len(exact - {None}) != 1:
        raise SystemExit("engines, or search and stage, have counted differently")
    told = {"vectors": options.vectors, "candidates": options.candidates, "dimension": options.dimension}
    return [_row(key, turns, told) for key in asked]


def _row(key: _Key, turns: dict[_Key, list[Row]], told: Row) -> Row:
    what, engine, workers, records = key
    (_, _, _, whole), *_ = turns

    def median(of: _Key, unit: str) -> float:
        """Of as many records as this row has."""
        return float(np.median([turn[unit] for turn in turns[of]])) * records / of[3]

    row: Row = {"what": what, "engine": engine, **told, "workers": workers, "records": records}
    cpu, seconds = median(key, "cpu"), median(key, "seconds")
    row |= {"cpu": cpu, "seconds": seconds, "us a record, cpu": cpu / records * 1e6}
    row["peak MB"] = max(turn["peak"] for turn in turns[key])
    flat, alone = ("faiss", "", 1, whole), ("search", engine, 1, whole)
    row |= {f"faiss / this, {unit}": median(flat, unit) / row[unit] for unit in ("cpu", "seconds")}
    if what != "stage":
        return row | dict.fromkeys(("kept, cpu", "kept, seconds", "start, cpu", "with start, cpu"), np.nan)
    row |= {f"kept, {unit}": median(alone, unit) / row[unit] for unit in ("cpu", "seconds")}
    start = float(np.median([turn["start"] for turn in turns[key]]))
    return row | {"start, cpu": start, "with start, cpu": median(alone, "cpu") / (cpu + start)}


def main() -> None:
    """Compares, or is one measurement of a comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=150_000)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--vectors", choices=list(_VECTORS), default="topics")
    parser.add_argument("--engines", nargs="+", default=["int8", "auto"])
    parser.add_argument("--workers", type=int, default=2, help="the stage is measured with one worker and with these")
    parser.add_argument("--threads", type=int, help="of BLAS and OpenMP; as many as there are cores if left out")
    parser.add_argument("--tenth", action="store_true", help="the stage on a tenth of the records as well")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--scratch", type=Path, help="where the temporary folder goes")
    parser.add_argument("--only", choices=list(_MEASURES), help=argparse.SUPPRESS)
    parser.add_argument("--engine", default="auto", help=argparse.SUPPRESS)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.toy:
        options.records, options.candidates, options.dimension, options.repeats = 20_000, 100, 16, 1
        options.engines, options.tenth = ["auto"], True
    if options.only is None:
        show("vote stage", compare(options), options.json)
        return
    result = _MEASURES[options.only](options.scratch, options)
    if result["votes"] != options.records:
        raise SystemExit(f"{result['votes']} votes were counted")
    print(json.dumps(result | {"peak": _peak()}))


if __name__ == "__main__":
    main()
