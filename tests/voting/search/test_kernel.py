"""The Triton kernel of engine `torch`, run by Triton's interpreter on the CPU.

Triton reads TRITON_INTERPRET when it is imported, so one test runs the others in a process of their own.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from pe_beam.contracts.search import Frame
from pe_beam.errors import PeBeamWarning
from pe_beam.voting.search.torch import kernel
from pe_beam.voting.search.torch.precision import BFLOAT16, FLOAT16
from pe_beam.voting.search.torch.proposer import TorchProposer
from tests.voting.search.units import same, setting, vectors

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
inside = pytest.mark.skipif(not INTERPRETED, reason="runs in the process that test_in_the_interpreter starts")


@pytest.mark.skipif(INTERPRETED, reason="is that process")
@pytest.mark.skipif(not kernel.there(), reason="Triton is not installed")
def test_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count(".") >= 8 and "s" in done.stdout.split()[0]


@inside
@pytest.mark.parametrize("kind", ["ulps", "far", "zeros", "mixed"])
def test_the_kernel_equals_the_definition(kind):
    queries, candidates = vectors(kind)
    for distance, votes, columns, precision in (("l2", 1, 4096, FLOAT16), ("inner_product", 3, 16, BFLOAT16)):
        chosen = setting(precision, scan="triton", refine=True, streams=True, columns=columns)
        same(queries[:6], candidates, chosen, distance=distance, votes=votes)


@inside
def test_a_device_where_the_kernel_works(monkeypatch):
    assert kernel.works(torch.device("cpu"))
    right = kernel.scan_rows

    def forgetful(products, sink, first_row):
        right(products, sink, first_row)
        sink.counter -= 1

    monkeypatch.setattr(kernel, "scan_rows", forgetful)
    with pytest.warns(PeBeamWarning, match="finds other pairs"):
        assert not kernel.works(torch.device("cpu"))


@pytest.mark.skipif(INTERPRETED or not kernel.there(), reason="asks Triton for a CPU that it does not know")
def test_a_device_where_the_kernel_does_not_work():
    with pytest.warns(PeBeamWarning, match="Triton does not work on cpu"):
        assert not kernel.works(torch.device("cpu"))


@inside
def test_the_kernel_finds_the_pairs_that_the_other_scans_find():
    queries, candidates = vectors("near ties", 8, 100, 12)
    frame = Frame.of(candidates, product=False)
    for votes in (1, 4):
        found = []
        for scan in ("triton", "host", "operations"):
            engine = TorchProposer(frame, votes=votes, tile=64, setting=setting(scan=scan, columns=64))
            pairs = engine.propose(*frame.place(queries))
            found.append((pairs.rows.tolist(), pairs.columns.tolist()))
        assert found[0] == found[1] == found[2]
        assert len(found[0][0]) >= 8 * votes


@inside
def test_the_kernel_is_repeated_when_pairs_find_no_room(monkeypatch):
    monkeypatch.setattr("pe_beam.voting.search.torch.search._ROOM", 1)
    _, candidates = vectors("ulps", 40, 400)
    frame = Frame.of(candidates, product=False)
    engine = TorchProposer(frame, votes=1, tile=512, setting=setting(BFLOAT16, scan="triton", columns=512))
    query = frame.place(np.full((1, 12), 900, dtype=np.float32))
    assert len(engine.propose(*query).rows) > 5


@inside
def test_too_many_pairs_are_asked_for_again_in_halves(monkeypatch):
    monkeypatch.setattr("pe_beam.voting.search.torch.search._ROOM", 1)
    monkeypatch.setattr("pe_beam.voting.search.torch.search.MOST_PAIRS", {"triton": 30})
    queries, candidates = vectors("ulps")
    same(queries[:5], candidates, setting(BFLOAT16, scan="triton"))


@pytest.mark.skipif(INTERPRETED or not kernel.there(), reason="compiles by Triton itself")
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("target", [("cuda", 80, 32), ("cuda", 90, 32), ("hip", "gfx942", 64)])
def test_the_kernel_compiles_for_devices_that_are_not_here(target, monkeypatch, tmp_path):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    floats = {"reach", "slack", "bend", "margin", "base", "errors", "sizes", "lows", "out_values"}
    types = dict.fromkeys(floats, "*fp32")
    types |= {"scores": "*fp16", "out_rows": "*i32", "out_columns": "*i32", "counter": "*i64"}
    types |= {"rounding": "fp32", "least": "fp32"}
    for votes, ones in ((1, ("low_stride", "count")), (3, ())):
        constants = {
            "votes": votes,
            "rounds": votes,
            "slots": votes + votes // 2,
            "block": 2048,
            **dict.fromkeys(ones, 1),
        }
        names = [parameter.name for parameter in kernel._scan.params]
        signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
        source = ASTSource(fn=kernel._scan, signature=signature, constexprs=constants)
        compiled = triton.compile(source, target=GPUTarget(*target))
        assert {"cubin", "hsaco"} & set(compiled.asm)
