"""Emulated matrix units, attacking vectors, and searches by engine `torch` on the CPU."""

import functools
from dataclasses import replace

import numpy as np
import torch

from pe_beam.voting.distinct import Distinct
from pe_beam.voting.flat import WholeSearch
from pe_beam.voting.nearest import reference_nearest
from pe_beam.voting.search.torch.devices import cpu_setting
from pe_beam.voting.search.torch.precision import BFLOAT16, FLOAT16, FLOAT32, TF32
from pe_beam.voting.search.torch.proposer import TorchProposer

PRECISIONS = {each.name: each for each in (FLOAT16, BFLOAT16, TF32, FLOAT32)}
FORMATS = {**PRECISIONS, "float16-wide": FLOAT16.wide(), "bfloat16-wide": BFLOAT16.wide()}
CPU = torch.device("cpu")


def exact_sums(left, right, out):
    """A unit without an error of its own: float64, rounded once to the type of the result."""
    out.copy_(left.double() @ right.double().T)


def cut_sums(left, right, out, *, block, bits):
    """A matrix unit: `block` products at a time, all addends cut to `bits` bits of the largest, and so is the sum."""

    def cut(values, sizes):
        last = np.ldexp(1.0, np.frexp(sizes)[1] - bits)
        return np.trunc(values / last) * last

    left, right = left.double().numpy(), right.double().numpy()
    total = np.zeros((len(left), len(right)))
    for start in range(0, left.shape[1], block):
        part = slice(start, start + block)
        addends = np.concatenate([left[:, None, part] * right[None, :, part], total[:, :, None]], axis=2)
        total = cut(addends, np.abs(addends).max(axis=2, keepdims=True)).sum(axis=2)
        total = cut(total, np.abs(total))
    out.copy_(torch.from_numpy(total))


V100 = functools.partial(cut_sums, block=4, bits=24)
H100 = functools.partial(cut_sums, block=16, bits=26)


def setting(precision=FLOAT16, multiply=exact_sums, **changes):
    return replace(cpu_setting((precision,)), multiply=multiply, rows=32, **changes)


def search(candidates, chosen, *, distance="l2", votes=1, tile=4096, engines=None):
    def engine(frame, *, votes, tile):
        made = TorchProposer(frame, votes=votes, tile=tile, setting=chosen)
        if engines is not None:
            engines.append(made)
        return made

    product = distance == "inner_product"
    return WholeSearch(Distinct(candidates), product=product, votes=votes, search_engine=engine, block=1024, tile=tile)


def same(queries, candidates, chosen, **options):
    found = search(candidates, chosen, **options).nearest(queries)
    options.pop("tile", None), options.pop("engines", None)
    wanted = reference_nearest(queries, candidates, **{"distance": "l2", "votes": 1, **options})
    assert (found == wanted).all()


KINDS = (
    "normal", "integers", "duplicates", "ulps", "near ties", "offset", "far", "huge", "tiny", "subnormal", "zeros",
    "mixed",
)  # fmt: skip


@functools.cache
def vectors(kind, rows=40, columns=40, dimension=12):
    rng = np.random.default_rng(3)
    queries = rng.normal(size=(rows, dimension)).astype(np.float32)
    candidates = rng.normal(size=(columns, dimension)).astype(np.float32)
    if kind == "integers":
        queries, candidates = np.round(queries), np.round(candidates)
    if kind == "duplicates":
        candidates[columns // 2 :] = candidates[: columns // 2]
    if kind == "ulps":  # one bit of one number apart
        candidates[1:] = candidates[0]
        candidates[np.arange(1, columns), np.arange(1, columns) % dimension] = np.nextafter(
            candidates[0, 0], np.float32(9)
        )
    if kind == "near ties":  # pairs of candidates that half precision cannot tell apart, with queries in their middle
        candidates[1::2] = candidates[::2] + candidates[1::2] * np.float32(2.0**-12)
        queries = candidates[rng.integers(0, columns, rows)] + queries * np.float32(2.0**-2)
    if kind == "offset":
        queries, candidates = queries * np.float32(1e-4) + 1000, candidates * np.float32(1e-4) + 1000
    if kind == "far":
        candidates[7] *= np.float32(1e9)
        candidates[9] *= np.float32(1e4)
        queries[3] *= np.float32(1e12)
    if kind == "huge":
        queries, candidates = queries * np.float32(1e37), candidates * np.float32(1e37)
    if kind == "tiny":
        queries, candidates = queries * np.float32(1e-15), candidates * np.float32(1e-15)
    if kind == "subnormal":
        queries, candidates = queries * np.float32(1e-41), candidates * np.float32(1e-41)
    if kind == "zeros":
        queries[::2], candidates[1::3], candidates[:, ::2] = 0, 0, 0
    if kind == "mixed":  # numbers of every size in every vector
        queries *= np.exp2(rng.integers(-40, 3, size=queries.shape)).astype(np.float32)
        candidates *= np.exp2(rng.integers(-40, 3, size=candidates.shape)).astype(np.float32)
    return queries.astype(np.float32), candidates.astype(np.float32)
