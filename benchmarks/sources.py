"""Sources at scale: many Parquet files behind a slow network, and one large JSONL file by one worker and by two.

    python benchmarks/sources.py [footers] [--files 2000] [--pause 0.05] [--kind gs] [--toy]
    python benchmarks/sources.py [lines] [--bytes 300000000] [--rounds 3] [--toy]

- footers: a store's emulator behind a proxy that lets each request wait; time to list and cut all files.
- lines: one file is cut and read by worker processes, part by part and piece by piece as graphs hand them out; wall
  times of one worker and of two, in turn, and the median of their ratio.
"""

from __future__ import annotations

import _place  # noqa: F401  # isort: skip

import argparse
import io
import json
import os
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts import cutting
from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.source import FileCut, FilePart, Piece, Source
from pe_beam.recipe.sources import open_source

TEXT = FieldContent(pa.schema([("text", pa.string())]))


def _source(kind: str, path: str) -> Source:
    return open_source(source=kind, path=path, content=TEXT, columns={}, labelled=False, client=False)


def footers(count: int, pause: float, kind: str) -> None:
    """Prints how long it takes to list and cut files in a bucket."""
    from pe_beam.storage.objects import client_of
    from pe_beam.storage.reading import _store_of
    from tests.storage.proxy import before
    from tests.storage.servers import VARIABLES, found, make_bucket, running

    program = {"gs": "fake-gcs-server", "s3": "minio", "az": "azurite-blob"}[kind]
    if found(program) is None:
        print(f"footers: left out, for there is no {program} ({VARIABLES[program]}); python -m tests.storage.servers")
        return
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(100)], "n": list(range(100))}), sink)
    with tempfile.TemporaryDirectory() as folder, running(kind, Path(folder)) as server, before(server.port) as proxy:
        make_bucket(server, "data")
        os.environ |= server.environment
        store = _store_of(kind)
        assert store is not None
        bucket = client_of(store, "data")
        for i in range(count):
            bucket.put(f"many/part-{i:05d}.parquet", sink.getvalue(), None, "0")
        os.environ |= server.behind(proxy.port)
        import apache_beam.io.filesystems  # noqa: F401  # what every worker has

        proxy.pause = pause
        begin, work = time.monotonic(), time.process_time()
        pieces = _source("parquet", f"{kind}://data/many").pieces()
        took, work = time.monotonic() - begin, time.process_time() - work
        assert len(pieces) == count
        print(f"{kind}: {count} Parquet files, {1000 * pause:g} ms a request: {took:.1f} s to list and cut,")
        print(f"  {len(proxy.requests)} requests, at most {proxy.most} at a time")
        print(f"  {work:.1f} s of processor, the proxy's included")


def _cut(asked: tuple[str, tuple[FilePart, ...]]) -> list[FileCut]:
    return cutting.cut_parts(_source("jsonl", asked[0]), asked[1])


def _read(asked: tuple[str, Piece]) -> int:
    return sum(len(batch.labels) for batch in _source("jsonl", asked[0]).read(asked[1]))


def _once(path: str, workers: int) -> tuple[float, float, float]:
    """Cuts and reads a file. The processes are there before.

    Returns:
      seconds, and seconds of processor: of this process, which goes on alone, and of the workers.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(_read, [(path, Piece(path, 0, 0, 0))] * workers))
        begin, alone = time.monotonic(), time.process_time()
        source = _source("jsonl", path)
        groups = [(path, group) for group in cutting.group_parts(source.files())]
        cuts = [cut for found in pool.map(_cut, groups) for cut in found]
        pieces = cutting.in_order(source, cutting.join_file(source, cuts))
        rows = sum(pool.map(_read, [(path, piece) for piece in pieces]))
        assert rows == pieces[-1].stop
        took, alone = time.monotonic() - begin, time.process_time() - alone
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, alone, sum(after[:2]) - sum(before[:2])


def lines(size: int, rounds: int) -> None:
    """Prints how much sooner two workers have cut and read one file than one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "one.jsonl"
        with file.open("w") as sink:
            number = 0
            while sink.tell() < size:
                some: list[dict[str, Any]] = [
                    {"id": number + i, "text": f"words of record {i} " * 10} for i in range(1000)
                ]
                sink.write("".join(json.dumps(each) + "\n" for each in some))
                number += 1000
        print(f"one JSONL file of {file.stat().st_size / 1e6:.0f} MB, {number} records; load {os.getloadavg()[0]:.1f}")
        ratios, bounds = [], []
        for _ in range(rounds):
            (one, _, work), (two, alone, both) = _once(str(file), 1), _once(str(file), 2)
            ratios.append(one / two)
            bounds.append((alone + both) / (alone + both / 2))
            print(f"  one worker {one:.1f} s, two {two:.1f} s: {one / two:.2f} times")
            print(f"    seconds of processor: alone {alone:.2f}, one worker {work:.1f}, two {both:.1f}")
        print(f"  median {statistics.median(ratios):.2f} times")
        print(f"  {statistics.median(bounds):.2f} by seconds of processor, as if nobody else used the cores")


def main() -> None:
    """Runs one of the two, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["footers", "lines", "both"], default="both")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds")
    parser.add_argument("--kind", choices=["gs", "s3", "az"], default="gs")
    parser.add_argument("--bytes", type=int, default=300_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--toy", action="store_true", help="next to nothing, to see that it runs")
    options = parser.parse_args()
    if options.toy:
        options.files, options.bytes, options.rounds = 20, 200_000, 1
    if options.what != "lines":
        footers(options.files, options.pause, options.kind)
    if options.what != "footers":
        lines(options.bytes, options.rounds)


if __name__ == "__main__":
    main()
