"""Under `data.never_stop` one record more or fewer changes neither exit status, messages nor files (rule 14)."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.contracts.record import Fault
from pe_beam.driver.loop import evolve
from pe_beam.engine import apart as apart_module
from pe_beam.engine import counting, ingest
from pe_beam.engine.apart import CANNOT, ApartEmbedder, apart_embedder
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import DataError, RecipeError
from pe_beam.privacy.statement import statement
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.sources import private_source
from tests.whole_runs import parquet_recipe, picture_table

pytestmark = pytest.mark.usefixtures("forked")


def _run(
    small: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str], *, never_stop: bool
) -> tuple[Any, ...]:
    """Exit status, everything said, and the names of released files of one run through the command line."""
    small["data"]["never_stop"] = never_stop
    small["evolution"] |= {"iterations": 1, "selection": "rank"}  # no threshold: which noisy votes pass is released
    (folder / "r.yaml").write_text(yaml.safe_dump(small))
    status = main(["run", str(folder / "r.yaml"), "--run-dir", str(folder / "run")])
    said = capsys.readouterr()
    release = folder / "run/release"
    files = sorted(str(p.relative_to(release)) for p in release.rglob("*") if p.is_file())
    return status, (said.out + said.err).replace(str(folder), ""), files


def _mixed(rows: int, bad: int) -> pa.Table:
    table = picture_table(rows)
    images = [b"no picture" if row < bad else image for row, image in enumerate(table["image"].to_pylist())]
    return table.set_column(0, "image", pa.array(images, pa.binary()))


def test_one_reject_more_at_the_edge_stops_an_ordinary_run_and_no_other(small, tmp_path, capsys):
    """5 of 100 may be rejected; the sixth flips the exit status, and names its kind on the terminal."""
    ends = {}
    for bad in (5, 6):
        for never_stop in (False, True):
            folder = tmp_path / f"{bad}-{never_stop}"
            recipe = parquet_recipe(small, _mixed(100, bad), folder)
            ends[bad, never_stop] = _run(recipe, folder, capsys, never_stop=never_stop)
    assert [ends[bad, False][0] for bad in (5, 6)] == [0, 2]
    assert "left out: " in ends[5, False][1]
    assert ends[5, True] == ends[6, True]
    assert ends[5, True][0] == 0
    assert "left out" not in ends[5, True][1] and not (tmp_path / "5-True/run" / ingest.LEFT_COLUMNS).exists()
    left = json.loads((tmp_path / "6-True/run" / ingest.KINDS).read_text())
    assert len(left) == 1  # for the holder, in private/
    assert main(["status", str(tmp_path / "6-True/run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == []
    assert main(["status", str(tmp_path / "5-False/run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == left


@pytest.mark.parametrize("unit", ["record", "client"])
def test_no_record_at_all_is_an_ordinary_run(small, tmp_path, capsys, unit):
    """An empty table and one of nothing but rejects give what a table with a record gives, but for the noise."""
    small["privacy"]["unit"] = unit
    clients = pa.array(["someone"] * 30)
    ends = []
    for name, records in (("one", picture_table(1)), ("none", picture_table(0)), ("rejects", _mixed(30, 30))):
        table = records.append_column("client", clients.slice(0, records.num_rows))
        folder = tmp_path / name
        ends.append(_run(parquet_recipe(small, table, folder), folder, capsys, never_stop=True))
    assert ends[0] == ends[1] == ends[2]
    assert ends[0][0] == 0
    for name, votes in (("one", 1), ("none", 0), ("rejects", 0)):
        counts = pq.read_table(tmp_path / name / "run" / counting.counts_name(1))["count"].to_numpy()
        assert (counts > 0).sum() == votes
        assert len(counts) == 40
    noisy = pq.read_table(tmp_path / "none/run/release/iteration=0001/histogram")["noisy_votes"].to_numpy()
    assert np.std(noisy) > 1


def test_an_empty_input_buys_noise_alone_and_stops_an_ordinary_run(small, tmp_path):
    small["privacy"]["label_counts"] = {"budget": 0.1}
    recipe = parquet_recipe(small, picture_table(0), tmp_path)
    with pytest.raises(DataError):
        evolve(parse_recipe(recipe), tmp_path / "stopped")
    recipe["data"]["never_stop"] = True
    evolve(parse_recipe(recipe), tmp_path / "run")
    assert not pq.read_table(tmp_path / "run" / counting.counts_name(0))["count"].to_numpy().any()
    evolve(parse_recipe(recipe), tmp_path / "run")  # complete: status 0 again


@pytest.mark.parametrize(
    "leads", ["nowhere.png", "3/x.png", "/dev/zero"], ids=["nowhere", "to itself", "to what never ends"]
)
def test_a_dangling_link_stops_an_ordinary_run_and_no_other(small, tmp_path, capsys, leads):
    ends = {}
    for linked in (False, True):
        for never_stop in (False, True):
            folder = tmp_path / f"{linked}-{never_stop}"
            (folder / "data/3").mkdir(parents=True)
            for row, image in enumerate(picture_table(30)["image"].to_pylist()):
                (folder / f"data/3/{row}.png").write_bytes(image)
            if linked:
                (folder / "data/3/x.png").symlink_to(folder / "data" / leads)
            small["data"] = {"source": "folder", "path": str(folder / "data"), "labels": [str(i) for i in range(10)]}
            ends[linked, never_stop] = _run(small, folder, capsys, never_stop=never_stop)
    assert [ends[linked, False][0] for linked in (False, True)] == [0, 2]
    assert ends[False, True] == ends[True, True]
    assert ends[True, True][0] == 0
    assert _votes(tmp_path / "True-True/run").sum() == 30


def test_a_folder_whose_pictures_are_gone_is_an_empty_input_and_a_path_that_is_not_there_is_a_mistake(small, tmp_path):
    (tmp_path / "data/3").mkdir(parents=True)
    small["data"] = {"source": "folder", "path": str(tmp_path / "data"), "labels": ["3"], "never_stop": True}
    evolve(parse_recipe(small), tmp_path / "run")
    assert not _votes(tmp_path / "run").any()
    small["data"]["path"] = str(tmp_path / "dota")
    with pytest.raises(DataError, match="is not there"):
        evolve(parse_recipe(small), tmp_path / "other")


def test_csv_and_services_are_refused(small, tmp_path):
    small["data"] |= {"never_stop": True, "source": "csv", "path": "x.csv", "holdout": None}
    with pytest.raises(RecipeError, match="never_stop: refused for source csv"):
        parse_recipe(small)
    small["data"] |= {"source": "jsonl", "labels": None}
    small |= {"modality": "text"}
    small["generator"] = {
        "name": "llm",
        "backend": "openai",
        "model": "m",
        "random": {"user": "x"},
        "vary": {"user": "y"},
    }
    small["embedder"] = {"name": "openai-embeddings", "model": "m", "dimension": 8, "send_private_records": True}
    with pytest.raises(RecipeError, match=r"data\.never_stop: embedder 'openai-embeddings' asks a service"):
        evolve(parse_recipe(small), tmp_path / "run")


_CRASHING = '''
import os, sys, time
import numpy as np
from pe_beam import contracts
from pe_beam.modalities.image.pixels import Pixels

class Crashing(Pixels):
    """Ends its process over one record, as a decoder with a fault in C does, and raises over another."""
    def embed(self, records):
        for image in records["image"].to_pylist():
            if image == b"segfault":
                import ctypes
                ctypes.string_at(0)
            if image == b"raises":
                raise RuntimeError("a private value")
            if image == b"exits":
                sys.exit(3)
            if image == b"too long":
                return contracts.Embedding(np.zeros((1, 3), np.float32))
        print("what a library prints is not heard", flush=True)
        return super().embed(records)
'''


@pytest.fixture
def crashing(tmp_path, monkeypatch):
    """A third party's embedder with faults, found by its entry point here and in child processes."""
    place = tmp_path / "installed"
    (place / "crashing-1.dist-info").mkdir(parents=True)
    (place / "crashing.py").write_text(_CRASHING)
    (place / "crashing-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: crashing\nVersion: 1\n")
    (place / "crashing-1.dist-info/entry_points.txt").write_text("[pe_beam.embedders]\ncrashing = crashing:Crashing\n")
    monkeypatch.syspath_prepend(str(place))
    return "crashing"


def test_records_that_bring_a_decoder_down_abstain(small, tmp_path, capsys, crashing):
    table = picture_table(60)
    images = table["image"].to_pylist()
    for row, what in ((7, b"segfault"), (8, b"raises"), (9, b"too long"), (41, b"exits"), (59, b"segfault")):
        images[row] = what
    small["embedder"]["name"] = crashing
    ends = []
    for name, column in (("sound", table["image"].to_pylist()), ("hostile", images)):
        own = table.set_column(0, "image", pa.array(column, pa.binary()))
        recipe = parquet_recipe(small, own, tmp_path / name)
        ends.append(_run(recipe, tmp_path / name, capsys, never_stop=True))
    assert ends[0] == ends[1]
    assert ends[0][0] == 0
    lines = (tmp_path / "hostile/run/private/rejects/000000-000000000000.jsonl").read_text().splitlines()
    rejects = [json.loads(line) for line in lines]
    assert [reject["where"].rpartition(":")[2] for reject in rejects] == ["7", "8", "9", "41", "59"]
    assert {reject["kind"] for reject in rejects} == {CANNOT.kind}
    counted = [_votes(tmp_path / name / "run").sum() for name in ("sound", "hostile")]
    assert counted == [60, 55]


def test_an_embedder_of_another_length_than_it_says_stops_before_the_first_record(small, tmp_path, capsys, crashing):
    small["embedder"]["name"] = crashing
    module = tmp_path / "installed/crashing.py"
    text = module.read_text().replace("return super().embed(records)", "return self.cut(super().embed(records))")
    module.write_text(text + "    def cut(self, found):\n        return contracts.Embedding(found.vectors[:, :3])\n")
    recipe = parquet_recipe(small, picture_table(20), tmp_path)
    status, said, _ = _run(recipe, tmp_path, capsys, never_stop=True)
    assert status == 1 and "embedder: vectors are of length 3; dimension says 64" in said
    assert not (tmp_path / "run/ledger.jsonl").exists()


def _votes(run: Path) -> np.ndarray:
    return pq.read_table(run / counting.counts_name(1))["count"].to_numpy()


def test_vectors_are_the_same_in_a_process_apart(small, tmp_path):
    small["data"]["never_stop"] = True
    evolve(parse_recipe(small), tmp_path / "run")
    run = open_run(tmp_path / "run")
    batch = next(private_source(run.recipe).read(private_source(run.recipe).pieces()[0]))
    apart = apart_embedder(run.root, "first", run.embedder.dimension)
    bad = pa.table({"image": pa.array([b"no picture", *batch.payload["image"].to_pylist()[:5]], pa.binary())})
    found, own = apart.embed(bad), run.embedder.embed(bad)
    assert found.vectors.tobytes() == own.vectors.tobytes()
    assert found.faults == own.faults
    assert isinstance(found.faults[0], Fault)
    assert apart.embed(bad.slice(0, 0)).vectors.shape == (0, run.embedder.dimension)
    child = apart._child
    assert child is not None
    for later in ("second", "third"):  # a stream has a run for each window: their processes do not pile up
        assert child.returncode is None
        apart_embedder(run.root, later, run.embedder.dimension)
    assert child.returncode is not None


def test_a_run_leaves_no_process_behind(small, tmp_path):
    """A notebook makes run after run: the processes of those that are over would stay with it."""
    small["data"]["never_stop"] = True
    run = evolve(parse_recipe(small), tmp_path / "run")
    assert run.root not in {root for root, _, _ in apart_module._open}


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _run_and_batch(small: dict[str, Any], folder: Path) -> tuple[Run, pa.Table]:
    """A run, and private records of its recipe."""
    run = evolve(parse_recipe(small), folder / "run")
    source = private_source(run.recipe)
    return open_run(run.root), next(source.read(source.pieces()[0])).payload


def test_an_interrupted_start_leaves_no_process_behind(small, tmp_path, monkeypatch):
    """A notebook's stop comes while the embedder is loaded, which takes the most of a short run."""
    small["data"]["never_stop"] = True
    begun: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        begun.append(popen(*args, **options))
        return begun[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(apart_module, "_receive", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        evolve(parse_recipe(small), tmp_path / "run")
    assert [child.returncode is not None for child in begun] == [True]


def test_ctrl_c_makes_no_reject(small, tmp_path):
    """A terminal sends it to the child too, whose death while it is at work on a record makes that a reject."""
    small["data"]["never_stop"] = True
    run, batch = _run_and_batch(small, tmp_path)
    apart = ApartEmbedder(run.root, run.embedder.dimension)
    apart.embed(batch.slice(0, 1))
    child = apart._child
    assert child is not None
    child.send_signal(signal.SIGINT)
    assert not apart.embed(batch.slice(1, 1)).faults
    assert apart._child is child
    apart.close()


def test_an_answer_that_nobody_waits_for_is_not_that_to_the_next_question(small, tmp_path, monkeypatch):
    small["data"]["never_stop"] = True
    run, batch = _run_and_batch(small, tmp_path)
    apart = ApartEmbedder(run.root, run.embedder.dimension)
    apart.embed(batch.slice(0, 1))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(apart_module, "_receive", _interrupt)
        apart.embed(batch.slice(0, 1))
    assert apart.embed(batch.slice(1, 1)).vectors.tobytes() == run.embedder.embed(batch.slice(1, 1)).vectors.tobytes()
    apart.close()


def test_a_child_that_cannot_start_is_an_error_and_no_reject(tmp_path):
    apart = ApartEmbedder(str(tmp_path / "nothing"), 4)
    with pytest.raises(Exception, match="not a run directory"):
        apart.embed(pa.table({"image": pa.array([b"x"], pa.binary())}))


def test_the_statement_says_what_a_stop_tells(small):
    about = {"epsilon": 1, "delta": 1e-5, "adjacency": "replace-one", "unit": "record", "iterations": 2}
    assert "Whether the run stopped on its way, and why, is an output that this does not cover" in statement(**about)
    never = statement(**about, never_stop=True)
    assert "No record can stop the run (data.never_stop)" in never
    assert "Whether the run stopped" not in never
    assert "evidence and not proof" in statement(**about, vectors_checked=True)
    assert "is an assumption about the embedder" in statement(**about)
