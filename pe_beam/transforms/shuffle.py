"""Shuffles that hold client ids, which `--client_shuffle_key` encrypts."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


class ShuffleOptions(PipelineOptions):
    """The pipeline option that hides clients from the runner's shuffle."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_argument(
            "--client_shuffle_key",
            help="a key as Beam's --gbek names it; client ids, with their rows and votes, are encrypted with it while "
            "they are shuffled, and nothing else is",
        )


def is_hidden(pairs: beam.PCollection) -> bool:
    """Returns whether the pipeline has a key for shuffles of clients."""
    return bool(pairs.pipeline.options.view_as(ShuffleOptions).client_shuffle_key)


class GroupClients(beam.PTransform):
    """`GroupByKey` of what names clients. Keys and values are encrypted if the pipeline has a key for it.

    Beam's --gbek would encrypt every shuffle, and it takes no Arrow batch as a value: only these have client ids. The
    type of the keys has to be known, and to have a deterministic coder.
    """

    def expand(self, pairs: beam.PCollection) -> beam.PCollection:  # noqa: D102
        if not is_hidden(pairs):
            return pairs | "GroupByKey" >> beam.GroupByKey()
        from apache_beam.transforms.util import GroupByEncryptedKey, Secret

        key = pairs.pipeline.options.view_as(ShuffleOptions).client_shuffle_key
        return pairs | "GroupByKey" >> GroupByEncryptedKey(Secret.parse_secret_option(key))
