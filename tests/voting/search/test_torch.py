"""Engine `torch`: on the CPU, in every format, and with the sums of matrix units emulated."""

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from pe_beam.contracts.search import Frame
from pe_beam.errors import PeBeamWarning
from pe_beam.voting.distinct import Distinct
from pe_beam.voting.flat import WholeSearch
from pe_beam.voting.nearest import flat_search, normalise_rows, reference_nearest
from pe_beam.voting.search.cpu import multiplies_bfloat16, multiplies_integers, multiplies_tiles
from pe_beam.voting.search.torch import probe
from pe_beam.voting.search.torch.devices import cpu_setting, cuda_setting, multiply
from pe_beam.voting.search.torch.groups import Sides, groups_of, width
from pe_beam.voting.search.torch.precision import BFLOAT16, FLOAT16, FLOAT32, TF32
from pe_beam.voting.search.torch.proposer import TorchProposer
from tests.voting.search.units import (
    CPU,
    FORMATS,
    H100,
    KINDS,
    V100,
    cut_sums,
    exact_sums,
    same,
    search,
    setting,
    vectors,
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_equals_the_definition(name, kind):
    queries, candidates = vectors(kind)
    for distance in ("l2", "inner_product"):
        for votes, tile in ((1, 4096), (3, 11), (50, 4096)):
            for scan in ("host", "operations"):
                chosen = setting(FORMATS[name], scan=scan, columns=tile)
                same(queries, candidates, chosen, distance=distance, votes=votes, tile=tile)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", [V100, H100])
def test_equals_the_definition_with_the_sums_of_a_matrix_unit(unit, kind):
    for name in ("float16", "bfloat16-wide", "tf32"):
        for distance in ("l2", "inner_product"):
            same(*vectors(kind), setting(FORMATS[name], unit), distance=distance, votes=2)


@pytest.mark.parametrize("name", ["float32"])
def test_the_cpu_as_it_is(name):
    queries, candidates = vectors("normal", 300, 3000, 40)
    same(queries[:60], candidates, replace(cpu_setting((FORMATS[name],)), multiply=multiply))


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 6), st.integers(1, 5), st.sampled_from([*FORMATS]))
@settings(max_examples=40, deadline=None)
def test_small_integers_with_many_ties(seed, count, dimension, votes, name):
    rng = np.random.default_rng(seed)
    queries, candidates = (rng.integers(-2, 3, size=(n, dimension)).astype(np.float32) for n in (9, count))
    same(queries, candidates, setting(FORMATS[name]), votes=votes, tile=7)


@given(st.integers(0, 2**32), st.integers(1, 3), st.sampled_from([*FORMATS]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_finite_numbers(seed, votes, name, product):
    """Random bits: every exponent, subnormal numbers included, in any company."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**32, size=(18, 5), dtype=np.uint32)
    exponents = rng.integers(*sorted(rng.choice(250, 2, replace=False) + 1), size=bits.shape, dtype=np.uint32)
    numbers = ((bits & np.uint32(0x807FFFFF)) | (exponents << np.uint32(23))).view(np.float32)
    numbers[rng.random(numbers.shape) < 0.2] = 0
    with np.errstate(over="ignore"):
        distance = "inner_product" if product else "l2"
        same(numbers[:6], numbers[6:], setting(FORMATS[name]), votes=votes, distance=distance)


def test_by_name_through_the_whole_search():
    queries, candidates = vectors("near ties", 200, 300)
    for distance in ("l2", "cosine", "inner_product"):
        if distance == "cosine":
            queries, candidates = normalise_rows(queries)[0], normalise_rows(candidates)[0]
        for votes in (1, 4):
            found = flat_search(candidates, distance=distance, votes=votes, search_engine="torch").nearest(queries)
            assert (found == flat_search(candidates, distance=distance, votes=votes).nearest(queries)).all()


def test_an_engine_is_given_as_many_queries_as_it_likes():
    queries, candidates = vectors("normal", 100)
    sizes = []

    class Watched(TorchProposer):
        def propose(self, placed, radii):
            sizes.append(len(placed))
            return super().propose(placed, radii)

    engine = functools.partial(Watched, setting=setting(block=64))
    made = WholeSearch(Distinct(candidates), product=False, votes=1, search_engine=engine, block=None, tile=64)
    made.nearest(queries)
    assert sizes == [64, 36]


@pytest.mark.parametrize("scan", ["host", "operations"])
def test_several_threads_use_one_engine(scan):
    queries, candidates = vectors("near ties", 400, 200)
    made = search(candidates, setting(scan=scan), votes=2)
    wanted = made.nearest(queries)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(made.nearest, [queries[start : start + 20] for start in range(0, 400, 20)]))
    assert (np.concatenate(parts) == wanted).all()


# The bound.


def bounds(frame, precision, multiply, queries):
    """Lower and upper bounds, and the exact ranking values, scaled: (n, m) each."""
    (group,) = groups_of(frame.norms, precision.span)
    sides = Sides(frame, group, precision)
    placed, radii = frame.place(queries)
    left = sides.left([torch.from_numpy(placed)], torch.from_numpy(radii), CPU)
    right = sides.right(slice(0, sides.count), 16, CPU)
    out = torch.empty(
        (len(queries), len(right.matrix)), dtype=torch.float32 if precision.rounding == 0 else left.matrix.dtype
    )
    multiply(left.matrix, right.matrix, out)
    upper = out[:, : right.count].double()
    sizes = right.sizes[: right.count].double()
    wide = left.reach[:, None] * right.errors[: right.count].double()
    wide = wide + (left.slack[:, None] + left.bend[:, None] * sizes) * sizes
    edge = precision.rounding * upper.abs() + left.margin[:, None].double() / 2
    return (upper - 2 * wide - edge).numpy(), (upper + edge).numpy(), sides.unit(torch.from_numpy(radii)).numpy()


def ranking(query, placed, candidate, centre, product):
    """The ranking value of contracts/search.py, by `math.fsum`."""
    x, y, p, c = (np.asarray(each, dtype=np.float64) for each in (query, candidate, placed, centre))
    if product:
        return math.fsum([*(x * y), *(-(x * c))])
    return (math.fsum(p * p) - math.fsum((x - y) ** 2)) / 2


@pytest.mark.parametrize("kind", ["normal", "ulps", "near ties", "offset", "zeros", "mixed", "tiny"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_bound_holds_for_every_pair(name, kind):
    queries, candidates = vectors(kind)
    precision = replace(FORMATS[name], span=300)
    for unit in (exact_sums, V100):
        for product in (False, True):
            frame = Frame.of(candidates, product=product)
            lower, upper, scale = bounds(frame, precision, unit, queries[:10])
            placed, _ = frame.place(queries[:10])
            for row in range(10):
                exact = [ranking(queries[row], placed[row], y, frame.centre, product) for y in candidates]
                exact = np.array(exact) * scale[row]
                assert (lower[row] <= exact).all() and (exact <= upper[row]).all()


@pytest.mark.parametrize(("name", "most"), [("float16", 1.3), ("bfloat16", 6), ("tf32", 1.2), ("float32", 1.01)])
def test_the_bound_is_not_vacuous(name, most):
    """Unit vectors in clusters, as embeddings are: about one pair a record is left in half precision."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(20, 64)) + 1
    queries, candidates = (centres[rng.integers(0, 20, n)] + rng.normal(size=(n, 64)) * 0.6 for n in (300, 400))
    queries, candidates = ((v / np.linalg.norm(v, axis=1)[:, None]).astype(np.float32) for v in (queries, candidates))
    frame = Frame.of(candidates, product=False)
    engine = TorchProposer(frame, votes=1, tile=4096, setting=setting(FORMATS[name]))
    pairs = engine.propose(*frame.place(queries))
    assert len(pairs.rows) < most * len(queries)
    assert (np.bincount(pairs.rows, minlength=300) >= 1).all()


def test_one_far_candidate_does_not_widen_the_bounds_of_others():
    queries, candidates = vectors("normal", 200, 300, 32)
    counts = []
    for factor in (1, 30, 3000, 1e9):
        candidates = candidates.copy()
        candidates[11] *= np.float32(factor)
        frame = Frame.of(candidates, product=False)
        frame = replace(frame, centre=frame.centre * 0, vectors=candidates)  # the centre would follow it
        frame = replace(frame, norms=np.linalg.norm(candidates.astype(np.float64), axis=1))
        frame = replace(frame, largest=float(frame.norms.max()), offset=0.0)
        for precision in (FLOAT16, BFLOAT16, FLOAT32):
            engine = TorchProposer(frame, votes=1, tile=4096, setting=setting(precision))
            counts.append(len(engine.propose(*frame.place(queries)).rows))
    assert np.ptp(np.reshape(counts, (4, 3)), axis=0).max() <= 20


# Sums that are worse than the bound assumes.


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("length", [16, 112])
def test_honest_units_pass_the_probe(name, length):
    precision = FORMATS[name]
    for unit in (exact_sums, V100, H100) if precision is not FLOAT32 else (exact_sums,):
        assert probe.measure(CPU, precision, length, unit, rows=40, columns=200) < probe.ALLOWED


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        *((name, functools.partial(cut_sums, block=4, bits=bits)) for name in FORMATS for bits in (11, 14, 20, 22)),
        *((name, functools.partial(cut_sums, block=4, bits=23)) for name in ("float16-wide", "bfloat16-wide", "tf32")),
        ("float32", functools.partial(cut_sums, block=4, bits=24)),  # cut, where IEEE rounds
    ],
)
def test_the_probe_catches_a_dishonest_accumulator(name, unit):
    assert probe.measure(CPU, FORMATS[name], 112, unit, rows=40, columns=200) > probe.ALLOWED


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_probe_catches_float32_that_is_multiplied_as_something_shorter(dtype):
    def short(left, right, out):
        out.copy_(left.to(dtype).double() @ right.to(dtype).double().T)

    assert probe.measure(CPU, FLOAT32, 112, short, rows=40, columns=200) > probe.ALLOWED


def test_the_probe_catches_sums_that_overflow_or_are_not_numbers():
    for value in (math.nan, math.inf):
        assert probe.measure(CPU, FLOAT16, 16, lambda *a, v=value: a[2].fill_(v), rows=40, columns=200) == math.inf


def test_a_dishonest_device_is_refused_aloud_and_votes_stay_right():
    unit = functools.partial(cut_sums, block=4, bits=12)
    queries, candidates = vectors("normal")
    engines = []
    chosen = replace(setting(FLOAT16, unit), precisions=(FLOAT16, BFLOAT16))
    with pytest.warns(PeBeamWarning, match="not as exact as the bound assumes") as said:
        same(queries, candidates, chosen, engines=engines)
    assert len(said) == 2 and engines[0].precision is None


def test_a_format_that_fails_is_followed_by_the_next():
    def only_float32(left, right, out):
        out.copy_(left.double() @ right.double().T) if left.dtype == torch.float32 else out.zero_()

    engines = []
    with pytest.warns(PeBeamWarning, match="bfloat16"):
        chosen = replace(setting(BFLOAT16, only_float32), precisions=(BFLOAT16, FLOAT32))
        same(*vectors("normal"), chosen, engines=engines)
    assert engines[0].precision is FLOAT32


def test_without_the_bound_votes_would_be_wrong():
    """The attack that the bound is for: the largest half-precision product is not the nearest candidate."""
    queries, candidates = vectors("near ties")
    frame = Frame.of(candidates, product=False)
    (group,) = groups_of(frame.norms, 6)
    sides = Sides(frame, group, FLOAT16)
    placed, radii = frame.place(queries)
    left, right = (
        sides.left([torch.from_numpy(placed)], torch.from_numpy(radii), CPU),
        sides.right(slice(0, 40), 16, CPU),
    )
    out = torch.empty((40, len(right.matrix)), dtype=torch.float16)
    exact_sums(left.matrix, right.matrix, out)
    wanted = reference_nearest(queries, candidates, distance="l2", votes=1)[:, 0]
    assert (out[:, :40].argmax(dim=1).numpy() != wanted).any()


# Memory and devices.


@pytest.mark.parametrize("streams", [False, True])
def test_candidates_beyond_the_budget_come_in_tiles(streams):
    queries, candidates = vectors("near ties", 40, 300)
    bytes_of_a_row = width(12) * 2
    engines = []
    for votes in (1, 3):
        chosen = setting(budget=bytes_of_a_row * 120, streams=streams)
        same(queries, candidates, chosen, votes=votes, tile=64, engines=engines)
    for engine in engines:
        (group,) = engine._searches
        assert group.resident_bytes == 0 and len(group._starts) >= 3 and not group._resident


def test_what_stays_on_the_device_is_within_the_budget():
    _, candidates = vectors("far", 40, 300)
    engine = TorchProposer(Frame.of(candidates, product=False), votes=1, tile=64, setting=setting(budget=20_000))
    assert 0 < sum(each.resident_bytes for each in engine._searches) <= 20_000


def test_too_many_pairs_are_asked_for_again_in_halves(monkeypatch):
    monkeypatch.setattr("pe_beam.voting.search.torch.search.MOST_PAIRS", {"host": 30, "operations": 30, "triton": 30})
    for scan in ("host", "operations"):
        same(*vectors("ulps"), setting(scan=scan))


def test_pairs_are_refined_in_float64():
    queries, candidates = vectors("near ties", 40, 200)
    frame = Frame.of(candidates, product=False)
    counts = []
    for refine in (False, True):
        engine = TorchProposer(frame, votes=1, tile=64, setting=setting(refine=refine))
        pairs = engine.propose(*frame.place(queries))
        assert (np.diff(pairs.rows) >= 0).all()
        counts.append(len(pairs.rows))
    assert counts[0] > 60 and counts[1] < 45
    for kind in KINDS:
        same(*vectors(kind), setting(refine=True), votes=2)


def test_read_only_queries_raise_no_warning(recwarn):
    queries, candidates = vectors("normal")
    queries = queries.copy()
    queries.flags.writeable = False
    same(queries, candidates, setting(), distance="inner_product")
    assert not [each for each in recwarn if "writable" in str(each.message)]


def test_torch_takes_no_more_threads_than_blas_may():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with threadpool_limits(limits=2):
            torch.set_num_threads(3)
            search(vectors("normal")[1], setting())
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_flags_of_the_cpu(tmp_path):
    where = tmp_path / "cpuinfo"
    for name, flags, halves, eights in (
        ("flags", "avx2 amx_bf16 amx_int8", True, True),
        ("flags", "avx512_bf16", True, False),
        ("flags", "avx512f avx512_vnni", False, True),
        ("flags", "avx2 avx512f", False, False),
        ("Features", "asimd bf16", True, False),
    ):
        where.write_text(f"processor : 0\n{name}\t\t: {flags}\n")
        assert (multiplies_bfloat16(str(where)), multiplies_integers(str(where))) == (halves, eights)
        assert multiplies_tiles(str(where)) == ("amx" in flags)
    for each in (multiplies_bfloat16, multiplies_integers, multiplies_tiles):
        assert not each(str(tmp_path / "none"))


@pytest.mark.parametrize("gigabytes", [4, 16, 80, 140])
def test_a_cuda_device_of_any_size_has_room(gigabytes):
    free = gigabytes << 30
    chosen = cuda_setting(torch.device("cuda"), free, "triton")
    assert chosen.block % chosen.rows == 0 and chosen.columns >= 4096
    assert chosen.budget + chosen.rows * chosen.columns * 2 + chosen.block * 1024 * 6 < free


def test_width_beyond_the_bound_is_left_to_blas():
    """So long a sum has no useful bound: `blas` answers, and says so."""
    assert TF32.term * 80_000 > 0.01
    with pytest.raises(ValueError, match="terms are possible"):
        TF32.sum_error(80_000)
