"""Files and byte ranges are cut by stages of a graph: the same shards as before, on any number of workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pe_beam.contracts import source as base
from pe_beam.driver.loop import embed_only
from pe_beam.engine.frozen import read_index
from pe_beam.engine.graphs import ingest
from pe_beam.errors import DataError
from pe_beam.evaluation import graph as evaluation
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.sources import private_source
from pe_beam.sources import lines, scanning
from tests.whole_runs import UNASKED

SEVERAL = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
# As the version before byte ranges made them, from the same files.
BEFORE = {
    "jsonl": "2cae8c0080a7a3b0e8dcc0da0d9db5fcbb9dbd915aa7f01959c7925133224c94",
    "csv": "91033b069f2f9a02735675edb1613d75f4fcf6414553bec6d9bb9871c53060ec",
}


def lay(folder: Path, kind: str) -> Path:
    folder.mkdir()
    for name, count in (("b", 40), ("a", 90), ("c", 0)):
        rows = [f"text {i} of {name}, {'x' * (i % 13)}" for i in range(count)]
        if kind == "jsonl":
            text = "".join(json.dumps({"text": row}) + "\n" * (1 + i % 3) for i, row in enumerate(rows))
        else:
            text = "text,n\n" + "".join(f'"{row}\nmore",{i}\r\n' + "\n" * (i % 2) for i, row in enumerate(rows))
        (folder / f"{name}.{kind}").write_text(text, newline="")
    return folder


def recipe(path: Path, kind: str) -> dict[str, Any]:
    return {**UNASKED, "name": "cut", "data": {"source": kind, "path": str(path)}}


def shards(path: Path, plain: dict[str, Any], flags: list[str]) -> list[dict[str, str]]:
    found = read_index(embed_only(parse_recipe(plain), path, flags))
    assert found is not None
    kept: list[dict[str, str]] = found["shards"]
    return kept


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_ranges_and_workers_change_no_shard_and_older_runs_go_on(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "SHARD_ROWS", 16)
    plain = recipe(lay(tmp_path / "data", kind), kind)
    whole = shards(tmp_path / "one", plain, [])
    assert [shard["piece"] for shard in whole] == [
        f"{file:06d}-{start:012d}" for file, rows in ((0, 90), (1, 40)) for start in range(0, rows, 16)
    ]
    assert whole[0]["source"] == BEFORE[kind]
    monkeypatch.setattr(lines, "LEAST_RANGE", 300)
    monkeypatch.setattr(lines, "MOST_RANGE", 300)
    monkeypatch.setattr(scanning, "MOST_MARKS", 1)
    assert len(private_source(parse_recipe(plain)).files()) > 10
    assert shards(tmp_path / "two", plain, SEVERAL) == whole
    assert shards(tmp_path / "one", plain, SEVERAL) == whole  # the check of a resume
    with (tmp_path / "data" / f"b.{kind}").open("a") as file:
        file.write('{"text": "one more"}\n' if kind == "jsonl" else "one more,1\n")
    with pytest.raises(DataError, match="the private data differ"):
        shards(tmp_path / "one", plain, SEVERAL)


@pytest.mark.parametrize("fault", ["no column", "cut short", "gone"])
def test_a_fault_of_one_file_of_many_is_said_as_before(fault: str, tmp_path: Path) -> None:
    folder = lay(tmp_path / "data", "csv")
    if fault == "no column":
        (folder / "zzsecret.csv").write_text("body\nx\n")
    elif fault == "cut short":
        (folder / "zzsecret.csv").write_bytes(b"\x1f\x8b" + bytes(100))
    else:
        (folder / "zzsecret.csv").symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"data\.(path|columns\.text): ") as caught:
        shards(tmp_path / "run", recipe(folder, "csv"), SEVERAL)
    assert "zzsecret" not in str(caught.value)
    noted = tmp_path / "run/private/rejects/file.jsonl"
    if fault != "gone":  # which a listing tells
        assert "private/rejects/file.jsonl" in str(caught.value)
        assert json.loads(noted.read_text())["where"] == str(folder / "zzsecret.csv")
        (folder / "zzsecret.csv").unlink()
        assert shards(tmp_path / "run", recipe(folder, "csv"), [])
    assert not noted.exists()


def test_a_source_that_is_cut_as_a_whole_has_no_file_to_name(tmp_path: Path) -> None:
    plain = recipe(tmp_path / "none", "folder") | {"modality": "image", "embedder": {"name": "pixels"}}
    plain["generator"] = {"name": "text-render", "texts": {"": "x"}}
    with pytest.raises(DataError, match=r"a folder is wanted$"):
        shards(tmp_path / "run", plain, [])
    assert not (tmp_path / "run/private/rejects/file.jsonl").exists()


@pytest.mark.parametrize("name", ["ingest", "check", "evaluate"])
def test_the_graphs_stay_small_and_plain(name: str) -> None:
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    if name == "evaluate":
        evaluation.build(pipeline, evaluation.Config(run_dir="/data/run"))
    else:
        build = ingest.build if name == "ingest" else ingest.build_check
        build(pipeline, ingest.Config(run_dir="/data/run"))
    proto = pipeline.to_runner_api()
    assert len(proto.SerializeToString()) < 120_000
    labels = {transform.unique_name for transform in proto.components.transforms.values()}
    for stage in ("ListFiles", "SpreadFiles", "CutFiles", "GatherCuts", "JoinCuts", "GatherPieces"):
        assert any(label.endswith(f"CutSources/{stage}") for label in labels)
    for transform in proto.components.transforms.values():
        if transform.spec.urn == "beam:transform:pardo:v1":
            pardo = beam.portability.api.beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            assert not (pardo.side_inputs or pardo.state_specs or pardo.timer_family_specs)
            assert not pardo.restriction_coder_id or "Start" in transform.unique_name
