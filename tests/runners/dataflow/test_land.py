"""The pipeline that lands messages, as Dataflow gets it. It is not run: nothing here speaks as Pub/Sub does."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

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


@pytest.mark.parametrize(
    ("wrong", "told"),
    [("--slot=0", "from 1 on"), ("--subscription=tickets", "projects/PROJECT/subscriptions/NAME")],
)
def test_wrong_flags(wrong: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert land.main([*ASKED, wrong]) == 2
    assert told in capsys.readouterr().err
