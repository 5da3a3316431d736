"""Engine `torch` on a GPU: are its sums as exact as assumed, and its votes right, and how fast beside other engines.

    python benchmarks/votes_gpu.py [--json FILE] [--scratch FOLDER]
    python benchmarks/votes_gpu.py --toy [--device cpu]

Says so and leaves with status 0 where there is no GPU. Status 1: something is wrong, or slower than wanted. --toy:
tiny, and on the CPU where there is no GPU, to see that every part of the script works: its times then mean nothing.
With TRITON_INTERPRET=1 the toy takes the Triton kernel too. The whole should take about four minutes on an H100, a
minute of which writes the 6 GB of Parquet that the stage reads (--scratch says where). Figures are kept as they come.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import _place  # noqa: F401  (the repository is on the path from here)
import numpy as np

WANTED = 0.35  # seconds, Yelp's scale on one H100 or H200
STAGE, READING = (
    12.0,
    0.6,
)  # seconds of the whole Beam stage at Yelp's scale, and its share of reading's speed, at least


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    yelp: tuple[int, int, int] = (1_940_000, 35_000, 768)
    checked: tuple[int, int, int] = (1_000_000, 35_000, 768)
    few: int = 100_000  # records where more votes or inner products are checked
    compared: tuple[int, int, int] = (200_000, 10_000, 384)
    beyond: tuple[int, int, int] = (65_536, 100_000, 384)
    stage: tuple[int, int, int] = (1_940_000, 35_000, 768)
    workers: tuple[int, ...] = (1, 4, 8)  # threads of the stage
    rows: tuple[int, ...] = (2048, 4096, 8192, 16384)  # a product's, tried with each number of columns
    columns: tuple[int, ...] = (2048, 4096, 8192, 1 << 17)
    call: int = 524_288  # records a call, on the device
    repeats: int = 3


TOY = Sizes(
    (300, 300, 32), (300, 300, 32), 100, (200, 200, 16), (60, 900, 16), (2000, 100, 16), (1,), (64,), (128,), 128, 1
)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line for each figure; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="tiny, and without a GPU on the CPU")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="cpu: with --toy, even where there is a GPU")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    parser.add_argument("--scratch", type=Path, help="where a temporary folder goes")
    options = parser.parse_args(argv)
    try:
        import torch
    except ImportError:
        print("votes_gpu: torch is not installed; nothing was measured")
        return 0
    there = torch.cuda.is_available() and options.device != "cpu"
    if not there and not options.toy:
        print("votes_gpu: there is no GPU here; nothing was measured")
        return 0
    bench = Bench(TOY if options.toy else Sizes(), there, options.scratch)
    figures: dict[str, Any] = {"device": bench.name, "torch": torch.__version__, "toy": options.toy}
    print(f"votes_gpu: {bench.name}, torch {torch.__version__}, scan: {bench.setting.scan}", flush=True)
    began = time.monotonic()
    for part in (bench.probe, bench.check, bench.yelp, bench.compare, bench.beyond_memory, bench.stage, bench.shapes):
        figures[part.__name__] = part()
        print(f"  {json.dumps(figures[part.__name__])}\n  ({time.monotonic() - began:.0f} s so far)", flush=True)
        _keep(figures, options.json)
    figures["wrong"] = wrong = bench.wrong(figures)
    _keep(figures, options.json)
    print("votes_gpu: all is well" if not wrong else f"votes_gpu: NOT well: {'; '.join(wrong)}")
    return 1 if wrong else 0


_SHARE = "of reading's speed"


def _keep(figures: dict[str, Any], path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(figures, indent=2), encoding="utf-8")


class Bench:
    """The parts of the measurement, on one device."""

    def __init__(self, sizes: Sizes, there: bool, scratch: Path | None) -> None:
        import torch

        from pe_beam.voting.search.torch.devices import cpu_setting, find_setting
        from pe_beam.voting.search.torch.precision import FLOAT16

        self.sizes, self.there, self.scratch = sizes, there, scratch
        self.device = torch.device("cuda", torch.cuda.current_device()) if there else torch.device("cpu")
        self.name = torch.cuda.get_device_name() if there else "CPU"
        if there:
            self.setting = find_setting()
        else:  # the way of a GPU, on the CPU
            scan = "triton" if os.environ.get("TRITON_INTERPRET") == "1" else "operations"
            self.setting = replace(cpu_setting((FLOAT16,)), scan=scan, refine=True, streams=True, rows=128)
        torch.manual_seed(7)

    def wrong(self, figures: dict[str, Any]) -> list[str]:
        """Returns what is not as it should be."""
        found = [f"{name}: sums are worse than assumed" for name, share in figures["probe"].items() if share > 0.8]
        found += [f"{name}: {count} wrong votes" for name, count in figures["check"].items() if count]
        if self.there and figures["yelp"]["seconds"] > WANTED:
            found.append(f"{figures['yelp']['seconds']:.3f} s at Yelp's scale, and {WANTED} are wanted")
        stage = figures["stage"]
        if self.there and "best" in stage and (stage["best"] > STAGE or stage[_SHARE] < READING):
            found.append(
                f"the stage takes {stage['best']:.1f} s, {stage[_SHARE]:.2f} of reading's speed, and {STAGE} s and "
                f"{READING} are wanted"
            )
        if figures["compare"]["torch, wrong votes"] or figures["beyond_memory"]["other votes"]:
            found.append("votes differ")
        return found

    def probe(self) -> dict[str, float]:
        """The largest errors of known sums, as shares of what the bound assumes: above 0.8 a format is refused."""

        from pe_beam.voting.search.torch.devices import forbid_short_sums, multiply, multiply_tf32
        from pe_beam.voting.search.torch.groups import width
        from pe_beam.voting.search.torch.precision import BFLOAT16, FLOAT16, FLOAT32, TF32
        from pe_beam.voting.search.torch.probe import measure

        forbid_short_sums(self.device)
        formats: list[tuple[str, Any, Any]] = [
            ("float16", FLOAT16, multiply),
            ("bfloat16", BFLOAT16, multiply),
            ("tf32", TF32, multiply_tf32),
            ("float32", FLOAT32, multiply),
        ]
        if self.there and _has_float32_results():
            formats += [("float16 to float32", FLOAT16.wide(), multiply)]
        shares = {}
        shapes = ((8192, 8192), (1000, 35_008), (16, 256)) if self.there else ((16, 256),)
        for name, precision, product in formats:
            for dimension in (16, 384, 768, 1536) if self.there else (16,):
                shares[f"{name}, d = {dimension}"] = max(
                    round(measure(self.device, precision, width(dimension), product, rows=rows, columns=columns), 4)
                    for rows, columns in shapes
                )
        return shares

    def check(self) -> dict[str, int]:
        """Counts wrong votes: against float64 on the device, and `Decider` where float64 is not sure."""
        count, candidates, dimension = self.sizes.checked
        x, y = self.data(count, candidates, dimension)
        few = self.sizes.few
        return {
            f"l2, {count:,} records": self.wrong_votes(x, y, "l2", 1),
            f"inner product, {few:,} records": self.wrong_votes(x[:few], y, "inner_product", 1),
            f"l2, 3 votes, {few:,} records": self.wrong_votes(x[:few], y, "l2", 3),
        }

    def wrong_votes(self, x: Any, y: np.ndarray, distance: str, votes: int) -> int:
        """Counts the records whose candidates by `flat_search` are not the nearest ones."""
        import torch

        from pe_beam.contracts.search import Pairs
        from pe_beam.voting.decide import Decider

        product = distance == "inner_product"
        found = self.search(y, distance, votes).nearest(x.cpu().numpy())
        decider = Decider(y, np.arange(len(y)), np.arange(len(y) + 1), keep=votes, product=product)
        right = torch.from_numpy(y).to(self.device).double()
        half = 0.0 if product else 0.5 * (right * right).sum(dim=1)
        wrong = 0
        for start in range(0, len(x), 4096):
            part = x[start : start + 4096]
            values, columns = torch.topk(part.double() @ right.T - half, votes + 8, dim=1)
            unsure = (values[:, :votes] - values[:, 1 : votes + 1]).amin(dim=1) < 1e-11
            wanted = np.sort(columns[:, :votes].cpu().numpy(), axis=1)
            rows = np.flatnonzero((unsure.cpu().numpy()) | (wanted != found[start : start + 4096]).any(axis=1))
            if len(rows):
                near = columns[torch.from_numpy(rows).to(self.device)].cpu().numpy()
                pairs = Pairs(np.repeat(np.arange(len(rows)), near.shape[1]), near.ravel())
                wanted[rows] = decider.best(part.cpu().numpy()[rows], pairs)
            wrong += int((wanted != found[start : start + 4096]).any(axis=1).sum())
        return wrong

    def yelp(self) -> dict[str, Any]:
        """Seconds of all votes with records and candidates on the card, and of its parts."""
        import torch

        from pe_beam.contracts.search import Frame
        from pe_beam.voting.search.torch.proposer import TorchProposer

        count, candidates, dimension = self.sizes.yelp
        x, y = self.data(count, candidates, dimension)
        frame = Frame.of(y, product=False)
        figures: dict[str, Any] = {"records": count, "candidates": candidates, "dimension": dimension}
        for name, setting in self.settings():
            engine = TorchProposer(frame, votes=1, tile=4096, setting=setting)
            runs = [self.timed(functools.partial(self.on_card, engine, frame, y, x)) for _ in range(self.sizes.repeats)]
            seconds = float(np.median([run[0] for run in runs[1:] or runs]))  # the first one compiles the kernel
            figures[f"seconds{name}"] = round(seconds, 4)
            figures[f"first{name}"] = round(runs[0][0], 4)
            figures[f"pairs a record{name}"] = round(runs[-1][1] / count, 3)
        figures["products alone"] = round(self.products_alone(x, candidates), 4)
        figures["TFLOP/s"] = round(2e-12 * count * candidates * dimension / figures["seconds"], 1)
        if self.there:
            figures["peak GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        return figures

    def settings(self) -> list[tuple[str, Any]]:
        """The engine's setting, the same with float32 results, and the same with operations of torch as scan."""
        wide = replace(self.setting, precisions=(self.setting.precisions[0].wide(),))
        if not self.there:
            wide = replace(wide, multiply=_exact_sums)
        plain = replace(self.setting, scan="operations", rows=min(self.setting.rows, 2048))
        found = [("", self.setting), (", scan by operations", plain)]
        return found + ([(", float32 results", wide)] if _has_float32_results() else [])

    def on_card(self, engine: Any, frame: Any, y: np.ndarray, x: Any) -> int:
        """Votes of records on the device: a winner for each; returns how many pairs were proposed."""
        import torch

        from pe_beam.contracts.search import Pairs
        from pe_beam.voting.decide import Decider

        decider = Decider(y, np.arange(len(y)), np.arange(len(y) + 1), keep=1, product=False)
        centre = torch.from_numpy(frame.centre).to(self.device)
        winners, total = torch.empty(len(x), dtype=torch.int64, device=self.device), 0
        for start in range(0, len(x), self.sizes.call):
            part = x[start : start + self.sizes.call]
            placed = part - centre
            radii = torch.linalg.vector_norm(placed, dim=1, dtype=torch.float64)
            found = engine.propose_blocks(list(placed.split(engine.rows)), radii)
            total += len(found.rows)
            lone = torch.bincount(found.rows, minlength=len(part))[found.rows] == 1
            winners[start + found.rows[lone]] = found.columns[lone]
            rows, place = torch.unique(found.rows[~lone], return_inverse=True)
            if len(rows):
                pairs = Pairs(place.cpu().numpy(), found.columns[~lone].cpu().numpy())
                best = decider.best(part[rows].cpu().numpy(), pairs)
                winners[start + rows] = torch.from_numpy(best[:, 0]).to(self.device)
        counts = torch.bincount(winners, minlength=len(y))
        if int(counts.sum()) != len(x):
            raise SystemExit("votes were lost")
        return total

    def products_alone(self, x: Any, candidates: int) -> float:
        """Seconds of the half-precision products without anything else: the floor."""
        import torch

        from pe_beam.voting.search.torch.groups import width

        size, rows = width(x.shape[1]), self.setting.rows
        left, right = (torch.randn((n, size), device=self.device).half() for n in (rows, -(-candidates // 16) * 16))
        out = torch.empty((rows, len(right)), dtype=torch.float16, device=self.device)

        def products() -> None:
            for _ in range(-(-len(x) // rows)):
                torch.mm(left, right.T, out=out)

        products()
        return self.timed(products)[0]

    def compare(self) -> dict[str, Any]:
        """Seconds and wrong votes of the engines, and of plain float32 on the device, from arrays of the host."""
        import torch

        from pe_beam.errors import MissingExtraError
        from pe_beam.voting.nearest import flat_search

        count, candidates, dimension = self.sizes.compared
        x, y = self.data(count, candidates, dimension)
        queries = x.cpu().numpy()
        search = self.search(y, "l2", 1)
        search.nearest(queries[:2048])
        figures: dict[str, Any] = {}
        seconds, votes = self.timed(lambda: search.nearest(queries))
        figures["torch"], figures["torch, wrong votes"] = round(seconds, 3), self.wrong_votes(x, y, "l2", 1)
        for name in ("blas", "faiss"):
            try:
                other = flat_search(y, distance="l2", votes=1, search_engine=name)
            except MissingExtraError as error:
                figures[name] = type(error).__name__
                continue
            part = queries[: max(1000, count // 10)]
            seconds, found = self.timed(functools.partial(other.nearest, part))
            figures[f"{name}, from {len(part):,} records"] = round(seconds * count / len(part), 3)
            figures[f"{name}, other votes"] = int((found != votes[: len(part)]).sum())
        right = torch.from_numpy(y).to(self.device)
        half = 0.5 * (right * right).sum(dim=1)

        def plain() -> np.ndarray:
            best = [torch.addmm(-half, part, right.T).argmax(dim=1) for part in x.split(8192)]
            return torch.cat(best).cpu().numpy()

        plain()
        seconds, found = self.timed(plain)
        figures["float32 on the card"] = round(seconds, 3)
        figures["float32 on the card, wrong votes"] = int((found != votes[:, 0]).sum())
        return figures

    def beyond_memory(self) -> dict[str, Any]:
        """The same votes with an eighth of the candidates on the device at a time."""
        count, candidates, dimension = self.sizes.beyond
        x, y = self.data(count, candidates, dimension)
        queries, budget = x.cpu().numpy(), candidates * dimension * 2 // 4
        figures, answers = {}, []
        for name, setting in (
            ("resident", replace(self.setting, refine=False)),
            ("streamed", replace(self.setting, budget=budget, refine=False)),
        ):
            search = self.search(y, "l2", 1, setting)
            search.nearest(queries[:256])
            seconds, found = self.timed(functools.partial(search.nearest, queries))
            figures[name] = round(seconds, 3)
            answers.append(found)
        return figures | {"other votes": int((answers[0] != answers[1]).sum()), "budget MB": budget / 1e6}

    def stage(self) -> dict[str, Any]:
        """Seconds of Beam's whole vote stage, from Parquet to counts, on FnApiRunner, and of reading alone.

        What the first stage of a process takes longer, which loads torch and the device, is measured apart.
        """
        import torch

        try:
            import apache_beam  # noqa: F401
            import vote_stage
        except ImportError as error:
            return {"not measured": f"{error.name} is not installed"}
        records, candidates, dimension = self.sizes.stage
        figures: dict[str, Any] = {"records": records, "candidates": candidates, "dimension": dimension}
        if self.there:
            torch.cuda.empty_cache()  # other processes need the memory now
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="votes-gpu-") as name:
            folder = Path(name)
            vote_stage.write_run(folder, **figures, vectors="gauss", plain=False)
            read = functools.partial(vote_stage.read_alone, folder)
            figures["reading alone"] = round(min(self.timed(read)[0] for _ in range(2)), 3)
            for workers in self.sizes.workers:
                found = vote_stage.measure("stage", folder, records=records, engine="torch", workers=workers)
                told = {"seconds": found["seconds"], "start, cpu": found["start"], "peak MB": found["peak"]}
                figures[f"workers {workers}"] = {key: round(value, 2) for key, value in told.items()}
        figures["best"] = min(figures[f"workers {workers}"]["seconds"] for workers in self.sizes.workers)
        return figures | {_SHARE: round(figures["reading alone"] / figures["best"], 3)}

    def shapes(self) -> dict[str, float]:
        """Seconds at Yelp's scale by rows and columns of a product: which ones the device likes."""
        from pe_beam.contracts.search import Frame
        from pe_beam.voting.search.torch.proposer import TorchProposer

        x, y = self.data(*self.sizes.yelp)
        frame, figures = Frame.of(y, product=False), {}
        for rows in self.sizes.rows:
            for columns in self.sizes.columns:
                setting = replace(self.setting, rows=rows, columns=columns)
                work = functools.partial(
                    self.on_card, TorchProposer(frame, votes=1, tile=4096, setting=setting), frame, y, x
                )
                figures[f"{rows} x {columns}"] = round(min(self.timed(work)[0] for _ in range(2)), 4)
        return figures

    def search(self, y: np.ndarray, distance: str, votes: int, setting: Any = None) -> Any:
        """Returns a search by engine `torch` with a setting of one's own."""
        from pe_beam.voting.distinct import Distinct
        from pe_beam.voting.flat import WholeSearch
        from pe_beam.voting.nearest import _TILE
        from pe_beam.voting.search.torch.proposer import TorchProposer

        engine: Any = functools.partial(TorchProposer, setting=setting or self.setting)
        product = distance == "inner_product"
        return WholeSearch(Distinct(y), product=product, votes=votes, search_engine=engine, block=None, tile=_TILE)

    def data(self, count: int, candidates: int, dimension: int) -> tuple[Any, np.ndarray]:
        """Returns unit vectors in clusters: records on the device, candidates on the host."""
        import torch

        def normal(rows: int) -> Any:
            return torch.randn((rows, dimension), device=self.device)

        topics = normal(2000)
        topics /= topics.norm(dim=1, keepdim=True)

        def drawn(rows: int) -> Any:
            found = normal(rows).mul_(1 / dimension**0.5)
            found += topics[torch.randint(0, 2000, (rows,), device=self.device)]
            return found.div_(found.norm(dim=1, keepdim=True))

        return drawn(count), np.unique(drawn(candidates).cpu().numpy(), axis=0)

    def timed(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Returns the seconds that work takes on the device, and its result."""
        import torch

        synchronize = torch.cuda.synchronize if self.there else lambda: None
        synchronize()
        began = time.perf_counter()
        result = work()
        synchronize()
        return time.perf_counter() - began, result


def _has_float32_results() -> bool:
    """Whether this torch multiplies half precision to float32: since 2.8."""
    import torch

    return "dtype_out" in torch.ops.aten.mm.overloads()


def _exact_sums(left: Any, right: Any, out: Any) -> None:
    out.copy_(left.double() @ right.double().T)  # the CPU has no float32 results of float16


if __name__ == "__main__":
    sys.exit(main())
