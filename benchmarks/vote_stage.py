"""The vote stage against faiss alone: throughput and peak memory, on vectors shaped like sentence embeddings.

    python benchmarks/vote_stage.py [--records 1000000] [--candidates 10000] [--dimension 384] [--repeats 3]
    python benchmarks/vote_stage.py --workers 2 --records 500000
    python benchmarks/vote_stage.py --toy

Writes a run directory, its shards by the code of ingest, and the same vectors as one file for faiss (1.5 GB each at
the defaults) below --scratch, and deletes both at the end. Every measurement is a process of its own, in turn:

- faiss: `IndexFlatL2.search` with k = 1 and its default threads, arrays in memory; the search alone is timed.
- stage: shard names -> `pe_beam.engine.graphs.iteration.Vote` -> a file of counts, on Beam's FnApiRunner; making and
  starting the pipeline, the candidate matrix and all reading are timed, Python's imports are not.

With --workers 2 the stage runs in two workers (threads of one process) with one BLAS thread each, and
its yardstick is two bare processes that read and vote on half the shards each, without Beam.

Peaks are of the whole process (VmHWM, so Linux only). The stage is measured on a tenth of the shards as well: its
memory must not grow with the records.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from pe_beam.contracts.embedder import Embedder, Embedding

_TOPICS = 200
_SHARD = 8192  # rows
_RECIPE = {
    "name": "vote-stage",
    "data": {"source": "sklearn", "path": "digits", "labels": ["all"], "expected_records": 1000},
    "modality": "image",
    "generator": {"name": "text-render"},
    "embedder": {"name": "pixels"},
    "evolution": {"iterations": 1, "samples": 10},
    "privacy": {"epsilon": 1, "delta": 1e-5, "adjacency": "add-or-remove-one", "unit": "record"},
}


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


def write_run(folder: Path, options: argparse.Namespace) -> list[str]:
    """A run directory as it is when iteration 1 votes, and the same arrays for faiss; returns its shards."""
    from pe_beam.contracts.source import SourceBatch
    from pe_beam.engine import ingest, tables
    from pe_beam.engine.run import Run
    from pe_beam.recipe.loading import parse_recipe

    run = Run(str(folder), parse_recipe(_RECIPE))
    run.store.commit("recipe.yaml", yaml.safe_dump(_RECIPE).encode())
    sentences = Sentences(options.dimension, np.random.default_rng(0))
    candidates = sentences.candidates(options.candidates)
    run.store.commit(run.layout.work(1, "matrix.npy"), tables.save_array(candidates))
    population = pa.table({"candidate_id": np.arange(len(candidates)), "label": ["all"] * len(candidates)})
    schema = pa.schema([("candidate_id", pa.int64()), ("label", pa.string())])
    run.store.commit(run.layout.public(0, "population/part-00000.parquet"), tables.table_bytes(population, schema))
    manifest = {"candidates": {"all": len(candidates)}, "next_candidate_id": len(candidates), "files": {}}
    run.store.commit(run.layout.public(0, "manifest.json"), json.dumps(manifest).encode())

    run.__dict__["embedder"] = _handing_on(options.dimension)  # so that ingest itself writes the shards
    shards = []
    with (folder / "records.float32").open("wb") as records:
        for start in range(0, options.records, _SHARD):
            vectors = sentences.draw(min(_SHARD, options.records - start))
            records.write(vectors.tobytes())
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), options.dimension)
            rows = len(vectors)
            batch = SourceBatch(pa.table({"vector": column}), ["all"] * rows, [None] * rows, [""] * rows)
            sink = io.BytesIO()
            ingest._write_shard(run, iter([batch]), sink, [])
            shards.append(f"private/embeddings/{start:012d}.parquet")
            run.store.commit(shards[-1], sink.getvalue())
    return shards


def _handing_on(dimension: int) -> Embedder:
    """An embedder whose vectors are what the payload holds already."""

    class HandingOn(Embedder):
        def __init__(self) -> None:
            self.dimension = dimension

        def embed(self, records: pa.Table) -> Embedding:
            return Embedding(_rows(records))

    return HandingOn()


def _rows(payload: pa.Table) -> np.ndarray:
    column = payload["vector"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


def stage(folder: Path, options: argparse.Namespace, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Seconds of the Beam stage on the first --records records, in this process."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from threadpoolctl import threadpool_info

    from pe_beam.engine.graphs.iteration import Count

    shards = sorted((folder / "private" / "embeddings").iterdir())[: -(-options.records // _SHARD)]
    names = [str(shard.relative_to(folder)) for shard in shards]
    target = folder / "counts.npy"
    began, cpu = time.perf_counter(), time.process_time()
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner", *flags])) as pipeline:
        counts = (
            pipeline
            | "Shards" >> beam.Create(names)
            | "SpreadShards" >> beam.Reshuffle()
            | "Count" >> Count(str(folder), 1, unit="record")
        )
        _ = counts | "Save" >> beam.Map(lambda tally: np.save(target, tally.counts))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    votes = int(np.load(target).sum())
    blas = [
        f"{x['internal_api']} {x['version']} {x['architecture']}" for x in threadpool_info() if "numpy" in x["filepath"]
    ]
    return {"seconds": seconds, "cpu": cpu, "votes": votes, "blas": ", ".join(blas)}


def workers(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """As `stage`, in --workers workers of Beam, as threads: what execution.parallelism asks for."""
    flags = [f"--direct_num_workers={options.workers}", "--direct_running_mode=multi_threading"]
    return stage(folder, options, flags)


def bare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds in which --workers processes without Beam vote on a part of the shards each, from start to end."""
    command = [sys.executable, __file__, "--only", "part", "--scratch", str(folder), "--workers", str(options.workers)]
    command += ["--records", str(options.records)]
    began = time.perf_counter()
    parts = [
        subprocess.Popen([*command, "--part", str(part)], stdout=subprocess.PIPE, text=True)
        for part in range(options.workers)
    ]
    results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in parts]
    total = {key: sum(result[key] for result in results) for key in ("cpu", "votes")}
    return total | {"seconds": time.perf_counter() - began}


def part(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One of the processes of `bare`."""
    import pyarrow.parquet as pq
    from threadpoolctl import threadpool_limits

    from pe_beam.engine import matrices
    from pe_beam.engine.run import open_run
    from pe_beam.voting.votes import read_batch

    threadpool_limits(limits=1)
    voter = matrices.load_voter(open_run(folder), 1)
    shards = sorted((folder / "private" / "embeddings").iterdir())[: -(-options.records // _SHARD)]
    votes = 0
    for shard in shards[options.part :: options.workers]:
        votes += int(voter.count(*read_batch(pq.read_table(shard))[:2]).sum())
    return {"seconds": 0.0, "cpu": time.process_time(), "votes": votes}


def faiss_alone(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of faiss's own search, arrays in memory, in this process."""
    import faiss

    queries = np.fromfile(folder / "records.float32", dtype=np.float32).reshape(-1, options.dimension)
    candidates = np.load(folder / "work" / "iteration=0001" / "matrix.npy")
    index = faiss.IndexFlatL2(options.dimension)
    index.add(candidates)
    began, cpu = time.perf_counter(), time.process_time()
    index.search(queries[: options.records], 1)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "votes": min(options.records, len(queries))}


_MEASURES = {"stage": stage, "faiss": faiss_alone, "workers": workers, "bare": bare, "part": part}


def _peak() -> float:
    """Largest resident memory of this process so far, MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def measure(what: str, folder: Path, records: int, options: argparse.Namespace) -> dict[str, Any]:
    """One measurement in a fresh process; prints it."""
    command = [sys.executable, __file__, "--only", what, "--scratch", str(folder)]
    for name, value in (("records", records), ("candidates", options.candidates), ("dimension", options.dimension)):
        command += [f"--{name}", str(value)]
    command += ["--workers", str(options.workers)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    figures = f"{result['seconds']:8.2f} s  CPU {result['cpu']:8.2f} s  peak {result['peak']:7.0f} MB"
    print(f"{what:>6} {records:>10,} records {figures}", flush=True)
    return result


def compare(options: argparse.Namespace) -> None:
    """Writes the data, measures in turn, prints the medians."""
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="vote-stage-") as name:
        folder = Path(name)
        write_run(folder, options)
        tenth = options.records // 10
        small = measure("stage", folder, max(_SHARD, tenth - tenth % _SHARD), options)
        turns = []
        for _ in range(options.repeats):
            turns.append([measure(what, folder, options.records, options) for what in ("faiss", "stage")])
    flat, whole = (np.median([turn[which]["seconds"] for turn in turns]) for which in (0, 1))
    busy = np.median([turn[0]["cpu"] / turn[1]["cpu"] for turn in turns])
    ratios = [turn[0]["seconds"] / turn[1]["seconds"] for turn in turns]
    peak = max(turn[1]["peak"] for turn in turns)
    print(
        f"\n{options.records:,} records x {options.candidates:,} candidates, d = {options.dimension}; {small['blas']}"
    )
    print(f"faiss alone, median {flat:8.2f} s {options.records / flat:12,.0f} records/s")
    print(f"stage,       median {whole:8.2f} s {options.records / whole:12,.0f} records/s")
    print(f"throughput, stage / faiss: {flat / whole:.2f} (pairs: {', '.join(f'{r:.2f}' for r in ratios)})")
    print(f"CPU time, faiss / stage:   {busy:.2f} (other load on the machine shows less here)")
    print(f"peak memory {small['peak']:.0f} MB at a tenth, {peak:.0f} MB at all: {peak / small['peak'] - 1:+.1%}")


def compare_workers(options: argparse.Namespace) -> None:
    """Beam's worker processes beside bare ones, in turn."""
    _RECIPE["execution"] = {"blas_threads": 1}
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="vote-stage-") as name:
        folder = Path(name)
        write_run(folder, options)
        turns = [
            [measure(what, folder, options.records, options)["seconds"] for what in ("bare", "workers")]
            for _ in range(options.repeats)
        ]
    ratios = [alone / staged for alone, staged in turns]
    print(
        f"\n{options.workers} workers of Beam / bare processes: {np.median(ratios):.2f} {[round(r, 2) for r in ratios]}"
    )


def main() -> None:
    """Compares, or is one measurement of a comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="where the temporary folder goes")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", choices=list(_MEASURES), help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.toy:
        options.records, options.candidates, options.dimension, options.repeats = 20_000, 100, 16, 1
    if options.only is None:
        if options.toy or options.workers == 1:
            compare(options)
        if options.toy or options.workers > 1:
            options.workers = max(2, options.workers)
            compare_workers(options)
        return
    result = _MEASURES[options.only](options.scratch, options)
    if options.only != "part" and result["votes"] != options.records:
        raise SystemExit(f"{result['votes']} votes were counted")
    print(json.dumps(result | {"peak": _peak()}))


if __name__ == "__main__":
    main()
