"""Graphs as Dataflow gets them: small, of plain parts, with labels of ours, and without anything private in them."""

from __future__ import annotations

import re
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

from pe_beam.engine.graphs import evolution, ingest, iteration
from pe_beam.runners.dataflow.runner import _options
from pe_beam.storage import open_store
from tests.graphs import unpacked

URI = "gs://a-bucket/a-folder/run"
FLAGS = [
    "--runner=DataflowRunner",
    "--dataflow_endpoint=http://localhost:9",
    "--dry_run=True",
    "--no_auth",
    "--project=a-project",
    "--region=europe-west4",
    "--sdk_container_image=an/image",
]
LABELS = frozenset(
    [
        "Start",
        "Ingest",
        "CutSources",
        "ListFiles",
        "SpreadFiles",
        "CutFiles",
        "GatherCuts",
        "JoinCuts",
        "ListPieces",
        "SpreadPieces",
        "EmbedPieces",
        "GatherShards",
        "Freeze",
        "CheckSource",
        "CheckPieces",
        "GatherPieces",
        "CheckAll",
        "Iteration",
        "Embed",
        "ListCandidates",
        "SpreadCandidates",
        "EmbedCandidates",
        "GatherCandidates",
        "CommitMatrix",
        "SpreadShards",
        "LabelShares",
        "ListShards",
        "Count",
        "CountCells",
        "ShardNames",
        "ReadShards",
        "Vote",
        "VoteByClient",
        "JoinClients",
        "ScaleClients",
        "SumVotes",
        "DropKey",
        "Noise",
        "CommitCounts",
        "AddNoise",
        "NoVotes",
        "Vary",
        "Select",
        "Generate",
        "ListChunks",
        "SpreadChunks",
        "OneKey",
        "GatherChunks",
        "CommitIteration",
        "Impulse",
        "AddKeys",
        "DropKeys",
        "GroupByKey",
        "Combine",
        "ref_AppliedPTransform_AppliedPTransform_1",
    ]  # the last line: Beam's own
)
BEAMS = re.compile(
    r"(Flat)?Map\((<lambda at core\.py:\d+>|decode|\w+_metadata_default_window)\)|ParDo\(CombineValuesDoFn\)"
)


@pytest.fixture(autouse=True)
def _service() -> None:
    pytest.importorskip("google.cloud.dataflow", reason="Dataflow was NOT tested: apache-beam[gcp] is not installed")


def translated(build: Any, *flags: str) -> beam_runner_api_pb2.Pipeline:
    """The `pipeline.pb` that would be staged."""
    pipeline = beam.Pipeline(options=_options(open_store(URI), [*FLAGS, *flags]))
    build(pipeline)
    return pipeline.run().job.proto_pipeline


def graph(name: str, unit: str = "record") -> Any:
    """Builds a graph of a run."""
    hints = {"vote": {"cpu_count": "8"}, "generate": {"accelerator": "type:nvidia-l4;count:1"}}
    configs = {
        "ingest": lambda root: ingest.build(root, ingest.Config(run_dir=URI, hints=hints)),
        "check": lambda root: ingest.build_check(root, ingest.Config(run_dir=URI)),
        "first": lambda root: iteration.build(
            root, iteration.Config(run_dir=URI, iteration=0, unit=unit, label_shares=True)
        ),
        "iteration": lambda root: iteration.build(root, iteration.Config(run_dir=URI, iteration=3, unit=unit)),
        "evolution": lambda root: evolution.build(root, evolution.Config(run_dir=URI, first=0, last=10, unit=unit)),
    }
    return configs[name]


@pytest.mark.parametrize(
    ("name", "unit", "most"),
    [
        ("ingest", "record", 40_000),
        ("check", "record", 40_000),
        ("iteration", "record", 60_000),
        ("iteration", "client", 60_000),
        ("evolution", "record", 500_000),
        ("evolution", "client", 500_000),
    ],
)
def test_graphs_are_small(name: str, unit: str, most: int) -> None:
    assert translated(graph(name, unit)).ByteSize() <= most


@pytest.mark.parametrize("unit", ["record", "client"])
@pytest.mark.parametrize("name", ["ingest", "check", "first", "iteration"])
def test_graphs_have_plain_parts_and_labels_of_ours(name: str, unit: str) -> None:
    found = translated(graph(name, unit))
    splittable = re.compile(r"sdf_|splittable")
    for each in found.components.transforms.values():
        assert not splittable.search(each.spec.urn), each.unique_name
        assert each.spec.urn != common_urns.deprecated_primitives.READ.urn
        if each.spec.urn == common_urns.primitives.PAR_DO.urn:
            payload = beam_runner_api_pb2.ParDoPayload.FromString(each.spec.payload)
            assert not (payload.side_inputs or payload.state_specs or payload.timer_family_specs), each.unique_name
            assert not payload.restriction_coder_id
        for label in each.unique_name.split("/") if each.unique_name else ():
            assert label in LABELS or BEAMS.fullmatch(label), each.unique_name
    allowed = {"beam:requirement:pardo:stable_input:v1"}
    assert set(found.requirements) <= allowed


@pytest.mark.parametrize("name", ["ingest", "check", "first", "iteration", "evolution"])
def test_graphs_hold_names_and_nothing_of_recipe_or_data(name: str) -> None:
    """All text in them, unpacked: paths are the run directory's alone, or of modules."""
    found = b"\n".join(unpacked(translated(graph(name, "client")).SerializeToString()))
    assert URI.encode() in found
    assert b"pe_beam.engine" in found  # pickles were unpacked
    paths = set(
        re.findall(rb"(?:gs|s3|az|file)://[\w./-]+|(?<!\w)/(?:home|root|tmp|mnt|data|work|Users)/[\w./-]+", found)
    )
    assert not {path for path in paths if path != URI.encode() and b"/site-packages/" not in path}
    found = re.sub(rb"/[\w./-]*/site-packages/", b"", found)  # of Beam's own lambdas: where it is installed
    for word in (b"secret.key", b"data.path", b"recipe.yaml", b"epsilon", b"/work/", b"embedder", b"sklearn"):
        assert word not in found, word


@pytest.mark.parametrize(("name", "count"), [("iteration", 1), ("first", 1), ("ingest", 0)])
def test_a_key_encrypts_the_shuffle_of_client_ids_and_is_only_named(name: str, count: int) -> None:
    key = "type:GcpSecret;version_name:projects/a-project/secrets/a-name/versions/1"
    found = translated(graph(name, "client"), f"--client_shuffle_key={key}").components.transforms.values()
    shuffles = [each for each in found if each.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn]
    assert sum("HideClients" in each.unique_name for each in shuffles) == count
    assert not [each for each in found if each.unique_name.endswith("JoinClients/GroupByKey")]
