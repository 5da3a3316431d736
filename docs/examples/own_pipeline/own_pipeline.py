"""Which of eight towns do people live near? A Beam pipeline of one's own that ends in a differentially private answer.

python docs/examples/own_pipeline/own_pipeline.py FOLDER [Beam flags]

Nothing here is a run directory: records come from wherever a pipeline reads them, `EmbedRecords` makes them vectors,
`Vote` finds the nearest town of each, and `NoisyHistogram` releases one noisy count a town at epsilon 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from pydantic import BaseModel

import pe_beam
from pe_beam import contracts

TOWNS = np.array([[0, 0], [4, 1], [7, 5], [1, 6], [5, 8], [9, 9], [9, 1], [3, 4]], dtype=np.float32)


class Position(contracts.Embedder):
    """A person's position is a vector already; one that is no number cannot be used."""

    Options = contracts.Options
    dimension = 2

    def __init__(self, options: BaseModel | None = None) -> None:
        pass

    def embed(self, records: pa.Table) -> contracts.Embedding:
        """Columns x and y, in km."""
        vectors = np.stack([records["x"].to_numpy(), records["y"].to_numpy()], axis=1).astype(np.float32)
        odd = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
        vectors[odd] = 0
        return contracts.Embedding(vectors, {row: contracts.Fault("position that is no number") for row in odd})


def people(part: int) -> pa.RecordBatch:
    """Stands for a read from a warehouse: 500 people a part, most of them near the first towns."""
    rng = np.random.default_rng(part)
    home = TOWNS[rng.choice(len(TOWNS), 500, p=[0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05])]
    x, y = (home + rng.normal(0, 0.7, home.shape)).T
    return pa.RecordBatch.from_pydict({"x": x, "y": y})


def main(folder: Path, flags: Sequence[str] = ()) -> pa.Table:
    """Runs the pipeline; returns the noisy histogram."""
    towns = pe_beam.write_candidates(str(folder), TOWNS)
    # What is spent is spent from here on. The same call, later or elsewhere, finds the same mechanism again.
    mechanism = pe_beam.open_mechanism(pe_beam.open_store(folder / "homes"), "homes", epsilon=1, delta=1e-6)
    with beam.Pipeline(options=PipelineOptions(list(flags))) as pipeline:
        _ = (
            pipeline
            | "Parts" >> beam.Create(range(10))
            | "Read" >> beam.Map(people)
            | "Embed" >> pe_beam.EmbedRecords(Position)
            | "Vote" >> pe_beam.Vote(towns)
            | "Noise" >> pe_beam.NoisyHistogram(mechanism, commit=str(folder))
        )
    histogram = mechanism.noisy(pe_beam.open_store(folder))  # committed by the pipeline
    mechanism.forget_secret()
    return histogram


if __name__ == "__main__":
    for row in main(Path(sys.argv[1]).absolute(), sys.argv[2:]).to_pylist():
        print(f"town {row['position']}: {row['noisy_votes']:.0f}")
