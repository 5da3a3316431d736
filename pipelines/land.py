"""Messages of Pub/Sub -> Parquet files as they arrive, which `pe-beam stream` reads as source landed. It has no end.

python -m pipelines.land --subscription=projects/P/subscriptions/S --to=gs://BUCKET/landed [Beam flags]

It computes nothing private: it copies messages with the ids and instants that Pub/Sub gave them. What it writes is
private data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pe_beam import console
from pe_beam.launch.parameters import Kind, Parameter, Program, interrupted

if __name__ == "__main__":
    console.begin(interrupted("land"))

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions

from pe_beam.errors import InputError
from pe_beam.runners.dataflow.explain import explain_request
from pe_beam.runners.leaving import copying_options, leaves
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.landing import Arrival, Land
from pe_beam.transforms.plain import PlainFn

__all__ = ["PROGRAM", "ArrivalFn", "Config", "build", "main"]

PROGRAM = Program(
    name="land",
    title="Private Evolution: land",
    text="Writes the messages of a Pub/Sub subscription to Parquet files as they arrive, with their ids and instants.",
    parameters=(
        Parameter(
            name="subscription",
            label="Subscription",
            text="projects/PROJECT/subscriptions/NAME, which nothing else reads",
            pattern=r"projects/[^/]+/subscriptions/[^/]+",
        ),
        Parameter(
            name="to",
            label="Folder",
            text="where files go: gs://BUCKET/landed",
            kind=Kind.FOLDER,
            pattern=r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9]/.+",
        ),
        Parameter(
            name="slot",
            label="Slot",
            text="seconds of a slot; windows of a stream have to be whole slots",
            kind=Kind.COUNT,
            optional=True,
            default="3600",
        ),
        Parameter(
            name="every",
            label="Interval",
            text="seconds for which messages are gathered into files",
            kind=Kind.COUNT,
            optional=True,
            default="60",
        ),
        Parameter(
            name="shards",
            label="Shards",
            text="files of a slot that are written side by side",
            kind=Kind.COUNT,
            optional=True,
            default="1",
        ),
    ),
)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the graph.

    Attributes:
      subscription: projects/PROJECT/subscriptions/NAME.
      to: where files go.
      slot: seconds of a slot.
      every: seconds for which messages are gathered.
      shards: files of a slot that are written side by side.
    """

    subscription: str
    to: str
    slot: int = 3600
    every: int = 60
    shards: int = 1


class ArrivalFn(PlainFn):
    """A `PubsubMessage` -> its id, the instant at which the service took it, and its bytes."""

    def process(self, message: Any) -> Iterator[Arrival]:  # noqa: D102
        with guarded(None, "Arrivals"):
            stamp = (message.publish_time - _BEGINNING) // timedelta(microseconds=1)
            arrival = Arrival(message.message_id, stamp, message.data or b"")
        yield arrival


def build(root: Any, config: Config) -> beam.PCollection:
    """Builds the graph, for a runner that reads Pub/Sub. It gives the names of files."""
    from apache_beam.io.gcp.pubsub import ReadFromPubSub

    return (
        root
        | "Read" >> ReadFromPubSub(subscription=config.subscription, with_attributes=True)
        | "Arrivals" >> beam.ParDo(ArrivalFn()).with_output_types(Arrival)
        | "Land" >> Land(config.to, slot=config.slot, every=config.every, shards=config.shards)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Starts the job; returns the exit status."""
    return PROGRAM.run(_run, argv)


def _run(options: argparse.Namespace, beam_args: list[str]) -> None:
    if min(options.slot, options.every, options.shards) < 1:
        raise InputError("--slot, --every, --shards: whole numbers from 1 on are wanted")
    pipeline = beam.Pipeline(options=copying_options(beam_args, options.to))
    try:
        build(pipeline, Config(**{name: getattr(options, name) for name in Config.__dataclass_fields__}))
    except ValueError:
        raise InputError(
            f"--subscription={options.subscription}: projects/PROJECT/subscriptions/NAME is wanted"
        ) from None
    result = _started(pipeline)
    if not leaves(beam_args):
        result.wait_until_finish()


def _started(pipeline: beam.Pipeline) -> Any:
    """Starts the job. Raises PeBeamError where the service says why it does not take it."""
    cloud = pipeline.options.view_as(GoogleCloudOptions)
    try:
        return pipeline.run()
    except Exception as error:
        raise explain_request(error, f"project {cloud.project}, region {cloud.region}") or error from None


if __name__ == "__main__":
    sys.exit(main())
