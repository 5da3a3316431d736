"""EmbedRecords on plain PCollections: vectors of usable records, and rejects apart."""

from __future__ import annotations

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that

from pe_beam.contracts import Embedder, Embedding, Fault, Options
from pe_beam.errors import InputError
from pe_beam.transforms.embed import REJECTS, EmbedRecords
from pe_beam.voting.votes import read_batch


class Lengths(Embedder):
    """A text's length and its first code point; a text that begins with "?" cannot be embedded."""

    Options = Options
    dimension = 2

    def __init__(self, options: Options | None = None) -> None:
        pass

    def embed(self, records: pa.Table) -> Embedding:
        texts = records["text"].to_pylist()
        vectors = np.array([[len(x), ord(x[0])] for x in texts], dtype=np.float32).reshape(-1, 2)
        faults = {row: Fault("odd text", "where it was") for row, text in enumerate(texts) if text.startswith("?")}
        return Embedding(vectors, faults)


def records(**columns: list) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


class Keep(beam.PTransform):
    """Rejects, matched where they arrive."""

    def __init__(self, check) -> None:
        super().__init__()
        self._check = check

    def expand(self, rejects):
        return assert_that(rejects, self._check)


def test_usable_records_become_vectors_and_the_others_are_told_apart() -> None:
    batch = records(text=["aa", "?", "c", "dddd"], label=["x", "x", "z", "y"], client=["1", "2", "3", None])

    def vectors(found) -> None:
        (made,) = found
        assert made.schema.names == ["label", "vector", "client"]
        array, labels, clients = read_batch(made)
        assert (array.tolist(), labels.tolist(), clients) == ([[2, 97]], [0], ["1"])

    def rejects(found) -> None:
        (made,) = found
        assert made.schema == REJECTS
        kinds = ["odd text", "label that is not declared in data.labels", "missing client id"]
        assert made["kind"].to_pylist() == kinds and made["detail"].to_pylist()[0] == "where it was"

    with Pipeline() as pipeline:
        embedded = EmbedRecords(Lengths, labels=["x", "y"], unit="client", rejects=Keep(rejects))
        assert_that(pipeline | beam.Create([batch]) | embedded, vectors)


def test_without_labels_and_clients() -> None:
    def vectors(found) -> None:
        (made,) = found
        array, labels, clients = read_batch(made)
        assert array.tolist() == [[1, 97], [2, 98]] and labels.tolist() == [0, 0] and clients is None

    with Pipeline() as pipeline:
        assert_that(pipeline | beam.Create([records(text=["a", "bb"])]) | EmbedRecords(Lengths), vectors)


def test_labels_are_declared_once() -> None:
    with pytest.raises(InputError, match="none twice"):
        EmbedRecords(Lengths, labels=["a", "a"])
