"""The pipeline that lands messages, as Dataflow gets it. It is not run: nothing here speaks as Pub/Sub does."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

from pe_beam.runners.dataflow import check
from pe_beam.runners.leaving import copying_options
from pipelines import land
from tests.runners.dataflow.test_graphs import FLAGS

ASKED = ["--subscription=projects/a-project/subscriptions/tickets", "--to=gs://a-bucket/landed"]


def test_the_graph_reads_pubsub_and_drops_nothing_that_is_late() -> None:
    pytest.importorskip("google.cloud.dataflow", reason="Dataflow was NOT tested: apache-beam[gcp] is not installed")
    flags = PipelineOptions([*FLAGS, "--streaming", "--temp_location=gs://a-bucket/temp"])
    pipeline = beam.Pipeline(options=flags)
    land.build(pipeline, land.Config(subscription=ASKED[0].partition("=")[2], to="gs://a-bucket/landed", every=30))
    found = pipeline.run().job.proto_pipeline.components
    by_name = {each.unique_name: each for each in found.transforms.values()}
    assert by_name["Read/Read"].spec.urn == common_urns.composites.PUBSUB_READ.urn
    group = by_name["Land/GatherSlots"]
    assert group.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn
    (gathered,) = group.inputs.values()
    windows = found.windowing_strategies[found.pcollections[gathered].windowing_strategy_id]
    assert windows.window_fn.urn == common_urns.global_windows.urn
    assert windows.accumulation_mode == beam_runner_api_pb2.AccumulationMode.DISCARDING
    (delay,) = windows.trigger.repeat.subtrigger.after_processing_time.timestamp_transforms
    assert delay.delay.delay_millis == 30_000


ON_DATAFLOW = [
    "--runner=DataflowRunner",
    "--project=a-project",
    "--region=europe-west4",
    "--sdk_container_image=an/image",
]


def test_dataflow_keeps_and_shows_no_message() -> None:
    """By default it keeps the elements that a stage fails on, which are the messages as they came."""
    options = copying_options(ON_DATAFLOW, "gs://a-bucket/landed").get_all_options()
    assert check.NO_SAMPLES in options["experiments"]
    assert options["streaming"]
    assert not options["save_main_session"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([*ON_DATAFLOW, "--to=landed"], "--to landed: Dataflow's workers do not see it"),
        ([*ON_DATAFLOW, "--experiments=enable_data_sampling"], "--experiments=enable_data_sampling: the console"),
        ([*ON_DATAFLOW, "--enable_hot_key_logging"], "--enable_hot_key_logging"),
        ([*ON_DATAFLOW, "--profiler_agent=coredump"], "--profiler_agent=coredump"),
        ([*ON_DATAFLOW, "--num_workers=0"], "Invalid value (0) for option: num_workers"),
        (ON_DATAFLOW[:-1], "--sdk_container_image: missing"),
        ([*ON_DATAFLOW[:-1], "--setup_file=no/setup.py"], "--setup_file=no/setup.py: there is no such file"),
    ],
)
def test_what_would_show_or_lose_messages_on_dataflow_is_refused(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert land.main([*ASKED, *flags]) == 2
    assert told in capsys.readouterr().err


def test_a_service_that_refuses_the_job_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exceptions = pytest.importorskip("google.api_core.exceptions")

    def refuse(_: object) -> None:
        raise exceptions.Forbidden("denied")

    monkeypatch.setattr(land, "build", lambda *_: None)
    monkeypatch.setattr(beam.Pipeline, "run", refuse)
    # The endpoint keeps Beam from asking for buckets.
    assert land.main([*ASKED, *ON_DATAFLOW, "--dataflow_endpoint=http://localhost:9"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("land: --project: access to Dataflow is denied (project a-project, region europe-west4)")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [("--slot=0", "from 1 on"), ("--subscription=tickets", "projects/PROJECT/subscriptions/NAME")],
)
def test_wrong_flags(wrong: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert land.main([*ASKED, wrong]) == 2
    assert told in capsys.readouterr().err
